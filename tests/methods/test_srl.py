"""SRL: each term against its definition as plain loops, and what is remembered over epochs."""

from itertools import pairwise

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from dir_bench.labels import TargetBins
from dir_bench.methods import srl
from dir_bench.methods.part import Facts, Step

BINS = TargetBins.regular(0, 10, 1, first=1)


def part(**changed) -> srl.SRL:
    torch.manual_seed(0)
    targets = np.arange(1.0, 10)
    facts = Facts(BINS, BINS.counts(targets), targets.astype(np.float32), 2.0, 3, nn.Identity())
    return srl.SRL(facts, **{"points": 5, **changed})


def step_of(features: torch.Tensor, targets: list[float], epoch: int) -> Step:
    labels = torch.tensor(targets)
    return Step(epoch, 0, lambda *_: np.random.default_rng(0), 0, None, labels, features=features)


def unit(rng: np.random.Generator, n: int) -> np.ndarray:
    drawn = rng.normal(size=(n, 3))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 999), st.sampled_from(srl.EVENNESS))
def test_the_terms_are_their_definitions(seed, kind):
    rng = np.random.default_rng(seed)
    centroids, points, here = unit(rng, 6), unit(rng, 5), rng.random(6) < 0.6
    here[rng.integers(6)] = True
    labels, present = np.cumsum(rng.uniform(0.5, 2, 6)), np.flatnonzero(here)
    steps = list(pairwise(present))
    tensors = torch.from_numpy(centroids), torch.from_numpy(here)

    near = [max(point @ centroids[k] for k in present) for point in points]
    assert srl.envelope(*tensors, torch.from_numpy(points)).item() == pytest.approx(1 - np.mean(near))

    cosines = np.array([centroids[a] @ centroids[b] for a, b in steps])
    uneven = 0.1 * cosines.var(ddof=1) if len(steps) > 1 else 0.0
    expected = {
        "paper": sum(np.sum((centroids[b] - centroids[a]) ** 2) / (labels[b] - labels[a]) for a, b in steps),
        "code_age": -cosines.sum() + uneven,
        "code_sts_b": cosines.sum() + uneven,
    }[kind]
    found = srl.homogeneity(*tensors, torch.from_numpy(labels), kind).item()
    assert found == pytest.approx(expected, abs=1e-9)

    directions, index = unit(rng, 4), rng.choice(present, 4)
    terms = []
    for direction, own in zip(directions, index, strict=True):
        scores = {k: np.exp(direction @ centroids[k] / 0.3) for k in present}
        terms.append(-np.log(scores[own] / sum(scores.values())))
    found = srl.contrast(torch.from_numpy(directions), torch.from_numpy(index), *tensors, 0.3).item()
    assert found == pytest.approx(np.mean(terms))


def test_a_bin_that_the_batch_lacks_stands_where_it_is_remembered():
    learner = part(envelope=0.0, homogeneity=1.0, contrast=0.0)
    first = step_of(torch.tensor([[2.0, 0, 0], [0, 3, 0]]), [2.5, 5.5], 0)
    learner.epoch_begins(0)
    assert learner.penalty(first) is None
    learner.after_step(first)
    assert not first.kept
    learner.epoch_ends(0, None, lambda tensor: tensor)
    assert learner.remembered.nonzero().flatten().tolist() == [1, 4]
    torch.testing.assert_close(learner.memory[[1, 4]], torch.eye(3)[:2])

    now = torch.tensor([[0.0, 0, 1], [0, 0, 2]], requires_grad=True)
    penalty = learner.penalty(step_of(now, [2.5, 3.5], 1))
    # From 2 to 3 no way; from 3 to 5, which is remembered, √2, and labels are 2 apart.
    assert penalty.item() == pytest.approx(2.0 / 2.0)
    penalty.backward()
    assert now.grad[1].abs().sum() > 0
    learner.epoch_begins(1)
    last = step_of(now, [2.5, 2.5], 1)
    learner.penalty(last)
    learner.penalty(step_of(-now, [2.5, 2.5], 1))  # a second pass, of another step: the first one counts
    learner.after_step(last)
    learner.epoch_ends(1, None, lambda tensor: tensor)
    expected = torch.nn.functional.normalize(torch.tensor([0.9, 0, 0.1]), dim=0)
    torch.testing.assert_close(learner.memory[1], expected)
    torch.testing.assert_close(learner.memory[4], torch.eye(3)[1])  # it did not occur


def test_what_is_remembered_is_of_the_projector_before_the_update():
    learner, step = part(projector=4), step_of(torch.randn(3, 3), [1.0, 2.0, 3.0], 0)
    before = learner.directions(step.features).detach()
    learner.epoch_begins(0)
    learner.penalty(step)
    with torch.no_grad():
        learner.projector[2].weight.neg_()
    learner.after_step(step)
    learner.epoch_ends(0, None, lambda tensor: tensor)
    torch.testing.assert_close(learner.memory[:3], before)


def test_a_projector_has_a_gradient_from_the_first_epoch_on():
    learner = part(projector=4)
    assert learner.memory.shape[1] == learner.points.shape[1] == 4
    learner.penalty(step_of(torch.randn(3, 3), [1.0, 2.0, 3.0], 0)).backward()
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in learner.parameters())


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="code_age"):
        part(evenness="code_ages")
    for wrong in ({"temperature": 0.0}, {"points": 0}, {"momentum": 1.0}):
        with pytest.raises(ValueError, match="must be above 0"):
            part(**wrong)
