"""Relevance orders bins by density, and a threshold makes rare what holds the rest of the samples."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from dir_bench.labels import relevance


def test_relevance_is_the_share_of_samples_in_denser_bins() -> None:
    # 10 samples; denser than 4: none; than 3: the 4; than 1: the 4 and the 3; than 0: all.
    assert relevance([3, 0, 4, 1, 1, 1], [3, 0, 4, 1, 1, 1]) == pytest.approx([0.4, 1.0, 0.0, 0.7, 0.7, 0.7])


def test_density_orders_and_counts_weigh() -> None:
    # As smoothed, the second bin is the densest, though it holds nothing: its samples come first, and there are none.
    assert relevance([5, 0, 5], [1.0, 3.0, 2.0]) == pytest.approx([0.5, 0.0, 0.0])


counts = st.lists(st.integers(0, 50), min_size=1, max_size=20).filter(any)


@given(counts, st.floats(0.01, 0.99))
def test_what_is_rare_holds_no_more_than_the_rest(counts: list[int], threshold: float) -> None:
    found, held = relevance(counts, counts), np.array(counts)
    assert ((found >= 0) & (found <= 1)).all()
    assert found[held == held.max()].max() == 0
    # The densest of the rare bins has at least the threshold's share of samples in denser ones, so outside.
    assert held[found >= threshold].sum() <= (1 - threshold) * held.sum() * (1 + 1e-12) + 1e-9


@given(counts)
def test_relevance_falls_with_density_and_is_shared_by_equals(counts: list[int]) -> None:
    found, held = relevance(counts, counts), np.array(counts)
    order = np.argsort(held)
    assert (np.diff(found[order]) <= 0).all()
    assert all(len(set(found[held == count])) == 1 for count in set(counts))
