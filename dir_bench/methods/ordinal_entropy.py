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
    share = same.to(features.dtype) / same.sum(1, keepdim=True)
    centers = torch.nn.functional.normalize(share @ features, dim=1)
    first = ~(same & torch.ones_like(same).tril(-1)).any(1)  # one sample stands for each label
    ends, values, here = centers, labels, first
    if first.is_cpu:  # on a GPU, asking how many there are would make the host wait
        ends, values, here = centers[first], labels[first], first[first]
    pair = (here[:, None] & here).triu(1)
    apart = (values[:, None] - values).abs()
    if scaled:
        lowest = apart.masked_fill(~pair, torch.inf).min()
        apart = torch.where(pair, apart - lowest, 0.0)
        apart = apart / apart.max().clamp(min=1e-12)
    count = pair.sum()
    length = ends.square().sum(1)
    far = (length[:, None] + length - 2 * ends @ ends.T).clamp(min=1e-12).sqrt()
    spread = -(apart * far * pair).sum() / count.clamp(min=1)
    off = (torch.nn.functional.normalize(features, dim=1) - centers).square().sum(1)
    away = off > 1e-12
    tightness = (off.clamp(min=1e-12).sqrt() * away).sum() / away.sum().clamp(min=1)
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
