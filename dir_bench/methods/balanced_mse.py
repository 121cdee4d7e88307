"""Balanced MSE: what a regression would say if all labels were as frequent (BMC, GAI, BNI).

The squared error is the likelihood of a Gaussian; here it is divided by what that Gaussian gives to the labels of the
training set, whose imbalance so cancels. The three heads differ in that integral alone: over the labels of the batch
(BMC), a Gaussian mixture (GAI), a histogram (BNI). All are multiplied by twice the noise's variance, without a
gradient, so that the scale stays that of a squared error.

Source:
    Ren et al., "Balanced MSE for Imbalanced Visual Regression", CVPR 2022, arXiv:2203.16427, equations 3.5–3.13. The
    authors' code (jiawei-ren/BalancedMSE) is MIT; nothing is taken from it. Published settings: IMDB-WIKI a second
    stage on a vanilla backbone, 10 epochs, lr 1e-4, sigma from 10, its lr 0.01 (a review of 2026 takes 1e-3 for BMC),
    8 components; NYUD2 end to end, sigma 1 and fixed, 16 components. None are published for AgeDB and STS-B.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from dir_bench.errors import UserError
from dir_bench.labels import lds_density
from dir_bench.methods.heads import bin_values
from dir_bench.methods.part import Facts, Head, refuse_maps

if TYPE_CHECKING:
    from dir_bench.schema import Config


def bmc(prediction: Tensor, target: Tensor, sigma: Tensor) -> Tensor:
    """Return the loss of each sample: which of the batch's labels is its own, as cross-entropy.

    Args:
        prediction: Shape ``(n, d)``.
        target: Shape ``(n, d)``, in the same unit.
        sigma: Noise in that unit, a scalar.

    Returns:
        Shape ``(n,)``.
    """
    variance = sigma.square()
    scores = -(prediction[:, None] - target[None]).square().sum(2) / (2 * variance)
    own = torch.arange(len(scores), device=scores.device)
    return nn.functional.cross_entropy(scores, own, reduction="none") * (2 * variance).detach()


def gai(prediction: Tensor, target: Tensor, sigma: Tensor, means: Tensor, variances: Tensor, weights: Tensor) -> Tensor:
    """Return the loss of each target under a Gaussian mixture of the training labels; constants of 2π are left out.

    Args:
        prediction: Any shape.
        target: The same shape and unit.
        sigma: Noise in that unit, a scalar.
        means: Of the components, shape ``(k,)``.
        variances: Shape ``(k,)``.
        weights: Shape ``(k,)``, summing to 1.

    Returns:
        The shape of `prediction`.
    """
    variance = sigma.square()
    own = (prediction - target).square() / (2 * variance) + 0.5 * variance.log()
    wide = variances + variance
    of_component = -0.5 * wide.log() - 0.5 * (prediction[..., None] - means).square() / wide + weights.log()
    return (own + of_component.logsumexp(-1)) * (2 * variance).detach()


def gai_of_vectors(
    prediction: Tensor, target: Tensor, sigma: Tensor, means: Tensor, covariances: Tensor, weights: Tensor
) -> Tensor:
    """Return `gai` of targets with several dimensions, with all constants of the densities.

    Args:
        prediction: Shape ``(n, d)``.
        target: Shape ``(n, d)``, in the same unit.
        sigma: Noise in each dimension, a scalar.
        means: Of the components, shape ``(k, d)``.
        covariances: Shape ``(k, d, d)``.
        weights: Shape ``(k,)``, summing to 1.

    Returns:
        Shape ``(n,)``.
    """
    noise = sigma.square() * torch.eye(prediction.shape[1], dtype=prediction.dtype, device=prediction.device)
    own: Tensor = MultivariateNormal(prediction, noise).log_prob(target)  # type: ignore[no-untyped-call]
    wide = MultivariateNormal(means, covariances + noise)
    mixture: Tensor = wide.log_prob(prediction[:, None]) + weights.log()  # type: ignore[no-untyped-call]
    return (mixture.logsumexp(1) - own) * (2 * sigma.square()).detach()


def bni(prediction: Tensor, target: Tensor, sigma: Tensor, centers: Tensor, weights: Tensor) -> Tensor:
    """Return the loss of each target under a histogram of the training labels.

    Args:
        prediction: Any shape.
        target: The same shape and unit.
        sigma: Noise in that unit, a scalar.
        centers: Where the bins lie, shape ``(b,)``.
        weights: Their share of the labels, shape ``(b,)``, all above 0.

    Returns:
        The shape of `prediction`.
    """
    variance = sigma.square()
    own = (prediction - target).square() / (2 * variance)
    of_bin = -(prediction[..., None] - centers).square() / (2 * variance) + weights.log()
    return (own + of_bin.logsumexp(-1)) * (2 * variance).detach()


def histogram(values: ArrayLike, density: ArrayLike) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return those values whose density is above 0, and their shares of it."""
    values, density = np.asarray(values), np.asarray(density)
    held = density > 0
    return values[held], density[held] / density[held].sum()


class _BalancedMSE(Head):
    """The noise is a parameter that is learned, or fixed with `sigma_lr=0`.

    Args:
        facts: Of the training labels.
        sigma: Noise to begin with, in label units; None: one network unit, which suits labels of any scale.
        sigma_lr: Its learning rate, in network units; weight decay never acts on it.
    """

    def __init__(self, facts: Facts, sigma: float | None, sigma_lr: float) -> None:
        super().__init__()
        sigma = facts.target_scale if sigma is None else sigma
        if not 0 < sigma < math.inf or not 0 <= sigma_lr < math.inf:
            raise ValueError(f"sigma={sigma} must be above 0, and sigma_lr={sigma_lr} not below")
        self.target_scale, self.target_shift = facts.target_scale, facts.target_shift
        self.sigma = nn.Parameter(torch.tensor(sigma / facts.target_scale), requires_grad=sigma_lr > 0)
        if sigma_lr > 0:
            self.settings = {"lr": sigma_lr, "weight_decay": 0.0}

    def report(self) -> dict[str, float]:
        """Return the noise in label units."""
        return {"balanced_mse/sigma": abs(float(self.sigma.detach())) * self.target_scale}


class BMC(_BalancedMSE):
    """Balanced MSE over the labels of the batch; with several processes, of each one's part of it."""

    def __init__(self, facts: Facts, sigma: float | None = 10.0, sigma_lr: float = 1e-2) -> None:
        super().__init__(facts, sigma, sigma_lr)

    @classmethod
    def check(cls, config: Config) -> None:
        """It needs a label for each sample, and several to compare."""
        if config.trainer.batch_size == 1:
            raise UserError("BMC compares the targets of a batch, and trainer.batch_size=1 has one: take 2 or more")
        refuse_maps(config, "BMC, which compares all targets of a batch,")

    def losses(self, output: Tensor, targets: Tensor, features: Tensor) -> Tensor:
        """Return the loss of each sample."""
        return bmc(output, self.in_network_units(targets), self.sigma)[:, None]


class GAI(_BalancedMSE):
    """Balanced MSE under a Gaussian mixture, fitted once to the training labels by scikit-learn.

    Args:
        facts: Of the training labels.
        sigma: As in `BMC`.
        sigma_lr: As in `BMC`.
        components: Of the mixture.
    """

    means: Tensor
    variances: Tensor
    weights: Tensor

    def __init__(self, facts: Facts, sigma: float | None = 10.0, sigma_lr: float = 1e-2, components: int = 8) -> None:
        super().__init__(facts, sigma, sigma_lr)
        if components < 1:
            raise ValueError(f"components={components} must be at least 1")
        from sklearn.mixture import GaussianMixture  # a second, which other methods do not need

        labels = (labels_to_fit(facts) - facts.target_shift) / facts.target_scale
        fitted = GaussianMixture(min(components, len(np.unique(labels))), random_state=0).fit(labels[:, None])
        for name, values in (
            ("means", fitted.means_),
            ("variances", fitted.covariances_),
            ("weights", fitted.weights_),
        ):
            self.register_buffer(name, torch.from_numpy(values.reshape(-1)).float(), persistent=False)

    def losses(self, output: Tensor, targets: Tensor, features: Tensor) -> Tensor:
        """Return the loss of each target."""
        return gai(output, self.in_network_units(targets), self.sigma, self.means, self.variances, self.weights)


class BNI(_BalancedMSE):
    """Balanced MSE under the histogram of the training labels.

    Args:
        facts: Of the training labels.
        sigma: As in `BMC`.
        sigma_lr: As in `BMC`.
        value: What stands for a bin: its "edge" (ages, as published) or its "center" (depth).
        lds: Settings of `lds_density` to smooth the counts by; None: as they are.
    """

    centers: Tensor
    shares: Tensor

    def __init__(
        self,
        facts: Facts,
        sigma: float | None = 10.0,
        sigma_lr: float = 1e-2,
        value: str = "center",
        lds: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(facts, sigma, sigma_lr)
        first, counts = facts.bins.first, facts.counts
        density = counts[first:] if lds is None else lds_density(counts[first:], **lds)
        values = (bin_values(facts.bins, value)[first:] - facts.target_shift) / facts.target_scale
        centers, shares = histogram(values, density)
        self.register_buffer("centers", torch.from_numpy(centers).float(), persistent=False)
        self.register_buffer("shares", torch.from_numpy(shares).float(), persistent=False)

    def losses(self, output: Tensor, targets: Tensor, features: Tensor) -> Tensor:
        """Return the loss of each target."""
        return bni(output, self.in_network_units(targets), self.sigma, self.centers, self.shares)


MOST = 50_000
"""Labels that a mixture is fitted to where each pixel has one."""


def labels_to_fit(facts: Facts) -> NDArray[np.float64]:
    """Return the training labels; of dense targets the centers of bins, as often as they hold pixels (scaled down)."""
    if not facts.dense:
        return np.asarray(facts.targets, np.float64)
    repeats = facts.counts // max(1, int(facts.counts.sum()) // MOST)
    return np.repeat(facts.bins.centers, repeats)
