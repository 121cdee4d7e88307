"""Ordinal entropy: centres of labels lie apart on the sphere, the farther in label the more, and samples near theirs.

Source:
    Zhang et al., "Improving Deep Regression with Ordinal Entropy", ICLR 2023, arXiv:2301.08915, equations 6–8. Both
    terms have weight 1 in the authors' code for ages and depth (needylove/OrdinalEntropy, no licence; nothing here is
    taken from it), which shifts and scales label distances to 0 … 1 in each batch; the paper takes them as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dir_bench.methods.part import Facts, Part, Step, refuse_maps

if TYPE_CHECKING:
    from dir_bench.schema import Config


def ordinal_entropy(features: Tensor, labels: Tensor, *, scaled: bool = False) -> tuple[Tensor, Tensor]:
    """Return the two terms of a batch: spread (negative, to be lowered) and tightness; 0 where they are not defined.

    Args:
        features: Shape ``(n, d)``.
        labels: Shape ``(n,)``.
        scaled: Weigh pairs of centres by label distances shifted and scaled to 0 … 1, as the authors' code does;
            else by the distances themselves.
    """
    same = labels[:, None] == labels
    centers = torch.nn.functional.normalize(same.to(features.dtype) @ features, dim=1)  # a sum points where a mean does
    # Each sample stands for its label's center, so that the number of labels need not be known: pairs of centers are
    # counted once where those of samples are divided by how often either label occurs.
    once = 1 / same.sum(1, dtype=features.dtype)
    labels_there = once.sum().round()
    apart = (labels[:, None] - labels).abs()
    if scaled:
        apart = torch.where(same, 0.0, apart - apart.masked_fill(same, torch.inf).min())
        apart = apart / apart.max().clamp(min=1e-12)
    far = (2 - 2 * centers @ centers.T).clamp(min=1e-12).sqrt()  # both are of length 1
    spread = -(once @ (apart * far) @ once) / (labels_there * (labels_there - 1)).clamp(min=1)
    off = torch.linalg.vector_norm(torch.nn.functional.normalize(features, dim=1) - centers, dim=1)
    away = off > 1e-6
    tightness = (off * away).sum() / away.sum().clamp(min=1)
    return spread, tightness


class OrdinalEntropy(Part):
    """The regulariser on samples with one label.

    Args:
        facts: Of the training labels; distances are taken in network units.
        spread: Weight of the first term.
        tightness: Weight of the second.
        scaled: See `ordinal_entropy`.
    """

    def __init__(self, facts: Facts, spread: float = 1.0, tightness: float = 1.0, scaled: bool = False) -> None:
        super().__init__()
        self.spread, self.tightness, self.scaled = spread, tightness, scaled
        self.target_scale = facts.target_scale

    @classmethod
    def check(cls, config: Config) -> None:
        """It needs a label for each sample."""
        refuse_maps(config, "ordinal entropy")

    def penalty(self, step: Step) -> Tensor:
        """Return the weighted terms of the batch."""
        assert step.features is not None
        spread, tight = ordinal_entropy(step.features.float(), step.targets / self.target_scale, scaled=self.scaled)
        return self.spread * spread + self.tightness * tight
