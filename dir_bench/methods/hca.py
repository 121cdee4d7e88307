"""HCA: classifiers from coarse to fine on a trained encoder; the coarse ones, better balanced, adjust the finest.

Source:
    Xiong and Yao, "Deep Imbalanced Regression via Hierarchical Classification Adjustment", CVPR 2024,
    arXiv:2310.17154, section 3. Published for IMDB-WIKI alone: six levels above 121 classes of a year, weights by the
    square root of inverse counts under LDS of 5 and 2. How its encoder is trained was not to be read: here it is
    VANILLA's, and frozen. The authors' repository (xhp-hust-2018-2011/HCA) has no licence and no training code;
    nothing here is taken from it.

    The loss of `combine="distilled"` is inferred, from the names and shapes of that repository's helpers: take its
    numbers for those of our reading.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dir_bench.backbones.base import Backbone
from dir_bench.datasets.base import IntArray
from dir_bench.errors import UserError
from dir_bench.methods.heads import Beside, class_values
from dir_bench.methods.part import Facts, Head, refuse_maps

if TYPE_CHECKING:
    from dir_bench.schema import Config

COMBINES = ("add", "mul", "distilled")


def hierarchy(mass: NDArray[np.float64], levels: int) -> IntArray:
    """Return the class of each label at each level, shape ``(levels, labels)``; level h has 2^(h+1) at most.

    Each interval of labels is cut where the mass on the left is nearest to half of it, with a label on either side at
    least, and of cuts that are as near in the middlemost.
    """
    borders, classes = [0, len(mass)], []
    for _ in range(levels):
        cuts = [_cut(mass[low:high]) + low for low, high in pairwise(borders) if high - low > 1]
        borders = sorted({*borders, *cuts})
        classes.append(np.searchsorted(borders, np.arange(len(mass)), side="right") - 1)
    return np.stack(classes)


def _cut(mass: NDArray[np.float64]) -> int:
    """Return how many labels of an interval lie left of its cut."""
    left = mass.cumsum()[:-1]
    off = np.abs(left - mass.sum() / 2)
    near = np.flatnonzero(off <= off.min() + 1e-9 * mass.sum()) + 1
    return int(near[np.abs(near - len(mass) / 2).argmin()])


class HCA(Head):
    """A linear classifier of each level, and one of the finest classes, the bins in use; cross-entropy each.

    Args:
        facts: Of the training labels.
        levels: Above the finest, of 2, 4, … classes.
        value: The label that a finest class stands for, see `heads.class_values`.
        combine: How the finest class is chosen: by the sum of its own probability and those of the classes above it
            ("add"), by their product ("mul"), or by a network of one hidden layer that learned from all ("distilled").
        hidden: Width of that layer.

    Raises:
        ValueError: If there is no level, or no such choice.
    """

    values: Tensor
    classes: Tensor
    ends: Tensor

    def __init__(
        self, facts: Facts, levels: int = 6, value: str = "center", combine: str = "add", hidden: int = 512
    ) -> None:
        super().__init__()
        if levels < 1 or hidden < 1 or combine not in COMBINES:
            raise ValueError(
                f"levels={levels} and hidden={hidden} must be at least 1, and combine={combine} one of "
                f"{', '.join(COMBINES)}"
            )
        self.bins, self.combine, self.hidden = facts.bins, combine, hidden
        values = class_values(facts.bins, value)
        classes = hierarchy(np.sqrt(facts.counts[facts.bins.first :].astype(np.float64)), levels)
        classes = np.vstack([classes, np.arange(len(values))])
        self.widths = [int(level.max()) + 1 for level in classes]
        self.student = len(values) if combine == "distilled" else 0
        self.outputs = sum(self.widths) + self.student
        ends = np.zeros((2, len(classes), len(values)), np.int64)
        for level, (of, width) in enumerate(zip(classes, self.widths, strict=True)):
            ends[0, level, :width] = np.searchsorted(of, np.arange(width), side="left")
            ends[1, level, :width] = np.searchsorted(of, np.arange(width), side="right") - 1
        self.register_buffer("values", torch.from_numpy(values), persistent=False)
        self.register_buffer("classes", torch.from_numpy(classes), persistent=False)
        self.register_buffer("ends", torch.from_numpy(ends), persistent=False)

    @classmethod
    def check(cls, config: Config) -> None:
        """Classes are not numbers to be mixed; what learns from all levels works on one vector a sample."""
        if config.mixup.on:
            raise UserError(
                f"mixup={config.mixup.name} mixes targets as numbers, and HCA has classes: drop one of them"
            )
        if config.parts["head"].get("combine") == "distilled":
            refuse_maps(config, "HCA with combine=distilled")

    def make_regressor(self, backbone: Backbone) -> nn.Module:
        """Return the classifiers, as one layer, and beside it the network that learns from them."""
        classifiers = backbone.make_regressor(sum(self.widths))
        if not self.student:
            return classifiers
        width = backbone.feature_dim
        student = nn.Sequential(nn.Linear(width, self.hidden), nn.Softplus(), nn.Linear(self.hidden, self.student))
        return Beside(classifiers, student)

    def losses(self, output: Tensor, targets: Tensor, features: Tensor) -> Tensor:
        """Return the sum of the levels' cross-entropies, and what the learner of all adds."""
        fine = (self.bins.index(targets) - self.bins.first).clamp(min=0).squeeze(1)
        levels, student = self._split(output)
        each = [cross_entropy(s, of[fine], reduction="none") for s, of in zip(levels, self.classes, strict=True)]
        loss = torch.stack(each).sum(0)
        if self.student:
            loss = loss + self.distillation(levels, student, fine)
        return loss.unsqueeze(1)

    def distillation(self, levels: list[Tensor], student: Tensor, fine: Tensor) -> Tensor:
        """Return how far the learner is from the levels that are nearest to the truth, shape ``(b,)``; our reading.

        A level's say is its likeliest class; how far that is off, the labels between it and the true one. Of the
        learner's scores, a class of a level has the highest of its labels.

        Args:
            levels: Scores of each level, shape ``(b, classes)``.
            student: Scores of the learner, shape ``(b, labels)``.
            fine: The true label, shape ``(b,)``.
        """
        said = torch.stack([scores.detach().argmax(1) for scores in levels])
        rows = torch.arange(len(levels), device=fine.device)[:, None]
        low, high = self.ends[0][rows, said], self.ends[1][rows, said]
        off = torch.maximum(low - fine, fine - high).clamp(min=0)
        counted = (off == off.amin(0)).to(student.dtype)
        losses = []
        for of, width, answer in zip(self.classes, self.widths, said, strict=True):
            pooled = student.new_full((len(student), width), -torch.inf)
            pooled = pooled.scatter_reduce(1, of.expand_as(student), student, "amax")
            losses.append(cross_entropy(pooled, answer, reduction="none"))
        return (counted * torch.stack(losses)).sum(0) / counted.sum(0)

    def decode(self, output: Tensor) -> Tensor:
        """Return the label of the chosen class."""
        levels, student = self._split(output)
        if self.student:
            scores = student
        else:
            said = [s.log_softmax(1) if self.combine == "mul" else s.softmax(1) for s in levels]
            scores = sum((s[:, of] for s, of in zip(said, self.classes, strict=True)), output.new_zeros(()))
        return self.values[scores.argmax(1, keepdim=True)]

    def _split(self, output: Tensor) -> tuple[list[Tensor], Tensor]:
        *levels, student = torch.split(output, [*self.widths, self.student], dim=1)
        return levels, student
