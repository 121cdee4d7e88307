"""Your own data as arrays: one .npz file with inputs and targets of each split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dir_bench.atomic import write_npz
from dir_bench.datasets.base import CheckReport, Data, IntArray, ScalarTargets, file_hash
from dir_bench.errors import UserError
from dir_bench.files.arrays import Expect, read_npz
from dir_bench.files.plain import NotThere, status
from dir_bench.files.text import one_csv
from dir_bench.lazy import Lazy

if TYPE_CHECKING:
    import pandas as pd
    import torch
else:
    pd = Lazy("pandas")
    torch = Lazy("torch")

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class ArraySplit(ScalarTargets):
    """Inputs that fit in memory, shape ``(n, ...)``, with their targets."""

    inputs: npt.NDArray[np.float32]
    targets: npt.NDArray[np.float32]
    lengths: None = None

    def __len__(self) -> int:
        return len(self.targets)

    def fetch(self, indices: IntArray, rng: np.random.Generator | None) -> torch.Tensor:
        """Return the inputs of a batch; there is no augmentation."""
        return torch.from_numpy(self.inputs[indices])


class Arrays:
    """A dataset in one .npz file with ``train_x``, ``train_y`` and so on for ``val`` and ``test``.

    Inputs have shape ``(n, features)``, targets ``(n,)`` in label units, whatever they are: fractional and negative
    ones are fine. `dataset.bins` and `dataset.regions` say how they are counted.

    Args:
        data_dir: The folder of the file.
        file: The file's name.
    """

    def __init__(self, data_dir: str, file: str = "arrays.npz") -> None:
        self.file = Path(data_dir) / file

    @property
    def requirements(self) -> str:
        """What has to be on disk."""
        return f"your own arrays: {self.file} with train_x, train_y, val_x, val_y, test_x, test_y"

    def fingerprint(self) -> str:
        """Return the hash of the file."""
        self._require_file()
        return file_hash(self.file)

    def load(self) -> Data:
        """Read the file; UserError if it is missing or damaged, or an array is missing or not as described."""
        self._require_file()
        x = Expect(dims=2, finite=True, float32=True, filled=True)
        y = Expect(dims=1, finite=True, float32=True, filled=True)
        arrays = read_npz(self.file, {f"{name}_{kind}": part for name in SPLITS for kind, part in (("x", x), ("y", y))})
        train, val, test = (self._split(arrays, name) for name in SPLITS)
        return Data(train, val, test, backbone_kwargs={"in_features": train.inputs.shape[1]})

    def new_samples(self, files: Sequence[Path]) -> tuple[pd.DataFrame, ArraySplit]:
        """Read one csv: a row a sample, its columns those of `train_x` in their order."""
        table = one_csv(files)
        inputs = table.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
        faults = np.argwhere(~np.isfinite(inputs.astype(np.float32)))
        if len(faults):
            row, column = faults[0]
            found, name = table.iloc[row, column], table.columns[column]
            raise UserError(f"{files[0]}, line {table.index[row]}: {name} '{found}' is not a number")
        if inputs.shape[1] != (features := self.load().train.inputs.shape[1]):  # type: ignore[attr-defined]
            raise UserError(f"{files[0]} has {inputs.shape[1]} columns, and the run was trained on {features} numbers")
        return table, ArraySplit(inputs.astype(np.float32), np.full(len(inputs), np.nan, np.float32))

    def check(self) -> CheckReport:
        """Read the file and report sizes and ranges."""
        try:
            data = self.load()
        except UserError as error:
            return CheckReport({}, (str(error),))
        parts = {"train": data.train, "val": data.val, "test": data.test}
        facts = {name: f"{len(s)} samples, {s.targets.min():g} to {s.targets.max():g}" for name, s in parts.items()}
        return CheckReport(facts, (), data.train.label_counts, {name: s.targets for name, s in parts.items()})

    def sample(self, folder: Path, n: int = 2000, seed: int = 0) -> Path:
        """Write an example: 8 numbers per sample, a target in [-2, 16] that they determine but for some noise."""
        path = folder / self.file.name
        if path.exists():
            raise UserError(f"{path} exists and is left as it is: name another file")
        rng = np.random.default_rng(seed)
        # A bell over a thin carpet: many, medium and few shots.
        skewed = np.where(rng.random(n) < 0.1, rng.uniform(-2, 16, n), np.clip(rng.normal(4, 2.5, n), -2, 16))
        targets = {"train": skewed, "val": rng.uniform(-2, 16, n // 4), "test": rng.uniform(-2, 16, n // 4)}
        basis = rng.normal(0, 1, (3, 8))
        arrays = {}
        for name, y in targets.items():
            waves = np.stack([y / 8, np.sin(y / 3), np.cos(y / 2)], axis=1)
            arrays[f"{name}_x"] = (waves @ basis + rng.normal(0, 0.2, (len(y), 8))).astype(np.float32)
            arrays[f"{name}_y"] = y.astype(np.float32)
        folder.mkdir(parents=True, exist_ok=True)
        write_npz(path, **arrays)
        return path

    def _require_file(self) -> None:
        try:
            status(self.file)
        except NotThere:
            raise UserError(f"missing {self.requirements}; `dir-bench data sample arrays` writes an example") from None

    def _split(self, arrays: dict[str, npt.NDArray[Any]], name: str) -> ArraySplit:
        x, y = arrays[f"{name}_x"], arrays[f"{name}_y"]
        if len(x) != len(y):
            raise UserError(
                f"{self.file}: {name}_x must be (n, features) and {name}_y (n,), got {x.shape} and {y.shape}"
            )
        if x.shape[1] != (features := arrays["train_x"].shape[1]):
            raise UserError(
                f"{self.file}: {name}_x has {x.shape[1]} columns, and train_x {features}: give all the same"
            )
        return ArraySplit(x.astype(np.float32), y.astype(np.float32))
