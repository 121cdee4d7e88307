"""NYUD2-DIR: the depth of every pixel of an indoor picture, 0.7 to 10 m (Yang et al. 2021, App. B.4).

Frames of NYU Depth V2 (Silberman et al. 2012) as Hu et al. 2019 prepared them: 50,688 for training, with 8-bit depth,
and 654 for the test, with 16-bit depth. The test counts equally many pixels of each 0.1 m (a mask that is published).
Sizes, depth scales and augmentation follow YyzHarry/imbalanced-regression, `nyud2-dir/loaddata.py`.
"""

import hashlib
import os
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from dir_bench.atomic import write_npy, write_text
from dir_bench.datasets.base import STAND_IN, CheckReport, Data, IntArray, file_hash
from dir_bench.datasets.depth import sample as rooms
from dir_bench.datasets.depth.split import Codes, DepthSplit, centre, chunks, metres
from dir_bench.datasets.depth.transform import CROP, Augmentation
from dir_bench.datasets.download.remote import AUTHORS, Remote
from dir_bench.datasets.pictures.contents import contents
from dir_bench.datasets.pictures.decoding import Decoder, depth_decoder, rgb_decoder, verify
from dir_bench.datasets.pictures.pixels import Store, open_store
from dir_bench.datasets.placing import placed_whole
from dir_bench.datasets.splits import balanced_mask, draw_subset, hold_out_scenes, scene_of
from dir_bench.errors import UserError, nearest
from dir_bench.files.arrays import Expect, read_npy
from dir_bench.files.plain import is_plain
from dir_bench.files.text import read_text
from dir_bench.labels import TargetBins

LISTS = {"train": "nyu2_train.csv", "test": "nyu2_test.csv", "fds": "nyu2_train_FDS_subset.csv"}
MASK = "test_balanced_mask.npy"
BINS = TargetBins.regular(0, 10, 0.1, first=7, rule="truncate", precision="float32")
TRAIN_IMAGES, TEST_IMAGES, FDS_IMAGES = 50_688, 654, 600
# fmt: off
PUBLISHED_COUNTS = (
    0, 0, 0, 0, 0, 0, 0, 25848691, 24732940, 53324326, 69112955, 54455432, 95637682, 71403954, 117244217, 84813007,
    126524456, 84486706, 133130272, 95464874, 146051415, 146133612, 96561379, 138366677, 89680276, 127689043, 81608990,
    119121178, 74360607, 106839384, 97595765, 66718296, 90661239, 53103021, 83340912, 51365604, 71262770, 42243737,
    65860580, 38415940, 53647559, 54038467, 28335524, 41485143, 32106001, 35936734, 23966211, 32018765, 19297203,
    31503743, 21681574, 16363187, 25743420, 12769509, 17675327, 13147819, 15798560, 9547180, 14933200, 9663019,
    12887283, 11803562, 7656609, 11515700, 7756306, 9046228, 5114894, 8653419, 6859433, 8001904, 6430700, 3305839,
    6318461, 3486268, 5621065, 4030498, 3839488, 3220208, 4483027, 2555777, 4685983, 3145082, 2951048, 2762369,
    2367581, 2546089, 2343867, 2481579, 1722140, 3018892, 2325197, 1952354, 2047038, 1858707, 2052729, 1348558,
    2487278, 1314198, 3338550, 1132666,
)
# fmt: on
"""Training pixels of each 0.1 m, at 228 × 304, a constant of the published code."""
REMOTES = (
    Remote(
        f"{AUTHORS}/nyud2-dir/data/nyu2_train_FDS_subset.csv",
        "nyu2_train_FDS_subset.csv",
        size=51_422,
        sha256="e2e00e2388db5a4a6917b7f1c4af68b5fd4012f2884acbbb810ffe8c0957f5b6",
        git_sha1="bfaf8cb28f959de3faa9d924897e53ba43de76b9",
    ),
    Remote(
        f"{AUTHORS}/nyud2-dir/data/test_balanced_mask.npy",
        "test_balanced_mask.npy",
        approximate_size=46_000_000,
        git_sha1="156c67de7a6901c50f15b011e07c42c67e6203c3",
    ),
    Remote(
        "https://drive.usercontent.google.com/download?id=1WoOZOBpOWfmwe7bknWS5PMUCLBPFKTOw&export=download&confirm=t",
        "data.zip",
        approximate_size=4_400_000_000,
        members=("nyu2_train", "nyu2_test", "nyu2_train.csv", "nyu2_test.csv"),
        strip=1,  # data/
    ),
)
"""The authors' two lists, and the frames of NYU Depth V2 (Silberman et al. 2012) as prepared by Hu et al. 2019."""
SELECT_ON = ("validation", "test")
PIXEL_COUNTS = ("auto", "published", "counted")


class NYUD2:
    """NYUD2-DIR from its published files.

    Args:
        data_dir: Folder of nyu2_train/, nyu2_test/, the csv lists and the mask.
        select_on: What selects the checkpoint: "validation", scenes held out of the training list, or "test", as in
            the published code, which has no validation set.
        val_share: Part of the training images that is held out, whole scenes at a time.
        val_seed: Of that choice, and of the pixels that are judged in them.
        val_pixels_per_bin: Pixels of each 0.1 m that validation counts, where there are as many.
        pixel_counts: Training pixels per bin for weights: "published", the constant of the published code, which is of
            the whole training list; "counted"; or "auto": published if the list is as long as the published one.
        rotation_order: Of the spline that pictures are rotated with: 2 as published, 1 (bilinear) for less work.
        augmentation: Strengths by name, see `depth.transform.Augmentation`; what is not named is as published.
        cache: Where decoded pixels are kept: "disk", "ram" or "none".
        cache_dir: Folder of the disk cache, which datasets may share; None: .cache beside `data_dir`.
        cache_limit_gb: What all caches in that folder may take; the longest unused go first. None: no limit.
        decode_threads: Threads that decode; None: one a core.
    """

    remotes: ClassVar[tuple[Remote, ...]] = REMOTES

    def __init__(
        self,
        data_dir: str,
        select_on: str = "validation",
        val_share: float = 0.04,
        val_seed: int = 0,
        val_pixels_per_bin: int = 9357,
        pixel_counts: str = "auto",
        rotation_order: int = 2,
        augmentation: dict[str, float] | None = None,
        cache: str = "disk",
        cache_dir: str | None = None,
        cache_limit_gb: float | None = None,
        decode_threads: int | None = None,
    ) -> None:
        for key, value, choices in (("select_on", select_on, SELECT_ON), ("pixel_counts", pixel_counts, PIXEL_COUNTS)):
            if value not in choices:
                hint = nearest(str(value), choices)
                raise UserError(f"dataset.source.{key}={value} is not a choice{hint}: {', '.join(choices)}")
        if rotation_order not in (1, 2) or not 0 < val_share < 1 or val_pixels_per_bin < 1:
            raise UserError(
                "dataset.source: rotation_order must be 1 or 2, val_share between 0 and 1, val_pixels_per_bin at least "
                f"1, not {rotation_order}, {val_share:g}, {val_pixels_per_bin}"
            )
        self.data_dir, self.select_on, self.pixel_counts = Path(data_dir), select_on, pixel_counts
        self.val_share, self.val_seed, self.val_pixels_per_bin = val_share, val_seed, val_pixels_per_bin
        self.rotation_order, self.augmentation = rotation_order, Augmentation(**(augmentation or {}))
        self.cache, self.cache_limit_gb = cache, cache_limit_gb
        self.cache_dir = self.data_dir.parent / ".cache" if cache_dir is None else Path(cache_dir)
        self.threads = decode_threads or os.cpu_count() or 1

    @property
    def requirements(self) -> str:
        """What has to be on disk, and where it comes from."""
        return (
            f"NYUD2-DIR: {', '.join(LISTS.values())}, {MASK}, nyu2_train/ and nyu2_test/ in {self.data_dir}, all from "
            "`dir-bench data fetch nyud2` (4.4 GB); ImageNet weights for the encoder, as published, from "
            "`dir-bench data fetch resnet50_imagenet`"
        )

    def fingerprint(self) -> str:
        """Return a hash of the lists, the mask, and the contents of all pictures and depth maps, wherever they lie."""
        self.require()
        digest = hashlib.sha256(file_hash(*(self.data_dir / name for name in (*LISTS.values(), MASK))).encode())
        for name in ("train", "test"):
            files = [self.data_dir / file for pair in self._read_list(LISTS[name]) for file in pair]
            digest.update(contents(files, self.cache_dir, workers=self.threads, title=f"nyud2, {name}").tobytes())
        return digest.hexdigest()

    def load(self) -> Data:
        """Open (the first time: decode into) the stores, hold out scenes, and find the pixels that are judged.

        Raises:
            UserError: A file is missing, damaged, or not of the kind or size that it should be; it is named.
        """
        self.require()
        train, test = (self._read_list(LISTS[name]) for name in ("train", "test"))
        mask = self._read_mask(len(test))
        images, depths = self._open(train, "training", bits=8)
        test_images, test_depths = self._open(test, "test", bits=16)
        everything = np.arange(len(test))
        judged = DepthSplit(
            test_images, Codes(test_depths, everything), everything, pixels=np.flatnonzero(mask).astype(np.int64)
        )
        held_out = np.zeros(len(train), np.bool_)
        if self.select_on == "validation":
            held_out = hold_out_scenes([scene_of(image) for image, _ in train], self.val_share, self.val_seed)
        part = partial(self._training_split, images, depths)
        kept, held = np.flatnonzero(~held_out), np.flatnonzero(held_out)
        published = self.pixel_counts == "published" or (self.pixel_counts == "auto" and len(train) == TRAIN_IMAGES)
        return Data(
            train=part(kept, counts=np.array(PUBLISHED_COUNTS) if published else None),
            val=self._validation_split(part(held)) if len(held) else judged,
            test=judged,
            backbone_kwargs={"in_channels": 3, "size": CROP[0]},
            fds=part(self._fds_rows(train, kept)),
            selected_on=self.select_on,
        )

    def _training_split(
        self, images: Store, depths: Store, rows: IntArray, counts: IntArray | None = None
    ) -> DepthSplit:
        return DepthSplit(images, Codes(depths, rows), rows, self.augmentation, self.rotation_order, counts=counts)

    def _validation_split(self, split: DepthSplit) -> DepthSplit:
        """Return a split of training frames with pixels to judge, up to `val_pixels_per_bin` of each 0.1 m."""
        bins = np.empty((len(split), *CROP), np.uint8)
        table = BINS.index(metres(np.arange(256, dtype=np.uint8))).astype(np.uint8)
        for part in chunks(len(split)):
            bins[part] = table[centre(split.targets[part])]
        mask = balanced_mask(
            bins, first=BINS.first, n_bins=len(BINS), seed=self.val_seed, per_bin=self.val_pixels_per_bin
        )
        return DepthSplit(split.images, split.targets, split.rows, pixels=np.flatnonzero(mask).astype(np.int64))

    def _fds_rows(self, train: list[tuple[str, str]], kept: IntArray) -> IntArray:
        """Return the rows that FDS takes statistics from: the published subset, in order, without what is held out."""
        place = {image: row for row, (image, _) in enumerate(train)}
        subset = [image for image, _ in self._read_list(LISTS["fds"])]
        unknown = [image for image in subset if image not in place]
        if unknown:
            raise UserError(
                f"{self.data_dir / LISTS['fds']} names {unknown[0]}, which {LISTS['train']} does not: fetch both again"
            )
        rows = np.array([place[image] for image in subset], np.int64)
        rows = rows[np.isin(rows, kept)]
        if not len(rows):
            raise UserError(
                f"all images of {self.data_dir / LISTS['fds']} are held out for validation: set another "
                "dataset.source.val_seed, or rebuild the list with `dir-bench data split nyud2`"
            )
        return rows

    def _open(self, pairs: list[tuple[str, str]], title: str, bits: Literal[8, 16]) -> tuple[Store, Store]:
        kinds: tuple[tuple[int, Decoder, str], ...] = (
            (0, rgb_decoder(), f"nyud2, {title} pictures"),
            (1, depth_decoder(bits=bits), f"nyud2, {title} depth"),
        )
        images, depths = (
            open_store(
                [self.data_dir / pair[which] for pair in pairs],
                decoder,
                cache=self.cache,  # type: ignore[arg-type]  # a choice of the schema
                folder=self.cache_dir,
                limit_gb=self.cache_limit_gb,
                workers=self.threads,
                title=name,
            )
            for which, decoder, name in kinds
        )
        return images, depths

    def _read_list(self, name: str) -> list[tuple[str, str]]:
        """Return (image, depth) of each line, relative to `data_dir`: without their first part, as published."""
        path = self.data_dir / name
        pairs = []
        for number, line in enumerate(read_text(path).split(), 1):
            parts = [column.partition("/")[2] for column in line.split(",")]
            if len(parts) != 2 or not all(parts):
                raise UserError(
                    f"{path}, line {number}: '{line}' is not 'data/<image>,data/<depth>': fetch it again, or mend it"
                )
            pairs.append((parts[0], parts[1]))
        if not pairs:
            raise UserError(f"{path} lists no image: fetch it again")
        return pairs

    def _read_mask(self, images: int) -> npt.NDArray[np.bool_]:
        path = self.data_dir / MASK
        mask = read_npy(path, Expect("truth values"))
        if mask.shape != (images, *CROP):
            raise UserError(
                f"{path} has shape {mask.shape}, and {images} test images of {CROP[0]} × {CROP[1]} need "
                f"{(images, *CROP)}: fetch it again, or rebuild it with `dir-bench data split nyud2`"
            )
        if not mask.any():
            raise UserError(f"{path} selects no pixel: fetch it again, or rebuild it with `dir-bench data split nyud2`")
        selected: npt.NDArray[np.bool_] = mask.astype(np.bool_)
        return selected

    def require(self) -> None:
        """Say what to get if a list, the mask, or all of the first pictures are missing."""
        missing = [name for name in (*LISTS.values(), MASK) if not is_plain(self.data_dir / name)]
        if not missing:
            first = self._read_list(LISTS["train"])[:20]
            missing = [] if any(is_plain(self.data_dir / image) for image, _ in first) else ["nyu2_train/"]
        if missing:
            raise UserError(
                f"missing {', '.join(missing)} of {self.requirements}; `dir-bench data split nyud2` rebuilds lists and "
                "mask from the images, `dir-bench data sample nyud2` writes a small stand-in"
            )

    def check(self) -> CheckReport:
        """Read lists and mask and decode every image, in parallel; report counts and what is wrong."""
        facts: dict[str, Any] = {}
        try:
            self.require()
            pairs = {name: self._read_list(file) for name, file in LISTS.items()}
            mask = self._read_mask(len(pairs["test"]))
        except UserError as error:
            return CheckReport(facts, (str(error),))
        problems: list[str] = []
        for name, depth in (("train", depth_decoder(bits=8)), ("test", depth_decoder(bits=16))):
            for which, decoder in ((0, rgb_decoder()), (1, depth)):
                files = [self.data_dir / pair[which] for pair in pairs[name]]
                kind = ("pictures", "depth")[which]
                problems += verify(files, decoder.decode, workers=self.threads, title=f"checking {name} {kind}")
        made_up = any(rooms.MADE_UP in image for image, _ in pairs["train"])
        facts["list"] = "a made-up stand-in: good for a trial, not for results" if made_up else "your own"
        expected = {"train": TRAIN_IMAGES, "test": TEST_IMAGES, "fds": FDS_IMAGES}
        for name, rows in pairs.items():
            facts[LISTS[name]] = f"{len(rows)} images"
            if not made_up and len(rows) != expected[name]:
                problems.append(f"{self.data_dir / LISTS[name]} has {len(rows)} images, published {expected[name]}")
        facts[MASK] = f"{int(mask.sum())} pixels"
        if problems:
            return CheckReport(facts, tuple(problems))
        try:
            data = self.load()
        except UserError as error:
            return CheckReport(facts, (str(error),))
        facts["split"] = f"{len(data.train)} training images, {len(data.val)} for {data.selected_on}"
        return CheckReport(facts, (), data.train.label_counts)

    def stands_in(self) -> str:
        """Say whether the images are made up, or others than the published ones by their number."""
        sizes = {name: self._read_list(LISTS[name]) for name in ("train", "test")}
        if any(rooms.MADE_UP in image for image, _ in sizes["train"]):
            return STAND_IN
        differs = (len(sizes["train"]), len(sizes["test"])) != (TRAIN_IMAGES, TEST_IMAGES)
        return "other images than the published ones" if differs else ""

    def write_split(self, seed: int | None = None) -> Path:
        """Write the lists and the mask that are missing, from the images; UserError if none is.

        Args:
            seed: Of the FDS subset and the mask; the published ones were drawn without one. None: 0.
        """
        missing = [name for name in (*LISTS.values(), MASK) if not is_plain(self.data_dir / name)]
        if not missing:
            raise UserError(
                f"{', '.join((*LISTS.values(), MASK))} are in {self.data_dir} already and count: move away what is to "
                "be rebuilt"
            )
        seed = 0 if seed is None else seed
        if LISTS["train"] in missing:
            self._write_list(
                "train", [(image, image.with_suffix(".png")) for image in self._glob("nyu2_train/*/*.jpg")]
            )
        if LISTS["test"] in missing:
            names = self._glob("nyu2_test/*_colors.png")
            self._write_list("test", [(n, n.with_name(n.name.replace("colors", "depth"))) for n in names])
        if LISTS["fds"] in missing:
            train = self._read_list(LISTS["train"])
            chosen = draw_subset(len(train), min(FDS_IMAGES, len(train)), seed)
            self._write_list("fds", [(Path(train[row][0]), Path(train[row][1])) for row in chosen])
        if MASK in missing:
            _, depths = self._open(self._read_list(LISTS["test"]), "test", bits=16)
            codes = centre(depths.read(np.arange(len(depths))))
            bins = BINS.index(metres(codes)).astype(np.uint8)
            mask = balanced_mask(bins, first=BINS.first, n_bins=len(BINS), seed=seed)
            write_npy(self.data_dir / MASK, mask.astype(np.uint8))
        return self.data_dir

    def _glob(self, pattern: str) -> list[Path]:
        found = sorted(
            path.relative_to(self.data_dir) for path in self.data_dir.glob(pattern) if not path.name.startswith(".")
        )
        if not found:
            raise UserError(f"there is no {self.data_dir / pattern}: missing {self.requirements}")
        return found

    def _write_list(self, name: str, pairs: list[tuple[Path, Path]]) -> None:
        lines = [f"data/{image.as_posix()},data/{depth.as_posix()}\n" for image, depth in pairs]
        write_text(self.data_dir / LISTS[name], "".join(lines))

    def sample(self, folder: Path, n: int = 24, seed: int = 0) -> Path:
        """Write a stand-in: rooms drawn in perspective, in the published format, with lists and mask.

        Args:
            folder: Where everything goes.
            n: Training images; the test gets a third.
            seed: Of the rooms.

        Raises:
            UserError: If a list or a folder of images exists: nothing is overwritten, nor mixed with what is there.
        """
        with placed_whole(folder, *LISTS.values(), MASK, "nyu2_train", "nyu2_test") as made:
            rooms.write_rooms(made, n, max(n // 3, 2), seed)
            NYUD2(str(made), cache="none").write_split(seed)
        return folder
