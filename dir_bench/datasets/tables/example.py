"""An example of a table of one's own: numbers and a category that tell a skewed target, but for some noise."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dir_bench.atomic import write_bytes
from dir_bench.errors import UserError
from dir_bench.lazy import Lazy

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = Lazy("pandas")

MADE_UP = "made_up"
"""Begins the names of an example's columns, so that its numbers are never taken for results."""


def write(files: Mapping[str, Path], target: str, split_column: str, n: int, seed: int) -> None:
    """Write an example, never over what is there.

    Args:
        files: Of train, and of val and test, where these have files of their own.
        target: Name of the column of targets, 0 to 30.
        split_column: Name of the column of splits, where all are in one file.
        n: Training rows; a quarter as many for validation and for test, whose targets are even.
        seed: Of the draws.
    """
    if n < 2:
        raise UserError(f"{n} training row is too few for an example: ask for 2 or more (--size)")
    for path in files.values():
        if path.exists():
            raise UserError(f"{path} exists and is left as it is: name another file, or move it away")
    rng = np.random.default_rng(seed)
    held = max(n // 4, 4)
    targets = {"train": np.where(rng.random(n) < 0.1, rng.uniform(0, 30, n), rng.gamma(4.0, 2.0, n).clip(0, 30))}
    targets["train"][:2] = 0, 30  # so that bins chosen from them hold all
    targets |= {name: rng.uniform(0, 30, held) for name in ("val", "test")}
    basis = rng.normal(0, 1, (3, 5))
    made = []
    for name, values in targets.items():
        y = values.round(1)
        waves = np.stack([y / 10, np.sin(y / 5), np.cos(y / 4)], axis=1)
        numbers = (waves @ basis + rng.normal(0, 0.2, (len(y), 5))).round(4)
        frame = pd.DataFrame(numbers, columns=[f"{MADE_UP}_{i}" for i in range(5)])
        kinds = np.array(["low", "middle", "high"])[np.clip((y + rng.normal(0, 3, len(y))) // 8, 0, 2).astype(int)]
        made.append(pd.DataFrame({target: y, **frame, f"{MADE_UP}_kind": kinds, split_column: name}))
    whole = pd.concat(made)
    for name, path in files.items():
        rest = [split for split in targets if split not in files]
        part = whole if rest and name == "train" else whole[whole[split_column] == name]
        if len(files) > 1:
            part = part[part[split_column].isin([name, *(rest if name == "train" else [])])].drop(columns=split_column)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, part.to_csv(index=False).encode())
