"""Pictures with one number each, from a csv of paths and targets: the loader of the face benchmarks and of your own.

Every picture is decoded once, to `size` × `size` pixels, into a cache that all runs share; batches are augmented on
the device. The published augmentation (Yang et al. 2021, App. B.1; agedb-dir/datasets.py): black padding, a random
crop, a mirror image every other time, (x − mean) / std.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from dir_bench.atomic import write_bytes
from dir_bench.datasets.base import STAND_IN, CheckReport, Data, IntArray, ScalarTargets, Stored, file_hash
from dir_bench.datasets.gauge import draw
from dir_bench.datasets.pictures import listed
from dir_bench.datasets.pictures.augment import crop_and_flip, draw_crop_and_flip, to_float
from dir_bench.datasets.pictures.contents import contents
from dir_bench.datasets.pictures.decoding import face_decoder, verify
from dir_bench.datasets.pictures.pixels import Store, open_store
from dir_bench.datasets.placing import placed_whole
from dir_bench.datasets.recognition import Found, Place
from dir_bench.datasets.splits import split_by_label
from dir_bench.errors import UserError
from dir_bench.files.arrays import refuse_blurred
from dir_bench.files.plain import NotThere, is_missing, status
from dir_bench.files.table import BEYOND
from dir_bench.files.text import BYTES, one_csv, read_csv, text_type
from dir_bench.labels import TargetBins
from dir_bench.lazy import Lazy

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from PIL import Image
    from torch import Tensor
else:
    Image = Lazy("PIL.Image")
    torch = Lazy("torch")
    pd = Lazy("pandas")

SPLITS = ("train", "val", "test")
SPLIT_BINS = 50
"""Where a list names no splits, they are drawn evenly over this many bins of its targets."""
MADE_UP = "StandIn"
"""In the file names of stand-ins, so that `data check` tells them from the real pictures."""


@dataclass(frozen=True)
class Augmentation:
    """What training does to a picture; `mean` and `std` hold in evaluation too, brightness being 0 to 1."""

    padding: int
    flip: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class ImageSplit(Stored, ScalarTargets):
    """Some rows of a store of pictures, uint8 of shape ``(size, size, 3)``, with their targets."""

    store: Store
    rows: IntArray
    targets: npt.NDArray[np.float32]
    augmentation: Augmentation
    lengths: None = None

    def __len__(self) -> int:
        return len(self.targets)

    def read(self, indices: IntArray) -> Tensor:
        """Return pixels, uint8 of shape ``(b, size, size, 3)``."""
        return torch.from_numpy(self.store.read(self.rows[indices]))

    def beside(self, pixels: Tensor, indices: IntArray, rng: np.random.Generator | None) -> tuple[Tensor, ...]:
        """Return them; in training also the batch's crops and flips."""
        if rng is None:
            return (pixels,)
        shift, flip = draw_crop_and_flip(rng, len(indices), self.augmentation.padding)
        return pixels, shift, flip if self.augmentation.flip else torch.zeros_like(flip)

    def prepare(self, inputs: tuple[Tensor, ...], targets: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return normalised pictures, shape ``(b, 3, size, size)``, and the targets as they are."""
        pixels, *draws = inputs
        if draws:
            pixels = crop_and_flip(pixels, draws[0], draws[1], self.augmentation.padding)
        return to_float(pixels, self.augmentation.mean, self.augmentation.std), targets


class Images:
    """A csv with a picture's path, its target and, if you like, its split on each line.

    Args:
        data_dir: The folder of the csv; paths in it are relative to this folder.
        file: The csv's name.
        path_column: Column of paths.
        target_column: Column of targets, in label units.
        split_column: Column of train, val or test. Without it, splits are drawn: targets in 50 even bins, from each
            a third, but no more than `split_cap`, to val and as many to test, so both are nearly balanced.
        lowest: Least target that makes sense; None: any.
        highest: Greatest target that makes sense; None: any.
        size: Width and height that pictures are resized to, in pixels.
        padding: Black pixels around a picture in training, before a random crop of `size`.
        flip: Whether training mirrors every other picture.
        mean: Of each channel, subtracted; brightness is 0 to 1.
        std: Of each channel, divided by.
        split_cap: See `split_column`.
        split_seed: Of that draw.
        cache: Where decoded pixels are kept: "disk", "ram" or "none".
        cache_dir: Folder of the disk cache, which datasets may share; None: .cache beside `data_dir`.
        cache_limit_gb: What all caches in that folder may take; the longest unused go first. None: no limit.
        decode_threads: Threads that decode; None: one a core.
        exif_orientation: Whether a picture is turned as its EXIF tag says, as phones mean it; None: no, as published.
    """

    name: ClassVar[str] = "images"
    looks_for = listed.LOOKS_FOR

    @classmethod
    def recognise(cls, place: Place) -> Found | None:
        """See whether there is such a list, and its pictures."""
        return listed.as_pictures(place)

    def __init__(
        self,
        data_dir: str,
        file: str = "images.csv",
        path_column: str = "path",
        target_column: str = "target",
        split_column: str = "split",
        lowest: float | None = None,
        highest: float | None = None,
        size: int = 224,
        padding: int = 16,
        flip: bool = True,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        split_cap: int = 30,
        split_seed: int = 666,
        cache: str = "disk",
        cache_dir: str | None = None,
        cache_limit_gb: float | None = None,
        decode_threads: int | None = None,
        exif_orientation: bool | None = None,
    ) -> None:
        if size < 1 or padding < 0 or len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise UserError(
                "dataset.source: size must be at least 1, padding not negative, mean and std three numbers each and "
                f"std above 0, not size={size}, padding={padding}, mean={list(mean)}, std={list(std)}"
            )
        self.data_dir, self.list_path = Path(data_dir), Path(data_dir) / file
        self.path_column, self.target_column, self.split_column = path_column, target_column, split_column
        self.lowest = -np.inf if lowest is None else lowest
        self.highest = np.inf if highest is None else highest
        self.size, self.augmentation = size, Augmentation(padding, flip, tuple(mean), tuple(std))
        self.split_cap, self.split_seed = split_cap, split_seed
        self.cache, self.cache_limit_gb = cache, cache_limit_gb
        self.cache_dir = self.data_dir.parent / ".cache" if cache_dir is None else Path(cache_dir)
        self.threads = decode_threads or os.cpu_count() or 1
        self.decoder = face_decoder(size, exif_orientation=bool(exif_orientation))

    @property
    def requirements(self) -> str:
        """What has to be on disk."""
        columns = f"{self.path_column}, {self.target_column} and, if you like, {self.split_column}"
        return f"your own pictures: {self.list_path} with columns {columns}; paths are relative to its folder"

    @property
    def pictures_wanted(self) -> str:
        """What is to be done where the list is there and the pictures are not."""
        return f"put them there, or mend the paths, which are relative to {self.data_dir}"

    @property
    def sample_command(self) -> str:
        """What makes a stand-in."""
        return f"`dir-bench data sample {self.name}` writes a small stand-in"

    def fingerprint(self) -> str:
        """Return a hash of the list and of the pictures' contents, wherever they lie."""
        self.require()
        files = [self.data_dir / path for path in self.read_list()["path"]]
        digests = contents(files, self.cache_dir, workers=self.threads, title=self.data_dir.name)
        return hashlib.sha256(file_hash(self.list_path).encode() + digests.tobytes()).hexdigest()

    def load(self) -> Data:
        """Read the list and open (the first time: decode into) the store of pixels.

        Raises:
            UserError: The list is missing or wrong, or a picture is missing or cannot be decoded; it names the file.
        """
        rows = self.read_list()
        self.require()
        store = open_store(
            [self.data_dir / path for path in rows["path"]],
            self.decoder,
            cache=self.cache,  # type: ignore[arg-type]  # a choice of the schema
            folder=self.cache_dir,
            limit_gb=self.cache_limit_gb,
            workers=self.threads,
            title=self.data_dir.name,
        )
        targets, split = rows["target"].to_numpy(np.float32), rows["split"].to_numpy(str)
        parts = [np.flatnonzero(split == name) for name in SPLITS]
        for name, part in zip(SPLITS, parts, strict=True):
            if not len(part):
                raise UserError(self._empty(name))
        train, val, test = (ImageSplit(store, part, targets[part], self.augmentation) for part in parts)
        return Data(train, val, test, backbone_kwargs={"in_channels": 3, "size": self.size}, kind="pictures")

    def read_list(self) -> pd.DataFrame:
        """Return columns path, target (float64) and split of every picture; UserError with the line of a mistake.

        It is read once, and must not be changed.
        """
        return self._rows

    @cached_property
    def _rows(self) -> pd.DataFrame:
        self._require_list()
        file = read_csv(self.list_path)
        with_split = [self.split_column] if self.split_column in file.header else []
        table, root = file.frame([self.path_column, self.target_column, *with_split]), os.path.abspath(self.data_dir)
        if not len(table):
            raise UserError(f"{self.list_path} lists no picture, only a header")
        targets = pd.to_numeric(table[self.target_column], errors="coerce").to_numpy(np.float64)
        beyond = np.isfinite(targets) & (np.abs(targets) > np.finfo(np.float32).max)
        self._refuse(beyond, table[self.target_column], BEYOND)
        outside = ~((targets >= self.lowest) & (targets <= self.highest) & np.isfinite(targets))  # NaN too
        bounded = np.isfinite([self.lowest, self.highest]).all()
        span = f" from {self.lowest:g} to {self.highest:g}" if bounded else ""
        self._refuse(outside, table[self.target_column], f"is not a number{span}")
        refuse_blurred(targets, f"{self.list_path}: {self.target_column}")
        # One picture's path can be spelt in several ways.
        spelt = (os.path.normpath(os.path.join(root, path)) for path in table[self.path_column])
        paths = pd.Series([*spelt], table.index, dtype=text_type())
        if self.split_column in table:
            split = table[self.split_column]
            self._refuse(~split.isin(SPLITS).to_numpy(), split, f"is not one of {', '.join(SPLITS)}")
        else:
            split = self._draw(paths, targets)
        rows = pd.DataFrame({"path": table[self.path_column], "target": targets, "split": split.to_numpy(str)})
        rows = rows.reset_index(drop=True)
        two_splits = rows.groupby(paths.reset_index(drop=True))["split"].transform("nunique").to_numpy() > 1
        self._refuse(two_splits, table[self.path_column], "is listed in two splits")
        return rows

    def _draw(self, paths: pd.Series, targets: npt.NDArray[np.float64]) -> pd.Series:
        """Return the split of each picture of a list that names none."""
        edges = np.linspace(targets.min(), targets.max(), SPLIT_BINS + 1)[1:-1]
        # A picture that is listed twice goes where its first line goes.
        first = ~paths.duplicated()
        places = np.searchsorted(edges, targets[first], side="right")
        drawn = split_by_label(places, cap=self.split_cap, seed=self.split_seed)
        return paths.map(dict(zip(paths[first], drawn, strict=True)))

    def _empty(self, split: str) -> str:
        return f"{self.list_path} has no picture of the split '{split}': give it some"

    def _refuse(self, wrong: npt.NDArray[np.bool_], values: pd.Series, why: str) -> None:
        if wrong.any():
            place = int(np.flatnonzero(wrong)[0])
            what = f"{values.name} '{values.iloc[place]}' {why}"
            raise UserError(f"{self.list_path}, line {values.index[place]}: {what}: mend or drop the line")

    def _require_list(self) -> None:
        try:
            status(self.list_path)
        except NotThere:
            raise UserError(f"missing {self.requirements}; {self.sample_command}") from None

    def require(self) -> None:
        """Say what to get, and from whom, if there is no list, or none of the first pictures that it names."""
        self._require_list()
        first = read_csv(self.list_path, most_rows=20).frame([self.path_column])[self.path_column]
        if len(first) and all(is_missing(self.data_dir / path) for path in first):
            raise UserError(
                f"{self.list_path} is there, and the pictures that it names are missing, such as "
                f"{self.data_dir / first.iloc[0]}: {self.pictures_wanted}"
            )

    def check(self) -> CheckReport:
        """Read the list and decode every picture, in parallel; report counts, ranges, and what is wrong."""
        try:
            rows = self.read_list()
            self.require()
        except UserError as error:
            return CheckReport({}, (str(error),))
        files = [self.data_dir / path for path in rows["path"]]
        wrong = verify(files, self.decoder.decode, workers=self.threads, title=f"checking {self.data_dir.name}")
        report = self.survey()
        return replace(report, problems=(*wrong, *report.problems))

    def survey(self) -> CheckReport:
        """Read the list, and no picture; report counts and ranges."""
        rows, facts = self.read_list(), {}
        targets = {name: rows.loc[rows["split"] == name, "target"].to_numpy() for name in SPLITS}
        for name, part in targets.items():
            facts[name] = f"{len(part)} pictures" + (f", {part.min():g} to {part.max():g}" if len(part) else "")
        problems = [self._empty(name) for name in SPLITS if not len(targets[name])]
        facts["list"], differs = self._compare_with_published(rows)
        problems += [differs] if differs else []
        return CheckReport(facts, tuple(problems), partial(TargetBins.counts, targets=targets["train"]), targets)

    def train_targets(self) -> npt.NDArray[np.float64]:
        """Return the targets of the training pictures, without decoding any."""
        rows = self.read_list()
        return rows.loc[rows["split"] == "train", "target"].to_numpy(np.float64)

    def _compare_with_published(self, rows: pd.DataFrame) -> tuple[str, str]:
        """Return what to say of the list, and how it differs from the published one ("" if there is none)."""
        if rows["path"].str.contains(MADE_UP, regex=False).any():
            return "a made-up stand-in: good for a trial, not for results", ""
        return "your own", ""

    def new_samples(self, files: Sequence[Path]) -> tuple[pd.DataFrame, ImageSplit]:
        """Read pictures, or one csv with the column of paths, which are relative to its folder."""
        if len(files) == 1 and files[0].suffix.lower() == ".csv":
            table = one_csv(files)
            if self.path_column not in table:
                raise UserError(f"{files[0]} has no column '{self.path_column}', which names the pictures")
            pictures = [files[0].parent / path for path in table[self.path_column]]
        else:
            table, pictures = pd.DataFrame({self.path_column: [*map(str, files)]}, dtype=text_type()), [*files]
        store = open_store(pictures, self.decoder, cache="none", folder=self.cache_dir, limit_gb=None,
                           workers=self.threads, title="new pictures")  # fmt: skip
        targets = np.full(len(pictures), np.nan, np.float32)
        return table, ImageSplit(store, np.arange(len(pictures)), targets, self.augmentation)

    def stands_in(self) -> str:
        """Say whether the list is one of stand-ins."""
        made_up = self.read_list()["path"].str.contains(MADE_UP, regex=False).any()
        return STAND_IN if made_up else ""

    def sample(self, folder: Path, n: int = 600, seed: int = 0) -> Path:
        """Write a stand-in: pictures of a gauge that shows the target, 0 to 100 and long-tailed, and their csv.

        Args:
            folder: Where the csv and the folder `pictures` go.
            n: Pictures in all.
            seed: Of targets and pictures.

        Raises:
            UserError: If the csv or the folder exists: nothing is overwritten, nor mixed with what is there.
        """
        with placed_whole(folder, self.list_path.name, "pictures") as made:
            targets = made_up_labels(n, seed)
            names = [f"pictures/{MADE_UP}_{i:05d}.jpg" for i in range(n)]
            write_pictures([made / name for name in names], targets, seed)
            split = split_by_label(targets, cap=self.split_cap, seed=self.split_seed)
            columns = {self.path_column: names, self.target_column: targets, self.split_column: split}
            write_list(made / self.list_path.name, pd.DataFrame(columns))
        return folder


def write_list(path: Path, rows: pd.DataFrame) -> None:
    """Write a csv atomically; bytes of file names that are no text come out as they were."""
    write_bytes(path, rows.to_csv(index=False).encode("utf-8", BYTES))


def made_up_labels(n: int, seed: int, highest: int = 100) -> IntArray:
    """Return `n` whole labels up to `highest`, about twenty different ones, long-tailed around a third of it."""
    if n < 24:
        raise UserError(f"{n} pictures are too few for three splits: ask for 24 or more (--size)")
    rng = np.random.default_rng([seed, 0])
    step = round(highest / min(20, n // 8))
    labels = np.arange(step, highest + 1, step)
    likely = np.exp(-np.abs(labels - highest / 3) / (highest / 16)) + 0.01
    # Three of the likeliest ones at least, so that there is something to hold out.
    chosen = np.concatenate([np.repeat(labels[likely.argmax()], 6), rng.choice(labels, n - 6, p=likely / likely.sum())])
    return rng.permutation(chosen)


def write_pictures(files: Sequence[Path], targets: npt.ArrayLike, seed: int, highest: float = 100.0) -> None:
    """Write a JPEG of a gauge for each target, as uneven as real ones: three sizes, tinted or grey."""
    rng = np.random.default_rng([seed, 1])
    readings = np.asarray(targets, np.float64) * 100 / highest
    for folder in {file.parent for file in files}:
        folder.mkdir(parents=True, exist_ok=True)
    for start, size in enumerate((80, 96, 120)):
        part = slice(start, None, 3)
        pictures = draw(readings[part], size, 0.03, rng)
        tints = rng.uniform(0.7, 1.0, (len(pictures), 3))
        for file, picture, tint in zip(files[part], pictures, tints, strict=True):
            grey = rng.random() < 0.25
            pixels = picture if grey else (picture[..., None] * tint).astype(np.uint8)
            Image.fromarray(pixels).save(file, quality=90)
