"""UVOTE: experts that share a network, each trained under another weighting; the surest of them answers.

Source:
    Jiang et al., "Uncertainty Voting Ensemble for Imbalanced Deep Regression", GCPR 2024, arXiv:2305.15178. Published:
    2 experts on AgeDB, 3 on IMDB-WIKI and STS-B; Adam 1e-3 (0.1 of it for the scales), batch 64, LDS of 5 and 2. The
    authors' repository (SherryJYC/UVOTE) has no licence; nothing here is taken from it. It selects the epoch by the
    first expert alone: `answer="first"` does so, and is for that.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dir_bench.backbones.base import Backbone
from dir_bench.labels import lds_density
from dir_bench.methods.heads import Beside
from dir_bench.methods.part import Facts, Head

ANSWERS = ("surest", "mean", "weighted", "first")


def laplace_nll(mean: Tensor, log_scale: Tensor, target: Tensor) -> Tensor:
    """Return −log of the Laplace density, log 2b + |target − mean| / b with b = exp(log_scale); shapes broadcast."""
    return math.log(2) + log_scale + (target - mean).abs() * (-log_scale).exp()


class UVOTE(Head):
    """Means and logarithms of Laplace scales, one of each expert.

    Expert m weighs samples by the inverse of n^r, r from 0 (no weights) to 1 (the full inverse, of clipped counts),
    where n is the number of training samples in the bin. The weight multiplies the whole likelihood.

    Args:
        facts: Of the training labels.
        experts: How many there are.
        lds: Settings of `lds_density` that smooth n^r; None: as it is.
        clip: Of counts, for r = 1.
        epochs: The share of all experts but the first grows as (epoch / epochs)²; None: they count in full at once.
        scale_lr: The scales' learning rate, as a share of the network's; they have a last layer of their own then.
        answer: "surest": the expert of the smallest scale. "mean" of all, "weighted" by 1/b, or the "first" alone.

    Raises:
        ValueError: If there is no expert, or no such answer.
    """

    family = "laplace"
    tables: Tensor

    def __init__(
        self,
        facts: Facts,
        experts: int = 2,
        lds: dict[str, Any] | None = None,
        clip: tuple[float, float] = (5, 1000),
        epochs: int | None = None,
        answer: str = "surest",
        scale_lr: float = 1.0,
    ) -> None:
        super().__init__()
        if experts < 1 or answer not in ANSWERS or not scale_lr > 0:
            raise ValueError(
                f"experts={experts} must be at least 1, answer={answer} one of {', '.join(ANSWERS)}, and "
                f"scale_lr={scale_lr} above 0"
            )
        low, high = clip
        if not 0 < low <= high or (epochs is not None and epochs < 0):
            raise ValueError(f"clip={list(clip)} must be two counts, 0 < low <= high, and epochs={epochs} not negative")
        self.scale_lr = float(scale_lr)
        self.outputs, self.bins = 2 * experts, facts.bins
        self.target_scale, self.target_shift = facts.target_scale, facts.target_shift
        self.epochs, self.answer, self.others = epochs, answer, 0.0 if epochs else 1.0
        first, counts = facts.bins.first, facts.counts[facts.bins.first :]
        tables = []
        for power in np.linspace(0, 1, experts) if experts > 1 else [0.0]:
            held = np.clip(counts, *clip) if power >= 1 else counts
            frequency = held.astype(np.float64) ** power
            frequency = frequency if lds is None or power == 0 else lds_density(frequency, **lds)
            frequency = np.where(frequency > 0, frequency, frequency[frequency > 0].min())
            inverse = np.concatenate([np.full(first, 1 / frequency[0]), 1 / frequency])
            tables.append(inverse * facts.counts.sum() / (facts.counts * inverse).sum())
        self.register_buffer("tables", torch.from_numpy(np.stack(tables)).float(), persistent=False)

    def make_regressor(self, backbone: Backbone) -> nn.Module:
        """Return one layer for all, or two where scales learn at a rate of their own."""
        if self.scale_lr == 1:
            return super().make_regressor(backbone)
        means, log_scales = (backbone.make_regressor(self.outputs // 2) for _ in range(2))
        log_scales.lr_factor = self.scale_lr  # type: ignore[assignment]
        return Beside(means, log_scales)

    def initialise(self, regressor: nn.Module) -> None:
        """Begin with all experts alike and of scale 1: weights of standard deviation 0.01, no bias."""
        for name, parameter in regressor.named_parameters():
            nn.init.normal_(parameter, std=0.01) if name.endswith("weight") else nn.init.zeros_(parameter)

    def epoch_begins(self, epoch: int) -> None:
        """Let the other experts' share grow."""
        if self.epochs:
            self.others = (epoch / self.epochs) ** 2

    def losses(self, output: Tensor, targets: Tensor, features: Tensor) -> Tensor:
        """Return the sum over experts of the weighted likelihood of each target."""
        mean, log_scale = self._split(output)
        likelihood = laplace_nll(mean, log_scale, self.in_network_units(targets))
        weights = self.tables[:, self.bins.index(targets).squeeze(1)].movedim(0, 1)
        each = weights * likelihood
        return each[:, :1] + self.others * each[:, 1:].sum(1, keepdim=True)

    def decode(self, output: Tensor) -> Tensor:
        """Return the prediction that the experts come to."""
        mean, log_scale = self._split(output)
        return self._pooled(mean, log_scale)

    def columns(self, output: Tensor) -> dict[str, Tensor]:
        """Return the standard deviation of the distribution that predicts, and the scale b of a Laplace that has it.

        Of one expert it is √2 b. Of "mean" and "weighted" it is that of the mixture of all experts' distributions by
        the shares w of their means m: its mean is the prediction ŷ = Σ w m, and its variance Σ w (2 b² + (m - ŷ)²).
        """
        mean, log_scale = self._split(output)
        if self.answer in ("surest", "first"):
            scale = self._pooled(log_scale, log_scale).exp()
            return {"scale": scale, "std": math.sqrt(2) * scale}
        variance = 2 * (2 * log_scale).exp() + (mean - self._pooled(mean, log_scale)).square()
        std = self._pooled(variance, log_scale).sqrt()
        return {"scale": std / math.sqrt(2), "std": std}

    def _pooled(self, values: Tensor, log_scale: Tensor) -> Tensor:
        """Return of each expert's value that of the expert who answers, or the mean by their shares."""
        if self.answer == "first":
            return values[:, :1]
        if self.answer == "surest":
            return values.gather(1, log_scale.argmin(1, keepdim=True))
        share = (-log_scale).softmax(1) if self.answer == "weighted" else torch.full_like(values, 1 / values.shape[1])
        return (share * values).sum(1, keepdim=True)

    @staticmethod
    def _split(output: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_scale = output.chunk(2, dim=1)
        return mean, log_scale.clamp(-5, 5)
