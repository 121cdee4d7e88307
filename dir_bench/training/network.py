"""Backbone → FDS → regressor, and batch norm that agrees over processes."""

from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_functional
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dir_bench.methods.fds import FDS


class Network(nn.Module):
    """A backbone, an optional FDS layer that works in training only, and the regressor.

    The regressor is a module of its own, so re-training it (RRT) or looking at features needs no names of layers.
    """

    def __init__(self, backbone: nn.Module, regressor: nn.Module, fds: FDS | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.fds = fds
        self.regressor = regressor

    def forward(self, inputs: Any, labels: Tensor | None = None, epoch: int = 0) -> tuple[Tensor, Tensor]:
        """Return predictions in network units and the features that FDS collects statistics from.

        Args:
            inputs: What the backbone takes.
            labels: Targets in label units; needed in training with FDS, where they choose the bin.
            epoch: Which epoch's statistics calibrate the features.
        """
        features = self.backbone(inputs)
        if self.fds is None or not self.training or labels is None:
            return self.regressor(features), features
        calibrated = self.fds.smooth(features, labels, epoch)
        return self.regressor(calibrated), calibrated if self.fds.collects_smoothed else features


class SyncBatchNorm(_BatchNorm):
    """Batch norm whose training statistics are those of the whole batch over all processes, on any device.

    torch's own version works on accelerators only. Sums and counts are reduced, so unequal parts weigh right and the
    result equals one process with the whole batch. Keys of the state dict are those of the layer it replaces.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not (self.training and dist.is_initialized()):
            return nn.functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        given, input = input.dtype, input.to(torch.promote_types(input.dtype, torch.float32))
        channels = input.shape[1]
        axes = [axis for axis in range(input.dim()) if axis != 1]
        shape = [1, channels] + [1] * (input.dim() - 2)
        count = input.new_full((1,), float(input.numel() // channels))
        sums: Tensor = dist_functional.all_reduce(torch.cat([input.sum(axes), count]))  # type: ignore[no-untyped-call]
        total = sums[-1].detach()
        mean = sums[:-1] / total
        # A second reduction, of the squared deviations: E[x²] − E[x]² would lose digits.
        spread: Tensor = dist_functional.all_reduce((input - mean.view(shape)).square().sum(axes))  # type: ignore[no-untyped-call]
        var = spread / total
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            self._track(mean.detach(), var.detach() * (total / (total - 1).clamp(min=1)))
        scale = torch.rsqrt(var + self.eps)
        if self.affine:
            scale = scale * self.weight
        out = (input - mean.view(shape)) * scale.view(shape)
        return (out + self.bias.view(shape) if self.affine else out).to(given)

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        factor = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), factor)
        self.running_var.lerp_(var.to(self.running_var.dtype), factor)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"batch norm needs at least 2 dimensions, got {input.dim()}")


def synchronise_batch_norm(module: nn.Module) -> nn.Module:
    """Replace every batch norm in `module` by one that agrees over processes; weights and buffers are kept."""
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm) and not isinstance(child, SyncBatchNorm):
            layer = SyncBatchNorm(
                child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats
            )
            state = child.state_dict()
            for like in state.values():
                layer.to(device=like.device, dtype=like.dtype if like.is_floating_point() else None)
            layer.load_state_dict(state)
            setattr(module, name, layer)
        else:
            synchronise_batch_norm(child)
    return module
