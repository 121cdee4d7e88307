"""STS-B-DIR as vectors of a frozen sentence encoder: a track of its own, as that has learned from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dir_bench.datasets.arrays import ArraySplit
from dir_bench.datasets.base import Data
from dir_bench.datasets.sts_b import FILES, STSB, read_pairs
from dir_bench.datasets.text import TextSplit
from dir_bench.datasets.text.embeddings import Encoded, Texts
from dir_bench.datasets.text.encoders import encoder as encoder_named
from dir_bench.errors import UserError
from dir_bench.files.text import one_csv

if TYPE_CHECKING:
    import pandas as pd


class EmbeddedSTSB(STSB):
    """The published pairs, each as [u, v, |u − v|, u·v] of its sentences' vectors.

    Args:
        data_dir: Folder of train_new.tsv, dev_new.tsv and test_new.tsv.
        encoder: Of `text.encoders`.
        frozen: Whether samples are its vectors; False: its word pieces, for `backbone=minilm`, which is tuned.
        glove: Has no part in this, and must be None.
        cache_dir: Where vectors are kept; None: `data_dir`/cache.
    """

    def __init__(
        self,
        data_dir: str,
        encoder: str = "minilm",
        frozen: bool = True,
        glove: None = None,
        cache_dir: str | None = None,
    ) -> None:
        if glove is not None:
            raise UserError(f"dataset.source.glove={glove} has no effect on vectors of sentences: drop it")
        super().__init__(data_dir, cache_dir=cache_dir)
        self.encoded = Encoded(self._texts, encoder_named(encoder), frozen, self.cache_dir)

    def require(self) -> None:
        """Say what to get if a split file, or the encoder, is missing."""
        super().require()
        self.encoded.require()

    def fingerprint(self) -> str:
        """Return the hash of the files, and the version of the encoder."""
        return f"{super().fingerprint()} {self.encoded.stamp}"

    def load(self) -> Data:
        """Return the splits as vectors; what is not kept yet is encoded, which takes minutes once."""
        return self.encoded.data()

    def new_samples(self, files: Sequence[Path]) -> tuple[pd.DataFrame, ArraySplit | TextSplit]:  # type: ignore[override]
        """Read one csv with the columns sentence1 and sentence2."""
        table = one_csv(files)
        columns = []
        for name in ("sentence1", "sentence2"):
            if name not in table:
                raise UserError(f"{files[0]} has no column '{name}': it needs sentence1 and sentence2")
            if empty := [line for line, text in table[name].items() if not text.strip()]:
                raise UserError(f"{files[0]}, line {empty[0]}: {name} holds no word")
            columns.append(table[name].tolist())
        return table, self.encoded.of_new(tuple(columns))

    def _texts(self) -> dict[str, Texts]:
        self.require()
        pairs = {split: read_pairs(self.data_dir / name) for split, name in FILES.items()}
        return {split: Texts((part.first, part.second), part.scores) for split, part in pairs.items()}
