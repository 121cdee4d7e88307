"""UTK-DIR: a person's age from a picture of the face, a part of UTKFace split by the rule of AgeDB-DIR.

UTKFace: Zhang, Song and Qi, "Age Progression/Regression by Conditional Adversarial Autoencoder", CVPR 2017. No paper
uses this part of it: it is here since its pictures can be had without asking anybody, and since a small network learns
from them in a minute.
"""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dir_bench.datasets.base import CheckReport
from dir_bench.datasets.download.remote import Remote
from dir_bench.datasets.faces.base import Faces, git_blob
from dir_bench.datasets.images import MADE_UP, made_up_labels, write_list, write_pictures
from dir_bench.datasets.pictures.contents import contents
from dir_bench.datasets.placing import placed_whole
from dir_bench.datasets.recognition import Found, Place
from dir_bench.datasets.splits import split_by_label
from dir_bench.errors import UserError
from dir_bench.files.plain import is_missing, is_plain
from dir_bench.files.text import read_csv
from dir_bench.lazy import Lazy

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = Lazy("pandas")

CAP = 30
"""Pictures of one age that validation and test take at most."""
PUBLIC, COMMIT = "github.com/bagashvilit/facial_recognition_bias", "abe87302"
REMOTES = (
    Remote(
        f"https://{PUBLIC}/archive/{COMMIT}.tar.gz",
        f"facial_recognition_bias-{COMMIT}.tar.gz",
        approximate_size=130_000_000,
        members=("images",),
        strip=2,  # the archive's own folder, and "data"
        only="data/images",
    ),
)
"""A part of UTKFace that is public, at one commit. GitHub packs it anew when it likes, so the archive has no hash."""
SHIPPED = "bace02e53cf7a6fe0042baeeb8866ba6928e6486"
"""Git blob id of the list that numbers its pictures, pictures/<number>_<age>.jpg, youngest first."""
TERMS = (
    "UTKFace is for non-commercial research only, and its pictures belong to their owners (susanqq.github.io/UTKFace)"
)
FIRST = 10_000
"""Files of a folder that are looked at, to see whether they are such."""
FACE_NAME = re.compile(r"([0-9]{1,3})_[0-9]_.+\.jpe?g", re.IGNORECASE)
"""An image of UTKFace, <age>_<gender>_<race>_<date and time>.jpg, or .jpg.chip.jpg; of a few the race is missing."""


class UTKFace(Faces):
    """UTK-DIR: 9,674 faces, ages 1 to 110; 1,049 training pictures of the most frequent age, 1 of the rarest."""

    name = "utk"
    list_name = "images.csv"
    age_column = "target"
    published_rows: ClassVar[dict[str, int]] = {"train": 5622, "val": 2026, "test": 2026}
    remotes = REMOTES
    looks_for = "a folder of pictures of UTKFace, <age>_<gender>_<race>_<date>.jpg"

    @classmethod
    def recognise(cls, place: Place) -> Found | None:
        """See whether the folder has UTK-DIR's own list, or pictures whose names tell the age; those in it count."""
        if not place.is_folder:
            return None
        source, folder = {"data_dir": str(place.path)}, place.path
        own = folder / cls.list_name
        if is_plain(own):
            if git_blob(own.read_bytes()) != SHIPPED and not _tells_ages(own):
                return None
            return Found(f"faces, with {own.name}, which says age and split of each", source, place.stem, fits=4)
        names = (path.name for path in folder.rglob("*.*"))
        first = sum(FACE_NAME.fullmatch(name) is not None for name in islice(names, FIRST))
        if not first:
            return None
        named = first + sum(FACE_NAME.fullmatch(name) is not None for name in names)
        what = f"{named} pictures named as UTKFace names them, by age"
        return Found(what, source, place.stem, fits=4, once="split")

    def survey(self) -> CheckReport:
        """Read the list; without one, tell what `data split` would make of the pictures."""
        if is_missing(self.list_path):
            self._rows = self.split_raw(self.data_dir, 666)
        return super().survey()

    @property
    def requirements(self) -> str:
        """What has to be on disk, how to get it, and on which terms."""
        return (
            f"UTK-DIR: {self.list_path} and the pictures that it names. `dir-bench data fetch utk` gets pictures from "
            f"{PUBLIC} (commit {COMMIT}), and `dir-bench data split utk` then writes the list; an archive that has "
            f"both is unpacked by `dir-bench data fetch utk --from FILE`. {TERMS}"
        )

    @property
    def pictures_wanted(self) -> str:
        """Where the pictures are."""
        return "they come with the archive that the list is of: `dir-bench data fetch utk --from FILE`"

    def split_raw(self, folder: Path, seed: int) -> pd.DataFrame:
        """Read ages off the file names, leave out copies, and hold out up to 30 pictures of each age for each split.

        Of pictures that are the same byte for byte, or of one name in several folders (UTKFace is passed on with
        crops of its pictures beside them), the first counts: by age, then by path.
        """
        found = [path.relative_to(folder) for path in folder.rglob("*.*") if not path.name.startswith(".")]
        named = [(int(match[1]), path) for path in found if (match := FACE_NAME.fullmatch(path.name))]
        if not named:
            raise UserError(
                f"{folder} has no picture named <age>_<gender>_<race>_<date>.jpg: missing {self.requirements}"
            )
        by_name: dict[str, tuple[int, Path]] = {}
        for age, path in sorted(named, key=lambda each: (each[0], each[1].as_posix())):
            by_name.setdefault(path.name, (age, path))
        ages, paths = zip(*by_name.values(), strict=True)
        digests = contents([folder / path for path in paths], self.cache_dir, workers=self.threads, title=self.name)
        first = np.sort(np.unique(digests, axis=0, return_index=True)[1])
        kept = np.array(ages)[first]
        split = split_by_label(kept, cap=CAP, seed=seed)
        return pd.DataFrame({"path": [paths[i].as_posix() for i in first], "target": kept, "split": split})

    def _compare_with_published(self, rows: pd.DataFrame) -> tuple[str, str]:
        if rows["path"].str.contains(MADE_UP, regex=False).any():
            return "a made-up stand-in: good for a trial, not for results", ""
        if is_missing(self.list_path):
            return "not written yet", ""
        if self._blob() == SHIPPED:
            return "that of UTK-DIR (git blob id)", ""
        counts = rows["split"].value_counts().to_dict()
        if counts == self.published_rows:
            return "as long as that of UTK-DIR, under other names: a draw of its own by the same rule", ""
        return "NOT that of UTK-DIR", f"{self.list_path} has {counts} pictures, UTK-DIR {self.published_rows}"

    def sample(self, folder: Path, n: int = 600, seed: int = 0) -> Path:
        """Write a stand-in: gauges that show the age, named as UTKFace names its pictures, and their list."""
        with placed_whole(folder, self.list_path.name, "images") as made:
            ages = made_up_labels(n, seed)
            names = [f"{age}_{i % 2}_0_{MADE_UP}{i:05d}.jpg" for i, age in enumerate(ages)]
            write_pictures([made / "images" / name for name in names], ages, seed, highest=120)
            write_list(made / self.list_path.name, self.split_raw(made, 666))
        return folder


def _tells_ages(own: Path) -> bool:
    """Tell whether a list names pictures of UTKFace, and gives the ages that their names tell."""
    held = read_csv(own, most_rows=20)
    if not {"path", "target"} <= set(held.header):
        return False
    rows = held.frame(["path", "target"])
    named = [FACE_NAME.fullmatch(Path(path).name) for path in rows["path"]]
    return bool(named) and all(match and match[1] == age for match, age in zip(named, rows["target"], strict=True))
