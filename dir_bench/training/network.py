"""Backbone → parts → regressor, and batch norm that agrees over processes."""

from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_functional
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dir_bench.methods.part import Part


class Network(nn.Module):
    """A backbone, the regressor, and the parts of a method, which work in training only (but for the head).

    The regressor is a module of its own, so re-training it or looking at features needs no names of layers.

    Args:
        backbone: From inputs to features.
        regressor: From features to outputs.
        parts: By name, in the order in which they act; `head` says what the outputs mean.
    """

    def __init__(self, backbone: nn.Module, regressor: nn.Module, parts: Mapping[str, Part]) -> None:
        super().__init__()
        self.backbone = backbone
        for name, part in parts.items():
            self.add_module(name, part)
        self.regressor = regressor
        self.part_names = tuple(parts)

    @property
    def parts(self) -> list[Part]:
        """The parts, in their order."""
        return [cast(Part, self.get_submodule(name)) for name in self.part_names]

    def forward(self, inputs: Any, targets: Tensor | None = None, epoch: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Return the regressor's output, the backbone's features, and what the regressor was given.

        Args:
            inputs: What the backbone takes.
            targets: Label units; without them, and in evaluation, no part acts.
            epoch: The running one, from 0.
        """
        features = fed = self.backbone(inputs)
        if self.training and targets is not None:
            for part in self.parts:
                fed = part.calibrate(fed, targets, epoch)
        return self.regressor(fed), features, fed


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
