"""When a run stops, by hand: patience 2 is that of the examples, 10 that of STS-B-DIR."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dir_bench.training.stopping import stops


def stop_at(values: list[float], patience: int, rule: str) -> int | None:
    """Return the number of evaluations after which a run stops."""
    return next((n for n in range(len(values) + 1) if stops(values[:n], patience, rule)), None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "no_progress", "newest_is_largest"),
    [
        ([3.0, 2.0, 1.0, 0.9, 0.8], None, None),
        # The best is the second; two without progress end at the fourth, which is also above the two before it.
        ([3.0, 1.0, 2.0, 3.0, 4.0], 4, 4),
        # Never again as good as the first, but each check is below one of the two before it: no end as published.
        ([1.0, 3.0, 2.0, 2.5, 2.2, 2.4, 2.3], 3, None),
        # A rise at last: as published it ends at once, the best being that of the check before.
        ([3.0, 2.0, 1.0, 0.5, 5.0], None, 5),
        # Three checks are not enough as published, be they ever so bad: more than patience + 1 are asked for.
        ([1.0, 2.0, 3.0], 3, None),
        # Equal values: no progress, and none of the last is larger than the newest.
        ([1.0, 1.0, 1.0, 1.0], 3, 4),
    ],
)
def test_by_hand(values: list[float], no_progress: int | None, newest_is_largest: int | None) -> None:
    assert stop_at(values, 2, "no_progress") == no_progress
    assert stop_at(values, 2, "newest_is_largest") == newest_is_largest


def test_the_published_patience_needs_twelve_checks() -> None:
    """As published: more than 11 checks exist, and the newest validation MSE is the largest of the last 11."""
    rising = [float(n) for n in range(20)]
    assert stop_at(rising, 10, "newest_is_largest") == 12
    assert stop_at(rising, 10, "no_progress") == 11
    # The largest of all is the first, twelve checks ago: it no longer counts.
    assert stop_at([99.0, *rising[:11]], 10, "newest_is_largest") == 12
    assert stop_at([50.0, 99.0, *rising[:10], 20.0], 10, "newest_is_largest") == 13


@given(st.lists(st.floats(0, 10), min_size=1, max_size=12), st.integers(1, 4))
def test_no_progress_counts_checks_since_the_best(values: list[float], patience: int) -> None:
    """The rule against counting as the trainer did: one more for each check, and zero at each that is better."""
    since, best = 0, float("inf")
    for value in values:
        since, best = (0, value) if value < best else (since + 1, best)
    assert stops(values, patience, "no_progress") == (since >= patience)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=12, unique=True), st.integers(1, 4))
def test_a_falling_error_stops_under_no_rule(values: list[float], patience: int) -> None:
    falling = sorted(values, reverse=True)
    assert all(later < earlier for earlier, later in pairwise(falling))
    assert stop_at(falling, patience, "no_progress") is None
    assert stop_at(falling, patience, "newest_is_largest") is None
