"""Errors of predictions: by hand, against SciPy and plain loops, and their properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dir_bench.datasets.depth.metrics import depth_errors
from dir_bench.datasets.depth.metrics import terms as depth_terms
from dir_bench.evaluation import balanced_errors, region_metrics, regression_errors
from dir_bench.labels import Regions, TargetBins

BINS = TargetBins.regular(0, 10, 1)
REGIONS = Regions.from_counts([500, 300, 100, 20, 19, 0, 3, 50, 0, 0])
NAMES = ("mae", "mse", "rmse", "gm", "pearson", "spearman")
SEEDS = st.integers(0, 10**6)


def made_up(seed: int, size: int = 60) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    target = random.uniform(0, 10, size)
    return target + random.normal(0, 2, size), target


def test_three_samples_by_hand() -> None:
    # errors 1, -2, 4: mae 7/3, mse 21/3, gm (1 * 2 * 4) ** (1/3) = 2
    errors = regression_errors([2, 1, 8], [1, 3, 4])
    assert errors["count"] == 3
    assert np.allclose([errors[name] for name in ("mae", "mse", "rmse", "gm")], [7 / 3, 7, 7**0.5, 2])
    # deviations -5/3, -8/3, 13/3 and -5/3, 1/3, 4/3; ranks 2 1 3 and 1 2 3: 1 - 6 * 2 / (3 * 8) = 1/2
    pearson = (25 - 8 + 52) / 9 / np.sqrt((25 + 64 + 169) / 9 * (25 + 1 + 16) / 9)
    assert np.allclose([errors["pearson"], errors["spearman"]], [pearson, 0.5])


def test_an_exact_hit_makes_gm_zero_unless_replaced() -> None:
    assert regression_errors([1, 5], [1, 3])["gm"] == 0
    # errors 0 and 2: sqrt(1e-10 * 2); the other errors see the true zero
    replaced = regression_errors([1, 5], [1, 3], zero_error=1e-10)
    assert np.isclose(replaced["gm"], np.sqrt(2e-10))
    assert (replaced["mae"], replaced["mse"]) == (1, 2)


def test_only_hits() -> None:
    errors = regression_errors([1.0, 2.0], [1.0, 2.0])
    assert [errors[name] for name in NAMES] == pytest.approx([0, 0, 0, 0, 1, 1])


def test_no_sample_gives_count_0_and_none() -> None:
    assert regression_errors([], []) == {"count": 0} | dict.fromkeys(NAMES)
    assert regression_errors(np.empty((0, 3)), np.empty((0, 3)))["mae"] is None


@pytest.mark.parametrize(("prediction", "target"), [([1.0], [2.0]), ([3, 3, 3], [1, 2, 3]), ([1, 2, 3], [0.1] * 3)])
def test_correlation_without_meaning_is_none(prediction: list, target: list) -> None:
    errors = regression_errors(prediction, target)
    assert errors["pearson"] is None
    assert errors["spearman"] is None
    assert errors["mae"] > 0


def test_a_nan_prediction_is_seen() -> None:
    errors = regression_errors([1.0, np.nan, 2.0], [1.0, 2.0, 4.0])
    assert all(np.isnan(errors[name]) for name in NAMES)
    assert errors["count"] == 3


@pytest.mark.parametrize("shapes", [((3, 1), (3,)), ((3,), (1, 3)), ((3,), (1,)), ((2,), (3,))])
def test_unequal_shapes_are_refused(shapes: tuple) -> None:
    prediction, target = np.ones(shapes[0]), np.ones(shapes[1])
    for function in (regression_errors, depth_errors):
        with pytest.raises(ValueError, match="shapes must be equal"):
            function(prediction, target)
    with pytest.raises(ValueError, match="shapes must be equal"):
        region_metrics(prediction, target, bins=BINS, regions=REGIONS)
    with pytest.raises(ValueError, match="shapes must be equal"):
        balanced_errors(target, target, np.zeros(prediction.shape, dtype=int))


def test_a_negative_stand_in_is_refused() -> None:
    with pytest.raises(ValueError, match="zero_error"):
        regression_errors([1.0], [1.0], zero_error=-1)


def test_float32_values_are_widened_before_they_are_subtracted() -> None:
    prediction, target = np.float32([16777216.0]), np.float32([1.0])
    assert regression_errors(prediction, target)["mae"] == 16777215.0  # 16777216 - 1 is not a float32


@settings(deadline=None)
@given(seed=SEEDS, ties=st.booleans())
def test_correlations_agree_with_scipy(seed: int, ties: bool) -> None:
    prediction, target = made_up(seed)
    if ties:
        prediction, target = prediction.round(), target.round()
    errors = regression_errors(prediction, target)
    assert np.isclose(errors["pearson"], stats.pearsonr(prediction, target).statistic)
    assert np.isclose(errors["spearman"], stats.spearmanr(prediction, target).statistic)
    assert np.isclose(errors["gm"], stats.gmean(np.abs(prediction - target))) or ties


@settings(deadline=None)
@given(seed=SEEDS)
def test_gm_mae_rmse_are_in_order(seed: int) -> None:
    errors = regression_errors(*made_up(seed))
    assert errors["gm"] <= errors["mae"] <= errors["rmse"]


@settings(deadline=None)
@given(seed=SEEDS, factor=st.floats(0.01, 100))
def test_a_unit_scales_the_errors(seed: int, factor: float) -> None:
    prediction, target = made_up(seed)
    errors = regression_errors(prediction, target)
    scaled = regression_errors(prediction * factor, target * factor)
    powers = {"mae": 1, "rmse": 1, "gm": 1, "mse": 2, "pearson": 0, "spearman": 0}
    for name, power in powers.items():
        assert np.isclose(scaled[name], errors[name] * factor**power), name


@settings(deadline=None)
@given(seed=SEEDS)
def test_order_does_not_matter(seed: int) -> None:
    prediction, target = made_up(seed)
    order = np.random.default_rng(seed).permutation(len(target))
    before = region_metrics(prediction, target, bins=BINS, regions=REGIONS)
    after = region_metrics(prediction[order], target[order], bins=BINS, regions=REGIONS)
    assert before.keys() == after.keys()
    for region, errors in before.items():
        for name, value in errors.items():
            assert after[region][name] == pytest.approx(value), (region, name)


@settings(deadline=None)
@given(seed=SEEDS)
def test_region_maes_average_to_the_overall_mae(seed: int) -> None:
    metrics = region_metrics(*made_up(seed), bins=BINS, regions=REGIONS)
    parts = [metrics[name] for name in ("many", "medium", "few") if metrics[name]["count"]]
    counts = [part["count"] for part in parts]
    assert sum(counts) == metrics["all"]["count"]
    for name in ("mae", "mse"):
        assert np.isclose(np.average([part[name] for part in parts], weights=counts), metrics["all"][name])


def test_regions_by_hand() -> None:
    # bins 0 (500 samples) many, 3 (20) medium, 4 (19) few, 5 (0) few and interp, 9 (0) few and extrap
    target = np.array([0.5, 0.1, 3.0, 4.9, 5.0, 9.5])
    prediction = target + np.array([1, -3, 2, 4, 6, 8])
    metrics = region_metrics(prediction, target, bins=BINS, regions=REGIONS)
    assert {name: errors["count"] for name, errors in metrics.items()} == {
        "all": 6,
        "many": 2,
        "medium": 1,
        "few": 3,
        "with_data": 4,
        "zero": 2,
        "interp": 1,
        "extrap": 1,
    }
    assert {name: errors["mae"] for name, errors in metrics.items()} == {
        "all": 4,
        "many": 2,
        "medium": 2,
        "few": 6,
        "with_data": 2.5,
        "zero": 7,
        "interp": 6,
        "extrap": 8,
    }


def test_predictions_do_not_move_samples_between_regions() -> None:
    _, target = made_up(3)
    counts = [
        {name: errors["count"] for name, errors in metrics.items()}
        for metrics in (
            region_metrics(target, target, bins=BINS, regions=REGIONS),
            region_metrics(target * 0 - 99, target, bins=BINS, regions=REGIONS),
        )
    ]
    assert counts[0] == counts[1]


def test_an_empty_region_has_count_0_and_none_and_zero_shot_ones_are_left_out() -> None:
    metrics = region_metrics([1.0, 2.0], [0.5, 0.2], bins=BINS, regions=REGIONS)
    assert list(metrics) == ["all", "many", "medium", "few"]
    assert metrics["few"] == {"count": 0} | dict.fromkeys(NAMES)
    empty = region_metrics([], [], bins=BINS, regions=REGIONS)
    assert [errors["count"] for errors in empty.values()] == [0, 0, 0, 0]


def test_maps_go_by_value_and_several_outputs_by_sample() -> None:
    target = np.array([[0.5, 4.5], [3.5, 0.5]])
    prediction = target + np.array([[1, 2], [3, 5]])
    by_value = region_metrics(prediction, target, bins=BINS, regions=REGIONS)
    assert (by_value["many"]["count"], by_value["many"]["mae"]) == (2, 3)
    assert (by_value["few"]["count"], by_value["few"]["mae"]) == (1, 2)
    by_sample = region_metrics(prediction, target, bins=BINS, regions=REGIONS, bin_index=[0, 3])
    assert (by_sample["many"]["count"], by_sample["many"]["mae"]) == (1, 1.5)
    assert (by_sample["medium"]["count"], by_sample["medium"]["mae"]) == (1, 4)
    assert by_sample["all"]["mae"] == by_value["all"]["mae"] == 11 / 4


def test_several_outputs_average_their_correlations() -> None:
    prediction = np.array([[1.0, 6.0], [2.0, 5.0], [3.0, 4.0]])
    target = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    errors = regression_errors(prediction, target)  # +1 for the first output, -1 for the second
    assert (errors["count"], errors["pearson"], errors["spearman"]) == (3, pytest.approx(0), pytest.approx(0))


def test_extra_errors_are_merged_for_empty_regions_too() -> None:
    metrics = region_metrics([1.0], [0.5], bins=BINS, regions=REGIONS, terms=depth_terms)
    assert metrics["many"]["abs_rel"] == 1
    assert metrics["many"]["gm"] == 0.5
    assert metrics["few"]["delta1"] is None


@pytest.mark.parametrize("index", [[0], [0, 1, 2], [[0, 1]]])
def test_a_bin_index_that_fits_no_sample_is_refused(index: list) -> None:
    with pytest.raises(ValueError, match="bin_index"):
        region_metrics([1.0, 2.0], [1.0, 2.0], bins=BINS, regions=REGIONS, bin_index=index)


def test_bins_and_regions_must_fit() -> None:
    with pytest.raises(ValueError, match="10 bins, but regions of 2"):
        region_metrics([1.0], [1.0], bins=BINS, regions=Regions.from_counts([1, 2]))


def test_nan_targets_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        region_metrics([1.0], [np.nan], bins=BINS, regions=REGIONS)


def test_depth_by_hand() -> None:
    # ratios 2, 1.25, 1, 1.9; |o-d|/d 1, 0.2, 0, 0.9; squares 1, 1, 0, 0.81
    errors = depth_errors([2.0, 4.0, 3.0, 1.9], [1.0, 5.0, 3.0, 1.0])
    assert errors["count"] == 4
    assert np.isclose(errors["mse"], 2.81 / 4)
    assert np.isclose(errors["rmse"], np.sqrt(2.81 / 4))
    assert np.isclose(errors["mae"], 2.9 / 4)
    assert np.isclose(errors["abs_rel"], 2.1 / 4)
    assert np.isclose(errors["log10"], np.log10([2, 1.25, 1.9]).sum() / 4)
    # 1.25 is within delta1, 1.9 within delta3 (1.953125), 2 in none
    assert [errors[f"delta{k}"] for k in (1, 2, 3)] == [0.5, 0.5, 0.75]


def test_depth_leaves_out_unknown_pixels() -> None:
    known = depth_errors([2.0, 4.0], [1.0, 5.0])
    assert depth_errors([2.0, 9.0, 4.0, np.nan], [1.0, np.nan, 5.0, np.nan]) == known


def test_depth_of_nothing() -> None:
    for output, depth in (([], []), ([1.0], [np.nan])):
        errors = depth_errors(output, depth)
        assert errors.pop("count") == 0
        assert set(errors.values()) == {None}


def test_depth_of_impossible_outputs_is_as_published() -> None:
    negative = depth_errors([-0.5, 1.0], [2.0, 1.0])
    assert np.isnan(negative["log10"])
    assert negative["delta1"] == 1
    zero = depth_errors([0.0, 1.0], [2.0, 1.0])
    assert np.isinf(zero["log10"])
    assert zero["delta3"] == 0.5


def test_depth_ratios_are_in_the_type_of_the_arrays() -> None:
    # 1.25 * 1.1 in float32 is 1.375 exactly, and 1.375 / float32(1.1) is 1.25 in float32, 1.24999997 in float64;
    # 3.7 the other way round
    for depth in np.float32([0.7, 1.1, 2.3, 3.7, 7.9]):
        output = np.float32(1.25) * depth
        inside = np.maximum(output / depth, depth / output) <= np.float32(1.25)
        assert depth_errors([output], [depth])["delta1"] == inside
        assert depth_errors(np.array([output]), np.array([depth]))["delta1"] == inside


def test_balanced_by_hand() -> None:
    # bin 0: errors 1 and 3, bin 4: error 5; means 2 and 5, squares 5 and 25
    errors = balanced_errors([1.0, 3.0, 5.0], [0.0, 0.0, 0.0], [0, 0, 4])
    assert errors == {"bins": 2, "mae": 3.5, "mse": 15.0}


def test_balanced_of_nothing() -> None:
    assert balanced_errors([], [], []) == {"bins": 0, "mae": None, "mse": None}


@settings(deadline=None)
@given(seed=SEEDS)
def test_balanced_agrees_with_a_loop(seed: int) -> None:
    prediction, target = made_up(seed)
    index = BINS.index(target)
    means = [np.abs(prediction - target)[index == number].mean() for number in np.unique(index)]
    errors = balanced_errors(prediction, target, index)
    assert np.isclose(errors["mae"], np.mean(means))
    assert errors["bins"] == len(means)
