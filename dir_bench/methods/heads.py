"""What the numbers of the last layer mean: the target itself, or a score for each bin.

The last layer belongs to the network, and what its outputs mean to a head: their losses in training, and the
predictions that they stand for in evaluation. All else works on predictions in label units and knows no heads.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dir_bench.errors import nearest
from dir_bench.labels import TargetBins
from dir_bench.methods.part import Head


class Regression(Head):
    """The output is the prediction in network units.

    Args:
        loss: Elementwise loss of (prediction, target) in network units.
        target_scale: Label units per network unit.
        target_shift: The label that is 0 in network units.
        start: What it predicts before it learned anything, in network units; None: what the last layer begins with.
    """

    def __init__(
        self,
        loss: Callable[[Tensor, Tensor], Tensor],
        target_scale: float = 1.0,
        target_shift: float = 0.0,
        start: float | None = None,
    ) -> None:
        super().__init__()
        self.loss, self.target_scale, self.target_shift, self.start = loss, target_scale, target_shift, start

    def initialise(self, regressor: nn.Module) -> None:
        """Set the bias of the last layer."""
        biases = [p for name, p in regressor.named_parameters() if name.rpartition(".")[2] == "bias"]
        if self.start is not None and biases:
            nn.init.constant_(biases[-1], self.start)

    def losses(self, output: Tensor, targets: Tensor, features: Tensor | None = None) -> Tensor:
        """Return the elementwise losses."""
        return self.loss(output, self.in_network_units(targets).to(output.dtype))

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

    Raises:
        ValueError: If it is neither.
    """
    return bin_values(bins, value)[bins.first :].astype(np.float32)


def bin_values(bins: TargetBins, value: str) -> NDArray[np.float64]:
    """Return what stands for each bin, shape ``(b,)``: its "center" or lower "edge"; ValueError if it is neither."""
    values = {"center": bins.centers, "edge": bins.edges[:-1]}
    if value not in values:
        raise ValueError(f"value={value} is not a choice{nearest(value, values)}: center, edge or by_targets")
    return np.asarray(values[value], np.float64)


class Beside(nn.Module):
    """Several modules of the same input, their outputs side by side."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.each = nn.ModuleList(modules)

    def forward(self, features: Tensor) -> Tensor:
        """Return all outputs, joined along the second dimension."""
        return torch.cat([module(features) for module in self.each], dim=1)
