from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dir_bench.datasets.coverage import beyond, faults, proposal
from dir_bench.labels import TargetBins

BINS = TargetBins.regular(-2, 16, 0.5)


def test_targets_beyond_the_edges_are_counted_and_the_ends_belong_to_the_bins() -> None:
    assert beyond(BINS, np.array([-2.0, 16.0, -2.1, 16.1, 17.0, 3.0])) == (1, 2)
    assert beyond(TargetBins.regular(0, 10, 0.1, precision="float32"), np.float32([10.0, 0.0])) == (0, 0)


def test_a_few_beyond_are_no_fault_and_many_are_said_with_bins_that_fit() -> None:
    few = np.r_[np.full(199, 3.0), 99.0]
    assert faults(BINS, {"train": few}) == []
    (said,) = faults(BINS, {"train": few, "val": np.array([3.0, 20.0, -3.0])})
    assert said == (
        "2 of 3 targets of the split 'val' lie outside of the bins (1 below -2, 1 above 16) and count as of the end "
        "bins: set dataset.bins.start=-5 dataset.bins.stop=100 dataset.bins.width=5 dataset.fds_last=20"
    )


@given(st.lists(st.floats(-1e9, 1e9), min_size=1))
def test_the_bins_proposed_hold_all(values: list[float]) -> None:
    targets = np.array(values)
    settings = dict(part.split("=") for part in proposal(BINS, {"train": targets}).split())
    start, stop, width = (float(settings[f"dataset.bins.{key}"]) for key in ("start", "stop", "width"))
    bins = TargetBins.regular(start, stop, width)
    slack = 1e-9 * max(1.0, *np.abs(targets))
    assert start - slack <= targets.min()
    assert targets.max() <= stop + slack
    assert len(bins) == int(settings["dataset.fds_last"]) + 1


@pytest.fixture
def shifted(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "data" / "arrays"
    folder.mkdir(parents=True)
    arrays = {f"{split}_x": rng.normal(size=(40, 2)) for split in ("train", "val", "test")}
    arrays |= {f"{split}_y": rng.uniform(1000, 2000, 40) for split in ("train", "val", "test")}
    np.savez(folder / "arrays.npz", **arrays)  # type: ignore[arg-type]
    return folder.parent


def test_check_and_training_say_that_targets_lie_outside(shifted: Path, caplog: pytest.LogCaptureFixture) -> None:
    from dir_bench import assembly, config, inspection

    text, problems = inspection.check("arrays", str(shifted))
    assert "all is well" not in text
    assert len(problems) == 3
    assert "40 of 40 targets of the split 'train' lie outside" in problems[0]
    assembly.load_data(config.compose(["dataset=arrays", f"paths.data={shifted}"]))
    assert "40 of 40 targets of the split 'train' lie outside" in caplog.text
