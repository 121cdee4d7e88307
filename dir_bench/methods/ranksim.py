"""RankSim: what is near in label is to be near in features, in rank.

Notice: a patent application covers the method (US 2023/0214651), and the authors' code is CC BY-NC-SA 4.0; nothing
here is taken from it.

Source:
    Gong et al., "RankSim: Ranking Similarity Regularization for Deep Imbalanced Regression", ICML 2022,
    arXiv:2205.15236, equations 1–8; the gradient of ranks after Vlastelica et al., "Differentiation of Blackbox
    Combinatorial Solvers", ICLR 2020, arXiv:1912.02175. Published settings: faces weight 100, interpolation 2 (AgeDB
    batch 64, lr 2.5e-4; IMDB-WIKI batch 256, lr 1e-3); STS-B weight 3e-4, interpolation 2, batch 16, lr 2.5e-4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dir_bench.methods.part import Facts, Part, Step, above_zero, not_negative, refuse_maps
from dir_bench.tensors import sent

if TYPE_CHECKING:
    from dir_bench.schema import Config


def ranksim(features: Tensor, labels: Tensor, interpolation: float = 2.0, kept: Tensor | None = None) -> Tensor:
    """Return the sum over samples of the mean squared difference of two rankings of all samples: by label, by cosine.

    Args:
        features: Shape ``(n, d)``.
        labels: Shape ``(n,)``. Where ties occur, the later sample has the better rank, as published.
        interpolation: How far the ranks' gradient looks; λ of the paper.
        kept: Which samples take part, bool of shape ``(n,)``; None: all. What they give is that of these alone, without
            the host having to know how many they are.
    """
    directions = torch.nn.functional.normalize(features, dim=1)
    similar = directions @ directions.T
    wanted = ranks(-(labels[:, None] - labels).abs().to(similar.dtype), kept)
    found: Tensor = _Ranks.apply(similar, kept, interpolation)
    apart = (found - wanted).square()
    return apart.sum() / len(labels) if kept is None else (apart * _pairs(kept)).sum() / kept.sum()


def ranks(values: Tensor, kept: Tensor | None = None) -> Tensor:
    """Return the rank of each value in its row among the columns kept, over their number: 1/n is the largest."""
    n = values.shape[1]
    order = (values if kept is None else values.masked_fill(~kept, -torch.inf)).argsort(dim=1, stable=True)
    place = torch.arange(n, 0, -1, device=values.device, dtype=values.dtype) / (n if kept is None else kept.sum())
    return torch.empty_like(values).scatter_(1, order, place.expand_as(values))


def _pairs(kept: Tensor) -> Tensor:
    return kept[:, None] & kept


class _Ranks(torch.autograd.Function):
    """Ranks whose gradient is the change that a step along it would make, over the step."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, kept: Tensor | None, interpolation: float) -> Tensor:
        found = ranks(values, kept)
        ctx.save_for_backward(values, kept, found)
        ctx.interpolation = interpolation
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        values, kept, found = ctx.saved_tensors
        moved = ranks(values.add(gradients[0], alpha=ctx.interpolation), kept)
        change = (moved - found) / (ctx.interpolation + 1e-8)
        return change if kept is None else change * _pairs(kept), None, None


def one_of_each(labels: Tensor, priority: Tensor) -> Tensor:
    """Return which samples come first by `priority` among those of their label, bool of shape ``(n,)``."""
    same = labels[:, None] == labels
    return ~(same & (priority < priority[:, None])).any(1)


class RankSim(Part):
    """The regulariser, on one sample of each distinct label in the batch, drawn anew at each step.

    Args:
        facts: Of the training labels.
        weight: γ of the paper; it multiplies a sum over samples. A gradient of ranks says how they change along a step
            that the weight lengthens, and is bounded: beyond some weight it is as large as it gets, and a small network
            learns nothing else. Published: 100 with a ResNet-50; 0.01 suits the gauge's small network.
        interpolation: λ of the paper.
    """

    of_features = True

    def __init__(self, facts: Facts, weight: float = 100.0, interpolation: float = 2.0) -> None:
        super().__init__()
        not_negative(weight=weight)
        above_zero(interpolation=interpolation)
        self.weight, self.interpolation = weight, interpolation

    @classmethod
    def check(cls, config: Config) -> None:
        """It needs a label for each sample."""
        refuse_maps(config, "RankSim")

    def penalty(self, step: Step) -> Tensor:
        """Return the weighted regulariser of the batch."""
        assert step.features is not None
        order = step.targets.argsort(stable=True)
        labels = step.targets[order]
        drawn = torch.from_numpy(step.rng("ranksim", step.rank).permutation(len(labels)))
        kept: Tensor | None = one_of_each(labels, sent(drawn, labels.device))
        if labels.is_cpu:  # the same of fewer rows; on a GPU, asking how many they are would make the host wait
            order, labels, kept = order[kept], labels[kept], None
        return self.weight * ranksim(step.features[order].float(), labels, self.interpolation, kept)
