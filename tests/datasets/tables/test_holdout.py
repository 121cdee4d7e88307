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


def test_too_few_rows_are_said():
    with pytest.raises(UserError, match="4 rows are too few to draw val and test from"):
        hold_out(np.arange(4.0), np.arange(4), ["val", "test"], share=0.2, seed=0)
    with pytest.raises(UserError, match="all 9 training targets are equal"):
        hold_out(np.ones(9), np.arange(9), ["val"], share=0.2, seed=0)
