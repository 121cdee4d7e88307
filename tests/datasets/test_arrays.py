from pathlib import Path

import numpy as np
import pytest

from dir_bench.datasets.arrays import Arrays
from dir_bench.errors import UserError


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"test_x": np.zeros((60, 4))}, r"test_x has 4 columns, and train_x 3"),
        ({"val_x": np.zeros((60, 0))}, r"val_x is empty"),
        ({"train_y": np.array(["1.5"] * 60)}, r"train_y must be numbers, and holds text"),
        ({"train_y": np.full(60, 1e300)}, r"train_y\[0\] = 1e\+300 is beyond the range of float32"),
        ({"train_x": np.full((60, 3), 1 + 2j)}, r"train_x must be numbers, and holds complex numbers"),
        ({"train_y": np.zeros((60, 1))}, r"train_y must have 1 axes"),
        ({"val_y": np.zeros(59)}, r"val_x must be \(n, features\) and val_y \(n,\), got \(60, 3\) and \(59,\)"),
        ({"test_y": np.where(np.arange(60) == 7, np.nan, 1.0)}, r"test_y\[7\] = nan is not a finite number \(1 such"),
        ({"test_y": np.zeros(0), "test_x": np.zeros((0, 3))}, r"test_x is empty"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path: Path, change: dict[str, np.ndarray], said: str) -> None:
    rng = np.random.default_rng(0)
    good = {f"{split}_x": rng.normal(size=(60, 3)) for split in ("train", "val", "test")}
    good |= {f"{split}_y": rng.uniform(0, 10, 60) for split in ("train", "val", "test")}
    np.savez(tmp_path / "arrays.npz", **{**good, **change})  # type: ignore[arg-type]
    report = Arrays(str(tmp_path)).check()
    assert len(report.problems) == 1
    with pytest.raises(UserError, match=rf"arrays\.npz: {said}"):
        Arrays(str(tmp_path)).load()
