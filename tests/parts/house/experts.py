"""A head with several outputs: means and scales of experts, of which the surest answers."""

from torch import Tensor

from dir_bench import Facts, Head


class Experts(Head):
    def __init__(self, facts: Facts, experts: int = 2) -> None:
        super().__init__()
        self.outputs, self.target_scale = 2 * experts, facts.target_scale

    def losses(self, output: Tensor, targets: Tensor, features: Tensor) -> Tensor:
        mean, log_scale = output.chunk(2, dim=1)
        return ((mean - targets / self.target_scale).abs() * (-log_scale).exp() + log_scale).mean(1, keepdim=True)

    def decode(self, output: Tensor) -> Tensor:
        mean, log_scale = output.chunk(2, dim=1)
        return mean.gather(1, log_scale.argmin(1, keepdim=True))

    def columns(self, output: Tensor) -> dict[str, Tensor]:
        return {"scale": output.chunk(2, dim=1)[1].amin(1, keepdim=True).exp()}
