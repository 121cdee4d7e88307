"""Small convolutional networks, for small pictures, volumes and sequences on a CPU."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from dir_bench.backbones.base import Backbone
from dir_bench.backbones.pixels import scaled, sides
from dir_bench.errors import UserError, nearest

NORMS = ("batch", "group", "none")
GROUPS = 8
"""Of channels that are normalised together, at most."""
CONVOLUTIONS: tuple[type[nn.Module], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
BATCH_NORMS: tuple[type[nn.Module], ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
"""By the number of axes behind the channels: of sequences, pictures, volumes."""


class SmallCNN(Backbone):
    """Convolutions, 3 wide, that halve each side, then one fully connected layer: where things are is kept.

    Args:
        in_channels: Channels of an input, shape ``(b, in_channels, *size)``; uint8 is scaled to [−0.5, 0.5].
        size: Of each axis: (length,), (height, width) or (depth, height, width); a number alone: height and width.
        channels: Channels of each convolution; each one more halves the size again.
        feature_dim: Width of the feature vector.
        norm: "batch", "group" (of channels, of each sample apart: for small batches) or "none": what follows each
            convolution.

    Raises:
        UserError: If `norm` is none of them.
    """

    takes: Sequence[str] = ("sequences", "pictures", "volumes")

    def __init__(
        self,
        in_channels: int,
        size: int | Sequence[int],
        channels: Sequence[int] = (16, 32, 64, 64),
        feature_dim: int = 128,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise UserError(f"backbone.norm must be one of {', '.join(NORMS)}, not '{norm}'{nearest(norm, NORMS)}")
        shape = sides(size)
        convolution, batch_norm = CONVOLUTIONS[len(shape) - 1], BATCH_NORMS[len(shape) - 1]
        layers: list[nn.Module] = []
        outputs: list[str] = []
        for width in channels:
            layers.append(convolution(in_channels, width, 3, stride=2, padding=1, bias=norm == "none"))
            layers += [batch_norm(width)] if norm == "batch" else []
            layers += [nn.GroupNorm(math.gcd(GROUPS, width), width)] if norm == "group" else []
            layers.append(nn.ReLU())
            outputs.append(f"layers.{len(layers) - 1}")
            in_channels, shape = width, tuple((side + 1) // 2 for side in shape)
        self.mixable = tuple(outputs)
        self.layers = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(in_channels * math.prod(shape), feature_dim), nn.ReLU()
        )
        self.feature_dim = feature_dim

    def forward(self, images: Tensor) -> Tensor:
        """Return features, shape ``(b, feature_dim)``."""
        features: Tensor = self.layers(scaled(images))
        return features


class SmallCNN3d(SmallCNN):
    """`SmallCNN` for volumes alone."""

    takes = ("volumes",)
