"""Weights of the loss by label, as a part of a method."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dir_bench.methods.part import Facts, Part


class BinWeights(Part):
    """Multiplies the loss of each target by the weight of its bin: one gather, for samples and pixels alike.

    Args:
        facts: Those of the training labels.
        weights: Of each bin, float32 of shape ``(b,)``; their mean over training samples is 1.
    """

    table: Tensor

    def __init__(self, facts: Facts, weights: NDArray[np.float32]) -> None:
        super().__init__()
        self.bins = facts.bins
        self.register_buffer("table", torch.from_numpy(weights), persistent=False)

    def weigh(self, targets: Tensor) -> Tensor:
        """Return the weight of each target, of their shape."""
        return self.table[self.bins.index(targets)]
