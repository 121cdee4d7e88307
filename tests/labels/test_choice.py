"""Bins and thresholds chosen from targets: what each rule gives, worked by hand, and what holds for any targets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dir_bench.labels import TargetBins
from dir_bench.labels.choice import FEWEST_BINS, choose_bins, choose_class_value, choose_regions

RNG = np.random.default_rng(0)


def test_whole_numbers_have_a_bin_each():
    choice = choose_bins(np.repeat([2, 3, 5, 9], 20))  # places 2 to 9 are 8, of 10 samples each
    assert choice.edges.tolist() == list(range(2, 11))
    assert choice.width == 1


def test_tenths_lie_in_the_middle_of_their_bins():
    scores = np.round(RNG.uniform(0, 5, 3000), 1)
    choice = choose_bins(scores)
    assert len(choice.edges) - 1 == 51
    assert choice.edges[[0, -1]] == pytest.approx([-0.05, 5.05])
    expected = np.bincount(np.rint(scores * 10).astype(int))
    assert TargetBins(choice.edges).counts(scores.astype(np.float32)).tolist() == expected.tolist()


def test_places_with_too_few_samples_share_wider_bins():
    choice = choose_bins(RNG.integers(18, 90, 300))  # 72 places of 4
    assert choice.width == 10
    assert choice.edges[[0, -1]].tolist() == [10, 90]


def test_width_by_freedman_and_diaconis():
    values = np.linspace(0, 99.9, 1000)  # IQR 49.95, n^(-1/3) = 0.1: 2 · 49.95 · 0.1 = 9.99
    choice = choose_bins(np.sqrt(values * 99.9))  # no grid; IQR of √u is 99.9 (√.75 − √.25) = 36.56: 7.31, so 5 or 10
    assert choice.width == 10  # 10 / 7.31 < 7.31 / 5
    assert "Freedman" in choice.why


def test_a_target_that_many_have_has_a_bin_of_its_own():
    targets = np.where(RNG.random(1000) < 0.4, 0, RNG.lognormal(0, 1, 1000)).astype(np.float32)
    for values in (targets, -targets):
        choice = choose_bins(values)
        bins = TargetBins(choice.edges)
        assert bins.counts(values)[bins.index([0.0])[0]] == (values == 0).sum()
        assert "0 alone" in choice.why.replace("-0", "0")


def test_targets_far_from_the_others_are_in_the_end_bins():
    choice = choose_bins(np.append(RNG.normal(0, 1, 2000), [1e6, -1e6]))
    assert np.abs(choice.edges).max() < 10
    assert "0.5%" in choice.why


def test_what_is_asked_for_is_kept():
    values = RNG.normal(10, 3, 500)
    assert choose_bins(values, width=2.0).width == 2
    number = choose_bins(values, number=7)
    assert len(number.edges) == 8
    assert number.edges[[0, -1]] == pytest.approx([values.min(), values.max()], rel=1e-6)
    assert choose_bins(values, start=0, stop=20, number=10).edges.tolist() == list(range(0, 21, 2))
    both = choose_bins(values, start=0, stop=25)
    assert both.edges[[0, -1]].tolist() == [0, 25]
    assert choose_bins(values, start=1).edges[0] == 1
    counts = TargetBins(choose_bins(values, by="quantiles", number=10).edges).counts(values.astype(np.float32))
    assert set(counts.tolist()) <= {49, 50, 51}


@pytest.mark.parametrize(
    ("targets", "asked", "said"),
    [
        ([3.0, 3.0], {}, "all 2 training targets are equal"),
        ([1.0, np.nan], {}, "no finite number"),
        ([1.0, 2.0], {"number": 4, "width": 1.0}, "two ways to say one thing"),
        ([1.0, 2.0], {"number": 0}, "ask for 1 or more"),
        ([1.0, 2.0], {"width": -1.0}, "are none, or more than"),
        ([1.0, 2.0], {"width": 1e-12}, "are none, or more than 1,000,000"),
    ],
)
def test_what_gives_no_bins_is_said(targets, asked, said):
    with pytest.raises(ValueError, match=said):
        choose_bins(targets, **asked)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=60).filter(lambda v: len(set(v)) > 1))
def test_any_targets_have_bins_in_which_they_can_be_counted(values):
    bins = TargetBins(choose_bins(values).edges)
    assert 1 <= len(bins) <= 1001
    assert bins.counts(np.float32(values)).sum() == len(values)


def test_thresholds_are_the_papers_or_in_proportion():
    assert choose_regions([0, 200, 100, 90, 0])[:2] == (100, 20)  # 130 a bin
    assert choose_regions([0, 60, 0, 60, 0])[:2] == (34, 7)  # 40 a bin, a third of 120: 33.3 and 6.7, rounded up
    assert choose_regions([3, 2, 4])[:2] == (3, 2)
    assert FEWEST_BINS == 10


def test_a_class_stands_for_its_lower_edge_only_where_all_targets_lie_on_edges():
    years, quarters = TargetBins.regular(0, 9, 1), TargetBins.regular(-3, 5, 0.25)
    assert choose_class_value(np.arange(9), years)[0] == "edge"
    assert choose_class_value([0, 3, 3.5], years)[0] == "center"
    assert choose_class_value([0, 3, 9], years)[0] == "center"  # the last edge is no lower one
    assert choose_class_value([-2.75, 0, 4.5], quarters)[0] == "edge"
    assert choose_class_value(np.arange(9), TargetBins.regular(0, 10, 2))[0] == "center"
