"""The embedded dataset: its labels, its pictures, and that both follow from the seed."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from dir_bench.datasets import gauge
from dir_bench.datasets.base import Data, Dataset
from dir_bench.datasets.gauge import LOOKS, Gauge, draw, needle_angle
from dir_bench.errors import UserError
from dir_bench.labels import Regions, TargetBins

BINS = TargetBins.regular(0, 100, 1)
SIMD: list[str] = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])  # type: ignore[call-overload]
"""What NumPy has code of its own for and this processor can do, the lowest first."""


@pytest.fixture(scope="module")
def data() -> Data:
    return Gauge(n_train=600, n_val_per_bin=2, n_test_per_bin=3).load()


def test_it_is_a_dataset() -> None:
    assert isinstance(Gauge(), Dataset)


def test_same_seed_gives_same_data_and_another_seed_other_data(data: Data) -> None:
    again, other = (Gauge(seed, n_train=600, n_val_per_bin=2, n_test_per_bin=3).load() for seed in (0, 1))
    for name in ("train", "val", "test"):
        np.testing.assert_array_equal(getattr(data, name).images, getattr(again, name).images)
        np.testing.assert_array_equal(getattr(data, name).targets, getattr(again, name).targets)
        assert not np.array_equal(getattr(data, name).targets, getattr(other, name).targets)


@pytest.mark.parametrize("level", range(len(SIMD) + 1))
def test_pictures_are_the_same_bytes_on_every_processor(level: int) -> None:
    """NumPy chooses a function's code, and with it the last bits of float32, by what the processor can do."""
    code = """
import hashlib
from dir_bench.datasets.gauge import Gauge
data = Gauge(n_train=3000).load()
drawn = [array.tobytes() for split in (data.train, data.val, data.test) for array in (split.images, split.targets)]
print(hashlib.sha256(b"".join(drawn)).hexdigest())
"""
    environment = os.environ | {"NPY_DISABLE_CPU_FEATURES": " ".join(SIMD[level:])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "89b1bd81b3f2df53e236ec471800c378b61f083c325249f0bbd6726986fd2ea0"


def test_held_out_splits_hold_every_bin_equally_often(data: Data) -> None:
    assert (BINS.counts(data.val.targets) == 2).all()
    assert (BINS.counts(data.test.targets) == 3).all()


def test_training_counts_are_those_that_were_drawn(data: Data) -> None:
    np.testing.assert_array_equal(BINS.counts(data.train.targets), Gauge(n_train=600).train_counts())
    assert len(data.train) == 600


@pytest.mark.parametrize("seed", range(5))
def test_all_regions_are_well_populated(seed: int) -> None:
    counts = Gauge(seed).train_counts()
    codes = Regions.from_counts(counts, many_over=100, few_under=20).codes
    assert (np.bincount(codes, minlength=3) >= 25).all()
    # A long tail: the few-shot bins, over a quarter of all, hold under a twentieth of the pictures.
    assert counts[codes == 2].sum() < 0.05 * counts.sum()
    assert counts.max() > 200


def test_smooth_counts_follow_the_logistic_density() -> None:
    counts = Gauge(n_train=10**8, roughness=0, peak=50, spread=9).train_counts()
    # sech²(d / 18) at d = 0.5 and 30.5, worked by hand: 0.99923 and 0.12657.
    assert counts[80] / counts[50] == pytest.approx(0.12657 / 0.99923, rel=0.01)
    assert counts[19] == pytest.approx(counts[80], rel=0.01)


def test_splits_share_no_picture_and_no_reading_stream(data: Data) -> None:
    pictures = [{image.tobytes() for image in split.images} for split in (data.train, data.val, data.test)]
    assert sum(map(len, pictures)) == 600 + 200 + 300
    assert len(set.union(*pictures)) == 600 + 200 + 300
    within = [np.sort(split.targets)[:50] % 1 for split in (data.val, data.test)]
    assert not np.array_equal(*within)


def test_readings_stay_in_their_bin_in_float32(data: Data) -> None:
    for split in (data.train, data.val, data.test):
        assert split.targets.dtype == np.float32
        assert split.targets.min() >= 0
        assert split.targets.max() < 100
        assert (split.targets * gauge.FINENESS % 1 == 0).all()
    assert np.float32(100 - 1 / gauge.FINENESS) < 100


def test_fetch_gives_a_batch_of_pictures(data: Data) -> None:
    batch = data.train.fetch(np.array([5, 0, 5]), None)
    assert batch.shape == (3, 1, 32, 32)
    assert batch.dtype == torch.uint8
    np.testing.assert_array_equal(batch[1, 0], data.train.images[0, 0])
    torch.testing.assert_close(batch[0], batch[2])
    torch.testing.assert_close(batch, data.train.fetch(np.array([5, 0, 5]), np.random.default_rng(0)))
    assert data.train.lengths is None
    assert data.backbone_kwargs == {"in_channels": 1, "size": 32}


def test_fetch_does_not_lend_the_stored_pictures(data: Data) -> None:
    before = data.val.images[:2].copy()
    data.val.fetch(np.array([0, 1]), None).zero_()
    np.testing.assert_array_equal(data.val.images[:2], before)


def test_pictures_do_not_depend_on_how_many_are_drawn_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = np.linspace(0, 100, 23)
    whole = draw(readings, 24, 0.2, np.random.default_rng(3))
    monkeypatch.setattr(gauge, "CHUNK", 5)
    np.testing.assert_array_equal(draw(readings, 24, 0.2, np.random.default_rng(3)), whole)


# The sweep is 270° clockwise from lower left: 0 lies at 7:30, 50 at 12:00, 100 at 4:30.
@pytest.mark.parametrize(
    ("reading", "x", "y"), [(0, -1, 1), (100 / 6, -1, 0), (50, 0, -1), (250 / 3, 1, 0), (100, 1, 1)]
)
def test_needle_points_where_the_reading_says(reading: float, x: int, y: int) -> None:
    size = 65  # pixel 32 is the centre
    picture = draw([reading], size)[0].astype(float)
    reach = 0.5 * 0.85 * size / 2 / np.hypot(x, y)  # half of the dial's radius: on the needle, inside the ticks
    column, row = (round(32 + reach * step) for step in (x, y))
    opposite = picture[64 - row, 64 - column]
    assert picture[row, column] < opposite - 100
    around = [(round(32 + reach * -y), round(32 + reach * x)), (round(32 + reach * y), round(32 - reach * x))]
    assert all(picture[row, column] < picture[r, c] - 100 for c, r in around)


def test_plain_needle_encodes_the_reading_alone() -> None:
    """Darkness within the ring between counterweight and ticks, averaged as a direction, gives the reading back."""
    readings = np.linspace(1, 99, 50)
    size = 64
    pictures = draw(readings, size).astype(float)
    grid = (np.arange(size) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(grid, grid)
    radius = np.hypot(x, y) / np.mean(LOOKS["radius"])
    dark = (pictures.max() - pictures) * ((radius > 0.35) & (radius < 0.65))
    direction = np.arctan2((dark * y).sum((1, 2)), (dark * x).sum((1, 2)))
    error = np.mod(direction - needle_angle(readings) + np.pi, 2 * np.pi) - np.pi
    assert np.abs(error).max() < np.deg2rad(1.5)


def test_noise_is_as_strong_as_asked() -> None:
    readings = np.full(200, 50.0)
    quiet, loud = (draw(readings, 24, noise, np.random.default_rng(0)).astype(float) for noise in (0.0, 0.05))
    unclipped = (quiet > 60) & (quiet < 195)
    assert (loud - quiet)[unclipped].std() == pytest.approx(0.05 * 255, rel=0.05)


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"n_train": 0}, "n_train"),
        ({"n_test_per_bin": 0}, "n_test_per_bin"),
        ({"size": 8}, "size"),
        ({"noise": -0.1}, "noise"),
        ({"roughness": -1.0}, "roughness"),
        ({"spread": 0.0}, "spread"),
        ({"peak": 120.0}, "peak"),
    ],
)
def test_bad_setting_is_named(bad: dict[str, float], named: str) -> None:
    with pytest.raises(UserError, match=named):
        Gauge(**bad)  # type: ignore[arg-type]


def test_check_reports_the_training_labels_and_sample_refuses(tmp_path) -> None:  # type: ignore[no-untyped-def]
    source = Gauge(n_train=600)
    report = source.check()
    assert report.problems == ()
    assert report.label_counts is not None
    np.testing.assert_array_equal(report.label_counts(BINS), source.train_counts())
    assert "nothing" in source.requirements
    with pytest.raises(UserError, match="no files"):
        source.sample(tmp_path)
    assert not list(tmp_path.iterdir())
