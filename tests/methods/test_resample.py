"""SMOTER and SMOGN: plans worked by hand, against SciPy, and what holds for any training set."""

from collections.abc import Callable
from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from dir_bench.errors import UserError
from dir_bench.labels import TargetBins, relevance
from dir_bench.methods.resample import Plan, Settings, make_plan, nearest_neighbours

BINS = TargetBins.regular(0, 10, 1)
SMOTER, SMOGN = Settings(noise=False), Settings(noise=True)
Floats = np.ndarray


def plan_of(targets: Floats, inputs: Floats, chosen: Settings, seed: int = 0) -> Plan:
    counts = BINS.counts(targets)
    vectors: Callable[..., torch.Tensor] = lambda index: torch.from_numpy(inputs[index])  # noqa: E731
    return make_plan(targets, BINS, relevance(counts, counts), vectors, chosen, np.random.default_rng(seed))


# Bins 0 and 1 are one rare partition, bin 5 is common, bin 9 a rare partition of one sample.
TARGETS = np.array([5.5, 0.5, 5.5, 5.5, 5.5, 1.5, 5.5, 5.5, 5.5, 9.5, 5.5])
INPUTS = np.arange(11.0)[:, None] ** 2


def test_smoter_by_hand() -> None:
    # Relevance of bins 0, 1 and 9 is 8/11 = 0.73. Three partitions share 11 samples: 3.67 each, so 4 common ones are
    # kept, 2 samples join the 2 of the first partition, and 3 the one of the last.
    plan = plan_of(TARGETS, INPUTS, replace(SMOTER, threshold=0.7))
    assert len(plan) == 2 + 2 + 4 + 1 + 3
    assert plan.base[:2].tolist() == [1, 5]  # the rare ones, kept
    assert sorted(plan.base[2:4].tolist()) == [1, 5]  # one from each, with the other as its only neighbour
    assert plan.neighbour[2:4].tolist() == [6 - base for base in plan.base[2:4]]
    expected = {base: (0.5 if base == 1 else 1.5) for base in (1, 5)}
    for base, share, target in zip(plan.base[2:4], plan.share[2:4], plan.targets[2:4], strict=True):
        away = share if base == 1 else -share
        assert target == pytest.approx(expected[base] + away, abs=1e-6)
    common = plan.base[4:8].tolist()
    assert common == sorted(set(common))
    assert (TARGETS[common] == 5.5).all()
    assert plan.base[8:].tolist() == [9] * 4  # nothing to interpolate with: copies
    assert (plan.targets[8:] == 9.5).all()
    assert not plan.noisy.any()
    assert not plan.share[[0, 1, *range(4, 12)]].any()
    assert plan.summary() == "7 kept, 2 interpolated, 3 copied"


def test_the_target_is_the_distance_weighted_mean_of_both() -> None:
    plan = plan_of(TARGETS, INPUTS, replace(SMOTER, threshold=0.7))
    for i in (2, 3):
        x, (one, other) = INPUTS[:, 0], (plan.base[i], plan.neighbour[i])
        made = x[one] + plan.share[i] * (x[other] - x[one])
        to_one, to_other = abs(made - x[one]), abs(made - x[other])
        weighted = (to_other * TARGETS[one] + to_one * TARGETS[other]) / (to_one + to_other)  # Torgo et al. 2013
        assert plan.targets[i] == pytest.approx(weighted, rel=1e-6)


def test_smogn_interpolates_below_half_the_median_distance_and_else_adds_noise() -> None:
    # Distances from 0: 1, 10, 20, 30, (lower) median 10, so 5 is safe: neighbour 1 is. From 1: 1, 9, 19, 29, safe 4.5:
    # neighbour 0 is. From 10 the nearest is 9 away and 5 safe; from 20, 10 and 5; from 30, 10 and 10: none is closer.
    targets = np.concatenate([[0.1, 0.2, 0.3, 0.4, 0.5], np.full(40, 5.5)])
    inputs = np.concatenate([[0.0, 1.0, 10.0, 20.0, 30.0], np.zeros(40)])[:, None]
    plan = plan_of(targets, inputs, replace(SMOGN, neighbours=1, over=400))
    made = plan.base.size - 5 - np.count_nonzero(plan.base >= 5)
    assert made == 5 * 400
    for base, neighbour in ((0, 1), (1, 0)):
        between = (plan.base == base) & (plan.neighbour == neighbour)
        assert between.sum() == 400
        assert not plan.noisy[between].any()
    for base in (2, 3, 4):
        mine = plan.base == base
        assert plan.noisy[mine].sum() == 400
        assert (plan.neighbour[mine] == base).all()
        assert not plan.share[mine].any()
        noise = plan.targets[mine & plan.noisy] - targets[base]
        # 0.1 standard deviations of the partition's targets, which is sqrt(0.1 / 4); none below the least label.
        assert noise.std(ddof=1) == pytest.approx(0.1 * np.sqrt(0.025), rel=0.12)
    assert len(np.unique(plan.keys[plan.noisy])) == 1200


def test_noise_makes_no_target_beyond_those_of_training() -> None:
    targets = np.concatenate([[0.0, 0.9], np.full(30, 5.5)])
    plan = plan_of(targets, np.arange(32.0)[:, None], replace(SMOGN, perturbation=5.0, over=50))
    assert plan.noisy.sum() == 100
    assert (plan.targets.min(), plan.targets.max()) == (0.0, 5.5)


def test_sizes_can_be_set() -> None:
    targets = np.concatenate([np.full(10, 0.5), np.full(90, 5.5)])
    plan = plan_of(targets, np.arange(100.0)[:, None], replace(SMOTER, over=1.5, under=0.2))
    assert np.bincount(BINS.index(plan.targets)).tolist() == [25, 0, 0, 0, 0, 18]
    thin = plan_of(targets, np.arange(100.0)[:, None], replace(SMOTER, over=0, under=1e-9))
    assert np.bincount(BINS.index(thin.targets)).tolist() == [10, 0, 0, 0, 0, 1]


def test_bins_without_samples_do_not_divide_the_range() -> None:
    # Whole labels in bins of a half: every other bin is empty, and yet the common ones make one partition.
    bins = TargetBins.regular(0, 10, 0.5)
    targets = np.concatenate([np.repeat([3.0, 4.0, 5.0], 30), [8.0] * 10])
    counts = bins.counts(targets)
    vectors: Callable[..., torch.Tensor] = lambda index: torch.from_numpy(index[:, None])  # noqa: E731
    plan = make_plan(targets, bins, relevance(counts, counts), vectors, SMOTER, np.random.default_rng(0))
    assert (plan.targets == 8).sum() == 50
    assert (plan.targets < 8).sum() == 50


@pytest.mark.parametrize(("threshold", "word"), [(0.95, "no bin"), (1e-9, "every bin")])
def test_a_threshold_that_divides_nothing_is_refused_with_the_range(threshold: float, word: str) -> None:
    targets = np.array([0.5, 0.5, 5.5, 5.5, 5.5])
    rarity = np.full(10, 0.1) + 0.5 * (np.arange(10) == 0)
    with pytest.raises(UserError, match=rf"resample\.threshold={threshold:g} makes {word}.* from 0\.10 to 0\.60"):
        make_plan(targets, BINS, rarity, lambda index: torch.zeros(len(index), 1), replace(SMOTER, threshold=threshold),
                  np.random.default_rng(0))  # fmt: skip


skewed = st.integers(0, 2**32).map(
    lambda seed: np.clip(np.random.default_rng(seed).normal(5, 1.5, 200), 0, 10).astype(np.float32)
)


@settings(deadline=None, max_examples=40)
@given(skewed, st.booleans(), st.integers(0, 2**32), st.integers(1, 12))
def test_what_holds_for_any_training_set(targets: Floats, noise: bool, seed: int, k: int) -> None:
    inputs = np.random.default_rng(seed).normal(size=(200, 3))
    chosen = Settings(noise=noise, neighbours=k)
    plan = plan_of(targets, inputs, chosen, seed)
    counts = BINS.counts(targets)
    rare = relevance(counts, counts)[BINS.index(targets)] >= 0.8
    between = plan.neighbour != plan.base
    kept = ~between & ~plan.noisy
    # Rare samples are all kept, common ones at most once, and only rare ones have offspring.
    assert set(np.flatnonzero(rare)) <= set(plan.base[kept])
    assert len(set(plan.base[kept & ~rare[plan.base]])) == (kept & ~rare[plan.base]).sum()
    assert rare[plan.base[~kept]].all()
    assert rare[plan.neighbour[~kept]].all()
    assert (plan.targets[kept] == targets[plan.base[kept]]).all()
    ends = np.stack([targets[plan.base], targets[plan.neighbour]])[:, between]
    assert (plan.targets[between] >= ends.min(0)).all()
    assert (plan.targets[between] <= ends.max(0)).all()
    assert not (plan.noisy & between).any()
    assert noise or not plan.noisy.any()
    assert ((plan.share >= 0) & (plan.share <= 1) & ((plan.share == 0) | between)).all()
    again = plan_of(targets, inputs, chosen, seed)
    assert all(np.array_equal(getattr(plan, name), getattr(again, name)) for name in Plan.__dataclass_fields__)


def test_another_seed_is_another_plan() -> None:
    targets = np.clip(np.random.default_rng(0).normal(5, 1.5, 200), 0, 10)
    one, other = (plan_of(targets, targets[:, None], SMOGN, seed) for seed in (0, 1))
    assert not np.array_equal(one.targets, other.targets)


@pytest.mark.parametrize("block_bytes", [1, 4 * 300 * 7, 2**28])
def test_neighbours_are_those_of_a_tree_and_of_brute_force(block_bytes: int) -> None:
    vectors = np.random.default_rng(0).normal(100, 1, (300, 4)).astype(np.float32)
    found = nearest_neighbours(torch.from_numpy(vectors), 6, with_median=True, block_bytes=block_bytes)
    distances, indices = cKDTree(vectors).query(vectors, k=7)
    assert np.array_equal(found.indices, indices[:, 1:])
    assert found.distances == pytest.approx(distances[:, 1:], rel=1e-6)
    others = np.sort(cdist(vectors, vectors), axis=1)[:, 1:]
    assert found.median == pytest.approx(others[:, 149], rel=1e-5)  # the middle of 299


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_the_median_of_a_few_is_the_lower_one(n: int) -> None:
    line = np.arange(n)[:, None] ** 2.0
    found = nearest_neighbours(torch.from_numpy(line), 1, with_median=True).median
    assert found == pytest.approx([np.sort(np.abs(line - x)[:, 0])[1:][(n - 2) // 2] for x in line[:, 0]], rel=1e-5)


def test_a_twin_is_at_distance_nought() -> None:
    vectors = torch.randn(50, 3072) + 100
    vectors[7] = vectors[30]
    found = nearest_neighbours(vectors, 2)
    assert (found.indices[7, 0], found.distances[7, 0]) == (30, 0)
    assert (found.indices[30, 0], found.distances[30, 0]) == (7, 0)
    assert not (found.indices == np.arange(50)[:, None]).any()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_neighbours_on_a_gpu_are_those_on_the_cpu() -> None:
    vectors = torch.randn(2000, 64, generator=torch.Generator().manual_seed(0))
    here, there = (nearest_neighbours(vectors.to(device), 5, with_median=True) for device in ("cpu", "cuda"))
    assert np.array_equal(here.indices, there.indices)
    assert there.median == pytest.approx(here.median, rel=1e-4)


def test_neighbours_of_near_vectors_are_exact_beside_one_that_is_far_away():
    line = np.append(np.arange(200) * 5e-6, 30)[:, None].astype(np.float32)
    apart = np.abs(line - line.T.astype(np.float64))
    np.fill_diagonal(apart, np.inf)
    found = nearest_neighbours(torch.from_numpy(line), 1, with_median=True)
    np.testing.assert_array_equal(np.take_along_axis(apart, found.indices, 1)[:, 0], apart.min(1))
    np.testing.assert_allclose(found.median, np.sort(apart)[:, 99], rtol=1e-4)
