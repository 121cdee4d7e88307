"""The network of SHHS-DIR: what padding, batching and crops must not change, its sizes, and its memory."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from dir_bench.backbones.psg import GRU, Convolution, Encoder, PSGNet
from dir_bench.backbones.sru import masked
from dir_bench.errors import UserError

CONFIGS = Path(__file__).parents[2] / "configs" / "backbone"
DATA: dict[str, Any] = {"eeg_bins": 64, "ecg_bins": 22, "breathing_channels": 3, "breathing_rate": 10}
COLUMNS = 64 + 22 + 30
SMALL: dict[str, Any] = {"channels": (8, 12), "downsample": 8, "layers": 2, "encoder_dim": 8, "feature_dim": 16}
LENGTHS = [[1, 2, 3, 4, 5], [8, 1, 9, 64, 7], [257, 255, 31, 1], [100, 100], [63, 1021, 17, 512, 2]]


def small(**kwargs: object) -> PSGNet:
    torch.manual_seed(0)
    return PSGNet(**{**DATA, **SMALL, **kwargs})


def from_config(name: str) -> PSGNet:
    settings = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))
    assert settings.pop("_target_") == "dir_bench.backbones.psg.PSGNet"
    assert settings.pop("features") is True
    torch.manual_seed(0)
    return PSGNet(**DATA, **settings)


def draw(lengths: list[int], padding: int = 0) -> tuple[Tensor, Tensor]:
    """Return nights filled up with zeros to the longest and `padding` seconds more."""
    generator = torch.Generator().manual_seed(sum(lengths))
    nights = torch.randn(len(lengths), max(lengths) + padding, COLUMNS, generator=generator)
    return masked(nights, torch.tensor(lengths)), torch.tensor(lengths)


def one_by_one(nights: Tensor, lengths: Tensor) -> list[tuple[Tensor, Tensor]]:
    return [(nights[i : i + 1, :length], lengths[i : i + 1]) for i, length in enumerate(lengths.tolist())]


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "variant", [{}, {"recurrent": "gru"}, {"bidirectional": False}, {"channels": (8,), "downsample": 6}], ids=str
)
def test_a_batch_of_one_equals_a_batch_of_many(lengths: list[int], training: bool, variant: dict[str, object]) -> None:
    network = small(**variant).train(training)
    batch = draw(lengths, padding=13)
    alone = torch.cat([network(night) for night in one_by_one(*batch)])
    torch.testing.assert_close(network(batch), alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("recurrent", ["sru", "gru"])
def test_gradients_of_a_batch_are_the_sum_of_those_one_by_one(lengths: list[int], recurrent: str) -> None:
    network = small(recurrent=recurrent)
    nights, seconds = draw(lengths, padding=13)
    weights = torch.randn(len(lengths), network.feature_dim, generator=torch.Generator().manual_seed(2))
    names, parameters = zip(*network.named_parameters(), strict=True)

    def gradients(batches: list[tuple[Tensor, Tensor]], leaf: Tensor) -> tuple[Tensor, ...]:
        loss = (torch.cat([network(batch) for batch in batches]) * weights).sum()
        return torch.autograd.grad(loss, (leaf, *parameters))

    leaf = nights.clone().requires_grad_()
    together = gradients([(leaf, seconds)], leaf)
    apart = gradients(one_by_one(leaf, seconds), leaf)
    assert not together[0][torch.arange(nights.shape[1]) >= seconds[:, None]].any()
    for name, a, b in zip(("inputs", *names), together, apart, strict=True):
        error = ((a - b).abs().max() / (1 + b.abs().max())).item()
        assert error < 1e-5, f"{name}: {error:.1e}"


@pytest.mark.parametrize("recurrent", ["sru", "gru"])
@pytest.mark.parametrize("dirt", [7.0, torch.nan, torch.inf])
def test_what_stands_in_the_padding_does_not_matter(recurrent: str, dirt: float) -> None:
    network, (nights, lengths) = small(recurrent=recurrent), draw([3, 50, 17], padding=9)
    dirty = nights.masked_fill((torch.arange(59) >= lengths[:, None])[:, :, None], dirt)
    assert torch.equal(network((dirty, lengths)), network((nights, lengths)))


def test_each_encoder_reads_its_own_columns_in_order() -> None:
    network, lengths = small(), torch.tensor([37])
    eeg, ecg, breathing = torch.randn(1, 37, 64), torch.randn(1, 37, 22), torch.randn(1, 370, 3)
    nights = torch.cat([eeg, ecg, breathing.reshape(1, 37, 30)], dim=2)
    signals = [(eeg, lengths), (ecg, lengths), (breathing, 10 * lengths)]
    vectors = [encoder(*signal) for encoder, signal in zip(network.encoders, signals, strict=True)]
    assert torch.equal(network((nights, lengths)), network.mlp(torch.cat(vectors, dim=1)))


def test_all_encoders_come_to_the_same_steps() -> None:
    network = small(channels=(8, 8, 8), downsample=64)
    for seconds in (1, 63, 64, 65, 1000):
        for encoder, columns, rate in zip(network.encoders, (64, 22, 3), (1, 1, 10), strict=True):
            assert isinstance(encoder, Encoder)
            steps, lengths = encoder.stem(torch.zeros(1, seconds * rate, columns), torch.tensor([seconds * rate]))
            for block in encoder.blocks:
                steps, lengths = block(steps, lengths)
            assert steps.shape[1] == lengths.item() == -(-seconds // 64)


@pytest.mark.parametrize("stride", [1, 2, 3, 10])
def test_convolution_is_torchs_own_then_layer_norm(stride: int) -> None:
    torch.manual_seed(0)
    layer, inputs = Convolution(3, 5, 7, stride), torch.randn(2, 41, 3)
    kernel = layer.convolution
    expected = nn.functional.conv1d(inputs.mT, kernel.weight.squeeze(2), kernel.bias, stride, padding=3).mT
    outputs, lengths = layer(inputs, torch.tensor([41, 41]))
    torch.testing.assert_close(outputs, layer.norm(expected), rtol=0, atol=1e-5)
    assert lengths.tolist() == [-(-41 // stride)] * 2


def test_gru_equals_torchs_packed_bidirectional_one() -> None:
    torch.manual_seed(0)
    ours, packed = GRU(4, 6), nn.GRU(4, 3, batch_first=True, bidirectional=True)
    for direction, suffix in zip(ours.directions, ("", "_reverse"), strict=True):
        for name, parameter in direction.named_parameters():
            parameter.data.copy_(getattr(packed, name + suffix))
    lengths = torch.tensor([7, 1, 4])
    inputs = masked(torch.randn(3, 7, 4), lengths)
    outputs, _ = packed(nn.utils.rnn.pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False))
    expected, _ = nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True)
    torch.testing.assert_close(ours(inputs, lengths), expected, rtol=0, atol=1e-6)


def test_half_precision_nights_are_the_same_input() -> None:
    network, (nights, lengths) = small(), draw([40, 11])
    assert torch.equal(network((nights.half(), lengths)), network((nights.half().float(), lengths)))


@pytest.mark.parametrize("recurrent", ["sru", "gru"])
def test_forward_and_backward_never_read_from_the_device(recurrent: str) -> None:
    with torch.device("meta"):  # where there is nothing to read
        network = PSGNet(**DATA, **SMALL, recurrent=recurrent)
        features = network((torch.empty(2, 100, COLUMNS), torch.empty(2, dtype=torch.int64)))
        features.sum().backward()
    assert features.shape == (2, network.feature_dim)


@pytest.mark.parametrize("recurrent", ["sru", "gru"])
def test_bfloat16_autocast_trains_close_to_single_precision(recurrent: str) -> None:
    network, batch = small(recurrent=recurrent), draw([300, 41])
    exact = network(batch)
    with torch.autocast("cpu", torch.bfloat16):
        features = network(batch)
    features.float().square().sum().backward()
    torch.testing.assert_close(features.float(), exact, rtol=0, atol=0.02)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("variant", [{}, {"recurrent": "gru"}, {"bidirectional": False, "encoder_dim": 12}], ids=str)
def test_every_weight_gets_a_gradient(variant: dict[str, object]) -> None:
    network = small(**variant)
    network(draw([200, 90, 150])).square().sum().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_dropout_acts_in_training_only() -> None:
    network, batch = small(dropout=0.5).eval(), draw([40, 11])
    assert torch.equal(network(batch), network(batch))
    network.train()
    assert not torch.equal(network(batch), network(batch))


def test_it_learns_a_breathing_rate_from_nights_of_unequal_length() -> None:
    network, generator = small(feature_dim=32), torch.Generator().manual_seed(0)
    model = nn.Sequential(network, nn.Linear(32, 1))
    lengths = torch.randint(40, 100, (64,), generator=generator)
    hertz = 0.15 + 0.35 * torch.rand(64, 1, 1, generator=generator)
    nights = torch.randn(64, 100, COLUMNS, generator=generator)
    phase = 2 * torch.pi * (hertz * torch.arange(1000)[None, :, None] / 10 + torch.rand(64, 1, 3, generator=generator))
    nights[:, :, 86:] = phase.sin().reshape(64, 100, 30)
    nights, scores = masked(nights, lengths), (hertz.flatten() - 0.325) / 0.1
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model((nights[:48], lengths[:48])).flatten(), scores[:48])
        torch.autograd.backward(loss)
        optimizer.step()
    error = nn.functional.mse_loss(model((nights[48:], lengths[48:])).flatten(), scores[48:])
    assert error < 0.3 * scores[48:].var()


def test_published_sizes() -> None:
    network = from_config("psg")
    assert isinstance(network.mlp[1], nn.Linear)
    assert (network.mlp[1].in_features, network.feature_dim) == (3 * 256, 256)
    assert sum(p.numel() for p in network.parameters()) == 6_445_312
    assert network.eval()(draw([70, 1])).shape == (2, 256)


def test_small_config_builds() -> None:
    network = from_config("psg_small")
    assert network(draw([70, 1])).shape == (2, network.feature_dim)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"recurrent": "gro"}, r"backbone\.recurrent.*did you mean 'gru'"),
        ({"recurrent": "ssru"}, r"did you mean 'sru'"),
        ({"downsample": 6}, r"backbone\.downsample=6 must be a multiple of 4.*names 2"),
        ({"downsample": 0}, r"backbone\.downsample=0"),
        ({"channels": ()}, r"at least 1"),
        ({"kernel_size": 4}, r"backbone\.kernel_size must be odd, not 4"),
        ({"encoder_dim": 9}, r"backbone\.encoder_dim=9 must be even"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        small(**wrong)


WHOLE_NIGHT = """
import sys, time, pathlib, torch, yaml
from dir_bench.backbones.psg import PSGNet
settings = yaml.safe_load(pathlib.Path(sys.argv[1]).read_text())
del settings["_target_"], settings["features"]
network = PSGNet(64, 22, 3, 10, **settings).eval()
start = time.perf_counter()
with torch.no_grad():
    assert network((torch.randn(1, 45448, 116), torch.tensor([45448]))).isfinite().all()
seconds = time.perf_counter() - start
peak = next(line for line in pathlib.Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(peak.split()[1], seconds)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("name", ["psg", "psg_small"])
def test_the_longest_night_fits_in_4_gib(name: str, record_property: Callable[[str, object], None]) -> None:
    command = [sys.executable, "-c", WHOLE_NIGHT, str(CONFIGS / f"{name}.yaml")]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    kib, seconds = map(float, output.split())
    record_property("peak_gib", kib / 2**20)
    record_property("seconds", seconds)
    assert kib < 4 * 2**20
