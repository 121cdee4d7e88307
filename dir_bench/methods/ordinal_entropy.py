"""Ordinal entropy: centres of labels lie apart on the sphere, the farther in label the more, and samples near theirs.

Source:
    Zhang et al., "Improving Deep Regression with Ordinal Entropy", ICLR 2023, arXiv:2301.08915, equations 6–8. Both
    terms have weight 1 in the authors' code for ages and depth (needylove/OrdinalEntropy, no licence; nothing here is
    taken from it), which shifts and scales label distances to 0 … 1 in each batch; the paper takes them as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dir_bench.methods.part import Facts, Part, Step, not_negative, refuse_maps

if TYPE_CHECKING:
    from dir_bench.schema import Config

_TINY, _NEAR = 1e-12, 1e-6
"""Lengths below the first are taken for it; distances on the sphere below the second are rounding."""


def ordinal_entropy(
    features: Tensor, labels: Tensor, *, spread: float = 1.0, tightness: float = 1.0, scaled: bool = False
) -> Tensor:
    """Return the two weighted terms of a batch in one: spread (negative) and tightness, 0 where they are not defined.

    Args:
        features: Shape ``(n, d)``, float32 or float64.
        labels: Shape ``(n,)``.
        spread: Weight of the first term.
        tightness: Weight of the second.
        scaled: Weigh pairs of centres by label distances shifted and scaled to 0 … 1, as the authors' code does;
            else by the distances themselves.
    """
    total: Tensor = _Terms.apply(features, labels, spread, tightness, scaled)
    return total


class _Terms(torch.autograd.Function):
    """The terms with their gradient found beside them, in two thirds of the time that autograd takes."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, labels: Tensor, spread: float, tightness: float, scaled: bool) -> Tensor:
        same = labels[:, None] == labels
        share = same.to(features.dtype)
        # Each sample stands for its label's center, so that the number of labels need not be known: pairs of centers
        # are counted once where those of samples are divided by how often either label occurs.
        once = 1 / share.sum(1)
        there = once.sum().round()
        apart = (labels[:, None] - labels).abs_().to(features.dtype)
        if scaled:
            apart = torch.where(same, 0.0, apart - apart.masked_fill(same, torch.inf).min())
            apart = apart / apart.max().clamp(min=_TINY)
        weights = apart.mul_(once[:, None]).mul_(once).mul_(-spread / (there * (there - 1)).clamp_(min=1))
        sums = share @ features  # a sum points where a mean does
        lengths = torch.linalg.vector_norm(torch.stack((sums, features)), dim=2, keepdim=True).clamp_(min=_TINY)
        centers, own = sums / lengths[0], features / lengths[1]
        far = torch.addmm(features.new_full((), 2.0), centers, centers.T, alpha=-2).clamp_(min=_TINY).sqrt_()
        off = own - centers
        distance = torch.linalg.vector_norm(off, dim=1, keepdim=True)
        away = (distance > _NEAR).to(features.dtype)
        away *= tightness / away.sum().clamp_(min=1)
        pull = off.mul_(away / distance.clamp(min=_NEAR))
        push = torch.where(far > _NEAR, weights / far, 0.0) @ centers  # of one of a pair: the other comes by symmetry
        to_centers = share @ _along(push.mul_(-2).sub_(pull), centers, lengths[0])
        ctx.save_for_backward(to_centers.add_(_along(pull, own, lengths[1])))
        return torch.dot(weights.flatten(), far.flatten()) + torch.dot(away.flatten(), distance.flatten())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (found,) = ctx.saved_tensors
        return found * gradients[0], None, None, None, None


def _along(gradient: Tensor, directions: Tensor, lengths: Tensor) -> Tensor:
    """Return the gradient by vectors of what it is by their directions, shape ``(n, d)``."""
    return (gradient - directions * (gradient * directions).sum(1, keepdim=True)).div_(lengths)


class OrdinalEntropy(Part):
    """The regulariser on samples with one label.

    Args:
        facts: Of the training labels; distances are taken in network units.
        spread: Weight of the first term.
        tightness: Weight of the second.
        scaled: See `ordinal_entropy`.
    """

    of_features = True

    def __init__(self, facts: Facts, spread: float = 1.0, tightness: float = 1.0, scaled: bool = False) -> None:
        super().__init__()
        not_negative(spread=spread, tightness=tightness)
        self.spread, self.tightness, self.scaled = spread, tightness, scaled
        self.target_scale = facts.target_scale

    @classmethod
    def check(cls, config: Config) -> None:
        """It needs a label for each sample."""
        refuse_maps(config, "ordinal entropy")

    def penalty(self, step: Step) -> Tensor:
        """Return the weighted terms of the batch."""
        assert step.features is not None
        labels = step.targets / self.target_scale
        return ordinal_entropy(
            step.features.float(), labels, spread=self.spread, tightness=self.tightness, scaled=self.scaled
        )
