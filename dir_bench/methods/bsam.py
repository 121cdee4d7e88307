"""BSAM: sharpness-aware minimisation of a balanced loss, so that rare labels end in a flat place too.

Source:
    Liu et al., "Balanced Sharpness-Aware Minimization for Imbalanced Regression", ICCV 2025, arXiv:2508.16973,
    equations 5–9; on Foret et al., "Sharpness-Aware Minimization", ICLR 2021, arXiv:2010.01412. Published: rho 0.2
    (AgeDB), 0.05 (IMDB-WIKI); ResNet-18, SGD lr 0.2, momentum 0.9, weight decay 1e-4, batch 256, 400 epochs, cosine
    decay to lr · 0.1³. The authors' repository has no licence; nothing here is taken from it. Its weights are 1/√n as
    they are (`normalised=False`), with a mean of 0.0765 on AgeDB, by which its learning rate is smaller.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from dir_bench.labels import bin_weights
from dir_bench.methods.part import Facts, Part


class SAM(Part):
    """Steps by the gradient from where the loss is worst within `rho`, the norm being over all parameters.

    It costs a second pass of the same batch. Batch norm's running averages move in both, as published.

    Args:
        facts: Of the training labels.
        rho: Radius.
    """

    def __init__(self, facts: Facts, rho: float = 0.05) -> None:
        super().__init__()
        if not rho > 0:
            raise ValueError(f"rho={rho} must be above 0")
        self.rho = rho

    def gradients(self, backward: Callable[[], None], parameters: list[Tensor]) -> None:
        """Leave the gradients of the point that is worst nearby."""
        backward()
        moved = [parameter for parameter in parameters if parameter.grad is not None]
        kept = [parameter.detach().clone() for parameter in moved]
        with torch.no_grad():
            slopes = [parameter.grad for parameter in moved if parameter.grad is not None]
            norm = torch.stack(torch._foreach_norm(slopes)).norm()
            steps = torch._foreach_mul(slopes, self.rho / (norm + 1e-12))
            # In half precision the first gradients overflow, and the step is left out: batch norm must not see NaN.
            there = norm.isfinite()
            torch._foreach_add_(moved, [torch.where(there, step, 0.0) for step in steps])
        for parameter in moved:
            parameter.grad = None
        backward()
        with torch.no_grad():
            torch._foreach_copy_(moved, kept)


class BSAM(SAM):
    """SAM of a loss that is weighted by the square root of inverse counts, in both passes.

    Args:
        facts: Of the training labels.
        rho: Radius.
        normalised: Weights with a mean of 1 over training samples; else 1/√n itself.
    """

    table: Tensor

    def __init__(self, facts: Facts, rho: float = 0.2, normalised: bool = True) -> None:
        super().__init__(facts, rho)
        self.bins = facts.bins
        table = bin_weights(facts.counts, "sqrt_inv", first=facts.bins.first)
        if not normalised:
            table = (1 / np.sqrt(np.maximum(facts.counts, 1))).astype(np.float32)
        self.register_buffer("table", torch.from_numpy(table), persistent=False)

    def weigh(self, targets: Tensor) -> Tensor:
        """Return the weight of each target."""
        return self.table[self.bins.index(targets)]
