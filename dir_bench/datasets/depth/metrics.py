"""What depth maps are judged by beside the errors of every regression: relative errors, and shares of close ratios."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Errors = dict[str, Any]
Terms = dict[str, NDArray[Any]]

HIGHER = ("delta1", "delta2", "delta3")
"""Those of which more is better."""
_REGRESSION, _OWN = ("mse", "rmse", "mae"), ("abs_rel", "log10", *HIGHER)


def terms(output: NDArray[Any], depth: NDArray[Any]) -> Terms:
    """Return abs_rel, log10 and delta1 to delta3 of each pixel, to be averaged; see `depth_errors`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.maximum(output / depth, depth / output)
        o, d = output.astype(np.float64), depth.astype(np.float64)
        means = {"abs_rel": np.abs(o - d) / d, "log10": np.abs(np.log10(o) - np.log10(d))}
    return means | {f"delta{k}": ratio <= 1.25**k for k in (1, 2, 3)}


def depth_errors(output: ArrayLike, depth: ArrayLike) -> Errors:
    """Return the depth metrics of a set of pixels: count, mse, rmse, mae, abs_rel, log10, delta1 to delta3.

    abs_rel is mean(|o - d| / d), log10 is mean |log10 o - log10 d|, deltaK is the share of pixels with
    max(o/d, d/o) <= 1.25^K. Pixels whose true depth is NaN are left out of everything, count included. As
    published, a negative output makes log10 NaN and counts as inside every delta; an output of 0 makes log10
    infinite. Ratios are in the type of the arrays, so that one just at a bound falls as it did there.

    Args:
        output: Predicted depth in metres, any shape.
        depth: True depth in metres, the same shape.

    Raises:
        ValueError: If the shapes differ.

    Source:
        YyzHarry/imbalanced-regression, `nyud2-dir/util.py` Evaluator. Departs from it: sums are in float64,
        and an empty set scores 0 there.
    """
    given, true = np.asarray(output), np.asarray(depth)
    if given.shape != true.shape:
        raise ValueError(f"shapes must be equal, not {given.shape} and {true.shape}: NumPy would broadcast")
    known = ~np.isnan(true)
    given, true = given[known], true[known]
    if not true.size:
        return {"count": 0} | dict.fromkeys((*_REGRESSION, *_OWN))
    error = np.abs(given.astype(np.float64) - true.astype(np.float64))
    mse = float(np.mean(error**2))
    errors = {"count": int(true.size), "mse": mse, "rmse": mse**0.5, "mae": float(np.mean(error))}
    return errors | {name: float(np.mean(values)) for name, values in terms(given, true).items()}
