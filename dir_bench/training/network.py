"""Backbone → parts → regressor."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from dir_bench.backbones.base import Backbone
from dir_bench.errors import UserError
from dir_bench.methods.part import Head, Part, Step
from dir_bench.training.compiled import Compiled


class Network(nn.Module):
    """A backbone, the regressor, and the parts of a method, which work in training only (but for the head).

    The regressor is a module of its own, so re-training it or looking at features needs no names of layers.

    Args:
        backbone: From inputs to features.
        regressor: From features to outputs.
        parts: By name, in the order in which they act; `head` says what the outputs mean.
    """

    backbone: Backbone
    head: Head

    def __init__(self, backbone: Backbone, regressor: nn.Module, parts: Mapping[str, Part]) -> None:
        super().__init__()
        self.backbone = backbone
        for name, part in parts.items():
            self.add_module(name, part)
        self.regressor = regressor
        self.part_names = tuple(parts)
        self.compiled: Compiled | None = None
        """What calls the backbone in its place, see there."""

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
        features = fed = (self.compiled or self.backbone)(inputs)
        if self.training and targets is not None:
            for part in self.parts:
                fed = part.calibrate(fed, targets, epoch)
        return self.regressor(fed), features, fed

    def loss_sum(self, step: Step) -> Tensor:
        """Return a step's weighted losses, in float32 at least, summed over samples (mean over a sample's pixels)."""
        assert step.output is not None
        assert step.features is not None
        output = step.output.to(torch.promote_types(step.output.dtype, torch.float32))
        targets = step.targets.unsqueeze(-1) if step.targets.dim() == 1 else step.targets
        losses: Tensor = self.head.losses(output, targets, step.features)
        _one_each(losses, targets, f"{type(self.head).__name__}.losses", or_shared=False)
        for part in self.parts:
            if (weights := part.weigh(targets)) is not None:
                _one_each(weights, targets, f"{type(part).__name__}.weigh", or_shared=True)
                losses = losses * weights
        return losses.flatten(1).mean(1).sum()


def _one_each(values: Tensor, targets: Tensor, what: str, *, or_shared: bool) -> None:
    """Raise UserError unless there is a value for each target, or (`or_shared`) one for all along some axes.

    Of weights ``(b,)`` and losses ``(b, 1)`` torch makes ``(b, b)``: each loss by all weights, whose mean hides it.
    """
    if values.shape == targets.shape:
        return
    ends = zip(reversed(values.shape), reversed(targets.shape), strict=False)
    shared = values.dim() <= targets.dim() and all(mine in (1, wanted) for mine, wanted in ends)
    if not (or_shared and shared):
        raise UserError(
            f"{what} gives shape {tuple(values.shape)} for targets of shape {tuple(targets.shape)}: one for each is "
            "wanted"
        )
