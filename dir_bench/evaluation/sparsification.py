"""How well a predicted variance tells the large errors from the small ones: the area of the sparsification error."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def sparsification_error(error: ArrayLike, uncertainty: ArrayLike) -> float | None:
    """Return the AUSE: leave out the least certain samples first, or those with the largest errors; compare.

    Samples go one by one, until one is left, and the mean error of the rest is taken each time. The difference of both
    orders, over its own maximum, is integrated over the share left out, 0 … 1. 0: the order of certainty is that of
    errors (also where nothing differs).

    Args:
        error: Absolute errors, shape ``(n,)``.
        uncertainty: Larger means less certain, shape ``(n,)``; of equal ones the last is left out first.

    Returns:
        None for fewer than three samples, NaN where a number is not finite.

    Source:
        Ilg et al., "Uncertainty Estimates and Multi-Hypotheses Networks for Optical Flow", ECCV 2018,
        arXiv:1802.07095; normalised as in Wang and Wang 2023 (VIR).
    """
    error, uncertainty = np.asarray(error, np.float64), np.asarray(uncertainty, np.float64)
    if len(error) < 3:
        return None
    if not np.isfinite(error.sum() + uncertainty.sum()):
        return float("nan")
    difference = _left(error, uncertainty) - _left(error, error)
    largest = difference.max()
    if not largest > 0:
        return 0.0
    return float(np.trapezoid(difference / largest, np.linspace(0, 1, len(difference))))


def _left(error: NDArray[np.float64], order: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean error of what is left after 1, 2, … n − 1 samples went, the largest by `order` first."""
    means = np.cumsum(error[np.argsort(order, kind="stable")]) / np.arange(1, len(error) + 1)
    return means[:-1][::-1]
