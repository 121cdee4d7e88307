"""Count, mean and variance by label, added up batch by batch."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dir_bench.labels.bins import TargetBins
from dir_bench.methods import fds_moments
from dir_bench.methods.fds_moments import GroupMoments, LabelSlots, Moments


def clamped(rows: int) -> LabelSlots:
    return LabelSlots(0, rows - 1, None, "clamp")


def test_two_samples_by_hand() -> None:
    # bin 1: 2 and 6 -> mean 4, unbiased variance ((-2)^2 + 2^2) / 1 = 8; bin 0: one sample; bin 2: none
    moments = Moments(clamped(3), 1)
    moments.add(torch.tensor([[2.0], [5.0], [6.0]]), torch.tensor([1.0, 0.0, 1.0]))
    count, mean, variance = moments.by_row()
    assert count.tolist() == [1, 2, 0]
    assert mean.squeeze(1).tolist() == [5.0, 4.0, 0.0]
    assert variance.squeeze(1).tolist() == [0.0, 8.0, 0.0]


@settings(deadline=None, max_examples=50)
@given(cuts=st.lists(st.integers(0, 60), max_size=6), seed=st.integers(0, 99), offset=st.sampled_from([0.0, 1e4]))
def test_any_split_into_batches_gives_the_statistics_of_all(cuts, seed, offset) -> None:
    rng = np.random.default_rng(seed)
    features = torch.from_numpy(rng.normal(size=(60, 3)) + offset).float()
    labels = torch.from_numpy(rng.integers(-2, 9, 60))
    slots = LabelSlots(0, 6, None, "absorb_if_present")
    at_once, by_batch = Moments(slots, 3), Moments(slots, 3)
    at_once.add(features, labels)
    bounds = [0, *sorted(cuts), 60]
    for start, stop in itertools.pairwise(bounds):
        by_batch.add(features[start:stop], labels[start:stop])
    for got, expected in zip(by_batch.by_row(), at_once.by_row(), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)


def test_variance_survives_a_large_mean() -> None:
    x = (np.random.default_rng(0).normal(size=(1000, 2)) + 1e5).astype(np.float32)
    moments = GroupMoments(1, 2)
    moments.add_groups(torch.from_numpy(x), torch.zeros(1000, dtype=torch.int64))
    expected = x.astype(np.float64).var(0, ddof=1)
    np.testing.assert_allclose(moments.variance[0].numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.1, 1 / 3, 12345.678, -1e-20])
@pytest.mark.parametrize("labels", [(0, 0, 0), (1, -1, 0), (5, 2, 2)])
def test_a_constant_column_has_variance_zero_exactly(value, dtype, labels) -> None:
    moments = Moments(LabelSlots(0, 2, None, "absorb_if_present"), 2)
    for batch in torch.full((999, 2), value, dtype=dtype).split(100):
        moments.add(batch, torch.tensor(labels).repeat(34)[: len(batch)])
    assert (moments.by_row()[2] == 0).all()


class Processes:
    """Sums over processes that run in threads."""

    def __init__(self, number: int) -> None:
        self.barrier = threading.Barrier(number)
        self.given: dict[int, torch.Tensor] = {}

    def all_reduce(self, rank: int, tensor: torch.Tensor) -> torch.Tensor:
        self.given[rank] = tensor
        self.barrier.wait()
        total = sum(self.given[r] for r in sorted(self.given))
        self.barrier.wait()
        return total


def reduce_in_threads(parts: list[Moments]) -> None:
    processes = Processes(len(parts))
    with ThreadPoolExecutor(len(parts)) as pool:
        jobs = [pool.submit(part.reduce, partial(processes.all_reduce, rank)) for rank, part in enumerate(parts)]
        for job in jobs:
            job.result(timeout=60)


def test_reduce_pools_processes() -> None:
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.normal(size=(90, 4)) + 50).float()
    features[:, 3] = 0.1
    labels = torch.from_numpy(rng.integers(-1, 6, 90))
    slots = LabelSlots(0, 4, None, "absorb_if_present")
    parts = [Moments(slots, 4) for _ in range(3)]
    for part, x, y in zip(parts, features.split([10, 50, 30]), labels.split([10, 50, 30]), strict=True):
        part.add(x, y)
    reduce_in_threads(parts)
    whole = Moments(slots, 4)
    whole.add(features, labels)
    for part in parts:
        for got, expected in zip(part.by_row(), whole.by_row(), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)
        assert (part.by_row()[2][:, 3] == 0).all()


def test_adding_goes_on_after_reduce() -> None:
    x, y = torch.randn(40, 2), torch.zeros(40)
    part, whole = Moments(clamped(1), 2), Moments(clamped(1), 2)
    part.add(x[:25], y[:25])
    part.reduce(lambda tensor: tensor)
    part.add(x[25:], y[25:])
    whole.add(x, y)
    for got, expected in zip(part.by_row(), whole.by_row(), strict=True):
        torch.testing.assert_close(got, expected)


def test_outer_labels_wait_for_their_edge_label() -> None:
    slots = LabelSlots(3, 5, None, "absorb_if_present")
    moments = Moments(slots, 1)
    moments.add(torch.tensor([[1.0], [2.0], [9.0]]), torch.tensor([1.0, 4.0, 7.0]))
    assert moments.by_row()[0].tolist() == [0, 1, 0]
    moments.add(torch.tensor([[3.0]]), torch.tensor([3.0]))  # a later batch of the same epoch
    count, mean, variance = moments.by_row()
    assert count.tolist() == [2, 1, 0]
    assert (mean[0].item(), variance[0].item()) == (2.0, 2.0)  # of 1 and 3


def test_a_fraction_above_the_edge_label_is_not_the_edge_label() -> None:
    slots = LabelSlots(3, 5, None, "absorb_if_present")
    moments = Moments(slots, 1)
    moments.add(torch.ones(3, 1), torch.tensor([1.0, 3.5, 5.5]))
    assert moments.by_row()[0].tolist() == [1, 0, 0]


@pytest.mark.parametrize("bins", [None, TargetBins.regular(0, 4, 1)])
@pytest.mark.parametrize("edges", ["clamp", "absorb_if_present"])
def test_nan_is_no_label(bins, edges) -> None:
    moments = Moments(LabelSlots(0, 3, bins, edges), 1)
    moments.add(torch.tensor([[torch.nan], [1.0]]), torch.tensor([torch.nan, 2.0]))
    count, mean, variance = moments.by_row()
    assert count.tolist() == [0, 0, 1, 0]
    assert mean.squeeze(1).tolist() == [0, 0, 1, 0]
    assert (variance == 0).all()


def test_pixels_are_counted_one_by_one() -> None:
    features, labels = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 1, 4, 5)).float()
    dense, flat = Moments(clamped(3), 3), Moments(clamped(3), 3)
    dense.add(features, labels)
    flat.add(features.permute(0, 2, 3, 1).reshape(-1, 3), labels.reshape(-1))
    for got, expected in zip(dense.by_row(), flat.by_row(), strict=True):
        torch.testing.assert_close(got, expected)


def test_half_precision_is_summed_in_float64() -> None:
    x = torch.randn(5000, 2).to(torch.bfloat16)
    moments = Moments(clamped(1), 2)
    moments.add(x, torch.zeros(5000))
    assert moments.by_row()[1].dtype == torch.float64
    torch.testing.assert_close(moments.by_row()[1][0], x.double().mean(0))


def test_an_infinite_feature_stays_in_its_bin() -> None:
    moments = Moments(clamped(2), 1)
    moments.add(torch.tensor([[1.0], [torch.inf], [2.0]]), torch.tensor([0.0, 1.0, 0.0]))
    assert moments.by_row()[1][0].item() == 1.5


def product_on(monkeypatch: pytest.MonkeyPatch, *, rows: int) -> None:
    """Let the CPU add as a GPU does, so few rows at a time."""
    monkeypatch.setattr(fds_moments, "BY_PRODUCT", ("cpu", "cuda"))
    monkeypatch.setattr(fds_moments, "PRODUCT_BYTES", rows * 8 * (3 + 9))
    monkeypatch.setattr(fds_moments, "MEMBERS_BYTES", 2 * rows * 9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_a_product_adds_what_index_add_does(dtype, offset, monkeypatch) -> None:
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.normal(size=(100, 3)) + offset).to(dtype)
    features[:, 1] = 0.1
    labels = torch.from_numpy(rng.integers(-2, 8, 100)).float()
    labels[40:50] = torch.nan
    slots = LabelSlots(0, 5, None, "absorb_if_present")
    by_index, by_product = Moments(slots, 3), Moments(slots, 3)
    by_index.add(features.double(), labels)  # whose differences are not rounded, as those of a product
    expected = by_index.by_row()
    product_on(monkeypatch, rows=7)
    for x, y in zip(features.split(30), labels.split(30), strict=True):
        by_product.add(x, y)
        by_product.settle()
    for got, right in zip(by_product.by_row(), expected, strict=True):
        torch.testing.assert_close(got, right, rtol=1e-9, atol=1e-12)
    assert (by_product.by_row()[2][:, 1] == 0).all()


def test_what_is_not_finite_stays_in_its_bin_of_a_product(monkeypatch) -> None:
    product_on(monkeypatch, rows=2)
    moments = Moments(clamped(3), 1)
    moments.add(torch.tensor([[1.0], [torch.inf], [2.0], [torch.nan], [3.0]]), torch.tensor([0.0, 1.0, 0.0, 2.0, 2.0]))
    _, mean, variance = moments.by_row()
    assert (mean[0].item(), variance[0].item()) == (1.5, 0.5)
    assert not mean[1:].float().isfinite().any()  # as the tables of FDS have it


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_adds_the_same_bits_each_time_in_little_memory(never_waiting) -> None:
    features, labels = torch.randn(8192, 2048, device="cuda"), torch.randint(0, 100, (8192,), device="cuda").float()

    def added() -> Moments:
        moments = Moments(clamped(97), 2048, "cuda")
        for x, y in zip(features.split(256), labels.split(256), strict=True):
            moments.add(x, y)
        moments.settle()
        return moments

    first = added()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    with never_waiting():
        second = added()
    assert torch.cuda.max_memory_allocated() - before < 64 * 2**20
    for one, other in zip(first.by_row(), second.by_row(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_state_dict_continues_an_epoch() -> None:
    x, y = torch.randn(30, 2), torch.arange(30) % 3
    straight, first = Moments(clamped(3), 2), Moments(clamped(3), 2)
    straight.add(x[:10], y[:10])
    first.add(x[:10], y[:10])
    state, second = first.state_dict(), Moments(clamped(3), 2)
    first.add(x, y)  # must not reach the saved state
    second.load_state_dict(state)
    for moments in (straight, second):
        moments.add(x[10:], y[10:])
    for got, expected in zip(second.by_row(), straight.by_row(), strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_state_of_another_fds_is_refused() -> None:
    with pytest.raises(ValueError, match=r"count is \(8,\), should be \(6,\)"):
        Moments(clamped(3), 2).load_state_dict(Moments(clamped(5), 2).state_dict())
    with pytest.raises(ValueError, match="count is missing"):
        Moments(clamped(3), 2).load_state_dict({})


@pytest.mark.parametrize(
    ("features", "labels"), [((4, 2), (3,)), ((4, 2), (4, 2)), ((2, 3, 4, 4), (2, 2, 2)), ((4,), (4,))]
)
def test_shapes_that_do_not_belong_together_are_refused(features, labels) -> None:
    with pytest.raises(ValueError, match="go with labels"):
        Moments(clamped(3), 2).add(torch.zeros(features), torch.zeros(labels))


def test_an_empty_batch_adds_nothing() -> None:
    moments = Moments(clamped(3), 2)
    moments.add(torch.zeros(0, 2), torch.zeros(0))
    assert moments.by_row()[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("bins", "first", "last", "found"),
    [
        (None, 2, 5, (2, 5)),
        (TargetBins.regular(0, 10, 0.1, first=7), None, None, (7, 99)),
        (TargetBins.regular(0, 5, 1), None, 3, (0, 3)),
    ],
)
def test_rows_default_to_the_bins_in_use(bins, first, last, found) -> None:
    slots = LabelSlots.over(bins, first, last, "clamp")
    assert (slots.first, slots.last) == found


@pytest.mark.parametrize(
    ("bins", "first", "last"), [(None, None, 5), (None, 5, 4), (TargetBins.regular(0, 5, 1), 0, 5)]
)
def test_a_range_that_is_none_is_refused(bins, first, last) -> None:
    with pytest.raises(ValueError, match=r"FDS.*first"):
        LabelSlots.over(bins, first, last, "clamp")
