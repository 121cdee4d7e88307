"""No network at all: the regressor on the inputs themselves, as a baseline."""

import math
from collections.abc import Sequence

from torch import Tensor

from dir_bench.backbones.base import Backbone
from dir_bench.backbones.pixels import scaled, sides


class Linear(Backbone):
    """Flattened inputs as they are. There are no learned features, so FDS has nothing to calibrate.

    Args:
        in_features: Numbers per sample, for vectors.
        in_channels: Channels, for sequences, pictures and volumes.
        size: Of each further axis; a number alone: height and width, of pictures.

    Raises:
        ValueError: If none of them is given, or both kinds are.
    """

    takes = ("vectors", "sequences", "pictures", "volumes")

    def __init__(self, in_features: int = 0, in_channels: int = 0, size: int | Sequence[int] = 0) -> None:
        super().__init__()
        pixels = in_channels * math.prod(sides(size))
        if (in_features > 0) == (pixels > 0):
            raise ValueError("Linear takes either in_features, or in_channels and size")
        self.feature_dim = in_features or pixels

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the inputs, shape ``(b, feature_dim)``; uint8 is scaled to [−0.5, 0.5]."""
        return scaled(inputs).flatten(1)
