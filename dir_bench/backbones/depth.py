"""A picture in, a map of features out: the encoder-decoder of NYUD2-DIR."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import ResNet

from dir_bench.backbones.base import Backbone
from dir_bench.backbones.vision import without_classifier
from dir_bench.backbones.weights import load_weights
from dir_bench.errors import UserError

_UP = {
    "conv1.": "resize_branch.",
    "bn1.": "branch.0.",
    "conv1_2.": "branch.2.",
    "bn1_2.": "branch.3.",
    "conv2.": "resize_shortcut.",
    "bn2.": "shortcut.",
}
OFFICIAL_BACKBONE = {
    "E.conv1.": "encoder.stem.0.",
    "E.bn1.": "encoder.stem.1.",
    **{f"E.layer{i + 1}.": f"encoder.blocks.{i}." for i in range(4)},
    "D.conv.": "decoder.reduce.0.",
    "D.bn.": "decoder.reduce.1.",
    **{f"D.up{i + 1}.{theirs}": f"decoder.up.{i}.{ours}" for i in range(4) for theirs, ours in _UP.items()},
    "MFF.conv.": "fusion.merge.0.",
    "MFF.bn.": "fusion.merge.1.",
    **{f"MFF.up{i + 1}.{theirs}": f"fusion.up.{i}.{ours}" for i in range(4) for theirs, ours in _UP.items()},
    "R.conv0.": "refine.0.",
    "R.bn0.": "refine.1.",
    "R.conv1.": "refine.3.",
    "R.bn1.": "refine.4.",
}
OFFICIAL_REGRESSOR = "R.conv2."


class DepthNet(Backbone):
    """Encoder, decoder, fusion of all scales and refinement: the features from which a last convolution reads depth.

    `feature_dim` is their number at each place: 128 with ResNet-50.

    Args:
        encoder: A ResNet of torchvision.
        weights: File of torchvision's weights for the encoder; None: drawn at random. Nothing is downloaded.
        in_channels: Channels of the data's pictures; 3 is all that the encoder takes.
        size: Not used: pictures of any size are taken.

    Raises:
        UserError: If the encoder is no ResNet, the pictures have not 3 channels, or the file does not fit.

    Source:
        Hu et al. 2019, "Revisiting Single Image Depth Estimation", arXiv:1803.08673; behaviour of
        nyud2-dir/models (Yang et al. 2021); its key names are those of `from_official`.
    """

    refit = ("refine",)
    """Parts that RRT trains anew with the regressor: the published code re-trains all of its R."""

    mixable = ("encoder.stem", "encoder.blocks.0", "refine")
    """Layers 1, 2, 3 of manifold mixup: those through which all goes. From block 2 on, scales go side by side."""

    def __init__(
        self, encoder: str = "resnet50", weights: str | None = None, in_channels: int = 3, size: Any = None
    ) -> None:
        super().__init__()
        if in_channels != 3:
            raise UserError(f"the depth network takes pictures of 3 channels and the data have {in_channels}")
        resnet, classifier, width = without_classifier(encoder)
        if not isinstance(resnet, ResNet):
            raise UserError(f"backbone.encoder={encoder} is no ResNet: choose one, such as resnet50 or resnet18")
        if weights is not None:
            load_weights(resnet, weights, encoder, classifier)
        self._assemble(Encoder(resnet), width, fused=16)

    def _assemble(self, encoder: nn.Module, width: int, fused: int) -> None:
        """Set what follows an encoder of four blocks, the last of `width` channels, each before it of half as many."""
        self.encoder = encoder
        self.decoder = Decoder(width)
        self.fusion = Fusion([width // 8, width // 4, width // 2, width], fused)
        self.feature_dim = width // 32 + self.fusion.feature_dim
        self.refine = nn.Sequential(
            *_convolution(self.feature_dim, self.feature_dim, 5),
            nn.ReLU(inplace=True),
            *_convolution(self.feature_dim, self.feature_dim, 5),
            nn.ReLU(inplace=True),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return features, shape ``(b, feature_dim, 2⌈h/4⌉, 2⌈w/4⌉)``, of float pictures, shape ``(b, 3, h, w)``."""
        blocks = self.encoder(images)
        decoded = self.decoder(blocks)
        features: Tensor = self.refine(torch.cat([decoded, self.fusion(blocks, decoded.shape[-2:])], dim=1))
        return features

    def make_regressor(self, outputs: int = 1) -> nn.Module:
        """Return a new last layer, from features to depth or scores, shape ``(b, outputs, 2⌈h/4⌉, 2⌈w/4⌉)``."""
        return nn.Conv2d(self.feature_dim, outputs, 5, padding=2)

    @classmethod
    def from_official(cls, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Rename a published NYUD2 state dict to (backbone, regressor) state dicts; FDS's buffers are left out."""
        plain = {key.removeprefix("module."): value for key, value in state.items()}
        backbone = {
            ours + key.removeprefix(official): value
            for official, ours in OFFICIAL_BACKBONE.items()
            for key, value in plain.items()
            if key.startswith(official)
        }
        regressor = {
            key.removeprefix(OFFICIAL_REGRESSOR): value
            for key, value in plain.items()
            if key.startswith(OFFICIAL_REGRESSOR)
        }
        return backbone, regressor


class SmallDepthNet(DepthNet):
    """The same build, narrow, on four strided convolutions: for trying out, where a ResNet takes too long.

    `feature_dim` is ``4 · width // 16 + width // 32``.

    Args:
        width: Channels of the encoder's last block, a multiple of 32; those before have half as many each.
        in_channels: Channels of the data's pictures, any number.
        size: Not used: pictures of any size are taken.

    Raises:
        UserError: If `width` is no positive multiple of 32.
    """

    def __init__(self, width: int = 64, in_channels: int = 3, size: Any = None) -> None:
        Backbone.__init__(self)
        if width < 32 or width % 32:
            raise UserError(f"backbone.width={width} must be a multiple of 32, such as 64")
        self._assemble(StridedEncoder(in_channels, width), width, fused=width // 16)


class Encoder(nn.Module):
    """The outputs of a ResNet's four blocks, of 1/4, 1/8, 1/16 and 1/32 of the picture's size."""

    def __init__(self, resnet: ResNet) -> None:
        super().__init__()
        self.stem = nn.Sequential(resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool)
        self.blocks = nn.ModuleList([resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4])

    def forward(self, images: Tensor) -> list[Tensor]:
        features, outputs = self.stem(images), []
        for block in self.blocks:
            features = block(features)
            outputs.append(features)
        return outputs


class StridedEncoder(Encoder):
    """A ResNet's four sizes from one strided convolution each, the last of `width` channels."""

    def __init__(self, in_channels: int, width: int) -> None:
        nn.Module.__init__(self)
        widths = [width // 8, width // 8, width // 4, width // 2, width]
        self.stem = _strided(in_channels, widths[0])
        self.blocks = nn.ModuleList(_strided(narrow, wide) for narrow, wide in pairwise(widths))


class Decoder(nn.Module):
    """From the last block, step by step, to twice the size of the first; each step halves the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduce = nn.Sequential(*_convolution(width, width // 2, 1), nn.ReLU(inplace=True))
        self.up = nn.ModuleList(UpProjection(width // 2**i, width // 2 ** (i + 1)) for i in range(1, 5))

    def forward(self, blocks: list[Tensor]) -> Tensor:
        height, width = blocks[0].shape[-2:]
        sizes = [*(block.shape[-2:] for block in blocks[2::-1]), torch.Size((2 * height, 2 * width))]
        features: Tensor = self.reduce(blocks[3])
        for up, size in zip(self.up, sizes, strict=True):
            features = up(features, size)
        return features


class Fusion(nn.Module):
    """All blocks at one size, side by side, merged by a convolution."""

    def __init__(self, widths: list[int], channels: int = 16) -> None:
        super().__init__()
        self.feature_dim = channels * len(widths)
        self.up = nn.ModuleList(UpProjection(width, channels) for width in widths)
        self.merge = nn.Sequential(*_convolution(self.feature_dim, self.feature_dim, 5), nn.ReLU(inplace=True))

    def forward(self, blocks: list[Tensor], size: torch.Size) -> Tensor:
        resized = [up(block, size) for up, block in zip(self.up, blocks, strict=True)]
        merged: Tensor = self.merge(torch.cat(resized, dim=1))
        return merged


class UpProjection(nn.Module):
    """Bilinear resizing, then a residual block: two convolutions in one branch, one in the other."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.resize_branch = ResizingConv(in_channels, out_channels)
        self.branch = nn.Sequential(
            nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True), *_convolution(out_channels, out_channels, 3)
        )
        self.resize_shortcut = ResizingConv(in_channels, out_channels)
        self.shortcut = nn.BatchNorm2d(out_channels)

    def forward(self, features: Tensor, size: torch.Size) -> Tensor:
        branch = self.branch(self.resize_branch(features, size))
        return nn.functional.relu(branch + self.shortcut(self.resize_shortcut(features, size)))


class ResizingConv(nn.Conv2d):
    """Bilinear resizing to a given size, then a 5×5 convolution without bias.

    Both are linear, and resizing treats all channels alike, so what each of the 25 places of the kernel adds can be
    formed at the small size, resized, and added up in its place. The result is the same; where many channels become
    few, as in the fusion, it costs less: a training step of the network with ResNet-50 takes about half the time on a
    CPU, and the resized map of 2048 channels is never held.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 5, padding=2, bias=False)
        self.by_place = in_channels > 25 * out_channels

    def forward(self, features: Tensor, size: torch.Size) -> Tensor:  # type: ignore[override]
        if not self.by_place:
            return super().forward(_resize(features, size))
        # fold adds at place + offset what a convolution reads at place − offset: hence the flip.
        places = self.weight.flip(2, 3).permute(0, 2, 3, 1).reshape(-1, self.in_channels, 1, 1)
        added = _resize(nn.functional.conv2d(features, places), size)
        return nn.functional.fold(added.flatten(2), size, kernel_size=5, padding=2)


def _resize(features: Tensor, size: torch.Size) -> Tensor:
    return nn.functional.interpolate(features, list(size), mode="bilinear", align_corners=False)


def _strided(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return a convolution to half the size, its batch norm and activation."""
    convolution = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


def _convolution(in_channels: int, out_channels: int, kernel_size: int) -> tuple[nn.Module, nn.Module]:
    """Return a convolution that keeps the size, and its batch norm."""
    convolution = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
    return convolution, nn.BatchNorm2d(out_channels)
