"""Sharpness-aware minimisation (Foret et al., ICLR 2021): the gradient from where the loss is worst nearby."""

from collections.abc import Callable

import torch
from torch import Tensor

from dir_bench import Facts, Part


class Sharpness(Part):
    def __init__(self, facts: Facts, rho: float = 0.05) -> None:
        super().__init__()
        self.rho = rho

    def gradients(self, backward: Callable[[], None], parameters: list[Tensor]) -> None:
        backward()
        moved = [p for p in parameters if p.grad is not None]
        kept = [p.detach().clone() for p in moved]
        with torch.no_grad():
            norm = torch.stack([p.grad.norm() for p in moved]).norm()
            torch._foreach_add_(moved, [p.grad * (self.rho / (norm + 1e-12)) for p in moved])
        for p in moved:
            p.grad = None
        backward()
        with torch.no_grad():
            torch._foreach_copy_(moved, kept)
