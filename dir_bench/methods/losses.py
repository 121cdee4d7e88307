"""Losses of one prediction each, and their weighted mean.

A loss takes predictions and targets of one shape and returns that shape: no reduction, no weights. In all, an
error of exactly 0 has gradient 0.

Source:
    Yang et al. 2021 (arXiv:2102.09554), section 4 (focal-R); YyzHarry/imbalanced-regression,
    `agedb-dir/loss.py` and `sts-b-dir/loss.py`.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from dir_bench.errors import nearest

Activate = Literal["sigmoid", "tanh"]


def _error(prediction: Tensor, target: Tensor) -> Tensor:
    if prediction.shape != target.shape:
        raise ValueError(
            f"a loss takes predictions and targets of one shape, not {tuple(prediction.shape)} and "
            f"{tuple(target.shape)}"
        )
    return (prediction - target).abs()


def l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Return d = |prediction - target|."""
    return _error(prediction, target)


def mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Return d ** 2."""
    return _error(prediction, target).square()


def huber(prediction: Tensor, target: Tensor, beta: float = 1.0) -> Tensor:
    """Return d ** 2 / (2 beta) below d = beta, d - beta / 2 above.

    Args:
        prediction: Any shape.
        target: The same shape.
        beta: In the unit of the target, above 0. STS-B is trained with 0.3 on scores divided by 5.
    """
    if not beta > 0:
        raise ValueError(f"huber: beta must be above 0, not {beta}")
    d = _error(prediction, target)
    return torch.where(d < beta, d.square() / (2 * beta), d - beta / 2)


def focal_l1(
    prediction: Tensor, target: Tensor, beta: float = 0.2, gamma: float = 1.0, activate: Activate = "sigmoid"
) -> Tensor:
    """Return d * m(d) ** gamma: focal-R on the absolute error, m growing with it from 0 to 1.

    Args:
        prediction: Any shape.
        target: The same shape.
        beta: Steepness of m, per unit of the target, above 0. Published: 0.2 for ages, 20 for STS-B scores
            divided by 5.
        gamma: 0 or more; 0 leaves d.
        activate: "sigmoid": m = 2 sigmoid(beta d) - 1. "tanh": m = tanh(beta d).
    """
    d = _error(prediction, target)
    return d * _modulation(d, beta, gamma, activate)


def focal_mse(
    prediction: Tensor, target: Tensor, beta: float = 0.2, gamma: float = 1.0, activate: Activate = "sigmoid"
) -> Tensor:
    """Return d ** 2 * m(d) ** gamma: focal-R on the squared error. See `focal_l1`."""
    d = _error(prediction, target)
    return d.square() * _modulation(d, beta, gamma, activate)


def weighted_mean(elementwise: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the mean over all elements of loss times weight; the sum of the weights does not matter.

    Args:
        elementwise: A loss per element, such as [N, K].
        weight: The same shape, or with 1 in place of a dimension, such as [N, 1]. None: all 1.

    Raises:
        ValueError: If the shapes do not match; [N] against [N, 1] would make [N, N].
    """
    if weight is None:
        return elementwise.mean()
    fits = weight.dim() == elementwise.dim() and all(
        w in (1, n) for w, n in zip(weight.shape, elementwise.shape, strict=True)
    )
    if not fits:
        raise ValueError(f"weights {tuple(weight.shape)} do not fit losses {tuple(elementwise.shape)}")
    return (elementwise * weight).mean()


def _modulation(d: Tensor, beta: float, gamma: float, activate: Activate) -> Tensor:
    if activate not in ("sigmoid", "tanh"):
        raise ValueError(
            f"activate must be sigmoid or tanh, not {activate!r}{nearest(str(activate), ('sigmoid', 'tanh'))}"
        )
    if not (beta > 0 and gamma >= 0):
        raise ValueError(f"focal loss: beta must be above 0 and gamma 0 or more, not {beta} and {gamma}")
    # 2 sigmoid(x) - 1 is tanh(x / 2), which keeps its digits near 0.
    m = torch.tanh(d * (beta / 2 if activate == "sigmoid" else beta))
    # The gradient of m ** gamma at 0 is infinite for gamma < 1; times d it is 0, so 0 takes a path of its
    # own.
    positive = m > 0
    return torch.where(positive, torch.where(positive, m, 1.0) ** gamma, 0.0 if gamma > 0 else 1.0)
