"""How well a head knows how sure it is: likelihood, CRPS, coverage and calibration of its predictive distributions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from dir_bench.evaluation.extra import IDEAL, UNCERTAINTY
from dir_bench.evaluation.metrics import Errors, FloatArray
from dir_bench.evaluation.sparsification import sparsification_error

LEVEL = IDEAL["coverage"]
"""Of the intervals whose coverage and width are told: central ones."""
BINS = 10


@dataclass(frozen=True)
class Family:
    """A kind of distribution, of location 0 and scale 1; every function takes degrees of freedom, that most ignore.

    Attributes:
        scale: What a standard deviation of 1 has as its scale.
        log_density: Of z.
        crps: Of an outcome z.
        quantile: Which has (1 + LEVEL) / 2 below it.
        mean_error: The mean of |z|.
    """

    scale: Callable[[Any], Any]
    log_density: Callable[[FloatArray, Any], Any]
    crps: Callable[[FloatArray, Any], Any]
    quantile: Callable[[Any], Any]
    mean_error: Callable[[Any], Any]


def _normal_crps(z: FloatArray, df: Any) -> Any:
    return z * (2 * special.ndtr(z) - 1) + 2 * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) - 1 / np.sqrt(np.pi)


def _student_log_density(z: FloatArray, df: Any) -> Any:
    return -special.betaln(0.5, df / 2) - np.log(df) / 2 - (df + 1) / 2 * np.log1p(z**2 / df)


def _student_crps(z: FloatArray, df: Any) -> Any:
    own = 2 * np.sqrt(df) / (df - 1) * np.exp(special.betaln(0.5, df - 0.5) - 2 * special.betaln(0.5, df / 2))
    density = np.exp(_student_log_density(z, df))
    return z * (2 * special.stdtr(df, z) - 1) + 2 * density * (df + z**2) / (df - 1) - own


FAMILIES: Mapping[str, Family] = {
    "normal": Family(
        lambda df: 1.0,
        lambda z, df: -(z**2) / 2 - np.log(2 * np.pi) / 2,
        _normal_crps,
        lambda df: special.ndtri((1 + LEVEL) / 2),
        lambda df: np.sqrt(2 / np.pi),
    ),
    "laplace": Family(
        lambda df: 1 / np.sqrt(2),
        lambda z, df: -np.abs(z) - np.log(2),
        lambda z, df: np.abs(z) + np.exp(-np.abs(z)) - 0.75,
        lambda df: -np.log(1 - LEVEL),
        lambda df: 1.0,
    ),
    "student": Family(
        lambda df: np.sqrt((df - 2) / df),
        _student_log_density,
        _student_crps,
        lambda df: special.stdtrit(df, (1 + LEVEL) / 2),
        lambda df: 2 * np.sqrt(df) / (df - 1) / special.beta(df / 2, 0.5),
    ),
}


def uncertainty_errors(
    prediction: ArrayLike, target: ArrayLike, family: str, std: ArrayLike, df: ArrayLike | None = None
) -> Errors:
    """Return nll, crps, coverage, width, uce, uce_std and ause of predictive distributions; all None without samples.

    nll: the mean of -log density at the target.
    crps: the mean continuous ranked probability score, label units; that of a point is its absolute error.
    coverage: the share of targets within the central interval of 90 %; `width` is the mean width of it.
    uce: uncertainty calibration error: samples in 10 bins of equal width between the least and the largest expected
        absolute error, the mean over samples of |MAE of the bin − mean expected absolute error of it|. It is 0 for a
        head that is right about itself, whatever its family is.
    uce_std: the same of the standard deviation in place of the expected error, as the code of UVOTE has it. A
        calibrated head does not get 0: E|e| is std / √2 of Laplace's and 0.80 std of a normal distribution.
    ause: how far the order of standard deviations is from that of errors, 0 … 1, see `sparsification_error`.

    Args:
        prediction: Means of the distributions, label units, shape ``(n,)``.
        target: The same shape and units.
        family: "normal", "laplace" or "student".
        std: Their standard deviations, label units.
        df: Of Student's t, above 2.

    Raises:
        ValueError: If there is no such family, or Student's t has no degrees of freedom.

    Source:
        Gneiting and Raftery, JASA 102 (2007) 359–378 (CRPS); Jordan, Krüger and Lerch, J. Stat. Softw. 90 (2019), its
        closed forms; Jiang et al., GCPR 2024 (UCE).
    """
    if family not in FAMILIES:
        raise ValueError(f"there is no family {family!r}: {', '.join(FAMILIES)}")
    if family == "student" and df is None:
        raise ValueError("Student's t needs its degrees of freedom, df")
    kind, freedom = FAMILIES[family], None if df is None else np.asarray(df, np.float64)
    error, deviation = np.asarray(target, np.float64) - np.asarray(prediction, np.float64), np.asarray(std, np.float64)
    if not error.size:
        return dict.fromkeys(UNCERTAINTY)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # a scale may be 0
        scale = deviation * kind.scale(freedom)
        z, reach = error / scale, scale * kind.quantile(freedom)
        expected = scale * kind.mean_error(freedom)
        nll = np.log(scale) - kind.log_density(z, freedom)
        score = np.where(scale > 0, scale * kind.crps(z, freedom), np.where(scale == 0, np.abs(error), np.nan))
    covered = np.where(np.isnan(error + reach), np.nan, np.abs(error) <= reach)
    means = {"nll": nll, "crps": score, "coverage": covered, "width": 2 * reach}
    errors: Errors = {name: float(np.mean(values)) for name, values in means.items()}
    size = np.abs(error)
    return errors | {
        "uce": _calibration_error(size, expected),
        "uce_std": _calibration_error(size, deviation),
        "ause": sparsification_error(size, deviation),
    }


def _calibration_error(error: FloatArray, expected: FloatArray) -> float:
    """Return Σ over bins of (share of samples) · |mean error − mean expected error|."""
    low, high = expected.min(), expected.max()
    if not np.isfinite(low + high + error.sum()):
        return float("nan")
    width = (high - low) / BINS
    place = np.minimum((expected - low) / width, BINS - 1).astype(np.int64) if width > 0 else np.zeros(len(error), int)
    return float(np.abs(np.bincount(place, error - expected)).sum() / len(error))
