"""Your own texts: a csv, tsv or parquet file with one or two columns of text and a target."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dir_bench.atomic import write_bytes
from dir_bench.datasets.arrays import ArraySplit
from dir_bench.datasets.base import Data
from dir_bench.datasets.recognition import Found, Place
from dir_bench.datasets.table import Tabular
from dir_bench.datasets.tables import recognised
from dir_bench.datasets.tables.holdout import HELD_OUT
from dir_bench.datasets.text import Sentences, TextSplit, build_vocabulary, example, tokenize
from dir_bench.datasets.text.embeddings import Encoded, Texts
from dir_bench.datasets.text.encoders import encoder as encoder_named
from dir_bench.errors import UserError
from dir_bench.files.table import Table, read_table
from dir_bench.lazy import Lazy

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = Lazy("pandas")


class TextTable(Tabular):
    """A table of texts with a target: words for a network that learns from nothing, or vectors of a frozen encoder.

    Splits are as in `Tabular`: a column, files, or drawn, equal texts into one split. The vocabulary is that of the
    training part.

    Args:
        data_dir: Where the example of `dir-bench data sample` lies.
        text: Column of texts, or two columns of texts that are compared.
        path: The table, or its training part where `val` or `test` is given: .csv, .tsv or .parquet.
        val: The validation part; None: rows that `split_column` names so, or that are drawn.
        test: The test part; None: the same.
        target: Column of targets, label units.
        split_column: Column of train, val or test, if the table has it; None: it has none.
        id_column: Column that names what a row is about: in one split only.
        missing: "refuse" empty texts, or "drop" their rows, and those without a target.
        held_out: Part of the rows that is drawn for validation, and again for test, at most.
        split_seed: Of that draw.
        max_tokens: Words kept of a text.
        max_words: Size of the vocabulary.
        encoder: Of `text.encoders`; None: words.
        frozen: Whether samples are its vectors; False: its word pieces, for `backbone=minilm`, which is tuned.
        cache_dir: Where vectors of an encoder are kept; None: `data_dir`/cache.
    """

    looks_for = "a table with a column of texts, or two"

    @classmethod
    def recognise(cls, place: Place) -> Found | None:
        """See whether there is such a table."""
        return recognised.as_texts(place)

    def __init__(
        self,
        data_dir: str,
        text: str | Sequence[str] = "text",
        path: str = "texts.csv",
        val: str | None = None,
        test: str | None = None,
        target: str = "target",
        split_column: str | None = "split",
        id_column: str | None = None,
        missing: str = "refuse",
        held_out: float = HELD_OUT,
        split_seed: int = 0,
        max_tokens: int = 60,
        max_words: int = 30000,
        encoder: str | None = None,
        frozen: bool = True,
        cache_dir: str | None = None,
    ) -> None:
        if missing == "mean":
            raise UserError("dataset.source.missing=mean: texts have no mean; refuse, or drop the rows")
        super().__init__(
            data_dir, path, val, test, target, split_column, id_column,
            missing=missing, held_out=held_out, split_seed=split_seed,
        )  # fmt: skip
        self.text = [text] if isinstance(text, str) else [str(name) for name in text]
        if not 1 <= len(self.text) <= 2 or len(set(self.text)) < len(self.text):
            raise UserError(
                f"dataset.source.text={text} must name one column, or two that are compared: text, or [first,second]"
            )
        if max_tokens < 1 or max_words < 1:
            raise UserError(
                f"dataset.source: max_tokens={max_tokens} and max_words={max_words} must be at least 1: words to keep"
            )
        self.max_tokens, self.max_words = max_tokens, max_words
        kept = self.data_dir / "cache" if cache_dir is None else Path(cache_dir)
        named = None if encoder is None else encoder_named(encoder)
        self.encoded = None if named is None else Encoded(lambda: self._texts, named, frozen, kept)

    @property
    def requirements(self) -> str:
        """What has to be on disk."""
        return (
            "your own texts, csv, tsv or parquet: dataset.source.path=FILE dataset.source.text=COLUMN "
            "dataset.source.target=COLUMN (`dir-bench data sample text_table` writes an example)"
        )

    def fingerprint(self) -> str:
        """Return a hash of the files, and the version of the encoder."""
        files = self._files_hash()
        return files if self.encoded is None else f"{files} {self.encoded.stamp}"

    def _files_hash(self) -> str:
        return super().fingerprint()

    def require(self) -> None:
        """Say what to give, or to get, if a file or the encoder is missing."""
        super().require()
        if self.encoded is not None:
            self.encoded.require()

    def new_samples(self, files: Sequence[Path]) -> tuple[pd.DataFrame, ArraySplit | TextSplit]:  # type: ignore[override]
        """Read one table with the same columns of text; words that training lacks are unknown ones."""
        if len(files) != 1:
            raise UserError(f"{' '.join(map(str, files[:3]))}: give one table")
        table = read_table(files[0])
        self._refuse_missing(table, "refuse", new=True)
        columns = self._columns(table, np.arange(len(table)))
        if self.encoded is not None:
            return table.frame, self.encoded.of_new(columns)
        return table.frame, self._split(Texts(columns, np.full(len(table), np.nan, np.float32)))

    def sample(self, folder: Path, n: int = 400, seed: int = 0) -> Path:
        """Write an example: opinions whose words tell a skewed target."""
        files = {name: folder / path.name for name, path in self.paths.items()}
        for path in files.values():
            if path.exists():
                raise UserError(f"{path} exists and is left as it is: name another file, or move it away")
        frames = {
            name: pd.DataFrame({self.target: targets, **dict.fromkeys(self.text, texts), example.MADE_UP: name})
            for name, targets, texts in example.splits(n, seed)
        }
        folder.mkdir(parents=True, exist_ok=True)
        for name, path in files.items():
            own = [name] if name != "train" else ["train", *(other for other in frames if other not in files)]
            whole = pd.concat([frames[each].assign(**{self.split_column or "split": each}) for each in own])
            if len(own) == 1:
                whole = whole.drop(columns=self.split_column or "split")
            write_bytes(path, whole.to_csv(index=False).encode())
        return files["train"]

    def _about_inputs(self) -> str:
        texts = self._texts
        count = sum(len(part.targets) for part in texts.values())
        about = f"{' and '.join(self.text)}, {count} samples"
        if self.encoded is not None:
            return f"{about}, as {self.encoded}"
        return f"{about}, {len(self._vocabulary)} words in training"

    def _data(self) -> Data:
        if self.encoded is not None:
            return self.encoded.data()
        train = self._numbered(self._train_words, self._texts["train"])
        val, test = (self._split(self._texts[name]) for name in ("val", "test"))
        kwargs = {"vocab_size": len(self._vocabulary), "texts": len(self.text)}
        return Data(train, val, test, backbone_kwargs=kwargs, kind="texts")

    @cached_property
    def _inputs(self) -> list[str]:
        """Names of the columns that are inputs."""
        self._require_columns(text=self.text)
        if self.target in self.text:
            raise UserError(f"dataset.source.text={self.target} is the target: name the column of texts")
        return self.text

    def _refuse_missing(self, table: Table, way: str, *, new: bool = False) -> npt.NDArray[np.bool_]:
        """Return which rows are left out for what is missing; UserError if it may not be."""
        empty = {name: table.column(name).isna() | (table.text(name).str.strip() == "")
                 for name in self._inputs}  # fmt: skip
        if way == "drop":
            gaps = [*(where.to_numpy(np.bool_) for where in empty.values()), table.missing(self.target)]
            wrong: npt.NDArray[np.bool_] = np.any(gaps, axis=0)
            return wrong
        for name, where in empty.items():
            also = "" if new else ", or set dataset.source.missing=drop"
            table.refuse(where.to_numpy(np.bool_), table.frame[name], "is no text", also)
        return np.zeros(len(table), np.bool_)

    @cached_property
    def _texts(self) -> dict[str, Texts]:
        return {
            name: Texts(self._columns(part.table, part.rows), part.targets.astype(np.float32))
            for name, part in self._parts.items()
        }

    def _columns(self, table: Table, rows: npt.NDArray[np.integer]) -> tuple[list[str], ...]:
        """Return the texts of some rows, a column each; bytes that are no UTF-8 become question marks."""
        columns = (table.text(name).iloc[rows] for name in self.text)
        return tuple([text.encode("utf-8", "replace").decode() for text in column] for column in columns)

    @cached_property
    def _vocabulary(self) -> dict[str, int]:
        return build_vocabulary(chain.from_iterable(self._train_words), self.max_words)

    @cached_property
    def _train_words(self) -> list[list[list[str]]]:
        """Words of each training text, by column."""
        return self._cut(self._texts["train"])

    def _cut(self, part: Texts) -> list[list[list[str]]]:
        return [tokenize(column, self.max_tokens) for column in part.columns]

    def _split(self, part: Texts) -> TextSplit:
        return self._numbered(self._cut(part), part)

    def _numbered(self, columns: Iterable[list[list[str]]], part: Texts) -> TextSplit:
        return TextSplit(tuple(Sentences.of(words, self._vocabulary) for words in columns), part.targets)
