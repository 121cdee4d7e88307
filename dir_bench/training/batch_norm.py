"""Which samples batch norm normalises together: those of all processes, or groups as of so many GPUs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import batch_norm
from torch.nn.modules.batchnorm import _BatchNorm

from dir_bench.datasets.base import Split
from dir_bench.errors import UserError
from dir_bench.methods.part import Part

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class _Total(torch.autograd.Function):
    """The sum over all processes; each one's gradient is the sum of theirs. torch's own is deprecated since 2.15."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        total = mine.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total: Tensor = _Total.apply(gradients[0])
        return total


def smallest_batch(network: nn.Module, split: Split, batch_size: int, fabric: Fabric) -> int:
    """Return how many samples a training batch needs: 2 where batch norm has one value of a channel in each, else 1.

    Whether it does, two samples show, in evaluation mode; they are looked at only where the last batch would be one.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
    drawn = any(type(part).draw is not Part.draw for part in getattr(network, "parts", ()))  # so many or more
    if not layers or len(split) == 1 or (len(split) % batch_size != 1 and not drawn):
        return 1
    values: list[int] = []
    hooks = [
        layer.register_forward_pre_hook(lambda _, given: values.append(given[0][0, 0].numel())) for layer in layers
    ]
    training = network.training
    with torch.no_grad():
        inputs, _ = split.prepare(fabric.to_device(split.fetch(np.arange(2), None)), None)
        with fabric.autocast():
            network.eval()(fabric.strategy.precision.convert_input(inputs))
    network.train(training)
    for hook in hooks:
        hook.remove()
    return 2 if 1 in values else 1


class SmallestBatch:
    """`smallest_batch` of each split of a run, which is found out once."""

    def __init__(self, network: nn.Module, batch_size: int, fabric: Fabric) -> None:
        self._of = partial(smallest_batch, network, batch_size=batch_size, fabric=fabric)
        self._found: dict[int, tuple[Split, int]] = {}

    def __call__(self, split: Split) -> int:
        """Return how many samples a training batch of a split needs."""
        if id(split) not in self._found:  # it is kept, or its number could be another's
            self._found[id(split)] = split, self._of(split)
        return self._found[id(split)][1]


def synchronise_batch_norm(module: nn.Module) -> nn.Module:
    """Replace every batch norm in `module` by one that agrees over processes; weights and buffers are kept."""
    return _replace(module, SyncBatchNorm)


def group_batch_norm(module: nn.Module, groups: int) -> nn.Module:
    """Replace every batch norm in `module` by a `GhostBatchNorm`; weights and buffers are kept."""

    def make(*settings: Any) -> GhostBatchNorm:
        return GhostBatchNorm(groups, *settings)

    return _replace(module, make)


def _replace(module: nn.Module, make: Callable[..., _BatchNorm]) -> nn.Module:
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            layer = make(child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats)
            state = child.state_dict()
            for like in state.values():
                layer.to(device=like.device, dtype=like.dtype if like.is_floating_point() else None)
            layer.load_state_dict(state)
            for ours, theirs in zip(layer.parameters(), child.parameters(), strict=True):
                ours.requires_grad_(theirs.requires_grad)  # what is frozen stays frozen
            setattr(module, name, layer)
        else:
            _replace(child, make)
    return module


@contextmanager
def enough_samples() -> Iterator[None]:
    """Turn torch's refusal to normalise one value a channel into a UserError that says what to set."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            "batch norm needs at least two samples in a training batch, and one has a single sample: raise "
            "trainer.batch_size, or choose a backbone without batch norm"
        ) from error


@contextmanager
def uncounted(module: nn.Module, padding: bool) -> Iterator[None]:
    """Within, this process's samples are padding that must not enter the statistics of batch norm; if `padding`.

    All processes enter each layer together, so one that has no sample left of a batch runs along with one it has seen.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, SyncBatchNorm)] if padding else []
    for layer in layers:
        layer.padding = True
    try:
        yield
    finally:
        for layer in layers:
            layer.padding = False


class SyncBatchNorm(_BatchNorm):
    """Batch norm whose training statistics are those of the whole batch over all processes, on any device.

    torch's own, whose kernels are the faster, works on accelerators only. Elsewhere sums and counts are reduced, so
    that unequal parts weigh right and the result equals one process with the whole batch. Keys of the state dict are
    those of the layer it replaces.

    Attributes:
        padding: Whether the samples of this process must not count, see `uncounted`.
    """

    # What torch's own asks of its layer. Ours is no subclass of it: DistributedDataParallel refuses those on a CPU.
    process_group = None
    _check_input_dim = nn.SyncBatchNorm._check_input_dim
    _check_non_zero_input_channels = nn.SyncBatchNorm._check_non_zero_input_channels

    def __init__(self, *settings: Any) -> None:
        super().__init__(*settings)
        self.padding = False

    def forward(self, input: Tensor) -> Tensor:
        if not (self.training and dist.is_initialized()):
            return nn.SyncBatchNorm.forward(self, input)  # type: ignore[arg-type]
        if not self.padding:
            return self._over_processes(input)
        # No sample takes part in the reductions, forward and backward, in float32 as those of the other processes
        # are. What becomes of the padding has no effect, but must be finite, and give every weight a gradient (of 0).
        none = self._over_processes(input[:0].to(torch.promote_types(input.dtype, torch.float32))).to(input.dtype)
        passed, shape = input.detach(), [1, -1] + [1] * (input.dim() - 2)
        if self.affine:
            passed = (passed * self.weight.view(shape) + self.bias.view(shape)).to(input.dtype)
        return torch.cat([none, passed])

    def _over_processes(self, input: Tensor) -> Tensor:
        if input.is_cuda:
            return nn.SyncBatchNorm.forward(self, input)  # type: ignore[arg-type]
        given, input = input.dtype, input.to(torch.promote_types(input.dtype, torch.float32))
        channels = input.shape[1]
        axes = [axis for axis in range(input.dim()) if axis != 1]
        shape = [1, channels] + [1] * (input.dim() - 2)
        count = input.new_full((1,), float(input.numel() // channels))
        sums: Tensor = _Total.apply(torch.cat([input.sum(axes), count]))
        total = sums[-1].detach()
        mean = sums[:-1] / total
        # A second reduction, of the squared deviations: E[x²] − E[x]² would lose digits.
        spread: Tensor = _Total.apply((input - mean.view(shape)).square().sum(axes))
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


class GhostBatchNorm(_BatchNorm):
    """Batch norm of a batch in groups, as DataParallel on so many GPUs normalises it: each group by itself.

    Running statistics are those of the first group alone, as DataParallel leaves them: its other replicas are thrown
    away after each step. Where a group would have one value per channel, which has no variance, it is joined with the
    one before it; DataParallel breaks down there.

    The groups are run one after the other: they are few, and one call on a copy that lays them side by side as channels
    took 0.8, 1.2, 2 and 12 times as long for four shapes on a CPU, the longest where channels come last in memory.

    Args:
        groups: Parts of a batch, consecutive and as equal as `torch.chunk` makes them.
        settings: Those of torch's batch norm.

    Source:
        Hoffer et al., "Train longer, generalize better", NeurIPS 2017 (the name); torch.nn.DataParallel.
    """

    def __init__(self, groups: int, *settings: Any) -> None:
        super().__init__(*settings)
        self.groups = groups

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        smallest = 1 if input.shape[2:].numel() > 1 else 2
        first, *others = torch.split(input, group_sizes(len(input), self.groups, smallest))
        outputs = [super().forward(first)]
        outputs += [batch_norm(part, None, None, self.weight, self.bias, True, 0.0, self.eps) for part in others]
        return torch.cat(outputs)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"batch norm needs at least 2 dimensions, got {input.dim()}")


def group_sizes(n: int, groups: int, smallest: int = 1) -> list[int]:
    """Return how many of `n` samples each group has: as `torch.chunk`, but that none has fewer than `smallest`.

    There may be fewer groups than asked for, and, if `n` is smaller than `smallest`, the one group is so too.
    """
    size = max(-(-n // groups), smallest)
    whole, rest = divmod(n, size)
    sizes = [size] * whole + [rest] * (rest > 0)
    if len(sizes) > 1 and sizes[-1] < smallest:
        sizes[-2:] = [sizes[-2] + sizes[-1]]
    return sizes
