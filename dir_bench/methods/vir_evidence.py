"""The probabilistic pieces of VIR that act on single predictions: evidence for a normal-inverse-gamma distribution.

A prediction is a distribution over the mean and the variance of its target: NIG(gamma, v, alpha, beta), whose mean is
gamma and whose evidence is v (for the mean) and alpha (for the variance). All functions act on each element.

Source:
    Wang and Wang, "Variational Imbalanced Regression", NeurIPS 2023, arXiv:2306.06599; the likelihood and its
    regulariser after Amini et al., "Deep Evidential Regression", NeurIPS 2020, arXiv:1910.02600. The repository of the
    former (Wang-ML-Lab/variational-imbalanced-regression) has no licence; nothing here is taken from it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

LEAST = 1e-6
"""A variance that is as good as none, and has a root with a gradient and a logarithm."""


class NIG(NamedTuple):
    """Parameters of normal-inverse-gamma distributions, of shapes that broadcast."""

    gamma: Tensor
    v: Tensor
    alpha: Tensor
    beta: Tensor

    @property
    def aleatoric(self) -> Tensor:
        """Variance that targets are expected to have around their mean; for alpha above 1."""
        return self.beta / (self.alpha - 1)

    @property
    def epistemic(self) -> Tensor:
        """Variance of that mean itself, by which the authors rank predictions; for alpha above 1."""
        return self.aleatoric / self.v


def nig_nll(target: Tensor, nig: NIG) -> Tensor:
    """Return −log of the density of each target, which is Student's t with 2 alpha degrees of freedom."""
    gamma, v, alpha, beta = nig
    omega = 2 * beta * (1 + v)
    return (
        0.5 * (math.pi / v).log()
        - alpha * omega.log()
        + (alpha + 0.5) * (v * (target - gamma).square() + omega).log()
        + torch.lgamma(alpha)
        - torch.lgamma(alpha + 0.5)
    )


def nig_regulariser(target: Tensor, nig: NIG) -> Tensor:
    """Return error times evidence: to be sure and wrong is dear."""
    return (target - nig.gamma).abs() * (2 * nig.v + nig.alpha)


def evidential(target: Tensor, nig: NIG, regulariser: float) -> Tensor:
    """Return the loss of each target, likelihood + `regulariser` · error times evidence."""
    return nig_nll(target, nig) + regulariser * nig_regulariser(target, nig)


def posterior(
    mean: Tensor,
    count: Tensor,
    omega: Tensor,
    weights: Tensor | float = 1.0,
    *,
    prior_v: float = 0.0,
    prior_alpha: float = 0.3,
) -> NIG:
    """Return what so many pseudo-observations make of the prior.

    Args:
        mean: Of the pseudo-observations.
        count: How many they are.
        omega: Their spread.
        weights: In training, those of the samples: what is rare counts for more observations.
        prior_v: Evidence for the mean beforehand.
        prior_alpha: Evidence for the variance beforehand.
    """
    count = count * weights
    return NIG(mean, prior_v + count, prior_alpha + count / 2, omega)


def as_observations(output: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean, count (2 at least) and spread of the pseudo-observations that three channels stand for."""
    mean, count, omega = output.chunk(3, dim=1)
    return mean, softplus(count, beta=0.1) + 2, softplus(omega, beta=0.1)


def as_normal(output: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance (`LEAST` at least) that the two halves of the channels stand for."""
    mean, variance = output.chunk(2, dim=1)
    return mean, softplus(variance) + LEAST


def kl_from_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the divergence of each sample's normal from N(0, 1), summed over its features (dimension 1)."""
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(1)
