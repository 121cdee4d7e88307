"""HCA against its definition in plain loops, and by hand."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from dir_bench import config
from dir_bench.backbones.base import Backbone
from dir_bench.errors import UserError
from dir_bench.labels import TargetBins
from dir_bench.methods.hca import HCA, hierarchy
from dir_bench.methods.part import Facts

BINS = TargetBins.regular(0, 8, 1)
COUNTS = np.array([1, 16, 4, 0, 1, 0, 9, 49])


class Three(Backbone):
    feature_dim = 3


def head(**settings) -> HCA:
    return HCA(Facts(BINS, COUNTS, np.arange(8.0), 1.0, 3, nn.Identity()), **settings)


def test_intervals_are_halved_by_mass_by_hand():
    """Roots of the counts: 1 4 2 0 1 0 3 7, 18 in all."""
    first, second, third = hierarchy(np.sqrt(COUNTS), 3)
    assert first.tolist() == [0, 0, 0, 0, 0, 1, 1, 1]  # after five labels or six: the cut nearer to the middle
    assert second.tolist() == [0, 0, 1, 1, 1, 2, 2, 3]  # 5 of 8, and 3 of 10
    assert third.tolist() == [0, 1, 2, 3, 3, 4, 5, 6]  # a label alone is cut no more


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 50), min_size=2, max_size=40), st.integers(1, 7))
def test_every_level_splits_the_one_above_into_intervals(counts, levels):
    classes = hierarchy(np.sqrt(counts), levels)
    assert classes.shape == (levels, len(counts))
    for level, row in enumerate(classes):
        assert row[0] == 0
        assert set(np.diff(row)) <= {0, 1}
        assert row[-1] < 2 ** (level + 1)
        above = classes[level - 1] if level else np.zeros(len(counts), int)
        for of in np.unique(above):
            held = np.flatnonzero(above == of)
            assert len(np.unique(row[held])) == min(2, len(held))
            if len(held) > 1:  # no other cut is nearer to half of the mass
                mass = np.sqrt(counts)[held]
                off = np.abs(mass.cumsum()[:-1] - mass.sum() / 2)
                assert off[int((row[held] == row[held[0]]).sum()) - 1] <= off.min() + 1e-9


@pytest.mark.parametrize("combine", ["add", "mul"])
def test_the_answer_is_the_sum_or_product_over_levels(combine):
    part = head(levels=3, combine=combine)
    output = torch.from_numpy(np.random.default_rng(0).normal(0, 2, (50, part.outputs)))
    classes = [*hierarchy(np.sqrt(COUNTS), 3), np.arange(8)]
    expected = []
    for row in output:
        said = [s.softmax(0) for s in row.split([2, 4, 7, 8])]
        scores = [torch.stack([p[of[y]] for p, of in zip(said, classes, strict=True)]) for y in range(8)]
        total = [s.sum() if combine == "add" else s.prod() for s in scores]
        expected.append(0.5 + int(np.argmax(total)))
    assert part.decode(output).squeeze(1).tolist() == expected
    finest = 0.5 + output[:, -8:].argmax(1)
    assert (part.decode(output).squeeze(1) != finest).any()  # the coarse ones change something
    other = head(levels=3, combine="mul" if combine == "add" else "add")
    assert (part.decode(output) != other.decode(output)).any()


def test_the_loss_is_the_sum_of_cross_entropies_for_samples_and_for_pixels():
    part = head(levels=2, value="edge")
    output = torch.randn(3, part.outputs, 2, 2, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([0.2, 6.7, -3.0]).reshape(3, 1, 1, 1).expand(3, 1, 2, 2)
    loss = part.losses(output, targets, output)
    one = part.losses(output[..., 0, 0], targets[..., 0, 0], output)
    torch.testing.assert_close(loss[..., 0, 0], one)
    levels = output[1, :, 0, 0].split([2, 4, 8])
    expected = -sum(s.log_softmax(0)[k] for s, k in zip(levels, (1, 2, 6), strict=True))
    torch.testing.assert_close(one[1, 0], expected)
    assert part.decode(output).shape == (3, 1, 2, 2)
    assert set(part.decode(output).unique().tolist()) <= set(range(8))


def test_what_is_distilled_comes_from_the_levels_that_are_nearest_to_the_truth():
    part = head(levels=2, combine="distilled")
    assert part.make_regressor(Three())(torch.zeros(5, 3)).shape == (5, 14 + 8) == (5, part.outputs)
    # Level 1 says labels 0–4, level 2 says 7, the finest says 5.
    levels = [torch.tensor([[9.0, 0]]), torch.tensor([[0.0, 0, 0, 9]]), 9.0 * torch.eye(8)[5:6]]
    student = torch.arange(8.0)[None].requires_grad_()
    halves, quarters = torch.tensor([[4.0, 7]]), torch.tensor([[1.0, 4, 6, 7]])  # the highest of each class of labels
    for truth, expected in (
        (5, student.log_softmax(1)[:, 5]),
        (7, quarters.log_softmax(1)[:, 3]),
        (3, halves.log_softmax(1)[:, 0]),
        (6, (student.log_softmax(1)[:, 5] + quarters.log_softmax(1)[:, 3]) / 2),  # both are off by 1, and level 1 by 2
    ):
        torch.testing.assert_close(part.distillation(levels, student, torch.tensor([truth])), -expected)
    mean = part.distillation(levels, student, torch.tensor([6]))
    mean.sum().backward()
    assert student.grad.isfinite().all()
    output = torch.cat([torch.randn(1, 14), student.detach()], dim=1)
    assert part.decode(output).item() == 7.5


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="combine=max one of add, mul, distilled"):
        head(combine="max")
    chosen = config.compose(["dataset=nyud2", "method=hca", "parts.head.combine=distilled"])
    with pytest.raises(UserError, match="has one a pixel"):
        HCA.check(chosen)
    HCA.check(config.compose(["dataset=nyud2", "method=hca"]))
    with pytest.raises(UserError, match="mixes targets as numbers"):
        HCA.check(config.compose(["method=hca", "mixup=input"]))
