"""Whether an evaluation that is made again tells other data from other digits."""

import pytest

from dir_bench.results.repeated import far_off

HELD = {"all": {"count": 9, "mae": 5.0, "gm": None, "spearman": 0.1}, "few": {"count": 2, "mae": 0.01}}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"all": {"mae": 5.0 + 1e-6}}, ""),
        ({"all": {"gm": float("nan")}}, ""),
        ({"all": {"spearman": -0.2}}, ""),
        ({"few": {"mae": 0.0102}}, "mae of few is 0.0102, recorded 0.01"),
        ({"all": {"mae": 5.1}}, "mae of all is 5.1, recorded 5: data or code are others now"),
        ({"few": {"count": 3}}, "few has 3 test samples, and had 2 when it was recorded: the data are others now"),
        ({"zero": {"count": 1, "mae": 1.0}}, "zero has 1 test samples, and had 0"),
    ],
)
def test_digits_are_no_other_evaluation(changes, says):
    again = {region: {**HELD.get(region, {}), **changes.get(region, {})} for region in [*HELD, *changes]}
    found = far_off(HELD, again)
    assert found.startswith(says)
    assert bool(found) == bool(says)
