"""The encoder-decoder: shapes at any size, the published sizes and names, and a resizing that may be reordered."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from dir_bench.backbones.depth import OFFICIAL_BACKBONE, OFFICIAL_REGRESSOR, DepthNet, ResizingConv, SmallDepthNet
from dir_bench.errors import UserError

MODEL_FACTS = Path(__file__).parents[3] / "shared" / "golden" / "model_facts.json"


def small(weights: str | None = None) -> DepthNet:
    torch.manual_seed(0)
    return DepthNet("resnet18", weights)


def pictures(height: int = 48, width: int = 64) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


@pytest.mark.parametrize("size", [(228, 304), (64, 64), (50, 71), (33, 97)])
def test_a_map_of_half_the_size_comes_out_for_any_picture(size: tuple[int, int]) -> None:
    with torch.device("meta"):
        network = DepthNet().eval()
        features = network(pictures(*size).to("meta"))
        depth = network.make_regressor()(features)
    half = tuple(2 * -(-pixels // 4) for pixels in size)  # 2⌈h/4⌉: the first block rounds up
    assert features.shape == (2, 128, *half)
    assert depth.shape == (2, 1, *half)


def test_numbers_of_weights_are_the_published_ones() -> None:
    with torch.device("meta"):
        network = DepthNet()
        regressor = network.make_regressor()
    assert network.feature_dim == 128
    assert count(network.encoder) == 23_508_032
    assert count(network.decoder) == 40_054_400
    assert count(network.fusion) == 3_184_128
    assert count(network.refine, regressor) == 822_913  # the published R
    assert count(network, regressor) == 67_569_473


def test_every_weight_gets_a_gradient() -> None:
    network = small()
    network(pictures()).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.parametrize("size", [(64, 64), (50, 71)])
def test_the_narrow_network_maps_pictures_of_any_size_and_learns_with_all_weights(size: tuple[int, int]) -> None:
    network = SmallDepthNet(32)
    depth = network.make_regressor()(network(pictures(*size)))
    assert depth.shape == (2, 1, *(2 * -(-pixels // 4) for pixels in size))
    network(pictures(*size)).square().sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    with pytest.raises(UserError, match=r"width=48 must be a multiple of 32"):
        SmallDepthNet(48)


def test_evaluation_draws_nothing_and_pictures_do_not_mix() -> None:
    network = small().eval()
    together = network(pictures())
    torch.testing.assert_close(network(pictures()), together, rtol=0, atol=0)
    torch.testing.assert_close(network(pictures()[1:])[0], together[1], rtol=0, atol=1e-4)


def test_bfloat16_stays_near_float32() -> None:
    network = small().eval()
    regressor = network.make_regressor()
    with torch.no_grad():
        expected = regressor(network(pictures()))
        with torch.autocast("cpu", torch.bfloat16):
            features = network(pictures())
            actual = regressor(features)
    assert features.dtype == torch.bfloat16
    # 8 bits of precision through 40 layers: a few hundredths of the spread.
    assert (actual.float() - expected).square().mean().sqrt() < 0.05 * expected.std()


@pytest.mark.parametrize("in_channels", [60, 40])  # 60 > 25 × 2 goes by place, 40 does not
@pytest.mark.parametrize("size", [(9, 14), (5, 4), (3, 2)])
def test_resizing_then_convolving_is_what_is_computed(in_channels: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = ResizingConv(in_channels, 2).double()
    features = torch.randn(3, in_channels, 4, 5, dtype=torch.float64, requires_grad=True)
    resized = nn.functional.interpolate(features, size, mode="bilinear", align_corners=False)
    expected = nn.functional.conv2d(resized, layer.weight, padding=2)
    actual = layer(features, torch.Size(size))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)
    along = torch.randn_like(expected)
    for got, wanted in zip(
        torch.autograd.grad(actual, (features, layer.weight), along),
        torch.autograd.grad(expected, (features, layer.weight), along),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)


def test_a_file_of_weights_fills_the_encoder(tmp_path: Path) -> None:
    torch.manual_seed(7)
    resnet = models.resnet18().eval()
    torch.save(resnet.state_dict(), tmp_path / "weights.pth")
    blocks = small(str(tmp_path / "weights.pth")).encoder.eval()(pictures())
    torch.testing.assert_close(resnet.fc(resnet.avgpool(blocks[3]).flatten(1)), resnet(pictures()), rtol=0, atol=0)


def test_what_cannot_be_the_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="encoder=alexnet is no ResNet"):
        DepthNet("alexnet")
    with pytest.raises(UserError, match=r"'resnet5' is no classification network .*did you mean 'resnet50'"):
        DepthNet("resnet5")
    with pytest.raises(UserError, match="3 channels and the data have 4"):
        DepthNet("resnet18", in_channels=4)
    torch.save(models.resnet34().state_dict(), tmp_path / "weights.pth")
    with pytest.raises(UserError, match="is not of resnet18, it also has layer1"):
        small(str(tmp_path / "weights.pth"))


def official_state(network: DepthNet, regressor: nn.Module) -> dict[str, Tensor]:
    """Give our tensors their official names."""
    state = {OFFICIAL_REGRESSOR + key: value for key, value in regressor.state_dict().items()}
    for key, value in network.state_dict().items():
        (name,) = (o + key.removeprefix(ours) for o, ours in OFFICIAL_BACKBONE.items() if key.startswith(ours))
        state[name] = value
    return state


@pytest.mark.parametrize("prefix", ["", "module."])
def test_an_official_checkpoint_is_read(tmp_path: Path, prefix: str) -> None:
    network = small().eval()
    regressor = network.make_regressor()
    state = {prefix + key: value for key, value in official_state(network, regressor).items()}
    torch.save(state | {f"{prefix}R.FDS.running_mean": torch.zeros(93, 80)}, tmp_path / "checkpoint.pth")
    backbone, last = DepthNet.from_official(torch.load(tmp_path / "checkpoint.pth", weights_only=True))
    other = DepthNet("resnet18").eval()
    other_regressor = other.make_regressor()
    other.load_state_dict(backbone)
    other_regressor.load_state_dict(last)
    torch.testing.assert_close(other_regressor(other(pictures())), regressor(network(pictures())), rtol=0, atol=0)


@pytest.mark.data
@pytest.mark.skipif(not MODEL_FACTS.is_file(), reason="the facts of the official models are not beside this clone")
def test_names_and_shapes_are_the_official_ones() -> None:
    facts = json.loads(MODEL_FACTS.read_text())["nyud2_encoder_decoder"]
    with torch.device("meta"):
        network = DepthNet()
        ours = official_state(network, network.make_regressor())
    assert {key: list(value.shape) for key, value in ours.items()} == {k: shape for k, shape, _ in facts["state_dict"]}
