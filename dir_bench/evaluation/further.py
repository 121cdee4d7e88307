"""Further errors beside MAE, MSE and GM, by region: whether predictions shrink to where labels are many.

All are in label units, in float64, from all predictions at once, in time n log n and memory n. Where there is no
sample, or a number has no meaning, it is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dir_bench.evaluation.metrics import Errors, FloatArray, balanced_errors
from dir_bench.labels import Regions, TargetBins
from dir_bench.labels.extremes import Extremes


def further_errors(
    prediction: ArrayLike, target: ArrayLike, bin_index: ArrayLike, relevance: ArrayLike | None = None
) -> Errors:
    """Return bmae, bins, bias, slope, ccc, w1 and, if relevance is given, sera of one set of predictions.

    bmae: the mean over bins with samples of each one's mae; `bins` is how many there are.
    bias: the mean of prediction − target.
    slope: of the line of least squares that gives the prediction from the target: 1 if predictions spread as labels do,
        0 if they are constant. None for one sample, and for constant targets.
    ccc: Lin's concordance, 2 cov / (var + var + (difference of the means)²): 0 for constant predictions. None as slope.
    w1: Wasserstein's distance between the distributions of predictions and of targets, the mean difference when each
        side is sorted.
    sera: the sum of relevance times squared error, which is the area below the squared error of all samples that are at
        least so relevant, over all thresholds from 0 to 1. A sum: it grows with the number of samples.

    Args:
        prediction: Label units, shape ``(n,)``.
        target: The same.
        bin_index: Bin of each target.
        relevance: Of each target, from 0 to 1.

    Source:
        Ren et al., CVPR 2022 (bMAE); Lin, Biometrics 45 (1989) 255–268 (CCC); Ribeiro and Moniz 2020 (SERA), see
        `labels.extremes`.
    """
    predicted, true = np.asarray(prediction, np.float64), np.asarray(target, np.float64)
    balanced = balanced_errors(predicted, true, bin_index)
    errors: Errors = {"bmae": balanced["mae"], "bins": balanced["bins"]}
    if not true.size:
        return errors | dict.fromkeys(("bias", "slope", "ccc", "w1", *(["sera"] if relevance is not None else [])))
    with np.errstate(invalid="ignore", over="ignore"):  # a prediction may be infinite
        error = predicted - true
        errors |= {"bias": float(error.mean()), **_agreement(predicted, true)}
        errors["w1"] = float(np.abs(np.sort(predicted) - np.sort(true)).mean())
        if relevance is not None:
            errors["sera"] = float(np.asarray(relevance) @ np.square(error))
    return errors


def _agreement(predicted: FloatArray, true: FloatArray) -> Errors:
    """Return slope and ccc."""
    if len(true) < 2 or not np.ptp(true):
        return {"slope": None, "ccc": None}
    p, t = predicted - predicted.mean(), true - true.mean()
    together, spread = float(p @ t), float(t @ t)
    apart = len(true) * (predicted.mean() - true.mean()) ** 2
    return {"slope": together / spread, "ccc": 2 * together / (float(p @ p) + spread + float(apart))}


def further_metrics(
    columns: Mapping[str, NDArray[Any]],
    target: ArrayLike,
    *,
    bins: TargetBins,
    regions: Regions,
    extremes: Extremes | None = None,
    family: str | None = None,
) -> dict[str, Errors]:
    """Return the further errors of one split for each region, see `further_errors` and `uncertainty_errors`.

    Args:
        columns: prediction, and what the head says beside it: with a family, std and for "student" df; shape ``(n,)``.
        target: Label units, the same shape.
        bins: Bins of the target.
        regions: The region of each of those bins.
        extremes: The relevance of labels; None: no sera.
        family: Of the predictive distribution; None: there is none.
    """
    from dir_bench.evaluation.uncertainty import (
        uncertainty_errors,
    )  # SciPy's functions, which checking a config needs not

    predicted, true = np.asarray(columns["prediction"], np.float64), np.asarray(target, np.float64)
    index = bins.index(true)
    relevance = None if extremes is None else extremes(true)
    metrics: dict[str, Errors] = {}
    for name, inside in regions.masks(index).items():
        chosen = relevance[inside] if relevance is not None else None
        metrics[name] = further_errors(predicted[inside], true[inside], index[inside], chosen)
        if family is not None:
            spread = {key: columns[key][inside] for key in ("std", "df") if key in columns}
            metrics[name] |= uncertainty_errors(predicted[inside], true[inside], family, **spread)
    return metrics
