"""VADER-DIR: how positive is a sentence, −4 to 4 (texts and ratings of Hutto and Gilbert, ICWSM 2014).

Ratings are means over 20 raters. 10,605 sentences of film reviews and 5,190 of newspaper editorials; the split is our
own: of each quarter of a point a third at most, and as many of common as of rare ratings, a tenth of all for validation
and for test. The files are those of cjhutto/vaderSentiment (MIT licence).
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dir_bench.atomic import write_bytes
from dir_bench.datasets.base import STAND_IN, file_hash
from dir_bench.datasets.download.remote import Remote
from dir_bench.datasets.recognition import Found, Place
from dir_bench.datasets.text import example
from dir_bench.datasets.text_table import TextTable
from dir_bench.errors import UserError
from dir_bench.files.plain import is_plain
from dir_bench.files.table import Table
from dir_bench.files.text import read_text
from dir_bench.labels import TargetBins
from dir_bench.lazy import Lazy

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = Lazy("pandas")

FILES = {
    "movieReviewSnippets_GroundTruth.txt": "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350",
    "nytEditorialSnippets_GroundTruth.txt": "7d8fbcce7dde5d716da53e78f4ef4be6b706e9ef1e1d51887e6d0ad4b69cc27e",
}
"""Names and SHA-256 of the published files."""
MAX_RATING = 4.0
WIDTH = 0.25
FEWEST = 200
"""Training sentences of a stand-in."""
REMOTES = (
    Remote(
        "https://raw.githubusercontent.com/cjhutto/vaderSentiment/18c86513ea60b02fce8f3b1b598da43042d91b08/"
        "additional_resources/hutto_ICWSM_2014.tar.gz",
        "hutto_ICWSM_2014.tar.gz",
        size=2_338_514,
        sha256="d5bb07d87474b3eb8d30b4deccbc23f19d742a6c5718fbacc65485b70b95c5fa",
        members=tuple(FILES),
        member_sha256=tuple(FILES.values()),
        strip=1,  # hutto_ICWSM_2014/
    ),
)
"""The authors' archive, at one commit."""


class Vader(TextTable):
    """VADER-DIR from the published files.

    Args:
        data_dir: Folder of the two files.
        held_out: Part of the sentences for validation, and again for test, at most.
        split_seed: Of the draw.
        max_tokens: Words kept of a sentence.
        max_words: Size of the vocabulary.
        encoder: Of `text.encoders`; None: words.
        frozen: Whether samples are its vectors; False: its word pieces, for `backbone=minilm`, which is tuned.
        cache_dir: Where vectors of an encoder are kept; None: `data_dir`/cache.
    """

    split_bins = TargetBins.regular(-MAX_RATING, MAX_RATING, WIDTH)
    looks_for = f"a folder with {' and '.join(FILES)}"

    @classmethod
    def recognise(cls, place: Place) -> Found | None:
        """See whether the two files are there."""
        if not place.is_folder or not all(is_plain(place.path / name) for name in FILES):
            return None
        number = sum(len(_read(place.path / name)) for name in FILES)
        return Found(f"{number} rated sentences, those of VADER-DIR", {"data_dir": str(place.path)}, place.stem, fits=4)

    def __init__(
        self,
        data_dir: str,
        held_out: float = 0.1,
        split_seed: int = 0,
        max_tokens: int = 60,
        max_words: int = 30000,
        encoder: str | None = None,
        frozen: bool = True,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__(
            data_dir, target="rating", split_column=None, held_out=held_out, split_seed=split_seed,
            max_tokens=max_tokens, max_words=max_words, encoder=encoder, frozen=frozen, cache_dir=cache_dir,
        )  # fmt: skip

    @property
    def requirements(self) -> str:
        """What has to be on disk, and where it comes from."""
        return (
            f"{' and '.join(FILES)} in {self.data_dir}: `dir-bench data fetch vader` gets them from their authors' "
            "repository (github.com/cjhutto/vaderSentiment, MIT), `dir-bench data sample vader` writes a stand-in"
        )

    @property
    def remotes(self) -> tuple[Remote, ...]:
        """The authors' archive."""
        return REMOTES

    def _files_hash(self) -> str:
        self._require_files()
        return file_hash(*(self.data_dir / name for name in FILES))

    def stands_in(self) -> str:
        """Say whether the sentences are made up, or others than the published ones."""
        if self._tables["train"].frame["id"].str.startswith(example.MADE_UP).any():
            return STAND_IN
        differs = any(file_hash(self.data_dir / name) != digest for name, digest in FILES.items())
        return "other sentences than the published ones" if differs else ""

    def sample(self, folder: Path, n: int = 400, seed: int = 0) -> Path:
        """Write a stand-in in the published format: made-up opinions, as many as a split can be drawn from at least."""
        for name in FILES:
            if (folder / name).exists():
                raise UserError(f"{folder / name} exists and is left as it is: sample into another folder (--data DIR)")
        folder.mkdir(parents=True, exist_ok=True)
        made = [
            pair
            for _, targets, texts in example.splits(max(n, FEWEST), seed)
            for pair in zip(targets, texts, strict=True)
        ]
        lines = [f"{example.MADE_UP}_{i}\t{target:g}\t{text}" for i, (target, text) in enumerate(made)]
        for place, name in enumerate(FILES):
            write_bytes(folder / name, "\r\n".join(lines[place :: len(FILES)]).encode())
        return folder

    def _require_files(self) -> None:
        if lacking := [name for name in FILES if not is_plain(self.data_dir / name)]:
            raise UserError(f"VADER-DIR lacks {' and '.join(lacking)}; it needs {self.requirements}")

    @cached_property
    def _tables(self) -> dict[str, Table]:
        """Both files as one table."""
        self._require_files()
        frame = pd.concat([_read(self.data_dir / name) for name in FILES])
        return {"train": Table(self.data_dir, frame, "line")}

    def _about_files(self) -> str:
        shown = ", ".join(str(self.data_dir / name) for name in FILES)
        return f"{shown} ({self.stands_in() or 'the published ones'})"


def _read(path: Path) -> pd.DataFrame:
    """Read id, rating and text of each line, tabs between, quotation marks as they stand; indexed by line."""
    lines = [line for line in enumerate(read_text(path).replace("\r\n", "\n").split("\n"), 1) if line[1]]
    rows = [(number, line.split("\t")) for number, line in lines]
    for number, row in rows:
        if len(row) != 3:
            raise UserError(
                f"{path}, line {number}: {len(row)} fields, not id, rating and text with tabs between: fetch it again"
            )
    frame = pd.DataFrame([row for _, row in rows], columns=["id", "rating", "text"], dtype=str)
    frame.index = pd.Index([number for number, _ in rows])
    ratings = pd.to_numeric(frame["rating"], errors="coerce").to_numpy(np.float64)
    table = Table(path, frame, "line")
    table.refuse(~(np.abs(ratings) <= MAX_RATING), frame["rating"], f"is not a number from −{MAX_RATING:g} to 4")
    table.refuse((frame["text"].str.strip() == "").to_numpy(np.bool_), frame["text"], "is no text")
    return frame
