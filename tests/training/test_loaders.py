"""Batches: every sample once, the same for a seed and epoch, shared out over processes without loss."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dir_bench.datasets.base import ScalarTargets
from dir_bench.streams import stream, stream_seed
from dir_bench.training.loaders import TrainLoader, epoch_batches, eval_batches


class Numbers(ScalarTargets):
    """A split whose inputs are the sample numbers."""

    def __init__(self, n: int, lengths: np.ndarray | None = None) -> None:
        self.targets = np.arange(n, dtype=np.float32)
        self.lengths = lengths

    def __len__(self) -> int:
        return len(self.targets)

    def fetch(self, indices, rng):
        noise = 0 if rng is None else rng.normal(size=len(indices))
        return torch.from_numpy(indices + noise)


@settings(deadline=None)
def shuffled(n: int, batch: int, seed: int, lengths: np.ndarray | None = None) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return epoch_batches(rng.permutation(n), batch, rng, lengths)


@given(n=st.integers(1, 300), batch=st.integers(1, 64), seed=st.integers(0, 5), ragged=st.booleans())
def test_every_sample_comes_once_an_epoch(n, batch, seed, ragged):
    lengths = np.random.default_rng(seed).integers(1, 30, n) if ragged else None
    batches = shuffled(n, batch, seed, lengths)
    assert sorted(np.concatenate(batches).tolist()) == list(range(n))
    assert len(batches) == -(-n // batch)
    assert all(len(b) <= batch for b in batches)


def test_bucketed_batches_hold_like_lengths():
    lengths = np.random.default_rng(0).integers(1, 60, 4096)
    batches = shuffled(4096, 64, 1, lengths)
    padded = sum(len(b) * lengths[b].max() for b in batches)
    plain = sum(len(b) * lengths[b].max() for b in shuffled(4096, 64, 1))
    assert padded < 1.05 * lengths.sum()
    assert plain > 1.8 * lengths.sum()


@settings(deadline=None)
@given(n=st.integers(1, 100), batch=st.integers(1, 20), world=st.integers(1, 4))
def test_processes_share_a_batch_without_loss(n, batch, world):
    loaders = [TrainLoader(Numbers(n), batch, 0, True, rank, world) for rank in range(world)]
    for parts in zip(*[loader.batches(3) for loader in loaders], strict=True):
        real = [part for part in parts if not part.padding]
        assert sum(len(part.targets) for part in real) == parts[0].size
    seen = [t for loader in loaders for b in loader.batches(3) if not b.padding for t in b.targets.tolist()]
    assert sorted(seen) == list(range(n))


def test_batches_from_the_middle_are_those_of_the_whole_epoch():
    loader = TrainLoader(Numbers(50), 8, seed=4)
    whole = list(loader.batches(2))
    late = list(loader.batches(2, first=3))
    assert [b.number for b in late] == [3, 4, 5, 6]
    for a, b in zip(whole[3:], late, strict=True):
        assert torch.equal(a.inputs, b.inputs)
        assert torch.equal(a.targets, b.targets)


@pytest.mark.parametrize("workers", [1, 3, 50])
def test_threads_that_fetch_ahead_change_nothing(workers):
    alone = list(TrainLoader(Numbers(100), 7, seed=4).batches(1, first=2))
    helped = list(TrainLoader(Numbers(100), 7, seed=4, workers=workers).batches(1, first=2))
    assert [b.number for b in alone] == [b.number for b in helped]
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(alone, helped, strict=True))


def test_an_error_while_fetching_ahead_reaches_the_training_loop():
    class Broken(Numbers):
        def fetch(self, indices, rng):
            raise OSError("corrupt picture")

    with pytest.raises(OSError, match="corrupt picture"):
        next(TrainLoader(Broken(100), 7, seed=4, workers=2).batches(0))


def test_epochs_and_seeds_have_orders_of_their_own():
    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(TrainLoader(Numbers(100), 10, seed).order(epoch)).tolist()

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("ragged", [False, True])
def test_evaluation_takes_every_sample_once_over_all_processes(world, ragged):
    split = Numbers(23, np.arange(23)[::-1].copy() if ragged else None)
    seen = [i for rank in range(world) for index, _ in eval_batches(split, 4, rank, world) for i in index.tolist()]
    assert sorted(seen) == list(range(23))


def test_streams_of_different_purposes_differ():
    names = ("init", "order", "augment", "dropout")
    assert len({stream_seed(0, name, 1) for name in names} | {stream_seed(0, "init", 11)}) == 5
    assert stream(3, "order", 1).random() == stream(3, "order", 1).random()
    assert 0 <= stream_seed(0, "order") < 2**63
