"""The embedded dataset: pictures of an analogue gauge, made on the fly; the target is what the needle shows, 0 to 100.

Nothing is downloaded and nothing lies on disk. The training labels are as skewed as ages in AgeDB-DIR (a bell with long
thin tails), validation and test hold every reading equally often. What makes it hard is what makes real gauges hard:
the dial is shifted, tilted and of any size, the needle has a counterweight and looks different each time, the light
is uneven and the picture noisy; few-shot readings have too few pictures to learn all that from.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dir_bench.datasets.base import CheckReport, Data, IntArray
from dir_bench.errors import UserError

FULL_SCALE = 100
"""Readings go from 0 to this; a bin is one unit."""
SWEEP = np.deg2rad(270.0)
"""The needle's whole way, clockwise from lower left (0) to lower right (100); the gap lies at the bottom."""
CHUNK = 1024
"""Pictures drawn at a time: bounds the memory, not the result."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class GaugeSplit:
    """Pictures, uint8 of shape ``(n, 1, size, size)``, and readings."""

    images: npt.NDArray[np.uint8]
    targets: Floats
    lengths: None = None

    def __len__(self) -> int:
        return len(self.targets)

    def fetch(self, indices: IntArray, rng: np.random.Generator | None) -> torch.Tensor:
        """Return the pictures of a batch as uint8; there is no augmentation (a mirrored gauge reads otherwise)."""
        return torch.from_numpy(self.images[indices])


class Gauge:
    """Pictures of gauges with a long-tailed distribution of readings.

    Args:
        seed: Of the pictures and labels; independent of the training seed.
        n_train: Training pictures, about (each of the 100 bins has one at least).
        n_val_per_bin: Validation pictures of each bin.
        n_test_per_bin: Test pictures of each bin.
        size: Width and height in pixels.
        noise: Standard deviation of the pixel noise; black to white is 1.
        peak: Reading with the most training pictures.
        spread: Standard deviation of training readings around `peak`.
    """

    def __init__(
        self,
        seed: int = 0,
        n_train: int = 6000,
        n_val_per_bin: int = 5,
        n_test_per_bin: int = 20,
        size: int = 40,
        noise: float = 0.15,
        peak: float = 40.0,
        spread: float = 14.0,
    ) -> None:
        if min(n_train, n_val_per_bin, n_test_per_bin) < 1 or size < 16 or noise < 0 or spread <= 0:
            raise UserError(
                "dataset.source: n_train, n_val_per_bin and n_test_per_bin must be at least 1, size at least 16, "
                "noise not negative, spread above 0"
            )
        self.seed, self.n_train, self.size, self.noise = seed, n_train, size, noise
        self.n_val_per_bin, self.n_test_per_bin = n_val_per_bin, n_test_per_bin
        self.peak, self.spread = peak, spread

    @property
    def requirements(self) -> str:
        """Nothing has to be on disk."""
        return "nothing: it is made on the fly from dataset.source.seed"

    def load(self) -> Data:
        """Draw the three splits; they take about a second and differ in their random streams."""
        skewed = np.random.default_rng([self.seed, 0]).permutation(
            np.repeat(np.arange(FULL_SCALE), self.train_counts())
        )
        bins = np.arange(FULL_SCALE)
        held_out = [np.repeat(bins, count) for count in (self.n_val_per_bin, self.n_test_per_bin)]
        train, val, test = (self._split(which, np.random.default_rng([self.seed, number]))
                            for number, which in enumerate([skewed, *held_out], 1))  # fmt: skip
        return Data(train, val, test, backbone_kwargs={"in_channels": 1, "size": self.size})

    def train_counts(self) -> IntArray:
        """Return training pictures per bin, shape ``(100,)``: a bell, with one picture at least far from it."""
        distance = (np.arange(FULL_SCALE) + 0.5 - self.peak) / self.spread
        bell = np.exp(-0.5 * distance**2)
        return np.maximum(np.rint(self.n_train * bell / bell.sum()), 1).astype(np.int64)

    def check(self) -> CheckReport:
        """Report what would be drawn."""
        counts = self.train_counts()
        facts = {
            "train": f"{counts.sum()} pictures, {counts.min()} to {counts.max()} a bin",
            "val": f"{self.n_val_per_bin} pictures in each of {FULL_SCALE} bins",
            "test": f"{self.n_test_per_bin} pictures in each of {FULL_SCALE} bins",
        }
        return CheckReport(facts, (), np.repeat(np.arange(FULL_SCALE) + 0.5, counts))

    def sample(self, folder: Path, **options: Any) -> Path:
        """There is nothing to stand in for."""
        raise UserError("the gauge needs no files: `dir-bench train` draws its pictures")

    def _split(self, bins: IntArray, rng: np.random.Generator) -> GaugeSplit:
        targets = (bins + rng.random(len(bins))).astype(np.float32)
        chunks = [draw(targets[i : i + CHUNK], self.size, self.noise, rng) for i in range(0, len(targets), CHUNK)]
        return GaugeSplit(np.concatenate(chunks)[:, None], targets)


def needle_angle(readings: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the direction of the needle in radians, from the x axis towards the bottom of the picture."""
    return 0.75 * np.pi + SWEEP * np.asarray(readings, np.float64) / FULL_SCALE


def draw(readings: Floats, size: int, noise: float, rng: np.random.Generator | None = None) -> npt.NDArray[np.uint8]:
    """Draw a gauge for each reading, shape ``(n, size, size)``.

    Args:
        readings: Values from 0 to 100, shape ``(n,)``.
        size: Pixels.
        noise: Standard deviation of pixel noise, black to white being 1.
        rng: Draws what differs between pictures; None: all are centred, upright and alike, without noise.
    """
    n = len(readings)

    def vary(low: float, high: float) -> Floats:
        values = np.full(n, (low + high) / 2) if rng is None else rng.uniform(low, high, n)
        return values.astype(np.float32)[:, None, None]

    grid = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    x = grid[None, None, :] - vary(-0.12, 0.12)
    y = grid[None, :, None] - vary(-0.12, 0.12)
    radius = vary(0.75, 0.95)
    tilt = vary(-0.15, 0.15)
    from_centre = np.sqrt(x**2 + y**2) / radius
    pixel = 2 / size / radius
    rim = _soft(np.abs(from_centre - 1), vary(0.04, 0.08), pixel)
    # Ticks: eleven marks along the sweep, on the inner side of the rim.
    turn = np.mod(np.arctan2(y, x) - tilt - needle_angle(0).astype(np.float32), 2 * np.pi)
    step = np.float32(SWEEP / 10)
    off_tick = np.abs(turn - np.clip(np.rint(turn / step), 0, 10) * step) * from_centre
    ticks = _soft(off_tick, np.float32(0.03), pixel) * ((from_centre > 0.78) & (from_centre < 1))
    angle = needle_angle(readings).astype(np.float32)[:, None, None] + tilt
    along = (x * np.cos(angle) + y * np.sin(angle)) / radius
    across = np.abs(y * np.cos(angle) - x * np.sin(angle)) / radius
    tip, tail = vary(0.55, 0.85), vary(0.1, 0.35)
    beyond = np.maximum(np.maximum(along - tip, -tail - along), 0)
    needle = _soft(np.hypot(across, beyond), vary(0.03, 0.07), pixel)
    hub = _soft(from_centre, vary(0.06, 0.12), pixel)
    ink = np.maximum(np.maximum(rim, needle), np.maximum(0.7 * ticks, hub)) * vary(0.5, 0.9)
    light = vary(0.75, 0.95) + vary(-0.15, 0.15) * x + vary(-0.15, 0.15) * y
    picture = light - ink
    if rng is not None:
        negative = rng.random(n)[:, None, None] < 0.3  # white on black
        picture = np.where(negative, 1 - picture, picture)
        picture = picture + noise * rng.standard_normal(picture.shape, np.float32)
    return np.clip(picture * 255, 0, 255).astype(np.uint8)


def _soft(distance: npt.NDArray[Any], half_width: Any, pixel: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return 1 inside a shape and 0 outside, over one pixel: a cheap anti-aliasing."""
    return np.clip((half_width - distance) / pixel + 0.5, 0, 1)
