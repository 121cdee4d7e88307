"""AgeDB-DIR and IMDB-WIKI-DIR: a person's age from a picture of the face (Yang et al. 2021, App. B.1–B.2).

Both are `Images` whose list the authors publish; here is what is particular to each: where its files come from, what
its list must hold, how its splits were made, and a stand-in in the format of its raw files.
"""

from __future__ import annotations

import hashlib
import logging
from abc import ABC, abstractmethod
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from dir_bench.datasets import imdb_meta
from dir_bench.datasets.fetch import AUTHORS, Remote
from dir_bench.datasets.images import MADE_UP, Images, made_up_labels, refuse_existing, write_list, write_pictures
from dir_bench.datasets.splits import faces_from_names, split_by_label
from dir_bench.errors import UserError
from dir_bench.lazy import Lazy

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = Lazy("pandas")

log = logging.getLogger("dir_bench")

HIGHEST_AGE = 200
AGEDB_CAP, IMDB_WIKI_CAP = 30, 150
"""Pictures of one age that validation and test take at most."""

ETHZ = "https://data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki/static"

AGEDB = (
    Remote(
        f"{AUTHORS}/agedb-dir/data/agedb.csv",
        "agedb.csv",
        size=687_669,
        sha256="ab9f8d4c7099a9d74ec5094c42b6fe9f1927a166a48d2ab800a88b2fd6081252",
        git_sha1="78abfdb939ff5cf68672cf11ee9b84a0eb9e990a",
    ),
)
"""The splits. The images are given out by AgeDB's owners alone (Moschoglou et al. 2017), who send a password."""

IMDB_WIKI = (
    Remote(
        f"{AUTHORS}/imdb-wiki-dir/data/imdb_wiki.csv",
        "imdb_wiki.csv",
        approximate_size=12_000_000,
        git_sha1="c1512e3da0de9076a0793b982c9a74cd872c0d8b",
    ),
    Remote(f"{ETHZ}/wiki_crop.tar", "wiki_crop.tar", approximate_size=811_000_000, members=("wiki_crop/wiki.mat",)),
    Remote(f"{ETHZ}/imdb_crop.tar", "imdb_crop.tar", size=7_012_157_440, members=("imdb_crop/imdb.mat",)),
)
"""The splits, and the cropped faces with their .mat lists (Rothe et al. 2018)."""


class Faces(Images, ABC):
    """`Images` of faces: ages are whole years, the list has columns age, path and split.

    Args:
        data_dir: The folder of the list.
        options: Those of `Images` but its columns and bounds.
    """

    name: ClassVar[str]
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
            file=f"{self.name}.csv",
            target_column="age",
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

    def read_list(self) -> pd.DataFrame:
        """As of `Images`; the list has to name the splits."""
        rows = super().read_list()
        if self.split_column not in pd.read_csv(self.list_path, nrows=0).columns:
            raise UserError(
                f"{self.list_path} has no column 'split': take the published list, `dir-bench data fetch {self.name}`, "
                f"or move it away and rebuild it with `dir-bench data split {self.name}`"
            )
        return rows

    def write_split(self, seed: int | None = None) -> Path:
        """Rebuild the list from the raw files; UserError if there is one already, which then counts."""
        if self.list_path.exists():
            raise UserError(f"{self.list_path} is there already and counts: move it away to have it rebuilt")
        rows = self.split_raw(self.data_dir, 666 if seed is None else seed)
        write_list(self.list_path, rows)
        return self.list_path

    @abstractmethod
    def split_raw(self, folder: Path, seed: int) -> pd.DataFrame:
        """Return columns age, path and split from the raw files in a folder."""

    def _compare_with_published(self, rows: pd.DataFrame) -> tuple[str, str]:
        made_up, _ = super()._compare_with_published(rows)
        if "stand-in" in made_up:
            return made_up, ""
        content = self.list_path.read_bytes()
        published = next(remote for remote in self.remotes if remote.name == self.list_path.name)
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()  # as git names a file's content
        if blob == published.git_sha1:
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


class AgeDB(Faces):
    """AgeDB-DIR: 16,488 pictures, ages 1 to 101 (Moschoglou et al., CVPR Workshops 2017)."""

    name = "agedb"
    published_rows: ClassVar[dict[str, int]] = {"train": 12208, "val": 2140, "test": 2140}
    remotes = AGEDB

    @property
    def requirements(self) -> str:
        """What has to be on disk, whom to ask for it, and where to put it."""
        return (
            f"AgeDB-DIR: {self.list_path} (`dir-bench data fetch agedb`) and the pictures as "
            f"{self.data_dir / 'AgeDB'}/*.jpg. The pictures come in a zip with a password, which the owners of AgeDB "
            "(Imperial College London, ibug.doc.ic.ac.uk/resources/agedb) give to academics on request"
        )

    def write_split(self, seed: int | None = None) -> Path:
        """As of `Faces`; the published draw goes by an order of files that is lost, so this is another one."""
        path = super().write_split(seed)
        log.warning(
            "drawn by the published rule, but the order of files that the published draw went by is lost: for results "
            "beside published ones take the published list, `dir-bench data fetch agedb`"
        )
        return path

    def split_raw(self, folder: Path, seed: int) -> pd.DataFrame:
        """Read ages off the file names, and hold out up to 30 pictures of each age for validation and for test."""
        pictures = folder / "AgeDB"
        if not pictures.is_dir():
            raise UserError(f"there is no folder {pictures}: missing {self.requirements}")
        ages, names, problems = faces_from_names(sorted(path.name for path in pictures.iterdir()))
        if problems:
            raise UserError(f"{pictures}: {problems[0]} (and {len(problems) - 1} more): move such files elsewhere")
        split = split_by_label(ages, cap=AGEDB_CAP, seed=seed)
        return pd.DataFrame({"age": ages, "path": [f"AgeDB/{name}" for name in names], "split": split})

    def sample(self, folder: Path, n: int = 600, seed: int = 0) -> Path:
        """Write a stand-in: gauges that show the age, named as AgeDB names its pictures, and their list."""
        path = folder / self.list_path.name
        refuse_existing(path, folder / "AgeDB")
        ages = made_up_labels(n, seed)
        names = [f"{i}_{MADE_UP}_{age}_{'fm'[i % 2]}.jpg" for i, age in enumerate(ages)]
        write_pictures([folder / "AgeDB" / name for name in names], ages, seed, highest=120)
        write_list(path, self.split_raw(folder, 666))
        return folder


class IMDBWiki(Faces):
    """IMDB-WIKI-DIR: 213,553 pictures, ages 0 to 186 (Rothe et al., IJCV 2018), those with one clear face."""

    name = "imdb_wiki"
    published_rows: ClassVar[dict[str, int]] = {"train": 191509, "val": 11022, "test": 11022}
    remotes = IMDB_WIKI

    @property
    def requirements(self) -> str:
        """What has to be on disk, and how to get it."""
        return (
            f"IMDB-WIKI-DIR: {self.list_path}, {self.data_dir / 'imdb_crop'} and {self.data_dir / 'wiki_crop'}, all of "
            "`dir-bench data fetch imdb_wiki` (8 GB from ETH Zürich, data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki)"
        )

    def split_raw(self, folder: Path, seed: int) -> pd.DataFrame:
        """Filter both databases by their .mat files, and hold out up to 150 pictures of each age."""
        return imdb_meta.imdb_wiki_list(folder, seed=seed)

    def sample(self, folder: Path, n: int = 600, seed: int = 0) -> Path:
        """Write a stand-in: gauges that show the age, both .mat files, which also list pictures to leave out, the list.

        Of three pictures two are IMDB's.
        """
        path = folder / self.list_path.name
        refuse_existing(path, folder / "imdb_crop", folder / "wiki_crop")
        ages = made_up_labels(n, seed)
        of_imdb = np.arange(n) % 3 > 0
        databases: tuple[imdb_meta.Database, ...] = ("imdb", "wiki")
        for db, chosen in zip(databases, (ages[of_imdb], ages[~of_imdb]), strict=True):
            rows = _made_up_rows(chosen)
            crops = folder / f"{db}_crop"
            write_pictures([crops / path for path in rows["full_path"]], rows["age"].clip(0, 120), seed, highest=120)
            imdb_meta.write_mat(crops / f"{db}.mat", db, rows)
        write_list(path, self.split_raw(folder, 666))
        return folder


def _made_up_rows(ages: npt.NDArray[np.int64]) -> pd.DataFrame:
    """Return rows as `imdb_meta.write_mat` takes them, and their age: pictures of these ages, then three to leave out.

    Those have a second face, no face that was found, and an age that cannot be.
    """
    ages = np.concatenate([ages, [30, 30, 201]])
    n = len(ages)
    taken = 2010
    score, second = np.full(n, 3.0), np.full(n, np.nan)
    second[-3], score[-2] = 2.5, -np.inf
    return pd.DataFrame(
        {
            "age": ages,
            "dob": [date(taken - int(age), 3, 1).toordinal() + imdb_meta.MATLAB_ORDINAL for age in ages],
            "photo_taken": taken,
            "full_path": [f"{i % 100:02d}/{MADE_UP}{i}_{taken - age}-03-01_{taken}.jpg" for i, age in enumerate(ages)],
            "gender": np.arange(n) % 2.0,
            "name": "Stand In",
            "face_location": [(1.0, 1.0, 80.0, 80.0)] * n,
            "face_score": score,
            "second_face_score": second,
        }
    )
