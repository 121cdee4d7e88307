"""Regions: thresholds and their sides, published lists, zero-shot ranges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dir_bench.labels import Regions


def test_thresholds_belong_to_medium() -> None:
    counts = [101, 100, 99, 21, 20, 19, 1, 0]
    assert Regions.from_counts(counts).codes.tolist() == [0, 1, 1, 1, 1, 2, 2, 2]


def test_other_thresholds() -> None:
    # STS-B's lists follow 100 and 30: 27 pairs are few, 35 medium
    regions = Regions.from_counts([428, 27, 35, 98, 30], many_over=100, few_under=30)
    assert regions.codes.tolist() == [0, 2, 1, 1, 1]


def test_empty_bins_need_not_be_few() -> None:
    assert Regions.from_counts([0, 5, 200], zero_is_few=False).codes.tolist() == [3, 2, 0]


def test_zero_shot_bins_split_into_inside_and_outside() -> None:
    regions = Regions.from_counts([0, 0, 5, 0, 300, 0])
    assert regions.zero.tolist() == [True, True, False, True, False, True]
    assert regions.interp.tolist() == [False, False, False, True, False, False]
    assert regions.extrap.tolist() == [True, True, False, False, False, True]


def test_without_any_sample_every_bin_is_outside() -> None:
    regions = Regions.from_counts([0, 0, 0])
    assert regions.extrap.all()
    assert not regions.interp.any()


def test_lists_win_over_counts() -> None:
    regions = Regions.from_counts([500, 500, 0, 7], many=[3], few=[0], medium=[])
    assert regions.codes.tolist() == [2, 0, 2, 0]


def test_masks_by_hand() -> None:
    regions = Regions.from_counts([200, 50, 0, 3, 0])
    masks = regions.masks([0, 0, 1, 3, 2, 0])
    assert list(masks) == ["all", "many", "medium", "few", "with_data", "zero", "interp"]  # no sample lies in bin 4
    assert masks["all"].all()
    assert masks["many"].tolist() == [True, True, False, False, False, True]
    assert masks["medium"].tolist() == [False, False, True, False, False, False]
    assert masks["few"].tolist() == [False, False, False, True, True, False]
    assert masks["interp"].tolist() == masks["zero"].tolist() == [False, False, False, False, True, False]
    assert masks["with_data"].tolist() == [True, True, True, True, False, True]
    assert list(regions.masks([0, 1])) == ["all", "many", "medium", "few"]  # all have data, so that goes without saying


def test_masks_have_the_shape_of_the_index_and_may_be_empty() -> None:
    regions = Regions.from_counts([200, 50])
    assert regions.masks(np.zeros((2, 3), dtype=int))["many"].shape == (2, 3)
    nothing = regions.masks(np.array([], dtype=int))
    assert list(nothing) == ["all", "many", "medium", "few"]
    assert all(mask.size == 0 for mask in nothing.values())


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(0, 300), min_size=1, max_size=30),
    zero_is_few=st.booleans(),
    seed=st.integers(0, 999),
)
def test_regions_partition_the_samples(counts: list[int], zero_is_few: bool, seed: int) -> None:
    regions = Regions.from_counts(counts, zero_is_few=zero_is_few)
    index = np.random.default_rng(seed).integers(0, len(counts), 50)
    masks = regions.masks(index)
    held = [masks[name].astype(int) for name in ("many", "medium", "few")]
    none = (regions.codes == 3)[index]
    assert (sum(held) + none == 1).all()
    assert not none.any() or not zero_is_few
    if "zero" in masks:
        nothing = np.zeros(50, dtype=bool)
        interp, extrap = masks.get("interp", nothing), masks.get("extrap", nothing)
        assert (interp ^ extrap == masks["zero"]).all()


@pytest.mark.parametrize(
    ("counts", "settings_", "message"),
    [
        ([], {}, "counts must be"),
        ([[1, 2]], {}, "counts must be"),
        ([1, -2], {}, "counts must be"),
        ([1, 2], {"many": [2]}, "not among 0..1"),
        ([1, 2], {"few": [-1]}, "not among 0..1"),
        ([1, 2], {"many": [0], "few": [0]}, "two regions"),
        ([1, 2], {"many_over": 5, "few_under": 20}, "both many"),
    ],
)
def test_bad_regions_are_refused(counts: list, settings_: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Regions.from_counts(counts, **settings_)
