"""Relevance by control points: the medcouple against all its pairs, φ against SciPy, and the edge cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicHermiteSpline

from dir_bench.labels.extremes import Extremes, fences, medcouple


def all_pairs(values: np.ndarray) -> float:
    """The medcouple by its definition: the median of a kernel over every pair on the two sides of the median."""
    z = np.sort(values)[::-1] - np.median(values)
    above, below = z[z >= 0], z[z <= 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        kernel = (above[:, None] + below) / (above[:, None] - below)
    ties = int((z == 0).sum())
    if ties:  # pairs of two medians
        places = np.arange(ties)
        kernel[len(above) - ties :, :ties] = np.sign(ties - 1 - places[:, None] - places)
    return float(np.median(kernel))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-20, 60), min_size=1, max_size=40), st.sampled_from([1.0, 0.37]))
def test_medcouple_is_the_median_of_all_pairs(values: list[int], unit: float) -> None:
    numbers = np.array(values) * unit
    assert medcouple(numbers) == pytest.approx(all_pairs(numbers), abs=1e-9)


def test_medcouple_of_a_hundred_thousand_labels_makes_no_pairs() -> None:
    values = np.random.default_rng(0).lognormal(size=100_000)
    assert medcouple(values) == pytest.approx(all_pairs(values[:3000]), abs=0.03)
    assert medcouple(-values) == pytest.approx(-medcouple(values), abs=1e-9)


def test_fences_of_a_symmetric_sample_are_tukeys() -> None:
    # 0 … 8: quartiles 2 and 6, 1.5 · 4 beyond them
    assert fences(np.arange(9.0)) == pytest.approx((-4, 12))


def test_relevance_is_the_hermite_spline_without_slopes() -> None:
    targets = np.random.default_rng(1).lognormal(3, 0.4, 4000)
    extremes = Extremes.of(targets)
    assert extremes is not None
    x, y = np.array(extremes.points).T
    assert (x[np.argmin(y)], y.min()) == (pytest.approx(np.median(targets)), 0)
    labels = np.linspace(x[0], x[-1], 301)
    assert np.allclose(extremes(labels), CubicHermiteSpline(x, y, np.zeros(len(x)))(labels))
    assert extremes([x[-1] + 50]) == [1]


def test_a_side_without_outliers_stays_at_zero_and_no_outliers_give_none() -> None:
    right = Extremes.of([*np.arange(9.0), 40])
    assert right is not None
    assert [phi for _, phi in right.points] == [0, 1]
    assert right([-100, 4]).tolist() == [0, 0]
    assert Extremes.of(np.arange(9.0)) is None
    assert Extremes.of([]) is None
    assert Extremes.of([3.0]) is None


def test_where_most_labels_are_one_all_others_are_extreme() -> None:
    step = Extremes.of([0.0] * 90 + [5.0] * 10)
    assert step is not None
    assert step([0, 0.01, 5]).tolist() == [0, 1, 1]


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_the_median_has_no_relevance_however_far_from_0_it_lies(side: float) -> None:
    extremes = Extremes.of([1e12] * 10 + [1e12 + side])
    assert extremes is not None
    assert extremes([1e12, 1e12 + side]).tolist() == [0, 1]
