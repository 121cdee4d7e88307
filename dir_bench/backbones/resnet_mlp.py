"""A residual network of fully connected layers, for tables."""

from torch import Tensor, nn

from dir_bench.backbones.base import Backbone


class ResidualBlock(nn.Module):
    """x + dropout(linear(dropout(relu(linear(batch norm(x)))))), shape ``(b, width)`` in and out."""

    def __init__(self, width: int, hidden: int, dropout: float, residual_dropout: float) -> None:
        super().__init__()
        self.added = nn.Sequential(
            nn.BatchNorm1d(width),
            nn.Linear(width, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, width),
            nn.Dropout(residual_dropout) if residual_dropout else nn.Identity(),  # torch would draw and multiply
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the inputs and what the block adds to them."""
        outputs: Tensor = inputs + self.added(inputs)
        return outputs


class ResNetMLP(Backbone):
    """A linear layer, residual blocks, batch norm and ReLU; the regressor on it is the paper's prediction layer.

    Args:
        in_features: Numbers per sample; inputs have shape ``(b, in_features)``.
        width: Of what the blocks add to; it is `feature_dim`.
        hidden: Width within a block.
        blocks: How many.
        dropout: Share of a block's hidden units that training drops.
        residual_dropout: Share of what a block adds that training drops.

    Source:
        Gorishniy et al., "Revisiting deep learning models for tabular data", NeurIPS 2021, arXiv:2106.11959, section
        3.2; 128, 2 blocks of twice the width and a dropout of 0.2 lie within the ranges that they search.
    """

    takes = ("vectors",)

    def __init__(
        self,
        in_features: int,
        width: int = 128,
        hidden: int = 256,
        blocks: int = 2,
        dropout: float = 0.2,
        residual_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.first = nn.Linear(in_features, width)
        self.blocks = nn.Sequential(*(ResidualBlock(width, hidden, dropout, residual_dropout) for _ in range(blocks)))
        self.last = nn.Sequential(nn.BatchNorm1d(width), nn.ReLU())
        self.mixable = ("first", *(f"blocks.{place}" for place in range(blocks)), "last")
        self.feature_dim = width

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features, shape ``(b, feature_dim)``."""
        features: Tensor = self.last(self.blocks(self.first(inputs)))
        return features
