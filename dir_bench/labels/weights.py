"""Weights per bin from training counts: inverse and square-root inverse frequency, with or without LDS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dir_bench.errors import nearest
from dir_bench.labels.density import lds_density

Reweight = Literal["inv", "sqrt_inv", "none"]
REWEIGHTS = ("inv", "sqrt_inv", "none")


def bin_weights(
    counts: ArrayLike,
    reweight: Reweight = "inv",
    *,
    lds: Mapping[str, Any] | None = None,
    clip: tuple[float, float] | None = None,
    first: int = 0,
) -> NDArray[np.float32]:
    """Return the loss weight of each bin; their mean over the training samples is 1.

    The frequency of a bin is its count (clipped for "inv") or the square root of it, smoothed if `lds` is
    given; the weight is its inverse, scaled. A table per bin, indexed by `TargetBins.index`, serves samples
    and pixels alike.

    Args:
        counts: Training samples (or pixels) per bin, shape [n]. Integers are smoothed as integers, as
            published (see `lds_density`).
        reweight: "inv", "sqrt_inv", or "none" for all ones.
        lds: Settings of `lds_density`, or None for no smoothing. With "none" there is nothing to smooth.
        clip: Least and largest count that "inv" reckons with, before smoothing; (5, 1000) as published for
            ages, where it also lifts empty bins to 5. "sqrt_inv" is never clipped.
        first: First bin in use. Smoothing starts there, and earlier bins get its frequency (NYUD2: 7).

    Returns:
        Weights, float32 [n]. A bin whose frequency is 0 (empty, and without LDS or out of its reach) gets the
        largest weight of the others, so that an unforeseen target cannot bring in an infinite one.

    Raises:
        ValueError: If counts are not a list of numbers >= 0 with some above 0, `first` is no bin, LDS is
            asked for with "none", or the name is unknown.

    Source:
        Yang et al. 2021 (arXiv:2102.09554), section 3.1 and appendix; YyzHarry/imbalanced-regression,
        `agedb-dir/datasets.py` _prepare_weights, `sts-b-dir/tasks.py` load_tsv, `nyud2-dir/loaddata.py`
        _get_bucket_weights. Departs from it: an empty bin has an infinite or no weight there.
    """
    held = np.asarray(counts)
    if reweight not in REWEIGHTS:
        hint = nearest(str(reweight), REWEIGHTS)
        raise ValueError(f"reweight must be one of {REWEIGHTS}, not {reweight!r}{hint}")
    if held.ndim != 1 or not (held >= 0).all() or not held.any():
        raise ValueError("counts must be a list of numbers >= 0, one a bin, and some above 0")
    if not 0 <= first < len(held):
        raise ValueError(f"first must be one of the {len(held)} bins, not {first}")
    if reweight == "none":
        if lds is not None:
            raise ValueError("LDS smooths the weights of inv or sqrt_inv; with reweight 'none' there are none")
        return np.ones(len(held), dtype=np.float32)
    frequency = held[first:]
    if reweight == "sqrt_inv":
        frequency = np.sqrt(frequency)
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
