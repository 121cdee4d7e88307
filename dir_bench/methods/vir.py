"""VIR: features and predictions are distributions, and both borrow from nearby labels.

`ProbabilisticFeatures`, a part that goes with any head, makes a normal of each sample's features, calibrates it by the
moments of its bin (`vir_prm`), and passes a sample of it on. The head `VIR` does so too, and predicts a
normal-inverse-gamma distribution (`vir_evidence`), for which a rare sample counts as more observations.

Source:
    Wang and Wang, "Variational Imbalanced Regression: Fair Uncertainty Quantification via Probabilistic Smoothing",
    NeurIPS 2023, arXiv:2306.06599. Published for AgeDB: LDS and FDS windows of 5 and 2, weights by the square root of
    inverse counts, reconstruction 0.7, regulariser 0.01, Adam 1e-3, 90 epochs with drops at 60 and 80, batch 64. The
    authors' repository (Wang-ML-Lab/variational-imbalanced-regression) has no licence; nothing here is taken from it.

Ours, since it is not to be had apart from their network (a residual network whose last block is probabilistic, and a
decoder of pictures): the mean of a sample's features is what the backbone gives, whichever it is, and their variance a
linear layer of it. The decoder is linear too, and has to find the features again, not the inputs; their gradient is not
taken, so that features do not shrink to be found easily. Statistics are of features before calibration. Evaluation
predicts from the mean. Reconstruction and divergence are means over features, so that their weights mean the same for
every width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dir_bench.errors import UserError
from dir_bench.labels import bin_weights
from dir_bench.methods.fds_moments import Moments
from dir_bench.methods.fds_part import FDSPart
from dir_bench.methods.part import Facts, Head, Step
from dir_bench.methods.vir_evidence import (
    LEAST,
    NIG,
    as_normal,
    as_observations,
    evidential,
    kl_from_standard_normal,
    posterior,
)
from dir_bench.methods.vir_prm import PRM
from dir_bench.tensors import in_single

if TYPE_CHECKING:
    from dir_bench.schema import Config


class ProbabilisticFeatures(PRM, FDSPart):
    """Features as normals: calibrated, sampled, and to be found again in the sample.

    The defaults are as published for ages, but for two things. Labels go by their bin, also where they are no whole
    numbers. And calibration begins in the third epoch, the first with moments; published, it begins in the second,
    where it adds 2 to all variances (see `PRM`).

    Args:
        facts: Of the training labels.
        reconstruction: Weight of reconstruction and divergence.
        divergence: Share of the divergence from N(0, 1) in it.
        variance: Of the features before anything is learned.
        settings: Those of `PRM` and of `FDSPart` (`kernel`, `kernel_size`, `sigma`, `momentum`, `statistics`, …).
    """

    def __init__(
        self,
        facts: Facts,
        reconstruction: float = 0.7,
        divergence: float = 0.1,
        variance: float = 0.05,
        **settings: Any,
    ) -> None:
        if not (reconstruction >= 0 and divergence >= 0 and variance > 0):
            raise ValueError(
                f"reconstruction={reconstruction} and divergence={divergence} must be 0 or more, and "
                f"variance={variance} above 0"
            )
        width = facts.feature_dim
        own = {"bins": facts.bins, "empty": "initial", "lag": "alias", "new_bins": "blend", "in_turn": False}
        super().__init__(2 * width, split=facts.statistics_split, **{**own, "start_smooth": 2, **settings})
        self.reconstruction, self.divergence = reconstruction, divergence
        self.spread = nn.Linear(width, width)
        nn.init.constant_(self.spread.bias, float(torch.tensor(variance).expm1().log()))
        self.decoder = nn.Linear(width, width)
        self._latent: tuple[Tensor, Tensor, Tensor] | None = None
        self._given: Tensor | None = None

    @classmethod
    def check(cls, config: Config) -> None:
        """It needs features that are learned."""
        if not config.backbone.get("features", True):
            raise UserError(
                f"VIR makes distributions of learned features, and the backbone {config.backbone.get('_target_')} "
                "offers none: choose another backbone"
            )

    def moments_of(self, features: Tensor) -> Tensor:
        """Return [mean | variance] of each sample (of each pixel), shape ``(b, 2d)`` or ``(b, 2d, h, w)``."""
        features = in_single(features)
        spread = in_single(self.spread(features.movedim(1, -1)).movedim(-1, 1))
        return torch.cat(as_normal(torch.cat([features, spread], 1)), 1)

    def calibrate(self, features: Tensor, targets: Tensor, epoch: int) -> Tensor:
        """Return a sample of each calibrated normal, of torch's random numbers."""
        moments = self.moments_of(features)
        mean, variance = self.smooth(moments, targets, epoch).chunk(2, 1)
        variance = variance.clamp(min=LEAST)
        sample = mean + variance.sqrt() * torch.randn_like(mean)
        self._latent, self._given = (mean, variance, sample), moments.detach()
        return sample.to(features.dtype)

    def penalty(self, step: Step) -> Tensor:
        """Return the weighted error of the features as decoded, and divergence of the normals."""
        assert step.features is not None
        assert self._latent is not None
        (mean, variance, sample), self._latent = self._latent, None
        step.kept[self], self._given = self._given, None
        decoded = in_single(self.decoder(sample.movedim(1, -1)).movedim(-1, 1))
        missed: Tensor = (decoded - in_single(step.features.detach())).square().mean()
        divergence = kl_from_standard_normal(mean, variance.log()).mean() / mean.shape[1]
        return self.reconstruction * (missed + self.divergence * divergence)

    def _gather(self, moments: Moments, step: Step) -> None:
        given = step.kept.pop(self, self._given)  # a walk has no penalties
        self._latent = self._given = None
        assert given is not None
        moments.add(given, step.targets)

    def report(self) -> dict[str, float]:
        """Return how far the moments are from themselves smoothed, once there are some."""
        return {name.replace("fds/", "vir/"): value for name, value in super().report().items()}


class VIR(ProbabilisticFeatures, Head):
    """Mean, count and spread of pseudo-observations, which with a prior make a normal-inverse-gamma distribution.

    Args:
        facts: Of the training labels; the loss is of network units.
        regulariser: Weight of error times evidence; λ_reg of the authors' code.
        reweight: By how rare they are, as `bin_weights` has it, samples count for more observations; the loss itself is
            not weighted.
        lds: Settings of `lds_density` for it; None: counts as they are.
        prior_v: Evidence for the mean beforehand.
        prior_alpha: Evidence for the variance beforehand.
        settings: Those of `ProbabilisticFeatures`.
    """

    outputs = 3
    family = "student"
    table: Tensor

    def __init__(
        self,
        facts: Facts,
        regulariser: float = 0.01,
        reweight: Any = "sqrt_inv",
        lds: dict[str, Any] | None = None,
        prior_v: float = 0.0,
        prior_alpha: float = 0.3,
        **settings: Any,
    ) -> None:
        if not (regulariser >= 0 and prior_v >= 0 and prior_alpha > 0):
            raise ValueError(
                f"regulariser={regulariser} and prior_v={prior_v} must be 0 or more, and prior_alpha={prior_alpha} "
                "above 0"
            )
        super().__init__(facts, **settings)
        self.regulariser, self.bins = regulariser, facts.bins
        self.prior = {"prior_v": prior_v, "prior_alpha": prior_alpha}
        self.target_scale, self.target_shift = facts.target_scale, facts.target_shift
        table = bin_weights(facts.counts, reweight, first=facts.bins.first, lds=lds)
        self.register_buffer("table", torch.from_numpy(table), persistent=False)

    def losses(self, output: Tensor, targets: Tensor, features: Tensor) -> Tensor:
        """Return the evidential loss of each target."""
        nig = self.predicted(output, self.table[self.bins.index(targets)])
        return evidential(self.in_network_units(targets).to(output.dtype), nig, self.regulariser)

    def predicted(self, output: Tensor, weights: Tensor | float = 1.0) -> NIG:
        """Return the distributions that outputs stand for, in network units; `weights` are for training."""
        mean, count, omega = as_observations(output)
        return posterior(mean, count, omega, weights, **self.prior)

    def columns(self, output: Tensor) -> dict[str, Tensor]:
        """Return standard deviation and degrees of freedom of Student's t, and the two deviations it is made of.

        `aleatoric` is that of targets around their mean, `epistemic` that of the mean; their squares add up.
        """
        nig = self.predicted(output)
        aleatoric, epistemic = nig.aleatoric, nig.epistemic
        return {
            "std": (aleatoric + epistemic).sqrt(),
            "df": 2 * nig.alpha,
            "aleatoric": aleatoric.sqrt(),
            "epistemic": epistemic.sqrt(),
        }
