"""The small CNN and the linear baseline: shapes, scaling, and that they can learn."""

import pytest
import torch
from torch import nn

from dir_bench.backbones.cnn import SmallCNN
from dir_bench.backbones.linear import Linear
from dir_bench.errors import UserError


@pytest.mark.parametrize("size", [16, 32, 33, 40])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_cnn_gives_feature_vectors_for_any_size(size: int, norm: str) -> None:
    network = SmallCNN(3, size, channels=(4, 8), feature_dim=10, norm=norm)
    images = torch.randint(0, 256, (5, 3, size, size), dtype=torch.uint8)
    assert network(images).shape == (5, network.feature_dim) == (5, 10)


@pytest.mark.parametrize(("norm", "layers"), [("batch", 2), ("none", 0)])
def test_norm_decides_on_batch_norm(norm: str, layers: int) -> None:
    network = SmallCNN(1, 16, channels=(4, 8), norm=norm)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in network.modules()) == layers


def test_unknown_norm_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"backbone\.norm.*did you mean 'batch'"):
        SmallCNN(1, 16, norm="bach")


@pytest.mark.parametrize("network", [SmallCNN(1, 16, channels=(4,), norm="none"), Linear(in_channels=1, size=16)])
def test_bytes_and_scaled_floats_are_the_same_input(network: nn.Module) -> None:
    images = torch.randint(0, 256, (4, 1, 16, 16), dtype=torch.uint8)
    torch.testing.assert_close(network(images), network(images / 255 - 0.5))


def test_cnn_is_the_same_for_a_seed() -> None:
    images = torch.randint(0, 256, (4, 1, 16, 16), dtype=torch.uint8)
    first, second = (SmallCNN(1, 16).eval() for _ in range(2) if torch.manual_seed(7))
    assert torch.equal(first(images), second(images))


def test_every_weight_of_the_cnn_gets_a_gradient() -> None:
    torch.manual_seed(0)
    network = SmallCNN(1, 32)
    network(torch.randint(0, 256, (8, 1, 32, 32), dtype=torch.uint8)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_linear_features_are_the_inputs_and_nothing_is_learned() -> None:
    pictures, vectors = Linear(in_channels=2, size=3), Linear(in_features=7)
    assert (pictures.feature_dim, vectors.feature_dim) == (18, 7)
    assert not list(pictures.parameters())
    # 0 and 255 become -0.5 and 0.5.
    images = torch.tensor([0, 255], dtype=torch.uint8).repeat(9).reshape(1, 2, 3, 3)
    assert pictures(images).tolist() == [[-0.5, 0.5] * 9]
    inputs = torch.randn(4, 7)
    assert torch.equal(vectors(inputs), inputs)


@pytest.mark.parametrize("sizes", [{}, {"in_channels": 3}, {"in_features": 4, "in_channels": 1, "size": 2}])
def test_linear_needs_one_kind_of_size(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="in_features"):
        Linear(**sizes)
