"""A loss with a parameter that is learned: the likelihood of a Laplace distribution of one scale for all."""

import torch
from torch import Tensor, nn

from dir_bench import Facts, Head


class Laplace(Head):
    def __init__(self, facts: Facts, scale: float = 1.0, scale_lr: float = 1e-2) -> None:
        super().__init__()
        self.target_scale, self.settings = facts.target_scale, {"lr": scale_lr}
        self.log_scale = nn.Parameter(torch.tensor(scale).log())

    def losses(self, output: Tensor, targets: Tensor, features: Tensor) -> Tensor:
        return (output - targets / self.target_scale).abs() * (-self.log_scale).exp() + self.log_scale

    def report(self) -> dict[str, float]:
        return {"laplace/scale": float(self.log_scale.detach().exp()) * self.target_scale}
