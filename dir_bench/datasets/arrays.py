"""Your own data as arrays: vectors, sequences, pictures or volumes with one number each, and the split they are of."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from dir_bench.atomic import write_npz
from dir_bench.datasets.base import CheckReport, Data, IntArray, ScalarTargets, Stored, file_hash, large_file_hash
from dir_bench.datasets.recognition import Found, Place
from dir_bench.errors import UserError
from dir_bench.files.arrays import Expect, array_shape, channel_moments, read_npy, read_npz, refuse_blurred
from dir_bench.files.plain import NotThere, status
from dir_bench.files.text import one_csv, text_type
from dir_bench.labels import TargetBins
from dir_bench.lazy import Lazy

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from torch import Tensor
else:
    pd = Lazy("pandas")
    torch = Lazy("torch")

SPLITS = ("train", "val", "test")
NAMES = [f"{split}_{kind}" for split in SPLITS for kind in "xy"]
KINDS = {2: "vectors", 3: "sequences", 4: "pictures", 5: "volumes"}
"""What samples are, by the axes of an array of them."""
BACKBONES = {"sequences": "cnn", "pictures": "cnn"}
"""What takes samples of a kind, where it is not the backbone of the dataset's YAML."""
IN_MEMORY = 2**28
"""Bytes of an array that is read; a larger one is mapped, and never in memory whole."""


@dataclass(frozen=True)
class ArraySplit(Stored, ScalarTargets):
    """Inputs of one shape, in memory or mapped, with their targets.

    Attributes:
        inputs: Any numbers, shape ``(n, ...)``.
        targets: Label units, shape ``(n,)``.
        channels_last: Whether channels are the last axis, and not the first behind the samples.
        mean: Of each channel, subtracted; None: inputs are as they are.
        std: Of each channel, divided by.
    """

    inputs: npt.NDArray[Any]
    targets: npt.NDArray[np.float32]
    channels_last: bool = False
    mean: npt.NDArray[np.float32] | None = None
    std: npt.NDArray[np.float32] | None = None
    lengths: None = None

    def __len__(self) -> int:
        return len(self.targets)

    def read(self, indices: IntArray) -> Tensor:
        """Return inputs, float32 of shape ``(b, channels, ...)``; there is no augmentation."""
        batch = np.asarray(self.inputs[indices], np.float32)
        if self.channels_last:
            batch = np.moveaxis(batch, -1, 1)
        if self.mean is not None and self.std is not None:
            shape = (-1, *[1] * (batch.ndim - 2))
            batch = (batch - self.mean.reshape(shape)) / self.std.reshape(shape)
        return torch.from_numpy(np.ascontiguousarray(batch))


class Arrays:
    """A dataset of arrays ``train_x``, ``train_y`` and so on for ``val`` and ``test``.

    Inputs have shape ``(n, features)``, or ``(n, channels, ...)`` of sequences (length), pictures (height, width) and
    volumes (depth, height, width). Targets have shape ``(n,)``, in label units, whatever they are: fractional and
    negative ones are fine. `dataset.bins` and `dataset.regions` say how they are counted.

    Args:
        data_dir: The folder of the file.
        file: Name of the .npz, or of a folder with train_x.npy and so on. Arrays above 256 MiB are not read into
            memory, but those of a compressed .npz.
        channels_last: Whether channels are the last axis of inputs: ``(n, length, channels)`` and so on; None: no.
        standardize_inputs: Whether inputs are brought to mean 0 and standard deviation 1, each channel (of vectors:
            each feature) by the training part; None: all but vectors are.
    """

    kinds: ClassVar[Sequence[str]] = tuple(KINDS.values())
    looks_for: ClassVar[str] = (
        "an .npz with train_x, train_y, val_x, val_y, test_x and test_y, or a folder of such .npy files"
    )

    def __init__(
        self,
        data_dir: str,
        file: str = "arrays.npz",
        channels_last: bool | None = None,
        standardize_inputs: bool | None = None,
    ) -> None:
        self.name, self.file = Path(data_dir).name, Path(data_dir) / file
        self.channels_last, self.standardize_inputs = bool(channels_last), standardize_inputs

    @classmethod
    def recognise(cls, place: Place) -> Found | None:
        """See whether the arrays are there, and of which kind, by their shapes alone."""
        file = place.path
        named = {path.stem: path for path in place.files if path.suffix == ".npy" and path.stem in NAMES}
        packed = [path for path in place.files if path.suffix.lower() == ".npz"]
        if place.is_folder and not named:
            if len(packed) != 1 or place.tables:
                return None
            file = packed[0]
            shape = array_shape(file, "train_x")
        elif place.is_folder:
            if lacking := [f"{name}.npy" for name in NAMES if name not in named]:
                raise UserError(f"{file} has {sorted(named)[0]}.npy and no {', '.join(lacking)}: put them there")
            shape = array_shape(named["train_x"])
        elif file.suffix.lower() == ".npz":
            shape = array_shape(file, "train_x")
        else:
            return None
        kind = KINDS.get(len(shape))
        if kind is None:
            raise UserError(f"{file}: train_x has shape {shape}, and samples are {', '.join(KINDS.values())}, with a "
                            f"channel axis behind the first but for vectors: give it 2 to 5 axes")  # fmt: skip
        if kind not in cls.kinds:
            return None
        notes: tuple[str, ...] = ()
        source: dict[str, Any] = {"data_dir": str(file.parent), "file": file.resolve().name}
        if len(shape) > 3 and shape[-1] <= 4 < shape[1]:
            source |= {"channels_last": True}
            notes = (f"channels are taken to be the last axis of {shape}; else set channels_last: false",)
        fits = 3 if len(cls.kinds) == 1 else 2  # what reads one kind alone knows it best
        what = f"arrays of {kind}: train_x has shape {shape}"
        return Found(what, source, place.stem, backbone=BACKBONES.get(kind), fits=fits, notes=notes)

    @property
    def requirements(self) -> str:
        """What has to be on disk."""
        return (
            f"your own {' or '.join((', '.join(self.kinds[:-1]), self.kinds[-1])).removeprefix(' or ')}: {self.file} "
            f"with {', '.join(NAMES)} (an .npz, or a folder of such .npy files)"
        )

    def require(self) -> None:
        """Say what to give if an array is missing."""
        self._is_folder()

    def fingerprint(self) -> str:
        """Return a hash of the file; of large ones the targets count, and of the inputs a part (`large_file_hash`)."""
        if self._is_folder():
            return hashlib.sha256("".join(large_file_hash(self._part(name)) for name in NAMES).encode()).hexdigest()
        if self.file.stat().st_size <= IN_MEMORY:
            return file_hash(self.file)
        targets = b"".join(array.tobytes() for array in self._read("y").values())
        return hashlib.sha256(large_file_hash(self.file).encode() + targets).hexdigest()

    def train_targets(self) -> npt.NDArray[np.float32]:
        """Return the targets of the training part, without reading inputs."""
        return self._read("y")["train"].astype(np.float32)

    def survey(self) -> CheckReport:
        """Read the targets, and no input; report sizes and ranges."""
        targets = {name: part.astype(np.float32) for name, part in self._read("y").items()}
        facts = {name: f"{len(part)} samples, {part.min():g} to {part.max():g}" for name, part in targets.items()}
        lengths = {name: self._shape(f"{name}_x")[0] for name in targets}
        problems = tuple(
            f"{name}_x has {lengths[name]} samples, and {name}_y {len(part)} targets: give each its own"
            for name, part in targets.items()
            if lengths[name] != len(part)
        )
        return CheckReport(facts, problems, partial(TargetBins.counts, targets=targets["train"]), targets)

    def load(self) -> Data:
        """Read or map the arrays, once; UserError if one is missing or damaged, or not as described."""
        return self._data

    @cached_property
    def _data(self) -> Data:
        x, y = self._read("x"), self._read("y")
        self._compare(x, y)
        axes = x["train"].ndim
        kind = KINDS.get(axes)
        if kind is None or kind not in self.kinds:
            axis = "a channel axis such as x[:, None]" if axes + 1 in KINDS else "one array a sample"
            raise UserError(
                f"{self.file}: train_x has shape {x['train'].shape}, and {self.name} takes {', '.join(self.kinds)}, of "
                f"{', '.join(str(n) for n, each in KINDS.items() if each in self.kinds)} axes: give it {axis}"
            )
        last = self.channels_last and axes > 2
        wanted = axes > 2 if self.standardize_inputs is None else self.standardize_inputs
        mean, std = _scale(x["train"], -1 if last else 1) if wanted else (None, None)
        train, val, test = (ArraySplit(x[name], y[name].astype(np.float32), last, mean, std) for name in SPLITS)
        shape = train.inputs.shape[1:]
        channels, sides = (shape[-1], shape[:-1]) if last else (shape[0], shape[1:])
        square = len(sides) == 2 and sides[0] == sides[1]
        told = {"in_channels": channels, "size": sides[0] if square else sides} if sides else {"in_features": channels}
        return Data(train, val, test, backbone_kwargs=told, kind=kind)

    def new_samples(self, files: Sequence[Path]) -> tuple[pd.DataFrame, ArraySplit]:
        """Read .npy files, of one sample or of several each, or one csv: a row a vector, columns as of `train_x`."""
        train = self.load().train
        assert isinstance(train, ArraySplit)
        of_npy = all(file.suffix.lower() == ".npy" for file in files)
        table, inputs = (_from_npy if of_npy else _from_csv)(files, train.inputs.shape[1:])
        return table, replace(train, inputs=inputs, targets=np.full(len(inputs), np.nan, np.float32))

    def check(self) -> CheckReport:
        """Read the arrays and report sizes and ranges."""
        try:
            data = self.load()
        except UserError as error:
            return CheckReport({}, (str(error),))
        parts = {"train": data.train, "val": data.val, "test": data.test}
        facts: dict[str, Any] = {
            name: f"{len(s)} samples, {s.targets.min():g} to {s.targets.max():g}" for name, s in parts.items()
        }
        assert isinstance(data.train, ArraySplit)
        facts["inputs"] = f"{data.kind} of shape {data.train.inputs.shape[1:]}, {data.train.inputs.dtype}"
        return CheckReport(facts, (), data.train.label_counts, {name: s.targets for name, s in parts.items()})

    def sample(self, folder: Path, n: int = 2000, seed: int = 0) -> Path:
        """Write an example: 8 numbers per sample, a target in [-2, 16] that they determine but for some noise."""
        rng = np.random.default_rng(seed)
        targets = _made_up_targets(n, -2, 16, rng)
        basis = rng.normal(0, 1, (3, 8))

        def vectors(y: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
            waves = np.stack([y / 8, np.sin(y / 3), np.cos(y / 2)], axis=1)
            return (waves @ basis + rng.normal(0, 0.2, (len(y), 8))).astype(np.float32)

        return self._write(folder, {name: (vectors(y), y) for name, y in targets.items()})

    def _write(self, folder: Path, splits: dict[str, tuple[npt.NDArray[Any], npt.NDArray[np.float64]]]) -> Path:
        path = folder / self.file.name
        if path.exists():
            raise UserError(f"{path} exists and is left as it is: name another file")
        folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, npt.NDArray[Any]] = {}
        for name, (x, y) in splits.items():
            arrays |= {f"{name}_x": x, f"{name}_y": y.astype(np.float32)}
        write_npz(path, **arrays)
        return path

    def _is_folder(self) -> bool:
        """Tell whether the arrays lie in a folder; UserError if they are missing."""
        missing = f"missing {self.requirements}; `dir-bench data sample {self.name}` writes an example"
        if self.file.is_dir():
            lacking = [name for name in NAMES if not self._part(name).exists()]
            if lacking:
                raise UserError(f"{self.file} has no {', '.join(f'{name}.npy' for name in lacking)}: {missing}")
            return True
        try:
            status(self.file)
        except NotThere:
            raise UserError(missing) from None
        return False

    def _shape(self, name: str) -> tuple[int, ...]:
        return array_shape(self._part(name)) if self._is_folder() else array_shape(self.file, name)

    def _part(self, name: str) -> Path:
        return self.file / f"{name}.npy"

    def _read(self, kind: str) -> dict[str, npt.NDArray[Any]]:
        """Return the inputs ("x") or targets ("y") of each split.

        Targets that were read into memory are float32, and so are inputs of types that float32 does not hold exactly;
        others, such as bytes, stay as they are, and each batch is made float32.
        """
        expect = Expect(dims=1 if kind == "y" else None, finite=True, float32=True, filled=True)
        wanted = {f"{split}_{kind}": split for split in SPLITS}
        if self._is_folder():
            found = {name: read_npy(self._part(name), expect, map_above=IN_MEMORY) for name in wanted}
        else:
            found = read_npz(self.file, dict.fromkeys(wanted, expect), map_above=IN_MEMORY)

        train = found[f"train_{kind}"]
        if kind == "y":
            refuse_blurred(train, f"{self.file}: train_y")
        elif train.ndim > 1:
            refuse_blurred(train, f"{self.file}: train_x", -1 if self.channels_last and train.ndim > 2 else 1)

        def held(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
            as_it_is = isinstance(array, np.memmap) or (kind == "x" and np.can_cast(array.dtype, np.float32))
            return array if as_it_is else array.astype(np.float32)

        return {split: held(found[name]) for name, split in wanted.items()}

    def _compare(self, x: dict[str, npt.NDArray[Any]], y: dict[str, npt.NDArray[Any]]) -> None:
        """Raise UserError unless inputs and targets are as many, and inputs of one shape."""
        first = x["train"].shape[1:]
        for name in SPLITS:
            if x[name].ndim < 2 or len(x[name]) != len(y[name]):
                raise UserError(
                    f"{self.file}: {name}_x must be (n, features) or (n, channels, ...) and {name}_y (n,), got "
                    f"{x[name].shape} and {y[name].shape}"
                )
            if (shape := x[name].shape[1:]) != first:
                got = (
                    f"{shape[0]} columns, and train_x {first[0]}"
                    if len(shape) == len(first) == 1
                    else f"samples of shape {shape}, and train_x of {first}"
                )
                raise UserError(f"{self.file}: {name}_x has {got}: give all the same")


class Volumes(Arrays):
    """`Arrays` of volumes alone, such as crops of scans: shape ``(n, channels, depth, height, width)``."""

    kinds = ("volumes",)
    looks_for = "such arrays of volumes, (n, channels, depth, height, width)"

    @classmethod
    def recognise(cls, place: Place) -> Found | None:
        """See whether the arrays are there and are volumes."""
        return super().recognise(place)

    def sample(self, folder: Path, n: int = 400, seed: int = 0) -> Path:
        """Write an example: a ball in noise, 16 voxels a side, whose diameter (2 to 12) is the target; long-tailed."""
        rng = np.random.default_rng(seed)
        grid = np.stack(np.meshgrid(*[np.arange(16.0)] * 3, indexing="ij"))

        def scans(diameters: npt.NDArray[np.float64]) -> npt.NDArray[np.int16]:
            centres = rng.uniform(6, 9, (len(diameters), 3, 1, 1, 1))
            distance = np.sqrt(np.square(grid - centres).sum(axis=1))
            inside = np.clip(diameters[:, None, None, None] / 2 - distance + 0.5, 0, 1)
            noisy: npt.NDArray[np.float64] = 1000 * inside - 500 + rng.normal(0, 150, inside.shape)
            return noisy.astype(np.int16)[:, None]

        targets = _made_up_targets(n, 2, 12, rng)
        return self._write(folder, {name: (scans(y), y) for name, y in targets.items()})


def _scale(inputs: npt.NDArray[Any], axis: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return what is taken off each channel, and what it is divided by: 1 where it is constant."""
    mean, std = channel_moments(inputs, axis)
    return mean.astype(np.float32), np.where(std > 0, std, 1).astype(np.float32)


def _from_npy(files: Sequence[Path], shape: tuple[int, ...]) -> tuple[pd.DataFrame, npt.NDArray[Any]]:
    """Return file and number of each sample, and the samples; a single large file is mapped."""
    expect = Expect(finite=True, float32=True, filled=True)
    found = [read_npy(file, expect, map_above=IN_MEMORY) for file in files]
    for file, array in zip(files, found, strict=True):
        if shape not in (array.shape, array.shape[1:]):
            raise UserError(
                f"{file} has shape {array.shape}, and the run was trained on samples of {shape}: give one, or an array "
                f"of them"
            )
    arrays = [array if array.shape != shape else array[None] for array in found]
    where = [str(file) for file, array in zip(files, arrays, strict=True) for _ in array]
    rows = np.concatenate([np.arange(len(array)) for array in arrays])
    names = pd.DataFrame({"file": pd.Series(where, dtype=text_type()), "sample": rows})
    return names, arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _from_csv(files: Sequence[Path], shape: tuple[int, ...]) -> tuple[pd.DataFrame, npt.NDArray[np.float32]]:
    """Return the table and its numbers, of vectors."""
    if len(shape) > 1:
        raise UserError(f"{files[0]}: the run was trained on samples of shape {shape}: give .npy files of them")
    table = one_csv(files)
    inputs = table.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    faults = np.argwhere(~np.isfinite(inputs.astype(np.float32)))
    if len(faults):
        row, column = faults[0]
        found, name = table.iloc[row, column], table.columns[column]
        raise UserError(f"{files[0]}, line {table.index[row]}: {name} '{found}' is not a number")
    if inputs.shape[1] != shape[0]:
        raise UserError(f"{files[0]} has {inputs.shape[1]} columns, and the run was trained on {shape[0]} numbers")
    return table, inputs.astype(np.float32)


def _made_up_targets(n: int, low: float, high: float, rng: np.random.Generator) -> dict[str, npt.NDArray[np.float64]]:
    """Return targets of each split: of training a bell over a thin carpet, so that there are many, medium and few."""
    rare, carpet = rng.random(n) < 0.1, rng.uniform(low, high, n)
    bell = np.clip(rng.normal(low + (high - low) / 3, (high - low) * 2.5 / 18, n), low, high)
    skewed = np.where(rare, carpet, bell)
    return {"train": skewed, "val": rng.uniform(low, high, n // 4), "test": rng.uniform(low, high, n // 4)}
