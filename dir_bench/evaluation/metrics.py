"""Errors of predictions: whole split, per region, per bin; always from all predictions at once.

Every function takes predictions and targets in label units, refuses unequal shapes, and reckons in float64
on the values as given. Where there is no sample, the count is 0 and every other value None: an empty region
must not read as a perfect one. A prediction that is NaN makes the errors NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dir_bench.labels import Regions, TargetBins

Errors = dict[str, Any]  # name -> int for counts, float or None for the rest
Terms = dict[str, NDArray[Any]]  # name -> a number an element, whose mean is the error
FloatArray = NDArray[np.float64]

_REGRESSION = ("mae", "mse", "rmse", "gm")
_CORRELATIONS = ("pearson", "spearman")
CHUNK = 2**15
"""Elements whose terms are reckoned at a time: what a CPU can cache."""


def regression_errors(prediction: ArrayLike, target: ArrayLike, *, zero_error: float = 0.0) -> Errors:
    """Return count, mae, mse, rmse, gm, pearson and spearman of one set of predictions.

    gm is the geometric mean of the absolute errors, exp(mean(log|error|)). An exact hit has no logarithm:
    `zero_error` stands in for it, in gm only. At 0 a single exact prediction makes gm 0.

    Args:
        prediction: Label units, shape [N], or [N, K] for K outputs a sample.
        target: The same shape and units.
        zero_error: 0.0 as published for ages; 1e-10 as published for STS-B.

    Returns:
        count is N. With several outputs the errors are over all N K of them, and a correlation is the mean of
        the K correlations. Correlations are None for one sample, and where either side is constant.

    Raises:
        ValueError: If the shapes differ, or zero_error is negative.

    Source:
        YyzHarry/imbalanced-regression, `agedb-dir/train.py` and `sts-b-dir/util.py`. Departs from them: an
        empty set raises or scores 0 there, and a correlation of one sample is 0.
    """
    predicted, true = _pair(prediction, target)
    _check_zero_error(zero_error)
    if not true.size:
        return {"count": 0} | dict.fromkeys((*_REGRESSION, *_CORRELATIONS))
    means = {name: float(np.mean(values)) for name, values in _regression_terms(predicted, true, zero_error).items()}
    return {"count": len(true)} | _finish(means) | _correlations(predicted, true)


def balanced_errors(prediction: ArrayLike, target: ArrayLike, bin_index: ArrayLike) -> Errors:
    """Return bins, mae and mse, where each non-empty bin counts the same: bin means, averaged over bins.

    Args:
        prediction: Label units, shape [N].
        target: The same shape and units.
        bin_index: Bin of each target, integers >= 0, the same shape.

    Returns:
        bins is the number of bins with a sample.

    Raises:
        ValueError: If the shapes differ.

    Source:
        Ren et al., "Balanced MSE for Imbalanced Visual Regression", CVPR 2022 (there bMAE and bMSE); code:
        jiawei-ren/BalancedMSE, `imdb-wiki-dir/train.py` balanced_metrics.
    """
    predicted, true = _pair(prediction, target)
    index = np.asarray(bin_index)
    _same_shape(index, true)
    if not true.size:
        return {"bins": 0, "mae": None, "mse": None}
    error = np.abs(predicted - true).ravel()
    counts = np.bincount(index.ravel())
    filled = counts > 0

    def balanced(values: FloatArray) -> float:
        return float(np.mean(np.bincount(index.ravel(), values)[filled] / counts[filled]))

    return {"bins": int(filled.sum()), "mae": balanced(error), "mse": balanced(error**2)}


def region_metrics(
    prediction: ArrayLike,
    target: ArrayLike,
    *,
    bins: TargetBins,
    regions: Regions,
    bin_index: ArrayLike | None = None,
    zero_error: float = 0.0,
    terms: Callable[[NDArray[Any], NDArray[Any]], Terms] | None = None,
    correlations: bool = True,
) -> dict[str, Errors]:
    """Return the errors of one split for each region: all, many, medium, few, and zero-shot ones if met.

    A sample belongs to the region of its *target's* bin, and a bin's region was decided by the training
    split: no prediction can move a sample between regions.

    Args:
        prediction: Label units, shape [N], or any other, see `bin_index`.
        target: The same shape and units.
        bins: Bins of the target.
        regions: The region of each of those bins.
        bin_index: Bin of each sample, shape [N] for targets [N, K]; for several outputs that go into regions
            together. By default each *value* goes by its own bin, which suits [N] and depth maps alike.
        zero_error: See `regression_errors`.
        terms: More errors, as numbers per element that are averaged, see `evaluation.extra`. Called on parts of a
            region as terms(prediction, target).
        correlations: Whether pearson and spearman are wanted. Ranking a million pixels takes most of the time.

    Returns:
        Region to errors, in the order all, many, medium, few, with_data, zero, interp, extrap; the last four
        where some targets are zero-shot. See `regression_errors`.

    Raises:
        ValueError: If shapes disagree, a target is NaN, or bins and regions are not of one length.

    Source:
        Yang et al. 2021 (arXiv:2102.09554), section 5; YyzHarry/imbalanced-regression, `agedb-dir/train.py`
        shot_metrics, `sts-b-dir/util.py` STSShotAverage, `nyud2-dir/util.py` Evaluator.evaluate_shot.
    """
    predicted, true = np.asarray(prediction), np.asarray(target)
    _same_shape(predicted, true)
    _check_zero_error(zero_error)
    if len(bins) != len(regions):
        raise ValueError(f"there are {len(bins)} bins, but regions of {len(regions)}")
    index = bins.index(true) if bin_index is None else np.asarray(bin_index)
    if index.shape not in (true.shape, true.shape[:1]):
        raise ValueError(f"bin_index has shape {index.shape}, which fits no targets of shape {true.shape}")
    if bin_index is not None and index.size and not 0 <= index.min() <= index.max() < len(bins):
        raise ValueError(f"bin_index has {index.min()} to {index.max()}, and there are bins 0 to {len(bins) - 1}")
    if index.shape == true.shape:
        predicted, true, index = predicted.ravel(), true.ravel(), index.ravel()
    cell = regions.cells.take(index)
    counts, sums = _cell_sums(predicted, true, cell, len(regions.members["all"]), zero_error, terms)
    width = true.size // max(len(true), 1)
    extra = [name for name in sums if name not in _REGRESSION]
    metrics: dict[str, Errors] = {}
    in_region = {name: int(counts[inside].sum()) for name, inside in regions.members.items()}
    for name in regions.shown(in_region):
        inside, count = regions.members[name], in_region[name]
        errors: Errors = {"count": count} | dict.fromkeys((*_REGRESSION, *_CORRELATIONS, *extra))
        if count:
            errors |= _finish({term: float(values[inside].sum() / (count * width)) for term, values in sums.items()})
        if count and correlations:
            errors |= _correlations(predicted[inside[cell]], true[inside[cell]])
        metrics[name] = errors
    return metrics


def _cell_sums(
    predicted: NDArray[Any],
    true: NDArray[Any],
    cell: NDArray[np.uint8],
    cells: int,
    zero_error: float,
    terms: Callable[[NDArray[Any], NDArray[Any]], Terms] | None,
) -> tuple[NDArray[np.int64], dict[str, FloatArray]]:
    """Return the samples in each cell, shape [cells], and the sum of each term over them."""
    counts = np.bincount(cell, minlength=cells)
    by_cell = np.argsort(cell, kind="stable")  # by radix, for so small a type
    predicted, true = predicted.take(by_cell, axis=0), true.take(by_cell, axis=0)
    sums: dict[str, FloatArray] = {}
    ends = counts.cumsum()
    parts = [(i, start) for i, end in enumerate(ends) for start in range(end - counts[i], end, CHUNK)]
    for i, start in parts or [(0, 0)]:  # where there are no samples, the terms still have names
        part = slice(start, min(start + CHUNK, ends[i]))
        p, t = predicted[part], true[part]
        values = _regression_terms(p.astype(np.float64), t.astype(np.float64), zero_error)
        for name, value in (values | (terms(p, t) if terms is not None else {})).items():
            sums.setdefault(name, np.zeros(cells))[i] += value.sum()
    return counts, sums


def _regression_terms(predicted: FloatArray, true: FloatArray, zero_error: float) -> Terms:
    error = np.abs(predicted - true)
    with np.errstate(divide="ignore"):  # log 0 is -inf, which makes gm 0 as it should
        logs = np.log(np.where(error == 0, zero_error, error))
    return {"mae": error, "mse": error**2, "gm": logs}


def _finish(means: dict[str, float]) -> Errors:
    """Turn means of terms into errors: rmse is that of the mean square, gm is exp of the mean logarithm."""
    errors: Errors = {"mae": means["mae"], "mse": means["mse"], "rmse": means["mse"] ** 0.5}
    with np.errstate(over="ignore"):
        errors["gm"] = float(np.exp(means["gm"]))
    return errors | {name: value for name, value in means.items() if name not in errors}


def _correlations(predicted: NDArray[Any], true: NDArray[Any]) -> Errors:
    first, second = predicted.astype(np.float64), true.astype(np.float64)
    return {"pearson": _correlation(first, second), "spearman": _correlation(_ranks(first), _ranks(second))}


def _check_zero_error(zero_error: float) -> None:
    if zero_error < 0:
        raise ValueError(f"zero_error stands in for an absolute error and must be 0 or more, not {zero_error}")


def _same_shape(first: NDArray[Any], second: NDArray[Any]) -> None:
    if first.shape != second.shape:
        raise ValueError(f"shapes must be equal, not {first.shape} and {second.shape}: NumPy would broadcast")


def _pair(prediction: ArrayLike, target: ArrayLike) -> tuple[FloatArray, FloatArray]:
    predicted, true = np.asarray(prediction, dtype=np.float64), np.asarray(target, dtype=np.float64)
    _same_shape(predicted, true)
    return predicted, true


def _ranks(values: FloatArray) -> FloatArray:
    """Return the rank of each value in its column, 1 for the least; ties share the mean of their ranks."""
    from pandas import DataFrame  # scipy.stats has it too, and would be two seconds of every run's start

    return DataFrame(values.reshape(len(values), -1)).rank().to_numpy().reshape(values.shape)


def _correlation(first: FloatArray, second: FloatArray) -> float | None:
    """Return Pearson's correlation, its mean over several columns, or None where it has no meaning."""
    a, b = first.reshape(len(first), -1), second.reshape(len(second), -1)
    if len(a) < 2 or (np.ptp(a, axis=0) == 0).any() or (np.ptp(b, axis=0) == 0).any():
        return None
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("nan")
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    cosines = np.sum(a * b, axis=0) / (np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0))
    return float(np.mean(cosines.clip(-1, 1)))
