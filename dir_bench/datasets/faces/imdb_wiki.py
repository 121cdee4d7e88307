"""IMDB-WIKI-DIR: a person's age from a picture of the face (Yang et al. 2021, App. B.1)."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from dir_bench.datasets.download.remote import AUTHORS, Remote
from dir_bench.datasets.faces import imdb_meta
from dir_bench.datasets.faces.base import Faces
from dir_bench.datasets.images import MADE_UP, made_up_labels, write_list, write_pictures
from dir_bench.datasets.placing import placed_whole
from dir_bench.lazy import Lazy

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = Lazy("pandas")

ETHZ = "https://data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki/static"
REMOTES = (
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


class IMDBWiki(Faces):
    """IMDB-WIKI-DIR: 213,553 pictures, ages 0 to 186 (Rothe et al., IJCV 2018), those with one clear face."""

    name = "imdb_wiki"
    list_name = "imdb_wiki.csv"
    published_rows: ClassVar[dict[str, int]] = {"train": 191509, "val": 11022, "test": 11022}
    remotes = REMOTES

    @property
    def requirements(self) -> str:
        """What has to be on disk, and how to get it."""
        return (
            f"IMDB-WIKI-DIR: {self.list_path}, {self.data_dir / 'imdb_crop'} and {self.data_dir / 'wiki_crop'}, all of "
            "`dir-bench data fetch imdb_wiki` (8 GB from ETH Zürich, data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki)"
        )

    @property
    def pictures_wanted(self) -> str:
        """Where the pictures are."""
        return "`dir-bench data fetch imdb_wiki` gets them"

    def split_raw(self, folder: Path, seed: int) -> pd.DataFrame:
        """Filter both databases by their .mat files, and hold out up to 150 pictures of each age."""
        return imdb_meta.imdb_wiki_list(folder, seed=seed)

    def sample(self, folder: Path, n: int = 600, seed: int = 0) -> Path:
        """Write a stand-in: gauges that show the age, both .mat files, which also list pictures to leave out, the list.

        Of three pictures two are IMDB's.
        """
        databases: tuple[imdb_meta.Database, ...] = ("imdb", "wiki")
        with placed_whole(folder, self.list_path.name, *(f"{db}_crop" for db in databases)) as made:
            ages = made_up_labels(n, seed)
            of_imdb = np.arange(n) % 3 > 0
            for db, chosen in zip(databases, (ages[of_imdb], ages[~of_imdb]), strict=True):
                rows = _made_up_rows(chosen)
                files = [made / f"{db}_crop" / path for path in rows["full_path"]]
                write_pictures(files, rows["age"].clip(0, 120), seed, highest=120)
                imdb_meta.write_mat(made / f"{db}_crop" / f"{db}.mat", db, rows)
            write_list(made / self.list_path.name, self.split_raw(made, 666))
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
