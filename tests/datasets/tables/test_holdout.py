import numpy as np
import pytest

from dir_bench.datasets.tables.holdout import hold_out
from dir_bench.errors import UserError


def test_held_out_rows_are_even_over_the_target_and_rows_of_one_key_go_together():
    targets = np.repeat(np.arange(10.0), [400, 200, 100, 60, 40, 30, 30, 30, 30, 80])
    drawn = hold_out(targets, np.arange(1000) // 2, ["val", "test"], share=0.2, seed=0)
    assert (drawn[::2] == drawn[1::2]).all()
    for name in ("val", "test"):
        counts = np.bincount(targets[drawn == name].astype(int), minlength=10)
        assert counts.sum() <= 200
        assert (counts[5:9] == 10).all()  # a third of 30
        assert counts[:3].tolist() == [34, 34, 32]  # the cap, and a third of 100 in pairs
    assert (drawn == hold_out(targets, np.arange(1000) // 2, ["val", "test"], share=0.2, seed=0)).all()
    assert (drawn != hold_out(targets, np.arange(1000) // 2, ["val", "test"], share=0.2, seed=1)).any()


@pytest.mark.parametrize("seed", range(5))
def test_no_part_has_more_than_its_share_of_the_rows_however_many_a_key_has(seed: int):
    keys = np.repeat(np.arange(301), [*np.ones(270, int), *np.full(30, 40), 500])  # that of 500 is more than a fifth
    targets = np.random.default_rng(0).uniform(0, 10, 301)[keys]
    drawn = hold_out(targets, keys, ["val", "test"], share=0.2, bounded=True, seed=seed)
    for name in ("val", "test"):
        assert 0 < (drawn == name).sum() <= 0.2 * len(keys)
    assert (drawn[keys == 300] == "train").all()
    assert all(len(set(drawn[keys == key])) == 1 for key in range(301))


def test_too_few_rows_are_said():
    with pytest.raises(UserError, match="4 rows are too few to draw val and test from"):
        hold_out(np.arange(4.0), np.arange(4), ["val", "test"], share=0.2, seed=0)
    with pytest.raises(UserError, match="all 9 training targets are equal"):
        hold_out(np.ones(9), np.arange(9), ["val"], share=0.2, seed=0)
