"""Group-DIR: a classifier of groups of labels and a regressor for each, on features that are ordered by group.

Source:
    Pu et al., "Leveraging Group Classification with Descending Soft Labeling for Deep Imbalanced Regression", AAAI
    2025, arXiv:2412.12327. Published: 10 to 50 groups, 15 to 40 of them alike; β 1, batch 128, ResNet-50, all else as
    Rank-N-Contrast, hence two views. Not printed, and chosen here: the weights of the losses (1), the temperature (2,
    that of Rank-N-Contrast), and the ends of the range (the first and the last bin that has training samples). The
    paper prints the soft labels' cross-entropy without its minus, by which the classifier would unlearn: a slip, so
    there is no switch for it. The authors' repositories have no licence; nothing here is taken from them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from dir_bench.methods.part import Facts, Head, refuse_maps
from dir_bench.methods.rank_n_contrast import ranked_contrast

if TYPE_CHECKING:
    from dir_bench.schema import Config


class GroupDIR(Head):
    """Scores of groups of equal width, and one prediction for each; the likeliest group's is the answer.

    In training the true group's prediction learns, by squared error in network units; the scores learn from soft
    labels, softmax of −β · distance in groups; the features by Rank-N-Contrast on groups, with cosines for nearness.

    Args:
        facts: Of the training labels.
        groups: How many.
        beta: How fast soft labels fall with the distance from the true group.
        temperature: Divides cosines.
        error: Weight of the squared error; that of the contrast is 1.
        soft: Weight of the soft labels' cross-entropy.

    Raises:
        ValueError: If there is no group, or a number is not above 0.
    """

    views = 2

    def __init__(
        self,
        facts: Facts,
        groups: int = 20,
        beta: float = 1.0,
        temperature: float = 2.0,
        error: float = 1.0,
        soft: float = 1.0,
    ) -> None:
        super().__init__()
        if groups < 1 or not (beta > 0 and temperature > 0 and error > 0 and soft > 0):
            raise ValueError(
                f"groups={groups} must be at least 1, and beta={beta}, temperature={temperature}, error={error} and "
                f"soft={soft} above 0"
            )
        self.target_scale, self.target_shift = facts.target_scale, facts.target_shift
        self.groups, self.outputs = groups, 2 * groups
        self.beta, self.temperature, self.error, self.soft = beta, temperature, error, soft
        filled = np.flatnonzero(facts.counts)
        self.low, high = float(facts.bins.edges[filled[0]]), float(facts.bins.edges[filled[-1] + 1])
        self.width = (high - self.low) / groups

    @classmethod
    def check(cls, config: Config) -> None:
        """It compares the samples of a batch."""
        refuse_maps(config, "Group-DIR")

    def group(self, targets: Tensor) -> Tensor:
        """Return the group of each target; beyond the range, that at its end."""
        return ((targets - self.low) / self.width).floor().long().clamp(0, self.groups - 1)

    def losses(self, output: Tensor, targets: Tensor, features: Tensor) -> Tensor:
        """Return the three losses of each sample, summed."""
        group = self.group(targets)
        scores, answers = output.chunk(2, dim=1)
        directions = normalize(features.float(), dim=1)
        contrast = ranked_contrast(directions @ directions.T / self.temperature, (group - group.T).abs().float())
        error = (answers.gather(1, group) - self.in_network_units(targets)).square()
        away = (torch.arange(self.groups, device=group.device) - group).abs()
        labels = (-self.beta * away.to(scores.dtype)).softmax(1)
        entropy = -(labels * scores.log_softmax(1)).sum(1, keepdim=True)
        return contrast[:, None] + self.error * error + self.soft * entropy

    def decode(self, output: Tensor) -> Tensor:
        """Return the prediction of the likeliest group."""
        scores, answers = output.chunk(2, dim=1)
        return answers.gather(1, scores.argmax(1, keepdim=True))
