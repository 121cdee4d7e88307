"""A multi-layer perceptron, for vectors (tabular data, embeddings)."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from dir_bench.backbones.base import Backbone


class MLP(Backbone):
    """Fully connected layers with ReLU; the last hidden layer is the feature vector.

    Args:
        in_features: Numbers per sample; inputs have shape ``(b, in_features)``.
        hidden: Width of each layer; the last is `feature_dim`.
        dropout: Share of each layer's outputs that training drops.
    """

    takes = ("vectors",)

    def __init__(self, in_features: int, hidden: Sequence[int] = (64, 64), dropout: float = 0.0) -> None:
        super().__init__()
        widths = [in_features, *hidden]
        layers: list[nn.Module] = []
        outputs: list[str] = []
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU(), nn.Dropout(dropout)]
            outputs.append(f"layers.{len(layers) - 1}")
        self.mixable = tuple(outputs)
        self.layers = nn.Sequential(*layers)
        self.feature_dim = widths[-1]

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features, shape ``(b, feature_dim)``."""
        features: Tensor = self.layers(inputs)
        return features
