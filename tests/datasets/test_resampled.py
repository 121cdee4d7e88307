"""A resampled training split over every kind of input: what is blended, what is left alone, what is refused."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dir_bench import assembly, config
from dir_bench.backbones.bilstm import BiLSTMPair
from dir_bench.datasets.arrays import Arrays, ArraySplit
from dir_bench.datasets.base import Data
from dir_bench.datasets.images import Images
from dir_bench.datasets.resampled import ResampledSplit, resampled
from dir_bench.datasets.sts_b import STSB
from dir_bench.errors import UserError
from dir_bench.labels import TargetBins
from dir_bench.methods.resample import Settings
from dir_bench.schema import Config
from dir_bench.task import Task

SMALL = {
    "gauge": ["dataset.source.n_train=600"],
    "arrays": ["backbone.hidden=[8]"],
    "images": ["dataset.source.size=40", "backbone=resnet18"],
    "sts_b": ["backbone=bilstm_small"],
}
Loaded = tuple[Config, Data, Data]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    Arrays(str(root / "arrays")).sample(root / "arrays", n=400)
    Images(str(root / "images")).sample(root / "images", n=120)
    STSB(str(root / "sts_b")).sample(root / "sts_b", n=200)
    return root


@pytest.fixture
def load(folder: Path) -> Callable[..., Loaded]:
    """Return what makes (config, data, data with the training split resampled) of a dataset's name and overrides."""

    def loading(name: str, *overrides: str) -> Loaded:
        chosen = config.compose([f"dataset={name}", *SMALL[name], f"paths.data={folder}", "method=smogn", *overrides])
        data = config.build(chosen.dataset.source).load()
        return chosen, data, assembly.train_on(data, assembly.build_network(chosen, data), torch.device("cpu"))

    return loading


def rarity_of(chosen: Config, data: Data) -> np.ndarray:
    return assembly.build_network(chosen, data).resample.rarity


def prepared(split: ResampledSplit, indices: Any, rng: np.random.Generator | None = None) -> Any:
    inputs, _ = split.prepare(split.fetch(np.asarray(indices), rng), None)
    return inputs


@pytest.mark.parametrize("name", SMALL)
def test_validation_test_and_regions_are_untouched(load: Callable[..., Loaded], name: str) -> None:
    chosen, before, after = load(name)
    again = config.build(chosen.dataset.source).load()
    assert after.val is before.val
    assert after.test is before.test
    assert isinstance(after.train, ResampledSplit)
    assert after.train.split is before.train
    assert np.array_equal(before.train.targets, again.train.targets)
    rare = rarity_of(chosen, before) >= 0.8
    bins = Task.of(chosen, before.train.label_counts).bins
    share = [rare[bins.index(split.targets)].mean() for split in (before.train, after.train)]
    assert 0 < share[0] <= 0.2 < 0.35 < share[1]


@pytest.mark.parametrize("name", SMALL)
def test_the_same_plan_and_samples_come_out_again(load: Callable[..., Loaded], name: str) -> None:
    one, two = (load(name)[2].train for _ in range(2))
    assert np.array_equal(one.plan.base, two.plan.base)
    assert np.array_equal(one.plan.neighbour, two.plan.neighbour)
    assert np.array_equal(one.targets, two.targets)
    assert torch.equal(one.scale, two.scale)
    other = load(name, "seed=1")[2].train
    assert not np.array_equal(one.targets, other.targets)


@pytest.mark.parametrize("name", ["gauge", "arrays", "images"])
def test_a_sample_is_the_same_in_any_batch_and_originals_are_what_they_were(
    load: Callable[..., Loaded], name: str
) -> None:
    _, before, after = load(name)
    split, plan = after.train, after.train.plan
    chosen = np.random.default_rng(0).permutation(len(split))[:60]
    together = prepared(split, chosen)
    alone = torch.cat([prepared(split, [index]) for index in chosen])
    assert torch.equal(together, alone)
    inputs = before.train.prepare(before.train.fetch(plan.base[chosen], None), None)[0]
    kept = torch.from_numpy(~plan.noisy[chosen] & (plan.neighbour[chosen] == plan.base[chosen]))
    assert torch.equal(together[kept], inputs[kept])
    assert together.dtype == inputs.dtype
    changed = (together[~kept] != inputs[~kept]).flatten(1).any(1)
    assert kept.any()
    assert changed.float().mean() > 0.9


def test_vectors_are_interpolated_as_their_targets_are(load: Callable[..., Loaded]) -> None:
    _, before, after = load("arrays", "resample=smoter")
    split, plan = after.train, after.train.plan
    between = np.flatnonzero(plan.neighbour != plan.base)
    one, other = (before.train.inputs[part[between]].astype(np.float64) for part in (plan.base, plan.neighbour))
    share = plan.share[between].astype(np.float64)[:, None]
    assert prepared(split, between).numpy() == pytest.approx((1 - share) * one + share * other, abs=1e-6)
    # As nearest neighbours of a smooth function, they fit it as well as real ones: targets are no mere labels.
    ends = np.stack([before.train.targets[plan.base[between]], before.train.targets[plan.neighbour[between]]])
    assert np.abs(ends[0] - ends[1]).mean() < 2


def test_noise_on_vectors_is_a_tenth_of_the_spread_of_rare_ones() -> None:
    rng = np.random.default_rng(0)
    spread = np.array([1.0, 10.0, 0.0])
    inputs = (rng.normal(size=(400, 3)) * spread + 5).astype(np.float32)
    targets = np.repeat([2.5, 7.5], [360, 40]).astype(np.float32)
    bins = TargetBins.regular(0, 10, 1)
    split = resampled(
        ArraySplit(inputs, targets), bins, (np.arange(10) > 5).astype(float), Settings(True, neighbours=40, over=50.0),
        np.random.default_rng(0), backbone=nn.Identity(), device=torch.device("cpu"), size=32,
    )  # fmt: skip
    noisy = np.flatnonzero(split.plan.noisy)
    assert len(noisy) > 1000
    noise = prepared(split, noisy).numpy() - inputs[split.plan.base[noisy]]
    assert noise.std(0) == pytest.approx(0.1 * inputs[targets > 5].std(0), rel=0.15)
    assert not noise[:, 2].any()


def test_both_pictures_of_a_pair_are_cropped_and_mirrored_alike(load: Callable[..., Loaded]) -> None:
    _, before, after = load("images", "resample=smoter")
    split, plan = after.train, after.train.plan
    index = np.flatnonzero(plan.neighbour != plan.base)[:16]
    rng = np.random.default_rng(3)
    blended = prepared(split, index, copy.deepcopy(rng))
    one, other = (
        before.train.prepare(before.train.fetch(part[index], copy.deepcopy(rng)), None)[0]
        for part in (plan.base, plan.neighbour)
    )
    share = torch.from_numpy(plan.share[index]).view(-1, 1, 1, 1)
    torch.testing.assert_close(blended, (1 - share) * one + share * other)
    assert not torch.equal(blended, prepared(split, index))


def test_sentences_are_mixed_word_vector_by_word_vector(load: Callable[..., Loaded]) -> None:
    chosen, before, after = load("sts_b", "resample=smoter")
    network = assembly.build_network(chosen, before).backbone.eval()
    assert isinstance(network, BiLSTMPair)
    split, plan = after.train, after.train.plan
    index = np.flatnonzero(plan.neighbour != plan.base)[:8]
    words, lengths = network.embed(prepared(split, index))
    for row, i in enumerate(index):
        for half, part in enumerate(before.train.columns):
            (one, n), (other, m) = (part.batch(np.array([ends[i]])) for ends in (plan.base, plan.neighbour))
            longer = max(n[0], m[0])
            vectors = torch.zeros(2, longer, 128)
            vectors[0, : n[0]] = network.embedding(torch.from_numpy(one))[0]
            vectors[1, : m[0]] = network.embedding(torch.from_numpy(other))[0]
            place = row + half * len(index)
            expected = (1 - plan.share[i]) * vectors[0] + plan.share[i] * vectors[1]
            torch.testing.assert_close(words[place, :longer], expected)
            assert not words[place, longer:].any()
            assert lengths[place] == longer
    assert split.lengths is not None
    assert split.lengths[index].tolist() == [
        max(before.train.lengths[plan.base[i]], before.train.lengths[plan.neighbour[i]]) for i in index
    ]


def test_pairs_have_the_same_features_in_any_batch(load: Callable[..., Loaded]) -> None:
    chosen, before, after = load("sts_b", "resample.perturbation=0.5")
    network = assembly.build_network(chosen, before).backbone.eval()
    split = after.train
    noisy = np.flatnonzero(split.plan.noisy)[:5]
    index = np.concatenate([np.arange(5), noisy])
    with torch.no_grad():
        together = network(prepared(split, index))
        alone = torch.cat([network(prepared(split, [i])) for i in index])
        plain = network(before.train.fetch(split.plan.base[index], None))
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(together[:5], plain[:5], rtol=0, atol=1e-5)
    assert ((together[5:] - plain[5:]).abs().amax(1) > 1e-2).all()


def test_gradients_reach_the_words_of_both_ends(load: Callable[..., Loaded]) -> None:
    chosen, before, after = load("sts_b", "resample=smoter")
    network = assembly.build_network(chosen, before).backbone
    split, plan = after.train, after.train.plan
    index = np.flatnonzero(plan.neighbour != plan.base)[:1]
    network(prepared(split, index)).sum().backward()
    touched = network.embedding.weight.grad.abs().sum(1) > 0
    words = {int(w) for ends in (plan.base, plan.neighbour) for part in before.train.columns
             for w in part.batch(ends[index])[0].ravel()}  # fmt: skip
    assert set(torch.nonzero(touched).ravel().tolist()) == words - {0}


def test_distances_between_pictures_are_those_of_shrunk_ones(load: Callable[..., Loaded]) -> None:
    fine, coarse = (load("gauge", "resample=smoter", f"resample.size={size}")[2].train.plan for size in (32, 2))
    assert np.array_equal(fine.base, coarse.base)
    assert not np.array_equal(fine.neighbour, coarse.neighbour)


def test_dense_targets_and_inputs_of_no_shape_are_refused() -> None:
    class Nights(ArraySplit):
        def fetch(self, indices: Any, rng: Any) -> Any:
            return {"eeg": torch.zeros(len(indices), 3), "lengths": np.ones(len(indices))}

    bins, rarity = TargetBins.regular(0, 10, 1), (np.arange(10) > 5).astype(float)
    targets = np.array([1.0, 7.0, 7.5], np.float32)
    given = {"backbone": nn.Identity(), "device": torch.device("cpu"), "size": 32}
    nights = Nights(np.zeros((3, 2), np.float32), targets)
    dense = ArraySplit(np.zeros((3, 2), np.float32), np.zeros((3, 4, 4), np.float32))
    for split, message in ((nights, "cannot be interpolated; set resample=none"), (dense, "one target a sample")):
        with pytest.raises(UserError, match=message):
            resampled(split, bins, rarity, Settings(True), np.random.default_rng(0), **given)


def test_lds_decides_what_is_rare(load: Callable[..., Loaded]) -> None:
    chosen, before, _ = load("gauge")
    task = Task.of(chosen, before.train.label_counts)
    plain = rarity_of(chosen, before)
    chosen.lds.name = "gaussian"
    smoothed = rarity_of(chosen, before)

    def partitions(rarity: np.ndarray) -> int:
        return 1 + np.count_nonzero(np.diff((rarity[task.counts > 0] >= 0.8).astype(int)))

    assert partitions(smoothed) < partitions(plain)  # no bin is rare by the accident of its own count
