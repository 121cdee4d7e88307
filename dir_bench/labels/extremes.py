"""Extremes of a target's distribution: what SERA weighs errors by, from 0 at the median to 1 at the outliers' fences.

Source:
    Ribeiro and Moniz, "Imbalanced regression and extreme value prediction", Machine Learning 109 (2020) 1803–1835;
    Hubert and Vandervieren, "An adjusted boxplot for skewed distributions", CSDA 52 (2008) 5186–5201; Brys, Hubert and
    Struyf, "A robust measure of skewness", JCGS 13 (2004) 996–1017.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
_PRECISION = 1e-12
"""Of a medcouple, which lies from -1 to 1."""


@dataclass(frozen=True)
class Extremes:
    """The relevance φ of each label, from 0 to 1: through control points with slope 0, monotone between them.

    Args:
        points: (label, φ) of each, labels in ascending order. Beyond the ends φ stays as it is there.
    """

    points: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, targets: ArrayLike) -> Extremes | None:
        """Return φ by training labels, shape ``(n,)``: 0 at the median, 1 at those `fences` that some lie beyond.

        A side without outliers stays 0. None: there are none at all, so no label is more relevant than another.
        Quartiles are NumPy's; R's hinges, which the authors' package takes, differ from them in small sets.
        """
        values = np.sort(np.asarray(targets, np.float64).ravel())
        if not len(values):
            return None
        (low, high), median = fences(values), float(np.median(values))
        points = [(median, 0.0)]
        # Where more than half of the labels are one, a fence is the median, and points may not be one.
        step = 1e-9 * float(values[-1] - values[0])
        if values[0] < low:
            points.insert(0, (min(low, median - step, float(np.nextafter(median, -np.inf))), 1.0))
        if values[-1] > high:
            points.append((max(high, median + step, float(np.nextafter(median, np.inf))), 1.0))
        return cls(tuple(points)) if len(points) > 1 else None

    def __call__(self, labels: ArrayLike) -> Floats:
        """Return φ of labels, of their shape: cubic Hermite pieces without slope at the control points."""
        values = np.asarray(labels, np.float64)
        x, y = (np.array(side) for side in zip(*self.points, strict=True))
        piece = np.clip(np.searchsorted(x, values, side="right") - 1, 0, len(x) - 2)
        share = np.clip((values - x[piece]) / (x[piece + 1] - x[piece]), 0, 1)
        phi: Floats = y[piece] + (y[piece + 1] - y[piece]) * share**2 * (3 - 2 * share)
        return phi


def fences(targets: ArrayLike) -> tuple[float, float]:
    """Return the labels beyond which the adjusted box plot has outliers, for labels of shape ``(n,)``."""
    values = np.asarray(targets, np.float64)
    first, third = np.quantile(values, (0.25, 0.75))
    skewness, reach = medcouple(values), 1.5 * (third - first)
    below, above = (-4, 3) if skewness >= 0 else (-3, 4)
    return float(first - np.exp(below * skewness) * reach), float(third + np.exp(above * skewness) * reach)


def medcouple(values: ArrayLike) -> float:
    """Return the medcouple of a sample, shape ``(n,)``: its skewness from -1 to 1, 0 if it is symmetric.

    It is the median of (z_j + z_i) / (z_j - z_i) over all pairs z_i <= 0 <= z_j, where z is the distance from the
    median. How many of these lie below a number is a count of z_j below a multiple of each z_i, by which halving finds
    the median in n log n: the pairs, a quarter of n², are never made.
    """
    numbers, counts = np.unique(np.asarray(values, np.float64), return_counts=True)
    total = counts.sum()
    cumulated = counts.cumsum()
    middle = [numbers[np.searchsorted(cumulated, place, side="right")] for place in ((total - 1) // 2, total // 2)]
    centred = numbers - (middle[0] + middle[1]) / 2
    # The median itself is on both sides. A pair of two medians has the sign of their places' order.
    on = int(counts[centred == 0].sum())
    below, above = centred < 0, centred > 0
    left, left_counts = -centred[below], counts[below]
    right = centred[above]
    right_below = np.concatenate([[0], counts[above].cumsum()])
    pairs = (int(left_counts.sum()) + on) * (int(right_below[-1]) + on)

    def at_most(t: float) -> int:
        """Return how many pairs have a value of at most t."""
        if t >= 1:
            return pairs
        near = right_below[np.searchsorted(right, left * ((1 + t) / (1 - t)), side="right")] + on
        return int(left_counts @ near) + on * (on - 1) // 2 + on * (t >= 0)

    first, second = (pairs + 1) // 2, pairs // 2 + 1
    found = _smallest(at_most, first)
    return found if at_most(found) >= second else (found + _smallest(at_most, second)) / 2


def _smallest(at_most: Callable[[float], int], rank: int) -> float:
    """Return the value of that rank, from 1, of which `at_most` counts how many are at most a number."""
    low, high = -1.0, 1.0
    if at_most(low) >= rank:
        return low
    while high - low > _PRECISION:
        half = (low + high) / 2
        low, high = (low, half) if at_most(half) >= rank else (half, high)
    return high
