"""DenseWeight: multiplies each loss by a weight that falls with the density of its label.

Source:
    Steininger et al., "Density-based weighting for imbalanced regression", Machine Learning 110, 2021, equations 2–6.
    With squared errors it is the paper's DenseLoss; any loss may stand there. The authors' package is GPL-3; nothing
    here is taken from it. Published: alpha 1, epsilon 1e-6.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dir_bench.errors import UserError
from dir_bench.labels.dense import dense_weights
from dir_bench.methods.part import Facts, Part


class DenseWeight(Part):
    """Multiplies each loss by the weight of its label.

    Args:
        facts: Of the training labels; of dense ones, bins stand for them.
        alpha: See `dense_weights`.
        epsilon: See `dense_weights`.

    Raises:
        UserError: If the labels have no density.
    """

    grid: Tensor
    weights: Tensor

    def __init__(self, facts: Facts, alpha: float = 1.0, epsilon: float = 1e-6) -> None:
        super().__init__()
        filled = facts.counts > 0
        labels, counts = (facts.bins.centers[filled], facts.counts[filled]) if facts.dense else (facts.targets, None)
        try:
            grid, weights = dense_weights(labels, alpha, epsilon, counts=counts)
        except ValueError as error:
            raise UserError(f"DenseWeight: {error}") from error
        self.register_buffer("grid", torch.from_numpy(grid).float(), persistent=False)
        self.register_buffer("weights", torch.from_numpy(weights).float(), persistent=False)

    def weigh(self, targets: Tensor) -> Tensor:
        """Return the weight of each target; beyond the grid, that of its end."""
        place = torch.searchsorted(self.grid, targets.float().contiguous(), right=True) - 1
        return self.weights[place.clamp(0, len(self.grid) - 1)]
