"""A small convolutional network, for small pictures on a CPU."""

from collections.abc import Sequence

from torch import Tensor, nn

from dir_bench.backbones.base import Backbone
from dir_bench.backbones.pixels import scaled
from dir_bench.errors import UserError, nearest

NORMS = ("batch", "none")


class SmallCNN(Backbone):
    """3×3 convolutions that halve the picture each time, then one fully connected layer: where things are is kept.

    Args:
        in_channels: Channels of a picture, shape ``(b, in_channels, size, size)``; uint8 is scaled to [−0.5, 0.5].
        size: Pixels.
        channels: Channels of each convolution; each one more halves the size again.
        feature_dim: Width of the feature vector.
        norm: "batch" or "none": what follows each convolution.

    Raises:
        UserError: If `norm` is neither.
    """

    def __init__(
        self,
        in_channels: int,
        size: int,
        channels: Sequence[int] = (16, 32, 64, 64),
        feature_dim: int = 128,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise UserError(f"backbone.norm must be one of {', '.join(NORMS)}, not '{norm}'{nearest(norm, NORMS)}")
        layers: list[nn.Module] = []
        outputs: list[str] = []
        for width in channels:
            layers.append(nn.Conv2d(in_channels, width, 3, stride=2, padding=1, bias=norm == "none"))
            layers += [nn.BatchNorm2d(width)] if norm == "batch" else []
            layers.append(nn.ReLU())
            outputs.append(f"layers.{len(layers) - 1}")
            in_channels, size = width, (size + 1) // 2
        self.mixable = tuple(outputs)
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(in_channels * size**2, feature_dim), nn.ReLU())
        self.feature_dim = feature_dim

    def forward(self, images: Tensor) -> Tensor:
        """Return features, shape ``(b, feature_dim)``."""
        features: Tensor = self.layers(scaled(images))
        return features
