"""Relevance: which part of a target's range is rare, for resampling."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def relevance(counts: ArrayLike, density: ArrayLike) -> NDArray[np.float64]:
    """Return how rare each bin is: the share of all training samples that lie in denser bins, from 0 to 1.

    A threshold t so makes rare the least dense bins that hold a share 1 − t of the samples at most, whatever the form
    of the distribution. (One on density itself would find no rare bin in STS-B-DIR under LDS, whose densest bin is but
    four times the least dense.)

    Args:
        counts: Samples per bin, shape ``(b,)``.
        density: What bins are ordered by, shape ``(b,)``: the counts, or the counts smoothed by LDS.
    """
    counts, density = np.asarray(counts), np.asarray(density)
    order = np.argsort(-density, kind="stable")
    before = np.concatenate([[0], np.cumsum(counts[order])])
    denser = np.searchsorted(-density[order], -density, side="left")
    share: NDArray[np.float64] = before[denser] / counts.sum()
    return share
