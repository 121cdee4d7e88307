"""Errors of single test samples, from a finished run's own files: predictions.npz, config.yaml and labels.npz."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dir_bench.errors import UserError
from dir_bench.evaluation.extra import extra_terms
from dir_bench.evaluation.metrics import Terms
from dir_bench.files.values import Damaged
from dir_bench.labels import Regions, TargetBins
from dir_bench.labels.regions import FEW, MANY, MEDIUM
from dir_bench.results.store import RunFolder
from dir_bench.schema import look_up

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a run predicted for its test split.

    Attributes:
        path: The run's folder.
        target: Label units, shape ``(n,)``: one a sample, or one a pixel.
        prediction: The same.
        index: Place of each in the test split, shape ``(n,)``.
        bins: Bins of the target.
        regions: The region of each bin; None where the run has no labels.npz.
        zero_error: Stands in for errors of exactly zero in GM.
        terms: The dataset's own errors, per element; None if there are none.
    """

    path: Path
    target: Floats
    prediction: Floats
    index: NDArray[np.int64]
    bins: TargetBins
    regions: Regions | None
    zero_error: float
    terms: Callable[[NDArray[Any], NDArray[Any]], Terms] | None

    def masks(self) -> dict[str, NDArray[np.bool_]]:
        """Return which elements belong to each region; only "all" where the regions are not known."""
        if self.regions is None:
            return {"all": np.ones(len(self.target), np.bool_)}
        return self.regions.masks(self.bins.index(self.target))


def read_predictions(run: Path | str) -> Predictions:
    """Read the predictions of a finished run, and check that they are those it finished with.

    Raises:
        Damaged: If the run is not finished, or one of its files is missing or is not what it should be.
    """
    folder = RunFolder(run)
    reason = folder.damage(thorough=True) if folder.has_done else f"it is {folder.state}, not finished"
    if reason:
        raise Damaged(folder.predictions_path, f"is not to be used: {reason}; run it again")
    config, held = folder.read_config(), folder.read_predictions()
    if "index" not in held:
        raise Damaged(folder.predictions_path, "lacks 'index'")
    for key in ("dataset.bins", "dataset.extra_errors", "semantics.zero_error"):
        if look_up(config, key) is None:
            raise Damaged(folder.config_path, f"lacks '{key}'")
    try:
        terms = extra_terms(str(config["dataset"]["extra_errors"]))
    except UserError as error:
        raise Damaged(folder.config_path, f": {error}") from error
    bins = folder.read_bins(config)
    return Predictions(
        folder.path,
        **held,
        bins=bins,
        regions=_regions(folder, len(bins)),
        zero_error=float(config["semantics"]["zero_error"]),
        terms=terms,
    )


def contributions(
    metric: str,
    prediction: Floats,
    target: Floats,
    *,
    zero_error: float = 0.0,
    terms: Callable[[NDArray[Any], NDArray[Any]], Terms] | None = None,
) -> Floats | None:
    """Return what each sample adds to a metric, shape ``(n,)``: the mean of these is `metric_of` the metric.

    MAE, MSE and a dataset's own errors are means over samples, and so is the logarithm of GM. RMSE is represented by
    its square. A correlation is no mean; its samples have influence values, r plus the first-order effect of each
    sample on r, which have mean r and the spread by which r varies from test set to test set (Hampel, "The influence
    curve and its role in robust estimation", JASA 1974). Spearman's is Pearson's of the ranks, with the effect of
    each sample on the ranks of the others.

    Returns:
        None for a metric that is none of these, and for a correlation where either side is constant.
    """
    error = np.abs(prediction - target)
    if metric == "mae":
        return error
    if metric in ("mse", "rmse"):
        return np.square(error)
    if metric == "gm":
        with np.errstate(divide="ignore"):
            return np.log(np.where(error == 0, zero_error, error))
    if metric in ("pearson", "spearman"):
        return _influence(prediction, target, ranked=metric == "spearman")
    found = terms(prediction, target).get(metric) if terms is not None else None
    return None if found is None else np.asarray(found, np.float64)


def metric_of(metric: str, mean: float) -> float:
    """Return the metric from the mean of its `contributions`."""
    if metric == "rmse":
        return float(np.sqrt(mean))
    return float(np.exp(mean)) if metric == "gm" else mean


def _regions(folder: RunFolder, bins: int) -> Regions | None:
    """Return the regions that a run recorded of its bins, or None."""
    held = folder.read_labels(bins)
    if held is None:
        return None
    many, medium, few = (np.flatnonzero(held["region"] == code).tolist() for code in (MANY, MEDIUM, FEW))
    return Regions.from_counts(held["counts"], zero_is_few=False, many=many, medium=medium, few=few)


def _influence(prediction: Floats, target: Floats, *, ranked: bool) -> Floats | None:
    """Return r + influence of each sample on the correlation r, shape ``(n,)``."""
    if len(target) < 2 or not np.ptp(prediction) or not np.ptp(target):
        return None
    sides = [_mid_ranks(side) if ranked else side for side in (prediction, target)]
    (a, spread_a), (b, spread_b) = (_standardised(side) for side in sides)
    r = np.mean(a * b)
    values = a * b - r / 2 * (np.square(a) + np.square(b)) + r
    if ranked:  # a sample moves the ranks of all others too
        values += _through_ranks(prediction, (b - r * a) / spread_a) + _through_ranks(target, (a - r * b) / spread_b)
    return np.asarray(values, np.float64)


def _standardised(values: Floats) -> tuple[Floats, float]:
    spread = float(np.std(values))
    return (values - values.mean()) / spread, spread


def _mid_ranks(values: Floats) -> Floats:
    """Return the share of values below each, plus half the share equal to it, shape ``(n,)``."""
    from scipy.stats import rankdata  # a second, which only a test over samples needs

    return np.asarray((rankdata(values) - 0.5) / len(values), np.float64)


def _through_ranks(values: Floats, slope: Floats) -> Floats:
    """Return the mean over samples j of slope_j (1[x_i < x_j] + 1[x_i = x_j] / 2 - rank_j), shape ``(n,)``."""
    _, place = np.unique(values, return_inverse=True)
    by_value = np.bincount(place, slope)
    above = by_value.sum() - np.cumsum(by_value) + by_value / 2
    return np.asarray((above[place] - slope @ _mid_ranks(values)) / len(values), np.float64)
