"""Video networks of torchvision on volumes, and the small network on inputs of every rank."""

import pytest
import torch

from dir_bench.backbones.cnn import SmallCNN, SmallCNN3d
from dir_bench.backbones.linear import Linear
from dir_bench.backbones.video import Video
from dir_bench.errors import UserError


def test_one_channel_stands_for_three() -> None:
    network = Video("mc3_18", size=(4, 16, 16)).eval()
    volumes = torch.randn(2, 1, 4, 16, 16)
    features = network(volumes)
    assert features.shape == (2, network.feature_dim) == (2, 512)
    torch.testing.assert_close(features, network(volumes.repeat(1, 3, 1, 1, 1)))
    assert network.mixable == tuple(f"network.layer{i}" for i in (1, 2, 3, 4))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"name": "r3d_81"}, r"'r3d_81' is no video network of torchvision \(did you mean 'r3d_18'"),
        ({"name": "resnet50"}, "'resnet50' is no video network"),
        ({"in_channels": 2}, "takes volumes of 1 or 3 channels and the data have 2: .*backbone=cnn3d"),
        ({"name": "s3d", "size": (16, 32, 32)}, "no single classifier to take off"),
        ({"name": "mvit_v2_s", "size": (3, 5, 5)}, "cannot take volumes of 3×5×5 voxels"),
    ],
)
def test_what_it_cannot_take_is_a_sentence(settings: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Video(**settings)


@pytest.mark.parametrize("size", [(9,), (8, 5), (6, 7, 8)])
@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_the_small_network_takes_sequences_pictures_and_volumes(size: tuple[int, ...], norm: str) -> None:
    inputs = torch.randn(3, 2, *size)
    kind = SmallCNN3d if len(size) == 3 else SmallCNN
    assert kind(2, size, channels=(4, 12), feature_dim=10, norm=norm)(inputs).shape == (3, 10)
    network = Linear(in_channels=2, size=size)
    assert network(inputs).shape == (3, network.feature_dim)


def test_group_norm_looks_at_one_sample_alone() -> None:
    network = SmallCNN3d(1, (6, 6, 6), norm="group")
    volumes = torch.randn(3, 1, 6, 6, 6)
    torch.testing.assert_close(network(volumes)[:1], network(volumes[:1]))
