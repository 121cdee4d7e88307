"""What the numbers of the last layer mean: the target itself, or a score for each bin.

The last layer belongs to the network, and what its outputs mean to a head: their losses in training, and the
predictions that they stand for in evaluation. All else works on predictions in label units and knows no heads.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from dir_bench.labels import TargetBins


class Head(Protocol):
    """Turns the last layer's outputs, shape ``(b, outputs)`` or ``(b, outputs, h, w)``, into losses and predictions."""

    @property
    def outputs(self) -> int:
        """Outputs of the last layer for each target."""
        ...

    @property
    def target_scale(self) -> float:
        """Label units per unit of what `decode` returns."""
        ...

    def losses(self, output: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each target, unweighted, shape ``(b, 1)`` or ``(b, 1, h, w)``, that of the targets."""
        ...

    def decode(self, output: Tensor) -> Tensor:
        """Return the predictions, shape ``(b, 1)`` or ``(b, 1, h, w)``."""
        ...


@dataclass(frozen=True)
class Regression:
    """The output is the prediction in network units.

    Attributes:
        loss: Elementwise loss of (prediction, target) in network units.
        target_scale: Label units per network unit.
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    target_scale: float = 1.0
    outputs: ClassVar[int] = 1

    def losses(self, output: Tensor, targets: Tensor) -> Tensor:
        """Return the elementwise losses."""
        return self.loss(output, (targets / self.target_scale).to(output.dtype))

    def decode(self, output: Tensor) -> Tensor:
        """Return the output itself."""
        return output


@dataclass(frozen=True)
class Classification:
    """One class for each bin in use, from `bins.first` on; targets below it belong to the first class.

    Of dense targets the scores alone take `outputs` times the memory of a map, and cross-entropy as much again for
    their logarithms and for the gradient: NYUD2 with 93 classes and 32 pictures, 0.2 GB each.

    Attributes:
        values: The label that each class stands for, float32, shape ``(classes,)``, on the device.
        expected: Whether to predict the mean of the values under the network's probabilities, or the value of the
            likeliest class.
    """

    bins: TargetBins
    values: Tensor
    expected: bool = False
    target_scale: ClassVar[float] = 1.0

    @property
    def outputs(self) -> int:
        """Classes."""
        return len(self.values)

    def losses(self, output: Tensor, targets: Tensor) -> Tensor:
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
