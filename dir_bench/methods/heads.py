"""What the numbers of the last layer mean: the target itself, or a score for each bin.

The last layer belongs to the network, and what its outputs mean to a head: their losses in training, and the
predictions that they stand for in evaluation. All else works on predictions in label units and knows no heads.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from dir_bench.labels import TargetBins
from dir_bench.methods.part import Head


class Regression(Head):
    """The output is the prediction in network units.

    Args:
        loss: Elementwise loss of (prediction, target) in network units.
        target_scale: Label units per network unit.
    """

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor], target_scale: float = 1.0) -> None:
        super().__init__()
        self.loss, self.target_scale = loss, target_scale

    def losses(self, output: Tensor, targets: Tensor, features: Tensor | None = None) -> Tensor:
        """Return the elementwise losses."""
        return self.loss(output, (targets / self.target_scale).to(output.dtype))

    def decode(self, output: Tensor) -> Tensor:
        """Return the output itself."""
        return output


class Classification(Head):
    """One class for each bin in use, from `bins.first` on; targets below it belong to the first class.

    Of dense targets the scores alone take `outputs` times the memory of a map, and cross-entropy as much again for
    their logarithms and for the gradient: NYUD2 with 93 classes and 32 pictures, 0.2 GB each.

    Args:
        bins: Of the targets.
        values: The label that each class stands for, float32, shape ``(classes,)``.
        expected: Whether to predict the mean of the values under the network's probabilities, or the value of the
            likeliest class.
    """

    values: Tensor

    def __init__(self, bins: TargetBins, values: Tensor, expected: bool = False) -> None:
        super().__init__()
        self.bins, self.expected, self.outputs = bins, expected, len(values)
        self.register_buffer("values", values, persistent=False)

    def losses(self, output: Tensor, targets: Tensor, features: Tensor | None = None) -> Tensor:
        """Return the cross-entropy of each target's bin."""
        classes = (self.bins.index(targets) - self.bins.first).clamp(min=0)
        return cross_entropy(output, classes.squeeze(1), reduction="none").unsqueeze(1)

    def decode(self, output: Tensor) -> Tensor:
        """Return the predictions in label units."""
        if self.expected:
            return torch.einsum("bc...,c->b...", output.softmax(1), self.values).unsqueeze(1)
        return self.values[output.argmax(1, keepdim=True)]


def class_values(bins: TargetBins, value: Literal["center", "edge"] | str) -> NDArray[np.float32]:
    """Return the label that each bin in use stands for, shape ``(classes,)``.

    Args:
        value: "center": the middle of the bin. "edge": its lower edge, where labels are whole numbers of bins (ages in
            years; most scores of STS-B, with bins of 0.1).
    """
    values = {"center": bins.centers, "edge": bins.edges[:-1]}[value]
    return values[bins.first :].astype(np.float32)
