"""Weights per bin from training counts: inverse, square-root inverse and class-balanced, with or without LDS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dir_bench.errors import nearest
from dir_bench.labels.density import lds_density

Reweight = Literal["inv", "sqrt_inv", "class_balanced", "none"]
REWEIGHTS = ("inv", "sqrt_inv", "class_balanced", "none")


def bin_weights(
    counts: ArrayLike,
    reweight: Reweight = "inv",
    *,
    lds: Mapping[str, Any] | None = None,
    clip: tuple[float, float] | None = None,
    first: int = 0,
    beta: float = 0.9999,
) -> NDArray[np.float32]:
    """Return the loss weight of each bin; their mean over the training samples is 1.

    The frequency of a bin is its count (clipped for "inv"), the square root of it, or its effective number
    ("class_balanced", see `effective_number`), smoothed if `lds` is given; the weight is its inverse, scaled.
    A table per bin, indexed by `TargetBins.index`, serves samples and pixels alike.

    Args:
        counts: Training samples (or pixels) per bin, shape [n]. Integers are smoothed as integers, as
            published (see `lds_density`).
        reweight: "inv", "sqrt_inv", "class_balanced", or "none" for all ones.
        lds: Settings of `lds_density`, or None for no smoothing. With "none" there is nothing to smooth.
        clip: Least and largest count that "inv" reckons with, before smoothing; (5, 1000) as published for
            ages, where it also lifts empty bins to 5. The others are never clipped.
        first: First bin in use. Smoothing starts there, and earlier bins get its frequency (NYUD2: 7).
        beta: Of "class_balanced".

    Returns:
        Weights, float32 [n]. A bin whose frequency is 0 (empty, and without LDS or out of its reach) gets the
        largest weight of the others, so that an unforeseen target cannot bring in an infinite one.

    Raises:
        ValueError: If counts are not a list of numbers >= 0 with some above 0, `first` is no bin, LDS is
            asked for with "none", `clip` are not two counts in order, `beta` is outside [0, 1], or the name is unknown.

    Source:
        Yang et al. 2021 (arXiv:2102.09554), section 3.1 and appendix; YyzHarry/imbalanced-regression,
        `agedb-dir/datasets.py` _prepare_weights, `sts-b-dir/tasks.py` load_tsv, `nyud2-dir/loaddata.py`
        _get_bucket_weights. Departs from it: an empty bin has an infinite or no weight there. Class-balanced:
        Cui et al. 2019, arXiv:1901.05555, whose weights add up to the number of classes instead.
    """
    held = np.asarray(counts)
    if reweight not in REWEIGHTS:
        hint = nearest(str(reweight), REWEIGHTS)
        raise ValueError(f"reweight must be one of {REWEIGHTS}, not {reweight!r}{hint}")
    if held.ndim != 1 or not ((held >= 0) & np.isfinite(held)).all() or not held.any():
        raise ValueError("counts must be a list of finite numbers >= 0, one a bin, and some above 0")
    if clip is not None and not 0 < clip[0] <= clip[1]:
        raise ValueError(f"clip={clip} must be two counts, 0 < low <= high")
    if not 0 <= first < len(held):
        raise ValueError(f"first must be one of the {len(held)} bins, not {first}")
    if reweight == "none":
        if lds is not None:
            raise ValueError("LDS smooths the weights of inv or sqrt_inv; with reweight 'none' there are none")
        return np.ones(len(held), dtype=np.float32)
    frequency = held[first:]
    if reweight == "sqrt_inv":
        frequency = np.sqrt(frequency)
    elif reweight == "class_balanced":
        frequency = effective_number(frequency, beta)
    elif clip is not None:
        frequency = np.clip(frequency, *clip).astype(held.dtype)  # integers stay integers
    if lds is not None:
        frequency = lds_density(frequency, **lds)
    frequency = np.concatenate([np.full(first, frequency[0]), frequency]).astype(np.float64)
    reachable = frequency > 0
    if not (reachable & (held > 0)).any():
        raise ValueError("no bin with training samples has a frequency above 0")
    inverse = np.zeros(len(held))
    inverse[reachable] = 1 / frequency[reachable]
    inverse[~reachable] = inverse.max()
    weights: NDArray[np.float64] = inverse * (held.sum() / (held * inverse).sum())
    return weights.clip(max=np.finfo(np.float32).max).astype(np.float32)


def effective_number(counts: ArrayLike, beta: float) -> NDArray[np.float64]:
    """Return (1 - beta ** n) / (1 - beta) of each count n: how many samples n are worth if they overlap.

    It grows like n while that is far below 1 / (1 - beta), and no further than this: at 0.9999, bins of 100,000
    pixels all weigh the same.

    Args:
        counts: Samples per bin, 0 or more, any shape.
        beta: 0: any number of samples is worth one. 1, the limit: n itself, so that the weights are those that
            sampling all classes alike amounts to.

    Raises:
        ValueError: If `beta` is outside [0, 1].

    Source:
        Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, arXiv:1901.05555,
        equation 2.
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"beta must lie in [0, 1], not {beta}")
    held = np.asarray(counts, dtype=np.float64)
    return held if beta == 1 else (1 - beta**held) / (1 - beta)
