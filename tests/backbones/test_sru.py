"""The simple recurrent unit: the scan against the plain loop, its gradients, directions and padding."""

import math

import pytest
import torch
from torch import Tensor

from dir_bench.backbones.sru import SRU, linear_recurrence, masked


def loop(decay: Tensor, update: Tensor) -> Tensor:
    states = [update[:, 0]]
    for f, u in zip(decay.unbind(1)[1:], update.unbind(1)[1:], strict=True):
        states.append(f * states[-1] + u)
    return torch.stack(states, dim=1)


def draw(steps: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(steps)
    decay = torch.rand(2, steps, 3, generator=generator, dtype=dtype)
    return decay, torch.randn(2, steps, 3, generator=generator, dtype=dtype)


@pytest.mark.parametrize("steps", [*range(1, 18), 63, 64, 65, 711])
def test_scan_equals_the_loop(steps: int) -> None:
    decay, update = draw(steps)
    torch.testing.assert_close(linear_recurrence(decay, update), loop(decay, update), rtol=0, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 7, 100])
def test_gradients_of_the_scan_are_those_of_the_loop(steps: int) -> None:
    decay, update = (x.requires_grad_() for x in draw(steps))
    weights = torch.randn(2, steps, 3, generator=torch.Generator().manual_seed(1))
    ours = torch.autograd.grad((linear_recurrence(decay, update) * weights).sum(), (decay, update))
    plain = torch.autograd.grad((loop(decay, update) * weights).sum(), (decay, update), materialize_grads=True)
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 5, 8])
def test_scan_passes_gradcheck_twice(steps: int) -> None:
    inputs = tuple(x.requires_grad_() for x in draw(steps, torch.float64))
    assert torch.autograd.gradcheck(linear_recurrence, inputs)
    assert torch.autograd.gradgradcheck(linear_recurrence, inputs)


@pytest.mark.parametrize("decay", [0.0, 1e-30, 1 - 1e-7, 1.0])
def test_extreme_decays_over_a_long_sequence_stay_exact(decay: float) -> None:
    decays, updates = torch.full((1, 5000, 1), decay), torch.full((1, 5000, 1), 0.5)
    states = linear_recurrence(decays, updates)
    torch.testing.assert_close(states, loop(decays.double(), updates.double()).float(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("channels", [4, 6])
def test_layer_equals_the_formula_sequence_by_sequence(bidirectional: bool, channels: int) -> None:
    torch.manual_seed(0)
    layer = SRU(channels, 6, bidirectional)
    torch.nn.init.normal_(layer.gates.bias)
    lengths = torch.tensor([9, 1, 4])
    inputs = masked(torch.randn(3, 9, channels), lengths)
    outputs = layer(inputs, lengths)
    for x, length, found in zip(inputs, lengths.tolist(), outputs, strict=True):
        x = x[:length]
        forget, reset = torch.sigmoid(layer.gates(x)).chunk(2, dim=1)
        update = (1 - forget) * layer.candidate(x)
        state = loop(forget[None], update[None])[0]
        if bidirectional:
            state[:, 3:] = loop(forget.flip(0)[None], update.flip(0)[None])[0].flip(0)[:, 3:]
        expected = reset * state + (1 - reset) * math.sqrt(3) * layer.highway(x)
        torch.testing.assert_close(found[:length], expected, rtol=0, atol=1e-5)
        assert not found[length:].any()


@pytest.mark.parametrize("bidirectional", [False, True])
def test_only_the_backward_half_knows_the_future(bidirectional: bool) -> None:
    torch.manual_seed(0)
    layer, inputs = SRU(4, 4, bidirectional), torch.randn(1, 8, 4)
    changed = torch.cat([inputs[:, :5], torch.randn(1, 3, 4)], dim=1)
    same = (layer(inputs, torch.tensor([8])) == layer(changed, torch.tensor([8])))[0, :5].all(dim=0)
    assert same.tolist() == [True, True, not bidirectional, not bidirectional]


def test_state_is_kept_in_single_precision_under_autocast() -> None:
    torch.manual_seed(0)
    layer, inputs, lengths = SRU(8, 8), torch.randn(2, 700, 8), torch.tensor([700, 300])
    with torch.autocast("cpu", torch.bfloat16):
        outputs = layer(masked(inputs, lengths), lengths)
    assert outputs.dtype == torch.float32
    torch.testing.assert_close(outputs, layer(masked(inputs, lengths), lengths), rtol=0, atol=0.05)


def test_initial_layers_keep_the_variance() -> None:
    torch.manual_seed(0)
    steps, lengths = torch.randn(8, 50, 64), torch.full((8,), 50)
    for _ in range(6):
        steps = SRU(64, 64)(steps, lengths)
    assert 0.5 < steps.var().item() < 2
