"""The embedded dataset: pictures of an analogue gauge, made on the fly; the target is what the needle shows, 0 to 100.

Nothing is downloaded and nothing lies on disk. Training readings are as skewed as the ages of AgeDB-DIR (Yang et al.
2021): a bell with long thin tails, counts that jump from bin to bin, about a third of the bins each many-, medium- and
few-shot, one or two at the ends without any picture. Validation and test hold every bin equally often. What makes it
hard is what makes real gauges hard: the dial is shifted, tilted and of any size, the needle has a counterweight and
looks different each time, the light is uneven and the picture noisy; rare readings have too few pictures to learn all
that from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dir_bench.datasets.base import CheckReport, Data, IntArray, ScalarTargets, Stored
from dir_bench.errors import UserError
from dir_bench.lazy import Lazy

if TYPE_CHECKING:
    import torch
else:
    torch = Lazy("torch")

FULL_SCALE = 100
"""Readings go from 0 to this; a bin is one unit."""
SWEEP = np.deg2rad(270.0)
"""The needle's whole way, clockwise from lower left (0) to lower right (100); the gap lies at the bottom."""
FINENESS = 2**16
"""Readings are multiples of 1 / this, so float32 holds them exactly and none slips into the next bin."""
CHUNK = 256
"""Pictures drawn at a time: bounds the memory and fits the cache; the result is the same for any."""
DRAWN = "gauge-2"
"""Changes whenever the same settings give other pictures: runs on those are others."""
LOOKS = {
    "shift_x": (-0.12, 0.12),
    "shift_y": (-0.12, 0.12),
    "radius": (0.75, 0.95),
    "tilt": (-0.2, 0.2),
    "rim": (0.04, 0.08),
    "tip": (0.55, 0.85),
    "tail": (0.1, 0.35),
    "thickness": (0.03, 0.07),
    "hub": (0.06, 0.12),
    "ink": (0.5, 0.9),
    "light": (0.75, 0.95),
    "slope_x": (-0.15, 0.15),
    "slope_y": (-0.15, 0.15),
    "negative": (-0.8, 0.2),
}
"""What differs between pictures, drawn evenly between these. Lengths are shares of half the picture (`shift`, `radius`)
or of the dial's radius, `tilt` is in radians; brightness is 0 to 1; above 0, `negative` is white on black."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class GaugeSplit(Stored, ScalarTargets):
    """Pictures, uint8 of shape ``(n, 1, size, size)``, and readings."""

    images: npt.NDArray[np.uint8]
    targets: Floats
    lengths: None = None

    def __len__(self) -> int:
        return len(self.targets)

    def read(self, indices: IntArray) -> torch.Tensor:
        """Return pictures as uint8; there is no augmentation (a mirrored gauge reads otherwise)."""
        return torch.from_numpy(self.images[indices])


class Gauge:
    """Pictures of gauges with a long-tailed distribution of readings.

    Args:
        seed: Of the pictures and labels; independent of the training seed.
        n_train: Training pictures.
        n_val_per_bin: Validation pictures of each of the 100 bins.
        n_test_per_bin: Test pictures of each bin.
        size: Width and height in pixels.
        noise: Standard deviation of the pixel noise; black to white is 1.
        peak: Reading around which most training pictures lie.
        spread: Scale of the logistic density of training readings around `peak`, at least 1; far out, the density
            falls to 1/e over each `spread`.
        roughness: Standard deviation, over bins, of the logarithm of what multiplies that density. It makes the counts
            of neighbours differ as real ones do, which is what LDS smooths.

    Raises:
        UserError: If a value is out of its range.
    """

    def __init__(
        self,
        seed: int = 0,
        n_train: int = 8000,
        n_val_per_bin: int = 10,
        n_test_per_bin: int = 20,
        size: int = 32,
        noise: float = 0.1,
        peak: float = 45.0,
        spread: float = 9.0,
        roughness: float = 0.25,
    ) -> None:
        if min(n_train, n_val_per_bin, n_test_per_bin) < 1 or size < 16 or min(noise, roughness) < 0:
            raise UserError(
                "dataset.source: n_train, n_val_per_bin and n_test_per_bin must be at least 1, size at least 16, "
                "noise and roughness not negative"
            )
        if spread < 1 or not 0 <= peak <= FULL_SCALE:
            raise UserError(
                f"dataset.source: spread must be at least 1 and peak from 0 to {FULL_SCALE}, "
                f"not spread={spread}, peak={peak}"
            )
        self.seed, self.n_train, self.size, self.noise = seed, n_train, size, noise
        self.n_val_per_bin, self.n_test_per_bin = n_val_per_bin, n_test_per_bin
        self.peak, self.spread, self.roughness = peak, spread, roughness

    @property
    def requirements(self) -> str:
        """Nothing has to be on disk."""
        return "nothing: it is made on the fly from dataset.source.seed"

    def fingerprint(self) -> str:
        """How pictures are drawn; the settings say the rest."""
        return DRAWN

    def load(self) -> Data:
        """Draw the three splits, each from a random stream of its own; it takes about a second."""
        shares: tuple[IntArray | int, ...] = (self.train_counts(), self.n_val_per_bin, self.n_test_per_bin)
        train, val, test = (self._split(per_bin, stream) for stream, per_bin in enumerate(shares, 1))
        return Data(train, val, test, backbone_kwargs={"in_channels": 1, "size": self.size})

    def train_counts(self) -> IntArray:
        """Draw the number of training pictures in each bin, shape ``(100,)``; they sum to `n_train`."""
        rng = np.random.default_rng([self.seed, 0])
        distance = (np.arange(FULL_SCALE) + 0.5 - self.peak) / self.spread
        likely = np.cosh(distance / 2) ** -2.0
        likely *= np.exp(self.roughness * rng.standard_normal(FULL_SCALE))
        counts: IntArray = rng.multinomial(self.n_train, likely / likely.sum())
        return counts

    def check(self) -> CheckReport:
        """Report what would be drawn."""
        counts = self.train_counts()
        facts = {
            "train": f"{counts.sum()} pictures, {counts.min()} to {counts.max()} a bin",
            "val": f"{self.n_val_per_bin} pictures in each of {FULL_SCALE} bins",
            "test": f"{self.n_test_per_bin} pictures in each of {FULL_SCALE} bins",
        }
        readings = np.repeat(np.arange(FULL_SCALE) + 0.5, counts)
        return CheckReport(facts, (), lambda bins: bins.counts(readings))

    def sample(self, folder: Path, **options: Any) -> Path:
        """There is nothing to stand in for."""
        raise UserError("the gauge needs no files: `dir-bench train` draws its pictures")

    def _split(self, per_bin: IntArray | int, stream: int) -> GaugeSplit:
        rng = np.random.default_rng([self.seed, stream])
        bins = rng.permutation(np.repeat(np.arange(FULL_SCALE), per_bin))
        targets = (bins + rng.integers(FINENESS, size=len(bins)) / FINENESS).astype(np.float32)
        return GaugeSplit(draw(targets, self.size, self.noise, rng)[:, None], targets)


def needle_angle(readings: npt.ArrayLike) -> Floats:
    """Return the direction of the needle in radians, from the x axis towards the bottom of the picture."""
    return np.asarray(0.75 * np.pi + SWEEP * np.asarray(readings, np.float64) / FULL_SCALE, np.float32)


def draw(
    readings: npt.ArrayLike, size: int = 40, noise: float = 0.0, rng: np.random.Generator | None = None
) -> npt.NDArray[np.uint8]:
    """Draw a gauge for each reading, shape ``(n, size, size)``.

    Args:
        readings: Values from 0 to 100, shape ``(n,)``.
        size: Pixels.
        noise: Standard deviation of pixel noise, black to white being 1.
        rng: Draws the looks and the noise; None: all are centred, upright and alike, without noise.
    """
    angle = needle_angle(readings)
    if rng is None:
        looks = {name: np.full(len(angle), (low + high) / 2, np.float32) for name, (low, high) in LOOKS.items()}
    else:
        looks = {name: rng.uniform(*ends, len(angle)).astype(np.float32) for name, ends in LOOKS.items()}
    images = np.empty((len(angle), size, size), np.uint8)
    for start in range(0, len(angle), CHUNK):
        part = slice(start, start + CHUNK)
        brightness = _render(angle[part], size, {name: values[part] for name, values in looks.items()})
        if rng is not None:
            brightness += np.float32(noise) * rng.standard_normal(brightness.shape, np.float32)
        images[part] = np.rint(255 * brightness.clip(0, 1))
    return images


def _render(angle: Floats, size: int, looks: Mapping[str, Floats]) -> Floats:
    """Return brightness, 0 to 1, of shape ``(n, size, size)``; positions are in radii of the dial around its hub."""
    look = {name: values[:, None, None] for name, values in looks.items()}
    grid = ((np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1)[None]
    x = (grid[:, None, :] - look["shift_x"]) / look["radius"]
    y = (grid[:, :, None] - look["shift_y"]) / look["radius"]
    pixel = 2 / size / look["radius"]
    from_centre = _length(x, y)
    rim = _soft(np.abs(from_centre - 1), look["rim"], pixel)
    # Eleven ticks along the sweep, on the inner side of the rim.
    turn = np.mod(_exact(np.arctan2, y, x) - look["tilt"] - needle_angle(0), np.float32(2 * np.pi))
    step = np.float32(SWEEP / 10)
    off_tick = np.abs(turn - np.clip(np.rint(turn / step), 0, 10) * step) * from_centre
    ticks = 0.85 * _soft(off_tick, 0.035, pixel) * ((from_centre > 0.75) & (from_centre < 1))
    pointing = angle[:, None, None] + look["tilt"]
    cos, sin = _exact(np.cos, pointing), _exact(np.sin, pointing)
    along, across = x * cos + y * sin, y * cos - x * sin
    beyond = np.maximum(along - look["tip"], -look["tail"] - along).clip(min=0)
    needle = _soft(_length(across, beyond), look["thickness"], pixel)
    hub = _soft(from_centre, look["hub"], pixel)
    ink = np.maximum(np.maximum(rim, needle), np.maximum(ticks, hub)) * look["ink"]
    brightness = look["light"] + look["slope_x"] * grid[:, None, :] + look["slope_y"] * grid[:, :, None] - ink
    picture: Floats = np.where(look["negative"] > 0, 1 - brightness, brightness)
    return picture


def _exact(function: np.ufunc, *values: npt.NDArray[Any]) -> Floats:
    """Return a function's value to the last bit of float32, as NumPy's own in float32 differ between processors."""
    result: Floats = function(*values, dtype=np.float64).astype(np.float32)
    return result


def _length(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> Floats:
    """Return the length of vectors by operations that IEEE 754 rounds one way, which hypot's are not."""
    length: Floats = np.sqrt(x * x + y * y)
    return length


def _soft(distance: Floats, half_width: Floats | float, pixel: Floats) -> Floats:
    """Return 1 inside a shape and 0 outside, over one pixel: a cheap anti-aliasing."""
    inside: Floats = np.clip((half_width - distance) / pixel + np.float32(0.5), 0, 1)
    return inside
