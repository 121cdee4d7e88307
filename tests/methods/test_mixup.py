"""Mixup: a share of 1 mixes nothing, targets go with inputs, and draws depend on seed and step alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from dir_bench.backbones.bilstm import BiLSTMPair
from dir_bench.backbones.cnn import SmallCNN
from dir_bench.backbones.depth import DepthNet
from dir_bench.backbones.linear import Linear
from dir_bench.backbones.mlp import MLP
from dir_bench.backbones.psg import PSGNet
from dir_bench.backbones.vision import Vision
from dir_bench.errors import UserError
from dir_bench.methods.mixup import Mixing, mixed
from dir_bench.methods.part import Step
from dir_bench.streams import stream


def mixing(backbone: nn.Module, *layers: int, seed: int = 0, rank: int = 0, alpha: float = 1.0):
    """Return the part's context as a function of step, inputs and targets, that gives the mixed ones."""
    part = Mixing(backbone, alpha, layers)

    @contextmanager
    def mix(number: int, inputs: Any, targets: torch.Tensor) -> Iterator[tuple[Any, torch.Tensor]]:
        step = Step(0, number, lambda purpose, *more: stream(seed, purpose, number, *more), rank, inputs, targets)
        with part.batch(step):
            yield step.inputs, step.targets

    return mix


def batch(size: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(size, 3), torch.randn(size)


@settings(deadline=None)
@given(st.integers(1, 8), st.floats(0, 1), st.integers(0, 99))
def test_mixing_is_a_weighted_mean_that_keeps_the_batch_in_range_and_at_1_is_none(size, share, seed):
    values = torch.from_numpy(stream(seed, "values").normal(size=(size, 3))).float()
    partners = torch.from_numpy(stream(seed, "order").permutation(size))
    found = mixed(values, partners, share)
    torch.testing.assert_close(found, share * values + (1 - share) * values[partners])
    torch.testing.assert_close(found.mean(0), values.mean(0), rtol=1e-4, atol=1e-5)  # each sample is partner once
    assert torch.equal(mixed(values, partners, 1.0), values)
    assert torch.equal(mixed(values, partners, 0.0), values[partners])


def test_inputs_and_targets_are_mixed_alike():
    _, targets = batch()
    with mixing(Linear(in_features=1), 0)(3, targets[:, None], targets) as (inputs, mixed_targets):
        assert torch.equal(inputs[:, 0], mixed_targets)
        assert not torch.equal(mixed_targets, targets)


def test_the_draw_is_that_of_step_and_seed_and_partners_also_that_of_the_process():
    inputs, targets = batch()
    backbone = Linear(in_features=3)

    def drawn(step: int, **which: int) -> torch.Tensor:
        with mixing(backbone, 0, **which)(step, inputs, targets) as (found, _):
            return found

    assert torch.equal(drawn(5), drawn(5))
    others = [drawn(6), drawn(5, seed=1), drawn(5, rank=1)]
    assert not any(torch.equal(drawn(5), other) for other in others)


def test_all_processes_mix_in_the_same_share():
    remainders = []
    for rank in (0, 1):
        with mixing(Linear(in_features=6), 0, rank=rank)(5, torch.eye(6), torch.zeros(6)) as (found, _):
            remainders.append((found - torch.diag(torch.diag(found))).max().item())  # 1 − share, of the partner
    assert remainders[0] == remainders[1] > 0


@pytest.mark.parametrize("layer", [1, 2])
def test_a_hidden_layer_mixes_its_outputs_within_the_context_only(layer):
    backbone = MLP(3, (5, 4))
    inputs, targets = batch()
    plain = backbone(inputs)
    with mixing(backbone, layer)(0, inputs, targets) as (same, mixed_targets):
        assert same is inputs
        found = backbone(inputs)
    with mixing(Linear(in_features=1), 0)(0, targets[:, None], targets) as (_, again):
        assert torch.equal(mixed_targets, again)
    assert torch.equal(backbone(inputs), plain)
    # the same draw mixes what the layer gives, and the rest of the network reads it
    first = [*backbone.layers[: 3 * layer]]
    rest = nn.Sequential(*backbone.layers[3 * layer :])
    hidden = nn.Sequential(*first)(inputs)
    with mixing(Linear(in_features=hidden.shape[1]), 0)(0, hidden, targets) as (mixed_hidden, _):
        torch.testing.assert_close(found, rest(mixed_hidden))


def test_the_hook_goes_when_a_step_fails():
    backbone = MLP(3, (4,))
    inputs, targets = batch()
    with pytest.raises(RuntimeError), mixing(backbone, 1)(0, inputs, targets):
        raise RuntimeError
    assert not backbone.layers[2]._forward_hooks


def test_every_layer_of_the_list_is_drawn_about_equally_often():
    backbone = MLP(3, (4, 4))
    inputs, targets = batch()
    drawn = np.zeros(3)
    for step in range(600):
        with mixing(backbone, 0, 1, 2)(step, inputs, targets) as (given_inputs, _):
            hooked = [i for i, name in enumerate(backbone.mixable, 1) if backbone.get_submodule(name)._forward_hooks]
            drawn[hooked[0] if hooked else 0] += 1
            assert bool(hooked) == (given_inputs is inputs)
    assert drawn.sum() == 600
    assert (np.abs(drawn - 200) < 50).all()  # 4 standard deviations


def test_pictures_of_bytes_are_mixed_as_the_backbone_would_scale_them():
    pictures = torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8)
    backbone = SmallCNN(1, 8, (2, 2, 2, 2), 4).eval()
    with mixing(backbone, 0)(0, pictures, torch.zeros(6)) as (found, _):
        assert found.dtype == torch.float32
    with mixing(backbone, 0)(0, pictures.float() / 255 - 0.5, torch.zeros(6)) as (expected, _):
        assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("make", "layers"),
    [
        (lambda: SmallCNN(1, 16), 4),
        (lambda: Vision("resnet18", size=32), 4),
        (lambda: MLP(3), 2),
        (lambda: Linear(in_features=3), 0),
        (lambda: DepthNet("resnet18"), 3),
        (lambda: BiLSTMPair(10, 4, 3), 1),
        (lambda: PSGNet(3, 3, 2, 4, channels=(4,), downsample=2, encoder_dim=4, feature_dim=4), 3),
    ],
)
def test_backbones_list_modules_they_have_and_refuse_layers_they_do_not(make, layers):
    backbone = make()
    for name in getattr(backbone, "mixable", ()):
        backbone.get_submodule(name)
    if layers:
        mixing(backbone, *range(1, layers + 1))
    with pytest.raises(UserError, match=rf"names layer {layers + 1}, and {type(backbone).__name__} has"):
        mixing(backbone, layers + 1)


@pytest.mark.parametrize("make", [lambda: BiLSTMPair(10, 4, 3), lambda: PSGNet(3, 3, 2, 4)])
def test_inputs_that_have_no_mean_are_refused_with_the_reason(make):
    with pytest.raises(UserError, match=r"takes n.*, which have no mean: set mixup=manifold and mixup\.layers=\[1"):
        mixing(make(), 0)


def test_inputs_that_are_no_tensor_are_refused():
    with (
        pytest.raises(UserError, match="one tensor, not tuple"),
        mixing(Linear(in_features=2), 0)(0, (torch.zeros(2),), torch.zeros(2)),
    ):
        pass


def test_a_pair_of_sentences_is_mixed_by_its_embedding():
    backbone = BiLSTMPair(10, 4, 3).eval()
    tokens = torch.randint(1, 10, (6, 5))
    pairs = (tokens, np.full(6, 5), tokens.flip(1), np.full(6, 5))
    plain = backbone(pairs)
    with mixing(backbone, 1)(2, pairs, torch.zeros(6)):
        found = backbone(pairs)
    with mixing(Linear(in_features=24), 0)(2, plain, torch.zeros(6)) as (expected, _):
        torch.testing.assert_close(found, expected)


def test_a_resnet_mixes_after_each_of_its_blocks():
    backbone = Vision("resnet18", size=32).eval()
    assert backbone.mixable == tuple(f"network.layer{i}" for i in (1, 2, 3, 4))
    pictures = torch.randn(4, 3, 32, 32)
    plain = backbone(pictures)
    for layer in (1, 2, 3, 4):
        with mixing(backbone, layer)(1, pictures, torch.zeros(4)):
            assert not torch.allclose(backbone(pictures), plain)
    assert torch.equal(backbone(pictures), plain)
