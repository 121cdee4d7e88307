"""Faces whose list of ages the authors publish: what the benchmarks of faces have in common.

Each of them adds where its files come from, what its list must hold, how its splits were made, and a stand-in in the
format of its raw files (Yang et al. 2021, App. B.1–B.2).
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NoReturn

import numpy as np
import numpy.typing as npt

from dir_bench.datasets.download.remote import Remote
from dir_bench.datasets.images import Images, write_list
from dir_bench.errors import UserError
from dir_bench.lazy import Lazy

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = Lazy("pandas")

HIGHEST_AGE = 200


class Faces(Images, ABC):
    """`Images` of faces: ages are whole years, the list has columns of age, path and split.

    Args:
        data_dir: The folder of the list.
        options: Those of `Images` but its columns and bounds.
    """

    list_name: ClassVar[str]
    age_column: ClassVar[str] = "age"
    published_rows: ClassVar[dict[str, int]]
    """Pictures in each split of the published list."""
    remotes: ClassVar[tuple[Remote, ...]]

    def __init__(
        self,
        data_dir: str,
        size: int = 224,
        padding: int = 16,
        flip: bool = True,
        cache: str = "disk",
        cache_dir: str | None = None,
        cache_limit_gb: float | None = None,
        decode_threads: int | None = None,
    ) -> None:
        super().__init__(
            data_dir,
            file=self.list_name,
            target_column=self.age_column,
            lowest=0,
            highest=HIGHEST_AGE,
            size=size,
            padding=padding,
            flip=flip,
            cache=cache,
            cache_dir=cache_dir,
            cache_limit_gb=cache_limit_gb,
            decode_threads=decode_threads,
        )

    def _draw(self, paths: pd.Series, targets: npt.NDArray[np.float64]) -> NoReturn:
        """Raise UserError: a list of faces has to name the splits."""
        raise UserError(
            f"{self.list_path} has no column 'split': take the published list, `dir-bench data fetch {self.name}`, "
            f"or move it away and rebuild it with `dir-bench data split {self.name}`"
        )

    def write_split(self, seed: int | None = None) -> Path:
        """Rebuild the list from the raw files; UserError if there is one already, which then counts."""
        if self.list_path.exists():
            raise UserError(f"{self.list_path} is there already and counts: move it away to have it rebuilt")
        rows = self.split_raw(self.data_dir, 666 if seed is None else seed)
        write_list(self.list_path, rows)
        return self.list_path

    @abstractmethod
    def split_raw(self, folder: Path, seed: int) -> pd.DataFrame:
        """Return the list's columns (the age's, path and split) from the raw files in a folder."""

    def stands_in(self) -> str:
        """Say whether the list is one of stand-ins, or another than the published one."""
        differs = self._compare_with_published(self.read_list())[1]
        return super().stands_in() or ("another list of pictures than the published one" if differs else "")

    def _compare_with_published(self, rows: pd.DataFrame) -> tuple[str, str]:
        made_up, _ = super()._compare_with_published(rows)
        if "stand-in" in made_up:
            return made_up, ""
        published = next(remote for remote in self.remotes if remote.name == self.list_path.name)
        if self._blob() == published.git_sha1:
            return "as published (git blob id)", ""
        counts = rows["split"].value_counts().to_dict()
        if counts != self.published_rows:
            return (
                "NOT as published",
                f"{self.list_path} has {counts} pictures, the published list {self.published_rows}",
            )
        return "NOT as published", (
            f"{self.list_path} is not the published list, though as long: other members, or rebuilt from raw files?"
        )

    def _blob(self) -> str:
        """Return the list's id as git names a file's content."""
        return git_blob(self.list_path.read_bytes())


def git_blob(content: bytes) -> str:
    """Return the id that git gives a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
