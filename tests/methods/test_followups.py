"""The methods that came after the paper: each against its definition written as plain loops, and by hand."""

import math
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from run_helpers import assert_same_run, history, stop_after
from scipy.stats import gaussian_kde, rankdata
from torch import nn

from dir_bench import config, experiment
from dir_bench.assembly import build_network, parameter_groups
from dir_bench.datasets.arrays import Arrays
from dir_bench.errors import UserError
from dir_bench.interrupt import Interrupted
from dir_bench.labels import TargetBins, dense
from dir_bench.methods import balanced_mse, bsam, dense_weight, dist_loss, uvote
from dir_bench.methods.ordinal_entropy import ordinal_entropy
from dir_bench.methods.part import Facts, Step
from dir_bench.methods.rank_n_contrast import rank_n_contrast
from dir_bench.methods.ranksim import one_of_each, ranks, ranksim
from dir_bench.schema import Config

BINS = TargetBins.regular(0, 10, 1)


def facts(targets: np.ndarray, scale: float = 1.0) -> Facts:
    return Facts(BINS, BINS.counts(targets), targets.astype(np.float32), scale, 3, nn.Identity())


def batch(seed: int, n: int = 12, d: int = 3, repeats: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, n).astype(float) if repeats else rng.permutation(n).astype(float) ** 1.5
    return torch.from_numpy(rng.normal(size=(n, d))), torch.from_numpy(labels)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 999), st.booleans())
def test_rank_n_contrast_is_the_mean_over_pairs_of_its_definition(seed, repeats):
    features, labels = batch(seed, 9, repeats=repeats)
    near = -(features[:, None] - features).norm(dim=2) / 0.7
    apart = (labels[:, None] - labels).abs()
    expected = []
    for i in range(9):
        others = [j for j in range(9) if j != i]
        terms = [
            near[i, k] - torch.stack([near[i, j] for j in others if apart[i, j] >= apart[i, k]]).logsumexp(0)
            for k in others
        ]
        expected.append(-torch.stack(terms).mean())
    torch.testing.assert_close(rank_n_contrast(features, labels[:, None], 0.7), torch.stack(expected))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 999))
def test_ranksim_on_what_is_kept_is_ranksim_of_that_alone(seed):
    features, labels = batch(seed)
    order = labels.argsort(stable=True)
    features, labels = features[order].requires_grad_(), labels[order]
    kept = one_of_each(labels, torch.from_numpy(np.random.default_rng(seed).permutation(len(labels))))
    assert sorted(labels[kept].tolist()) == sorted(set(labels.tolist()))
    alone = features.detach()[kept].requires_grad_()
    ranksim(alone, labels[kept]).backward()
    together = ranksim(features, labels, kept=kept)
    together.backward()
    torch.testing.assert_close(together, ranksim(alone, labels[kept]))
    torch.testing.assert_close(features.grad[kept], alone.grad)
    assert not features.grad[~kept].any()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 999))
def test_ranks_are_those_of_scipy_where_nothing_ties(seed):
    values = torch.from_numpy(np.random.default_rng(seed).normal(size=(4, 7)))
    expected = rankdata(-values.numpy(), axis=1) / 7
    np.testing.assert_allclose(ranks(values), expected)


@pytest.mark.parametrize("scaled", [False, True])
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 999))
def test_ordinal_entropy_is_its_definition(scaled, seed):
    features, labels = batch(seed)
    distinct = sorted(set(labels.tolist()))
    centers = {k: nn.functional.normalize(features[labels == k].mean(0), dim=0) for k in distinct}
    pairs = [(a, b) for i, a in enumerate(distinct) for b in distinct[i + 1 :]]
    apart = np.array([b - a for a, b in pairs])
    if scaled and len(pairs):
        apart = apart - apart.min()
        apart = apart / max(apart.max(), 1e-12)
    far = np.array([float((centers[a] - centers[b]).norm()) for a, b in pairs])
    off = [
        float((nn.functional.normalize(f, dim=0) - centers[float(y)]).norm())
        for f, y in zip(features, labels, strict=True)
    ]
    off = [distance for distance in off if distance > 1e-6]
    spread, tight = (
        ordinal_entropy(features, labels, scaled=scaled, **{other: 0.0}) for other in ("tightness", "spread")
    )
    assert spread.item() == pytest.approx(-np.mean(apart * far) if len(pairs) else 0, rel=1e-6, abs=1e-9)
    assert tight.item() == pytest.approx(np.mean(off) if off else 0, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("scaled", [False, True])
def test_the_gradient_of_ordinal_entropy_is_that_of_its_values(scaled):
    torch.manual_seed(0)
    features = torch.randn(12, 5, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([1.0, 1, 2, 2, 2, 5, 5, 9, 9, 9, 9, 9.5], dtype=torch.float64)
    for weights in ((1.0, 0.0), (0.0, 1.0), (0.3, 2.0)):
        given = dict(zip(("spread", "tightness"), weights, strict=True)) | {"scaled": scaled}
        assert torch.autograd.gradcheck(lambda x: 3 * ordinal_entropy(x, labels, **given), features)  # noqa: B023


def test_a_batch_of_one_label_has_no_spread_and_a_gradient_that_is_finite():
    features = torch.randn(4, 3, requires_grad=True)
    ordinal_entropy(features, torch.ones(4)).backward()
    assert ordinal_entropy(features, torch.ones(4), tightness=0).item() == 0
    assert features.grad.isfinite().all()


def test_dense_weights_are_those_of_a_plain_estimate_with_mean_1():
    rng = np.random.default_rng(0)
    labels = np.concatenate([rng.normal(0, 1, 300), rng.normal(6, 0.5, 40)])
    grid, weights = dense.dense_weights(labels)
    factor = 1.06 * labels.std() * len(labels) ** -0.2 / labels.std(ddof=1)
    density = gaussian_kde(labels, factor)(grid)
    scaled = (density - density.min()) / (density.max() - density.min())
    expected = np.maximum(1 - scaled, 1e-6)
    np.testing.assert_allclose(weights / weights.max(), expected / expected.max(), rtol=1e-6, atol=1e-9)
    part = dense_weight.DenseWeight(facts(labels))
    assert part.weigh(torch.from_numpy(labels)).mean().item() == pytest.approx(1, rel=1e-5)
    assert part.weigh(torch.tensor([-99.0, 99.0])).isfinite().all()
    assert (dense.dense_weights(labels, alpha=0)[1] == 1).all()


def test_what_is_fitted_to_labels_takes_bins_for_them_where_pixels_have_some():
    """There the split keeps codes of depths, which are no array."""
    counts = np.array([0, 3, 40, 9, 1, 0, 0, 2, 0, 0])
    pixels = Facts(BINS, counts, None, 1.0, 3, nn.Identity(), dense=True)
    as_labels = facts(np.repeat(BINS.centers, counts))
    here, there = dense_weight.DenseWeight(pixels), dense_weight.DenseWeight(as_labels)
    torch.testing.assert_close(here.weigh(torch.arange(10.0)), there.weigh(torch.arange(10.0)), rtol=1e-4, atol=1e-5)
    for name, buffer in balanced_mse.GAI(pixels, components=3).named_buffers():
        torch.testing.assert_close(buffer, dict(balanced_mse.GAI(as_labels, components=3).named_buffers())[name])


def test_many_distinct_labels_give_the_density_of_their_exact_sum(monkeypatch):
    labels = np.random.default_rng(0).gamma(2, 2, 3000)
    exact = dense.dense_weights(labels)[1]
    monkeypatch.setattr(dense, "EXACT", 100)
    np.testing.assert_allclose(dense.dense_weights(labels)[1], exact, rtol=1e-3, atol=1e-4)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 300), st.integers(0, 99))
def test_the_labels_that_a_batch_should_hold_are_as_many_as_it_has_and_in_order(size, seed):
    share = np.random.default_rng(seed).dirichlet(np.full(30, 0.3))
    labels = dist_loss.expected_labels(np.arange(30.0), share, size)
    assert len(labels) == size
    assert (np.diff(labels) >= 0).all()
    assert abs(labels.mean() - (share * np.arange(30)).sum()) < 15


def test_nearly_even_labels_of_less_than_a_sample_each_are_spread_over_the_grid():
    share = np.array([0.5, *np.ones(58), 0.5]) / 59
    labels = dist_loss.expected_labels(np.arange(60.0), share, 32)
    assert len(labels) == 32
    assert (np.diff(labels) > 0).all()
    assert np.diff(labels).max() <= 2


def test_a_small_batch_holds_labels_from_all_of_the_distribution():
    share = np.exp(-0.5 * ((np.arange(121) - 40) / 15) ** 2)
    labels = dist_loss.expected_labels(np.arange(121.0), share / share.sum(), 16)
    assert len(labels) == 16
    assert labels.mean() == pytest.approx(40, abs=2)
    assert labels.std() == pytest.approx(15, abs=3)
    even = dist_loss.expected_labels(np.arange(121.0), np.full(121, 1 / 121), 16)
    np.testing.assert_allclose(np.diff(even), 121 / 16, atol=1)


def test_dist_loss_is_0_for_the_labels_themselves_and_weights_go_with_their_predictions():
    targets = np.random.default_rng(0).gamma(3, 1, 400).clip(0, 9.9)
    part = dist_loss.DistLoss(facts(targets, scale=2.0), reweight="inv")
    right = part.expected(torch.zeros(50))
    order = torch.randperm(50)

    def penalty(output: torch.Tensor) -> float:
        step = Step(0, 0, lambda *_: np.random.default_rng(0), 0, None, torch.from_numpy(targets[:50]), output=output)
        return part.penalty(step).item()

    assert penalty(right[order][:, None]) == 0
    off = right + torch.linspace(0, 1, 50)
    weights = part.table[BINS.index(torch.from_numpy(targets[:50]))]
    shuffled = off[order]
    ranked = shuffled.argsort(stable=True)
    expected = (weights[ranked] * (shuffled[ranked] - right).abs()).mean()
    assert penalty(shuffled[:, None]) == pytest.approx(expected.item(), rel=1e-5)
    part.aligned = False
    assert penalty(shuffled[:, None]) != pytest.approx(expected.item(), rel=1e-3)


def test_uvote_by_hand():
    targets = np.repeat([0.5, 1.5, 5.5], [4, 9, 1])
    head = uvote.UVOTE(facts(targets, scale=2.0), experts=3, clip=(1, 4))
    counts = np.array([4, 9, 1])
    for row, raw in enumerate((counts**0.0, counts**-0.5, 1 / counts.clip(1, 4))):
        expected = raw * 14 / (counts * raw).sum()
        np.testing.assert_allclose(head.tables[row, [0, 1, 5]], expected, rtol=1e-5)
    output = torch.tensor([[0.0, 1.0, 2.0, 0.3, -0.2, 0.1]])
    target = torch.tensor([[1.5]])
    likelihood = [math.log(2) + s + abs(0.75 - m) * math.exp(-s) for m, s in ((0, 0.3), (1, -0.2), (2, 0.1))]
    weights = head.tables[:, 1].tolist()
    assert head.losses(output, target, output).item() == pytest.approx(np.dot(weights, likelihood), rel=1e-5)
    assert head.decode(output).tolist() == [[1.0]]
    assert head.columns(output)["scale"].item() == pytest.approx(math.exp(-0.2))
    assert head.columns(output)["std"].item() == pytest.approx(math.sqrt(2) * math.exp(-0.2))
    head.answer = "mean"
    assert head.decode(output).item() == pytest.approx(1)
    head.answer = "first"
    assert head.decode(output).item() == 0
    growing = uvote.UVOTE(facts(targets), experts=3, epochs=10)
    growing.epoch_begins(5)
    assert growing.others == 0.25


def test_the_standard_deviation_of_uvote_is_that_of_the_distribution_that_predicts():
    output = torch.tensor([[1.0, 5.0, math.log(2), math.log(0.1)]])
    predicted = {"first": (1, 8), "surest": (5, 0.02), "mean": (3, 0.5 * (8 + 4) + 0.5 * (0.02 + 4))}
    mean = (0.5 * 1 + 10 * 5) / 10.5  # shares by 1/b
    predicted["weighted"] = (mean, (0.5 * (8 + (1 - mean) ** 2) + 10 * (0.02 + (5 - mean) ** 2)) / 10.5)
    for answer, (prediction, variance) in predicted.items():
        head = uvote.UVOTE(facts(np.arange(9.0)), experts=2, answer=answer)
        columns = {name: column.item() for name, column in head.columns(output).items()}
        assert head.decode(output).item() == pytest.approx(prediction), answer
        assert columns["std"] == pytest.approx(math.sqrt(variance)), answer
        assert columns["scale"] == pytest.approx(math.sqrt(variance / 2)), answer


def test_sam_takes_the_gradient_from_rho_away_and_leaves_weights_to_the_bit():
    weight = torch.tensor([3.0, 4.0], requires_grad=True)
    before = weight.detach().clone()

    def backward() -> None:
        (weight**3 / 3).sum().backward()

    bsam.SAM(facts(np.arange(9.0)), rho=0.5).gradients(backward, [weight])
    slope = before**2
    expected = (before + 0.5 * slope / slope.norm()) ** 2
    torch.testing.assert_close(weight.grad, expected)
    assert torch.equal(weight.detach(), before)


def test_sam_moves_no_weight_along_a_gradient_that_overflowed():
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)).train()
    parameters, inputs, passes = list(network.parameters()), torch.randn(8, 2), []

    def backward():
        passes.append([parameter.detach().clone() for parameter in parameters])
        network(inputs).square().sum().backward()
        parameters[0].grad[0, 0] = torch.inf  # as the first steps of half precision have it: the step is left out

    bsam.SAM(facts(np.arange(9.0)), rho=0.5).gradients(backward, parameters)
    assert all(torch.equal(one, other) for one, other in zip(*passes, strict=True))
    assert all(torch.isfinite(buffer).all() for buffer in network.buffers())


def test_bsam_weighs_by_the_root_of_the_count_with_mean_1_or_as_it_is():
    targets = np.repeat([0.5, 1.5, 5.5], [4, 9, 1])
    part = bsam.BSAM(facts(targets))
    assert part.weigh(torch.from_numpy(targets)).mean().item() == pytest.approx(1)
    raw = bsam.BSAM(facts(targets), normalised=False).weigh(torch.tensor([0.5, 1.5, 5.5]))
    np.testing.assert_allclose(raw, [1 / 2, 1 / 3, 1], rtol=1e-6)


@pytest.mark.parametrize("kind", ["BMC", "GAI", "BNI"])
def test_balanced_mse_does_not_depend_on_the_unit_of_the_network(kind):
    targets = np.random.default_rng(0).gamma(3, 1, 200).clip(0, 9.9)
    one, half = (getattr(balanced_mse, kind)(facts(targets, scale), sigma=3.0) for scale in (1.0, 2.0))
    labels = torch.from_numpy(targets[:8])[:, None].float()
    output = labels + torch.linspace(-1, 1, 8)[:, None]
    # squared network units are a quarter; GAI and BNI add terms of the density, which scale alike
    losses = one.losses(output, labels, output), half.losses(output / 2, labels, output)
    torch.testing.assert_close(losses[1].diff(dim=0) * 4, losses[0].diff(dim=0), rtol=1e-3, atol=1e-4)
    assert one.report()["balanced_mse/sigma"] == half.report()["balanced_mse/sigma"] == pytest.approx(3)
    assert one.settings == {"lr": 1e-2, "weight_decay": 0.0}


def test_methods_of_one_label_a_sample_refuse_maps():
    for method in ("bmc", "ranksim", "rnc", "ordinal_entropy", "dist_loss", "srl"):
        chosen = config.compose(["dataset=nyud2", f"method={method}"])
        first = chosen.stages.first.get("parts", {}) if chosen.stages.on else chosen.parts
        with pytest.raises(UserError, match="has one a pixel"):
            config.resolve_target(next(iter(first.values()))).check(chosen)


def test_every_published_module_says_where_its_formula_is_from():
    names = ("balanced_mse", "ranksim", "conr", "rank_n_contrast", "ordinal_entropy", "dense_weight", "dist_loss")
    for name in (*names, "vir", "vir_evidence", "vir_prm", "srl"):
        text = (Path(balanced_mse.__file__).parent / f"{name}.py").read_text(encoding="utf-8")
        assert "Source:" in text
        assert "nothing" in text.split('"""')[1]


def test_the_scales_of_uvote_learn_at_a_tenth_of_the_rate_as_published():
    chosen = config.compose(["method=uvote", "dataset.source.n_train=100", "dataset.source.n_test_per_bin=1"])
    network = build_network(chosen, config.build(chosen.dataset.source).load())
    groups = parameter_groups(network, 0.002)
    assert [group.get("lr") for group in groups] == [None, pytest.approx(0.0002)]
    scales = network.regressor.each[1]
    assert [id(p) for p in groups[1]["params"]] == [id(p) for p in scales.parameters()]
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(map(id, network.parameters()))
    output = network.eval()(torch.zeros(2, 1, 32, 32))[0]
    assert output.shape == (2, 4)
    assert output.abs().max() < 1  # all experts begin alike, with scales of about 1
    alone = config.compose(["method=uvote", "parts.head.scale_lr=1"])
    assert isinstance(build_network(alone, config.build(chosen.dataset.source).load()).regressor, nn.Linear)


@pytest.fixture
def compose(tmp_path):
    Arrays(str(tmp_path / "data" / "arrays")).sample(tmp_path / "data" / "arrays", n=120)
    common = [
        *("dataset=arrays", "backbone.hidden=[8,4]", "trainer.batch_size=32", "trainer.threads=1", "trainer.epochs=3"),
        *("trainer.figures=false", "trainer.feature_statistics=false", f"paths.data={tmp_path / 'data'}"),
    ]

    def make(outputs: str, *overrides: str) -> Config:
        return config.compose([*common, f"paths.outputs={tmp_path / outputs}", *overrides])

    return make


SMOOTHED = ["reweight=sqrt_inv", "lds=gaussian", "fds=gaussian"]


@pytest.mark.parametrize(
    "words",
    [
        ["method=vir", *SMOOTHED],
        ["method=vir", "parts.head.statistics=stream"],
        ["method=srl", *SMOOTHED, "parts.srl.projector=4"],
    ],
    ids=" ".join,
)
def test_a_method_with_a_memory_is_cut_and_resumed_to_the_same_bits_with_lds_and_fds_too(compose, monkeypatch, words):
    straight = experiment.run(compose("straight", *words))
    broken = compose("broken", *words)
    stop_after(monkeypatch, int(history(straight.folder)[-1]["step"]) - 1)  # in the midst of the last epoch
    with pytest.raises(Interrupted):
        experiment.run(broken)
    assert_same_run(straight.folder, experiment.run(broken).folder)
