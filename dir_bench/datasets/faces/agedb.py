"""AgeDB-DIR: a person's age from a picture of the face (Yang et al. 2021, App. B.2)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dir_bench.datasets.download.remote import AUTHORS, Remote
from dir_bench.datasets.faces.base import Faces
from dir_bench.datasets.images import MADE_UP, made_up_labels, write_list, write_pictures
from dir_bench.datasets.placing import placed_whole
from dir_bench.datasets.splits import faces_from_names, split_by_label
from dir_bench.errors import UserError
from dir_bench.files.text import text_type
from dir_bench.lazy import Lazy

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = Lazy("pandas")

log = logging.getLogger("dir_bench")

CAP = 30
"""Pictures of one age that validation and test take at most."""
REMOTES = (
    Remote(
        f"{AUTHORS}/agedb-dir/data/agedb.csv",
        "agedb.csv",
        size=687_669,
        sha256="ab9f8d4c7099a9d74ec5094c42b6fe9f1927a166a48d2ab800a88b2fd6081252",
        git_sha1="78abfdb939ff5cf68672cf11ee9b84a0eb9e990a",
    ),
)
"""The splits. The images are given out by AgeDB's owners alone (Moschoglou et al. 2017), who send a password."""


class AgeDB(Faces):
    """AgeDB-DIR: 16,488 pictures, ages 1 to 101 (Moschoglou et al., CVPR Workshops 2017)."""

    name = "agedb"
    list_name = "agedb.csv"
    published_rows: ClassVar[dict[str, int]] = {"train": 12208, "val": 2140, "test": 2140}
    remotes = REMOTES

    @property
    def requirements(self) -> str:
        """What has to be on disk, whom to ask for it, and where to put it."""
        return (
            f"AgeDB-DIR: {self.list_path} (`dir-bench data fetch agedb`) and the pictures as "
            f"{self.data_dir / 'AgeDB'}/*.jpg. {self.pictures_wanted}"
        )

    @property
    def pictures_wanted(self) -> str:
        """Whom to ask for the pictures."""
        return (
            "The pictures come in a zip with a password, which the owners of AgeDB (Imperial College London, "
            "ibug.doc.ic.ac.uk/resources/agedb) give to academics on request"
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
        split = split_by_label(ages, cap=CAP, seed=seed)
        paths = pd.Series([f"AgeDB/{name}" for name in names], dtype=text_type())  # some are no UTF-8
        return pd.DataFrame({"age": ages, "path": paths, "split": split})

    def sample(self, folder: Path, n: int = 600, seed: int = 0) -> Path:
        """Write a stand-in: gauges that show the age, named as AgeDB names its pictures, and their list."""
        with placed_whole(folder, self.list_path.name, "AgeDB") as made:
            ages = made_up_labels(n, seed)
            names = [f"{i}_{MADE_UP}_{age}_{'fm'[i % 2]}.jpg" for i, age in enumerate(ages)]
            write_pictures([made / "AgeDB" / name for name in names], ages, seed, highest=120)
            write_list(made / self.list_path.name, self.split_raw(made, 666))
        return folder
