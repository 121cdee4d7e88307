"""Further errors against SciPy and plain NumPy, and where they have no meaning."""

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.stats import wasserstein_distance

from dir_bench.evaluation.further import further_errors, further_metrics
from dir_bench.evaluation.uncertainty import uncertainty_errors
from dir_bench.labels import Regions, TargetBins
from dir_bench.labels.extremes import Extremes

BINS = TargetBins.regular(0, 10, 1)
REGIONS = Regions.from_counts([500, 300, 100, 20, 19, 0, 3, 50, 0, 0])


def made_up(size: int = 200) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(4)
    target = random.uniform(0, 10, size)
    return 3 + 0.4 * target + random.normal(0, 1, size), target


def test_against_references() -> None:
    prediction, target = made_up()
    index = BINS.index(target)
    errors = further_errors(prediction, target, index)
    by_bin = [np.abs(prediction - target)[index == i].mean() for i in np.unique(index)]
    assert (errors["bmae"], errors["bins"]) == (pytest.approx(np.mean(by_bin)), len(by_bin))
    assert errors["bias"] == pytest.approx(prediction.mean() - target.mean())
    assert errors["slope"] == pytest.approx(stats.linregress(target, prediction).slope)
    assert errors["w1"] == pytest.approx(wasserstein_distance(prediction, target))
    together = np.cov(prediction, target, bias=True)
    apart = (prediction.mean() - target.mean()) ** 2
    assert errors["ccc"] == pytest.approx(2 * together[0, 1] / (np.trace(together) + apart))


def test_sera_is_the_area_below_the_error_of_the_relevant() -> None:
    prediction, target = made_up()
    relevance = Extremes(((0, 1), (5, 0), (10, 1)))(target)
    errors = further_errors(prediction, target, BINS.index(target), relevance)
    thresholds = np.linspace(0, 1, 20_001)
    order = np.argsort(relevance)
    left = np.append(np.cumsum(np.square(prediction - target)[order][::-1])[::-1], 0)
    area = integrate.trapezoid(left[np.searchsorted(relevance[order], thresholds)], thresholds)
    assert errors["sera"] == pytest.approx(area, rel=1e-3)


def test_constant_predictions_follow_nothing_and_constant_targets_ask_for_nothing() -> None:
    flat = further_errors([3, 3, 3], [1, 2, 6], [1, 2, 6])
    assert (flat["slope"], flat["ccc"], flat["bias"]) == (0, 0, 0)
    alike = further_errors([1, 2, 6], [3, 3, 3], [3, 3, 3])
    assert (alike["slope"], alike["ccc"], alike["bins"]) == (None, None, 1)


def test_one_sample_and_none() -> None:
    assert further_errors([4.0], [1.0], [1], [0.5]) == {
        **{"bmae": 3, "bins": 1, "bias": 3, "slope": None, "ccc": None},
        **{"w1": 3, "sera": 4.5},
    }
    empty = further_errors([], [], [], [])
    assert empty.pop("bins") == 0
    assert set(empty.values()) == {None}
    assert set(uncertainty_errors([], [], "normal", []).values()) == {None}


def test_a_prediction_that_is_no_number_makes_the_errors_none() -> None:
    errors = further_errors([np.nan, np.inf], [1, 2], [1, 2])
    assert not np.isfinite([errors[name] for name in ("bmae", "bias", "slope", "ccc", "w1")]).any()


def test_by_region_are_those_of_its_samples() -> None:
    prediction, target = made_up()
    columns = {"prediction": prediction, "std": np.full(len(target), 2.0)}
    extremes = Extremes(((0, 1), (5, 0), (10, 1)))
    metrics = further_metrics(columns, target, bins=BINS, regions=REGIONS, extremes=extremes, family="laplace")
    index = BINS.index(target)
    few = np.isin(index, [4, 5, 6, 8, 9])
    assert list(metrics) == ["all", "many", "medium", "few", "with_data", "zero", "interp", "extrap"]
    expected = further_errors(prediction[few], target[few], index[few], extremes(target[few]))
    expected |= uncertainty_errors(prediction[few], target[few], "laplace", np.full(few.sum(), 2.0))
    assert metrics["few"] == expected


DISTRIBUTIONS = {
    "normal": (lambda std, df: stats.norm(scale=std), None),
    "laplace": (lambda std, df: stats.laplace(scale=std / np.sqrt(2)), None),
    "student": (lambda std, df: stats.t(df, scale=std * np.sqrt((df - 2) / df)), np.array([3.5, 8.0, 50.0])),
}


@pytest.mark.parametrize("family", DISTRIBUTIONS)
def test_uncertainty_against_scipy(family: str) -> None:
    make, df = DISTRIBUTIONS[family]
    error, std = np.array([0.3, -2.0, 5.0]), np.array([1.0, 0.5, 3.0])
    found = uncertainty_errors(np.zeros(3), error, family, std, df)
    each = [make(s, None if df is None else df[i]) for i, s in enumerate(std)]
    assert [one.std() for one in each] == pytest.approx(std)
    assert found["nll"] == pytest.approx(-np.mean([one.logpdf(e) for one, e in zip(each, error, strict=True)]))
    ends = np.array([one.interval(0.9) for one in each])
    assert found["width"] == pytest.approx(np.diff(ends).mean())
    assert found["coverage"] == pytest.approx(np.mean((ends[:, 0] <= error) & (error <= ends[:, 1])))
    x = np.linspace(-400, 400, 800_001)
    areas = [integrate.trapezoid((one.cdf(x) - (x >= e)) ** 2, x) for one, e in zip(each, error, strict=True)]
    assert found["crps"] == pytest.approx(np.mean(areas), rel=1e-3)
    # each of the three is alone in its bin
    mean_errors = [2 * integrate.quad(lambda v, one=one: v * one.pdf(v), 0, np.inf)[0] for one in each]
    assert found["uce"] == pytest.approx(np.abs(np.abs(error) - mean_errors).mean(), rel=1e-4)
    assert found["uce_std"] == pytest.approx(np.abs(np.abs(error) - std).mean())


def test_a_calibrated_laplace_head_has_no_uce_by_its_expected_error_alone() -> None:
    random = np.random.default_rng(0)
    std = random.uniform(1, 3, 200_000)
    found = uncertainty_errors(np.zeros(len(std)), random.laplace(0, std / np.sqrt(2)), "laplace", std)
    assert found["uce"] < 0.02
    assert found["uce_std"] == pytest.approx((1 - 1 / np.sqrt(2)) * 2, abs=0.02)
    assert found["coverage"] == pytest.approx(0.9, abs=0.005)


def test_the_order_of_certainty_is_judged_by_the_errors_that_are_left() -> None:
    error, variance = np.array([4.0, -1.0, 2.0, -3.0]), np.array([1.0, 2.0, 3.0, 4.0])
    left = np.array([np.mean([4, 1, 2]), np.mean([4, 1]), 4]) - np.array([2, 1.5, 1])
    expected = np.trapezoid(left / left.max(), [0, 0.5, 1])

    def ause(error: np.ndarray, std: np.ndarray) -> float | None:
        return uncertainty_errors(np.zeros(len(error)), error, "normal", std)["ause"]

    assert ause(error, np.sqrt(variance)) == pytest.approx(expected)
    assert ause(error, np.abs(error)) == 0
    assert ause(error[:2], variance[:2]) is None
    assert np.isnan(ause(error, np.array([1.0, np.nan, 1.0, 1.0])))


def test_a_head_that_is_certain() -> None:
    found = uncertainty_errors([1.0, 2.0], [1.0, 4.0], "normal", [0.0, 0.0])
    assert (found["crps"], found["coverage"], found["width"], found["uce"]) == (1, 0.5, 0, 1)
    assert not np.isfinite(found["nll"])


@pytest.mark.parametrize(("family", "says"), [("cauchy", "no family"), ("student", "degrees of freedom")])
def test_families_have_to_be_known(family: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        uncertainty_errors([1.0], [1.0], family, [1.0])
