"""Weights by the density of the labels, from a kernel estimate and without bins: DenseWeight.

Source:
    Steininger et al., "Density-based weighting for imbalanced regression", Machine Learning 110, 2021, equations 2–6.
    The authors' package is GPL-3; nothing here is taken from it. Published: alpha 1, epsilon 1e-6.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

EXACT = 10_000
"""Distinct labels up to which the density is an exact sum; more are put onto the grid, and the sum is a convolution."""


def dense_weights(
    targets: ArrayLike,
    alpha: float = 1.0,
    epsilon: float = 1e-6,
    points: int = 4096,
    *,
    counts: ArrayLike | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a grid of labels and the weight at each point; a label has that of the last point not above it.

    Weights are max(1 − alpha · p', epsilon) over their mean at the training labels, where p' is the density, scaled
    over the grid to 0 … 1. The bandwidth is 1.06 · std · n^(−1/5).

    Args:
        targets: Training labels, shape ``(n,)``.
        alpha: 0: no weighting. 1: the densest label gets almost none. More: so do all above 1/alpha of its density.
        epsilon: Least weight before scaling.
        points: Of the grid, from the lowest to the highest label.
        counts: How often each target occurs, shape ``(n,)``; None: once.

    Raises:
        ValueError: If there are no two different labels, or alpha or epsilon is out of range.
    """
    labels, inverse = np.unique(np.asarray(targets, np.float64), return_inverse=True)
    times = np.bincount(inverse, None if counts is None else np.asarray(counts, np.float64))
    if len(labels) < 2 or not 0 <= alpha < math.inf or not 0 < epsilon <= 1:
        raise ValueError(f"dense weights need two labels, a finite alpha={alpha} >= 0 and epsilon={epsilon} in (0, 1]")
    total = times.sum()
    mean = (times * labels).sum() / total
    width = 1.06 * math.sqrt((times * (labels - mean) ** 2).sum() / total) * total ** (-0.2)
    grid = np.linspace(labels[0], labels[-1], points)
    if len(labels) <= EXACT:
        parts = np.array_split(grid, max(1, points * len(labels) // 2**22))
        density = np.concatenate([np.exp(-0.5 * ((part[:, None] - labels) / width) ** 2) @ times for part in parts])
    else:
        step = grid[1] - grid[0]
        place = (labels - grid[0]) / step
        left = np.minimum(place.astype(int), points - 2)
        held = np.bincount(left, times * (left + 1 - place), points)
        held += np.bincount(left + 1, times * (place - left), points)
        reach = np.arange(-points + 1, points) * step
        from scipy.signal import fftconvolve  # seconds, which fewer labels do not need

        density = fftconvolve(held, np.exp(-0.5 * (reach / width) ** 2), mode="valid").clip(min=0)
    scaled = (density - density.min()) / (density.max() - density.min())
    weights = np.maximum(1 - alpha * scaled, epsilon)
    at_labels = weights[np.searchsorted(grid, labels, side="right") - 1]
    return grid, weights * total / (times * at_labels).sum()
