"""VIR: its evidence and its moments against SciPy and plain loops, and the head and features that use them."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from dir_bench import config
from dir_bench.errors import UserError
from dir_bench.labels import TargetBins
from dir_bench.methods.part import Facts, Step
from dir_bench.methods.vir import VIR, ProbabilisticFeatures
from dir_bench.methods.vir_evidence import NIG, kl_from_standard_normal, nig_nll
from dir_bench.methods.vir_prm import PRM, repeated_window

BINS = TargetBins.regular(0, 10, 1)


def facts(targets: np.ndarray, scale: float = 1.0) -> Facts:
    return Facts(BINS, BINS.counts(targets), targets.astype(np.float32), scale, 3, nn.Identity())


def distributions(seed: int = 0) -> NIG:
    draw = np.random.default_rng(seed).uniform(0.5, 3, size=(4, 7))
    gamma, v, alpha, beta = torch.from_numpy(draw)
    return NIG(gamma, v, alpha + 1, beta)


def test_the_likelihood_is_that_of_students_t_and_the_variances_add_up_to_its_own():
    nig, target = distributions(), torch.linspace(-2, 4, 7, dtype=torch.float64)
    student = stats.t(2 * nig.alpha, nig.gamma, (nig.beta * (1 + nig.v) / (nig.v * nig.alpha)).sqrt())
    np.testing.assert_allclose(nig_nll(target, nig), -student.logpdf(target), rtol=1e-10)
    np.testing.assert_allclose(nig.aleatoric + nig.epistemic, student.var(), rtol=1e-10)


def test_the_divergence_from_a_standard_normal_is_torchs():
    mean, log_variance = torch.randn(2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    normal = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(kl_from_standard_normal(mean, log_variance), expected)


def plain_prm(features: np.ndarray, labels: np.ndarray, rows: int, window: np.ndarray) -> np.ndarray:
    """Calibrate by the moments of these very features, unclipped: loops over bins and samples, nothing shared."""
    d, half = features.shape[1] // 2, len(window) // 2
    m, s, a = np.zeros((rows, d)), np.ones((rows, d)), np.ones((rows, d))
    for b in range(rows):
        own = features[labels == b]
        if len(own):
            means, variances = own[:, :d], own[:, d:]
            m[b], s[b] = means.mean(0), variances.sum(0) / len(own) ** 2
            a[b] = np.mean([v - s[b] + z**2 - m[b] ** 2 for z, v in zip(means, variances, strict=True)], axis=0)

    def over_bins(table: np.ndarray, taps: np.ndarray) -> np.ndarray:
        mirrored = np.concatenate([table[half:0:-1], table, table[-2 : -half - 2 : -1]])
        return np.array([sum(t * row for t, row in zip(taps, mirrored[i:], strict=False)) for i in range(rows)])

    smooth_m, smooth_s, smooth_a = over_bins(m, window), over_bins(s, window**2), over_bins(a, window)
    out = []
    for row, b in zip(features[1:], labels[1:], strict=True):  # the first one is alone
        f = np.sqrt(smooth_a[b] / a[b])
        out.append(np.concatenate([(row[:d] - m[b]) * f + smooth_m[b], (row[d:] + s[b]) * f + smooth_s[b]]))
    return np.array(out)


def test_moments_of_features_are_those_of_a_plain_loop():
    rng = np.random.default_rng(0)
    features, labels = np.abs(rng.normal(size=(40, 6))) + 0.1, np.arange(40) % 8
    labels[0] = 9  # alone in its bin: no variance, and stays as it is
    window = np.array([0.25, 0.5, 0.25])
    settings = {"kernel": "triang", "kernel_size": 3, "empty": "initial", "lag": "none", "clip": (1e-9, 1e9)}
    prm = PRM(6, first=0, last=9, **settings)
    given = torch.from_numpy(features).float(), torch.from_numpy(labels).float()
    torch.testing.assert_close(prm.smooth(*given, 0), given[0])
    moments = prm.new_moments()
    moments.add(*given)
    prm.end_epoch(moments, 0)
    found = prm.smooth(*given, 1).numpy()
    np.testing.assert_allclose(found[1:], plain_prm(features, labels, 10, window), rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(found[0], given[0][0])
    prm.reset()
    assert prm.running_mean.tolist() == [[0.0] * 3 + [1.0] * 3] * 10


def test_calibration_before_there_are_moments_adds_2_to_variances():
    prm = PRM(6, first=0, last=9, start_smooth=0, empty="initial")
    features, labels = torch.ones(4, 6), torch.arange(4.0)
    expected = torch.tensor([1.0, 1, 1, 3, 3, 3]).expand(4, 6)
    torch.testing.assert_close(prm.smooth(features, labels, 0), expected)
    own = ProbabilisticFeatures(facts(np.arange(9.0)), kernel_size=3)
    moments = own.moments_of(torch.ones(4, 3))
    assert own.smooth(moments, labels, 1) is moments


def test_bins_without_samples_stay_out_of_the_moments_of_others_if_told_so():
    rng = np.random.default_rng(0)
    features = torch.from_numpy(np.abs(rng.normal(size=(30, 4)))).float()
    labels = torch.from_numpy(rng.integers(2, 5, 30)).float()
    alone = PRM(4, first=2, last=4, kernel_size=3, empty="exclude")
    among = PRM(4, first=0, last=9, kernel_size=3, empty="exclude")
    for prm in (alone, among):
        moments = prm.new_moments()
        moments.add(features, labels)
        prm.end_epoch(moments, 0)
    # The middle bin has both neighbours in both tables.
    middle = labels == 3
    torch.testing.assert_close(among.smooth(features, labels, 1)[middle], alone.smooth(features, labels, 1)[middle])
    assert among.smooth(features, labels, 1).isfinite().all()


@pytest.mark.parametrize("ends", [False, True])
def test_a_column_without_variance_stays_or_ends_the_batch_as_published(ends):
    rng = np.random.default_rng(0)
    features = torch.from_numpy(np.abs(rng.normal(size=(30, 4)))).float()
    labels = torch.arange(3).repeat(10).float()
    features[labels == 1, 0], features[labels == 1, 2] = 2.0, 0.0
    prm = PRM(4, first=0, last=2, kernel_size=3, zero_variance="end_batch" if ends else "keep_columns")
    moments = prm.new_moments()
    moments.add(features, labels)
    prm.end_epoch(moments, 0)
    changed = prm.smooth(features, labels, 1) != features
    assert changed[labels == 0].all()
    assert changed[labels == 1].any(0).tolist() == ([False] * 4 if ends else [False, True, False, True])
    assert changed[labels == 2].any() == (not ends)


def test_settings_of_moments_that_cannot_be_are_refused():
    for width, settings, said in (
        (5, {}, "even"),
        (4, {"repeat": 2}, "odd"),
        (4, {"zero_variance": "stop"}, "zero_variance"),
    ):
        with pytest.raises(ValueError, match=said):
            PRM(width, first=0, last=9, **settings)
    with pytest.raises(ValueError, match="at least 1"):
        repeated_window(np.ones(3), 0)
    with pytest.raises(ValueError, match="prior_alpha"):
        VIR(facts(np.arange(9.0)), prior_alpha=0.0)
    with pytest.raises(ValueError, match="variance"):
        ProbabilisticFeatures(facts(np.arange(9.0)), variance=0.0)
    with pytest.raises(UserError, match="offers none"):
        ProbabilisticFeatures.check(config.compose(["backbone=linear"]))


def test_the_head_weighs_observations_and_not_the_loss():
    targets = np.repeat([0.5, 1.5, 5.5], [4, 9, 1])
    head = VIR(facts(targets, scale=2.0), regulariser=0.5, kernel_size=3)
    output, target = torch.tensor([[0.3, -1.0, 2.0]], dtype=torch.float64), torch.tensor([[5.5]], dtype=torch.float64)
    count, omega = 10 * np.log1p(np.exp(-0.1)) + 2, 10 * np.log1p(np.exp(0.2))
    weight = head.table[5].item()
    assert weight > 1
    v, alpha = count * weight, 0.3 + count * weight / 2
    student = stats.t(2 * alpha, 0.3, np.sqrt(omega * (1 + v) / (v * alpha)))
    expected = -student.logpdf(2.75) + 0.5 * abs(2.75 - 0.3) * (2 * v + alpha)
    assert head.losses(output, target, output).item() == pytest.approx(expected, rel=1e-6)


def test_the_head_says_its_distribution_as_heads_do():
    head = VIR(facts(np.arange(9.0)), kernel_size=3)
    output = torch.tensor([[0.3, -1.0, 2.0], [1.0, 4.0, -3.0]], dtype=torch.float64)
    columns, nig = head.columns(output), head.predicted(output)
    assert head.family == "student"
    assert head.decode(output).tolist() == [[0.3], [1.0]]
    scale = columns["std"] * ((columns["df"] - 2) / columns["df"]).sqrt()
    target = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    expected = -stats.t(columns["df"], head.decode(output), scale).logpdf(target)
    np.testing.assert_allclose(nig_nll(target, nig), expected, rtol=1e-10)
    torch.testing.assert_close(columns["aleatoric"].square() + columns["epistemic"].square(), columns["std"].square())


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 2, 4)])
def test_features_are_sampled_around_the_mean_and_found_again_without_pulling_at_them(shape):
    torch.manual_seed(0)
    part = ProbabilisticFeatures(facts(np.arange(9.0)), variance=0.01, divergence=0.0, kernel_size=3)
    nn.init.zeros_(part.spread.weight)
    features = torch.randn(shape, requires_grad=True)
    targets = torch.rand(6, *((1, *shape[2:]) if len(shape) > 2 else ())) * 9
    samples = torch.stack([part.calibrate(features, targets, 0) for _ in range(400)])
    torch.testing.assert_close(samples.mean(0), features, atol=0.03, rtol=0)
    assert samples.var(0).mean().item() == pytest.approx(0.01, rel=0.05)
    step = Step(0, 0, lambda *_: np.random.default_rng(0), 0, None, targets, features=features)
    with torch.no_grad():  # a decoder that gives back what it gets misses by the variance
        part.decoder.weight.copy_(torch.eye(3))
        part.decoder.bias.zero_()
    part.calibrate(features, targets, 0)
    penalty = part.penalty(step)
    assert penalty.item() == pytest.approx(0.7 * 0.01, rel=0.6)
    part.divergence = 1.0
    part.calibrate(features, targets, 0)
    more = part.penalty(step).item()
    expected = kl_from_standard_normal(features, torch.full(shape, np.log(0.01))).mean().item() / 3
    assert more - penalty.item() == pytest.approx(0.7 * expected, rel=0.02)


def test_moments_are_those_of_the_first_pass_of_a_step_and_of_each_pass_of_a_walk():
    part = ProbabilisticFeatures(facts(np.arange(9.0)), kernel_size=3, statistics="stream")
    targets = torch.tensor([1.0, 1.0, 4.0])
    given = torch.randn(3, 3, 3)
    expected = part.moments_of(given[0]).detach()
    part.epoch_begins(0)
    first, second, walked = (Step(0, 0, lambda *_: None, 0, None, targets, features=each) for each in given)
    for step in (first, second):
        part.calibrate(step.features, targets, 0)
        part.penalty(step)
        with torch.no_grad():
            part.spread.weight.neg_()
    part.after_step(first)
    part.calibrate(walked.features, targets, 0)
    again = part.new_moments()
    part._gather(again, walked)
    for moments, held in ((part._moments, expected), (again, part.moments_of(given[2]).detach())):
        count, mean, _ = moments.by_row()
        torch.testing.assert_close(mean[count > 0].float(), torch.stack([held[:2].mean(0), held[2]]))
    assert not first.kept
    assert part._latent is None
