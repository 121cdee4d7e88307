"""ConR: samples that are predicted alike although their labels are not are pushed apart in features.

Notice: the authors' code (BorealisAI/ConR) is CC BY-NC-SA 4.0; nothing here is taken from it.

Source:
    Keramati, Meng, Evans, "ConR: Contrastive Regularizer for Deep Imbalanced Regression", ICLR 2024, arXiv:2309.06651,
    equations 1–4. The denominator is that of the published code, where each sample that is no positive adds a 1 to the
    sum over positives. Published settings: ages similarity window 1, weight 4, e 0.01, temperature 0.07 (what the AgeDB
    code takes, whatever is asked for), batch 64, lr 2.5e-4; NYUD2 window 0.2, weight 0.2, e 0.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dir_bench.errors import UserError
from dir_bench.labels import bin_weights
from dir_bench.methods.part import Facts, Part, Step, above_zero, not_negative

if TYPE_CHECKING:
    from dir_bench.schema import Config


def conr(
    features: Tensor,
    targets: Tensor,
    predictions: Tensor,
    weights: Tensor | None = None,
    *,
    window: float = 1.0,
    temperature: float = 0.07,
    e: float = 0.01,
) -> Tensor:
    """Return the mean loss of the samples, those without a negative counting as 0.

    Args:
        features: Shape ``(n, d)``; of two views, those of each one after the other.
        targets: Label units, shape ``(n,)``.
        predictions: Label units, shape ``(n,)``; no gradient goes through them.
        weights: How rare each sample is, shape ``(n,)``; None: all 1.
        window: Labels that differ by at most this are alike, and so are predictions; label units.
        temperature: Divides cosines.
        e: Pushes are stronger by exp(e · difference of labels).

    Returns:
        A scalar; NaN if a sample with negatives has no positive, as published (two views always give one).
    """
    pairs = _pairs(features, targets, predictions, window, temperature)
    weights = torch.ones_like(targets) if weights is None else weights
    push = weights[:, None] * (e * pairs.apart).exp()
    itself = torch.eye(len(targets), dtype=torch.bool, device=targets.device)
    positive = pairs.alike & ~itself
    count = torch.where(pairs.negative.any(1), positive.sum(1), 1)
    return (weights * _contrast(pairs.scores, positive, pairs.negative, push, count)).mean()


def conr_of_maps(
    features: Tensor,
    targets: Tensor,
    predictions: Tensor,
    weights: Tensor | None = None,
    *,
    window: float = 0.2,
    temperature: float = 0.07,
    e: float = 0.2,
) -> Tensor:
    """Return the loss of maps, as the published NYUD2 code has it: one sample a map.

    A map's features are all of them, and its target, prediction and weight the means over its pixels. The push is
    linear in the difference of labels, the positives are divided by a number that counts the sample itself, and the
    mean over samples is not weighted.

    Args:
        features: Shape ``(n, d, h, w)``.
        targets: Shape ``(n, 1, h, w)``, and so the others; see `conr`.
    """
    flat = features.flatten(1)
    pairs = _pairs(flat, _mean(targets), _mean(predictions), window, temperature)
    rare = torch.ones(len(flat), dtype=flat.dtype, device=flat.device) if weights is None else _mean(weights)
    itself = torch.eye(len(flat), dtype=torch.bool, device=flat.device)
    push = pairs.apart * rare[:, None] * e
    return _contrast(pairs.scores, pairs.alike & ~itself, pairs.negative, push, pairs.alike.sum(1)).mean()


def _mean(maps: Tensor) -> Tensor:
    return maps.flatten(1).mean(1)


MOST_EXPONENT = 75.0
"""What exp takes in float32 is 88: sums over a batch, times weights, have room for a factor of 440,000."""


class _Pairs(NamedTuple):
    """Of each pair, shape ``(n, n)``."""

    scores: Tensor
    apart: Tensor
    alike: Tensor
    negative: Tensor


def _pairs(features: Tensor, targets: Tensor, predictions: Tensor, window: float, temperature: float) -> _Pairs:
    """Return of each pair the cosine over temperature, the label distance, and whether it is alike or a negative."""
    directions = torch.nn.functional.normalize(features, dim=1)
    apart = (targets[:, None] - targets).abs()
    alike = apart <= window
    predicted = predictions.detach()
    negative = ~alike & ((predicted[:, None] - predicted).abs() <= window)
    return _Pairs(directions @ directions.T / temperature, apart, alike, negative)


def _contrast(scores: Tensor, positive: Tensor, negative: Tensor, push: Tensor, count: Tensor) -> Tensor:
    """Return the loss of each sample, shape ``(n,)``; 0 without negatives."""
    pulled = torch.where(positive, scores, 0.0).exp().sum(1)
    pushed = (push * scores.exp() * negative).sum(1)
    terms = (scores - (pulled + pushed).log()[:, None]) * positive
    return torch.where(negative.any(1), -terms.sum(1) / count, 0.0)


class ConR(Part):
    """The regulariser, over two augmented views of each sample.

    Args:
        facts: Of the training labels.
        weight: β of the paper.
        window: Label units.
        temperature: Divides cosines.
        e: Strength of the push by label distance.
        reweight: Rarity that pushes are weighted by, as `bin_weights` has it.
        lds: Settings of `lds_density` for it; None: counts as they are.
    """

    views = 2
    of_features = True
    table: Tensor

    def __init__(
        self,
        facts: Facts,
        weight: float = 4.0,
        window: float = 1.0,
        temperature: float = 0.07,
        e: float = 0.01,
        reweight: Any = "none",
        lds: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        not_negative(weight=weight, window=window, e=e)
        above_zero(temperature=temperature)
        span = 0.0 if facts.dense else float(np.ptp(facts.targets))
        if e * span + 1 / temperature > MOST_EXPONENT:
            raise ValueError(
                f"exp(e · difference of labels + 1 / temperature) is more than numbers hold, with e={e}, labels over "
                f"{span:g} and temperature={temperature}: set e near {1 / (span or 1):.1g}, temperature near 0.07"
            )
        self.weight, self.settings_of_loss = weight, {"window": window, "temperature": temperature, "e": e}
        self.bins = facts.bins
        self.target_scale, self.target_shift = facts.target_scale, facts.target_shift
        table = bin_weights(facts.counts, reweight, first=facts.bins.first, lds=lds)
        self.register_buffer("table", torch.from_numpy(table), persistent=False)

    @classmethod
    def check(cls, config: Config) -> None:
        """It needs two views of one sample, and mixed ones are two of different samples."""
        if config.mixup.on:
            raise UserError(
                f"mixup={config.mixup.name} mixes the two views of a sample with others, and ConR takes both for one: "
                "drop one of them"
            )

    def penalty(self, step: Step) -> Tensor:
        """Return the weighted regulariser of the batch; the first output is taken for the prediction."""
        assert step.features is not None
        assert step.output is not None
        predictions = step.output[:, :1].float() * self.target_scale + self.target_shift
        features, weights = step.features.float(), self.table[self.bins.index(step.targets)]
        if step.targets.dim() > 1:
            return self.weight * conr_of_maps(features, step.targets, predictions, weights, **self.settings_of_loss)
        return self.weight * conr(features, step.targets, predictions[:, 0], weights, **self.settings_of_loss)
