"""Samples that lie on the device: the same batches, the same run."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from run_helpers import assert_same_run

from dir_bench import config, experiment
from dir_bench.datasets.arrays import Arrays, ArraySplit
from dir_bench.datasets.base import Data, Split
from dir_bench.datasets.depth.split import Codes, DepthSplit
from dir_bench.datasets.gauge import GaugeSplit
from dir_bench.datasets.images import Augmentation, ImageSplit
from dir_bench.datasets.pictures.pixels import ArrayStore
from dir_bench.datasets.protocols import Joined
from dir_bench.datasets.resampled import ResampledSplit
from dir_bench.datasets.subsets import SubsetSplit
from dir_bench.errors import UserError
from dir_bench.methods.resample import Plan
from dir_bench.training import kept
from dir_bench.training.kept import KeptSplit, keep
from dir_bench.training.loaders import TrainLoader, eval_batches

N, CPU = 11, torch.device("cpu")
RNG = np.random.default_rng(0)
TARGETS = RNG.uniform(0, 9, N).astype(np.float32)


def store(*shape: int) -> ArrayStore:
    return ArrayStore(RNG.integers(0, 256, (N, *shape), dtype=np.uint8))


PICTURES = ImageSplit(store(8, 8, 3), np.arange(N)[::-1], TARGETS, Augmentation(2, True, (0.5,) * 3, (0.5,) * 3))
ROWS = np.arange(N)
SPLITS = {
    "pictures": PICTURES,
    "some of them": SubsetSplit(PICTURES, np.array([7, 1, 1, 4, 10])),
    "two lists": Joined((PICTURES, SubsetSplit(PICTURES, np.array([3, 0])))),
    "gauges": GaugeSplit(RNG.integers(0, 256, (N, 1, 4, 4), dtype=np.uint8), TARGETS),
    "arrays": ArraySplit(RNG.normal(size=(N, 5, 2)), TARGETS, True, *np.float32([[1, 2], [3, 4]])),
    "depth": DepthSplit(store(240, 320, 3), Codes(store(240, 320), ROWS[:3]), ROWS[:3], rotation_order=1),
}


def batches(split: Split) -> list[object]:
    """Return what the network is given of two epochs of training and one of evaluation."""
    loader = TrainLoader(split, 4, seed=3, views=2)
    made = [split.prepare(b.inputs, b.targets) for epoch in (0, 1) for b in loader.batches(epoch)]
    return [*made, *(split.prepare(inputs, None)[0] for _, inputs in eval_batches(split, 3))]


def assert_equal(one: Split, other: Split) -> None:
    torch.testing.assert_close(batches(one), batches(other), rtol=0, atol=0)


@pytest.mark.parametrize("name", SPLITS)
def test_batches_of_a_kept_split_are_those_of_the_split(name):
    split = SPLITS[name]
    mine = kept.kept(split, CPU)
    assert isinstance(mine, KeptSplit)
    inputs = mine.fetch(np.array([2, 0]), None)
    numbers = inputs if isinstance(inputs, torch.Tensor) else inputs[0]
    assert numbers.tolist() == [2, 0]  # all that a batch brings
    assert len(mine) == len(split)
    assert_equal(mine, split)


def test_a_plan_may_be_of_kept_samples():
    plan = Plan(*(np.array(column) for column in ([3, 1, 9], [4, 1, 0])), np.float32([0.3, 0, 0.8]), np.zeros(3, bool),
                np.zeros(3, np.int64), TARGETS[:3])  # fmt: skip
    assert_equal(*(ResampledSplit(split, plan, torch.zeros(1)) for split in (PICTURES, kept.kept(PICTURES, CPU))))


def test_keys_decide_where_samples_lie(monkeypatch, caplog):
    data = Data(PICTURES, SPLITS["some of them"], PICTURES)
    assert keep(data, CPU, "host") is keep(data, CPU, "auto") is data
    with caplog.at_level(logging.INFO, "dir_bench"):
        moved = keep(data, CPU, "device")
    assert (type(moved.train), type(moved.val), moved.test) == (KeptSplit, KeptSplit, PICTURES)
    assert [record.message.partition(":")[0] for record in caplog.records] == ["samples are kept on the device"]
    words = Data(*[SubsetSplit(object(), np.arange(2))] * 3)
    assert keep(words, CPU, "device") is words  # nothing of one shape to keep
    monkeypatch.setattr(kept, "available_memory", lambda: 100.0)
    with pytest.raises(UserError, match=r"set trainer\.samples_on=host"):
        keep(data, CPU, "device")


def test_a_run_is_the_same_wherever_its_samples_lie(tmp_path: Path):
    Arrays(str(tmp_path / "arrays")).sample(tmp_path / "arrays", n=200)
    folders = []
    for where in ("host", "device"):
        settings = config.compose(
            ["dataset=arrays", f"paths.data={tmp_path}", f"paths.outputs={tmp_path / where}", "trainer.epochs=2",
             "trainer.batch_size=64", "trainer.figures=false", "trainer.threads=1", "method=sqinv_lds_fds",
             f"trainer.samples_on={where}"]
        )  # fmt: skip
        folders.append(experiment.run(settings).folder)
    assert folders[0].name == folders[1].name  # one identity
    assert_same_run(*folders)
