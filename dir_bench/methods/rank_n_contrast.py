"""Rank-N-Contrast: features whose distances are ordered as labels are, learned before any regressor.

Source:
    Zha et al., "Rank-N-Contrast: Learning Continuous Representations for Regression", NeurIPS 2023,
    arXiv:2210.01189, equations 1–2. Published for AgeDB alone: ResNet-18, two views by crop, flip, colour and grey; the
    encoder 400 epochs of SGD, lr 0.5 with cosine decay, batch 256, weight decay 1e-4, temperature 2; then a linear
    regressor on frozen features, L1, lr 0.05, 100 epochs, batch 64. The authors' repository has no licence; nothing
    here is taken from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dir_bench.methods.part import Facts, Head, above_zero, refuse_maps

if TYPE_CHECKING:
    from dir_bench.schema import Config

FAR_BELOW = -1e9
"""A score whose exponential is 0."""


def rank_n_contrast(features: Tensor, labels: Tensor, temperature: float = 2.0) -> Tensor:
    """Return the loss of each sample: that each other is likelier near than all which are no nearer in label.

    Args:
        features: Shape ``(n, d)``.
        labels: Shape ``(n, k)``; their distance is the sum of absolute differences.
        temperature: Divides distances of features.

    Returns:
        Shape ``(n,)``: the mean over the ``n − 1`` others.
    """
    near = -torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist") / temperature
    return ranked_contrast(near, (labels[:, None] - labels).abs().sum(2))


def ranked_contrast(near: Tensor, distance: Tensor) -> Tensor:
    """Return the loss of each sample from how near in features, and how far in label, each other is.

    Of each pair, the denominator runs over those whose label is at least as far. Sorted by that distance, all of a row
    are one cumulative sum: n² numbers and no loop, where the definition has n³.

    Args:
        near: Logarithms of similarities, shape ``(n, n)``; the diagonal does not count.
        distance: Of labels, shape ``(n, n)``.

    Returns:
        Shape ``(n,)``: the mean over the ``n − 1`` others.
    """
    itself = torch.eye(len(near), dtype=torch.bool, device=near.device)
    distance = distance.masked_fill(itself, torch.inf)
    nearness, order = (-distance).sort(dim=1, stable=True)  # ascending: the sample itself, then the farthest first
    scores = near.masked_fill(itself, FAR_BELOW).gather(1, order)
    last_alike = torch.searchsorted(nearness.contiguous(), nearness.contiguous(), right=True) - 1
    below = scores.logcumsumexp(dim=1).gather(1, last_alike)
    return (below - scores)[:, 1:].mean(1)


class RankNContrast(Head):
    """The loss of features alone, over two augmented views of each sample; for the first of two stages.

    Args:
        facts: Of the training labels.
        temperature: Divides distances of features.
    """

    views = 2
    of_features = True
    trains_regressor = False

    def __init__(self, facts: Facts, temperature: float = 2.0) -> None:
        super().__init__()
        above_zero(temperature=temperature)
        self.temperature = temperature

    @classmethod
    def check(cls, config: Config) -> None:
        """It needs a label for each sample."""
        refuse_maps(config, "Rank-N-Contrast")

    def losses(self, output: Tensor, targets: Tensor, features: Tensor) -> Tensor:
        """Return the loss of each view."""
        return rank_n_contrast(features.float(), targets.float(), self.temperature)[:, None]
