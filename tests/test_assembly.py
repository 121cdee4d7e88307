"""Splits as datasets give them, those of others too, are looked at before anything is trained on them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from dir_bench import config
from dir_bench.assembly import load_data
from dir_bench.datasets.arrays import ArraySplit
from dir_bench.datasets.base import Data
from dir_bench.errors import UserError


@dataclass
class Own:
    """A dataset of somebody's, of which all is well but for what a test says of a split."""

    split: str
    targets: Any

    def load(self) -> Data:
        good = np.linspace(0, 9, 30, dtype=np.float32)
        targets = {name: self.targets if name == self.split else good for name in ("train", "val", "test")}
        return Data(*(ArraySplit(np.zeros((len(each), 3)), each) for each in targets.values()))


@pytest.mark.parametrize(
    ("split", "targets", "said"),
    [
        ("test", np.zeros(0, np.float32), "gives a test split without a sample"),
        ("train", np.array([1, 2, np.nan, np.inf], np.float32), r"train split whose target 2 is nan \(2 such\)"),
        ("val", np.zeros((5, 1), np.float32), r"val split of 5 samples whose targets have shape \(5, 1\): one each"),
    ],
)
def test_a_split_that_cannot_be_trained_on_or_judged_by_is_named(split: str, targets: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_data(config.compose(["dataset=arrays"]), Own(split, targets))  # type: ignore[arg-type]
