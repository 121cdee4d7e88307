"""Mixup: train on weighted means of two samples, of their inputs or of what a hidden layer makes of them.

Source:
    Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018, arXiv:1710.09412 (inputs); Verma et al.,
    "Manifold Mixup", ICML 2019, arXiv:1806.05236 (one layer drawn at each step).
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dir_bench.backbones.pixels import scaled
from dir_bench.errors import UserError

Mix = Callable[[int, Any, Tensor], AbstractContextManager[tuple[Any, Tensor]]]
"""From step, inputs and targets of a batch to those to train on; the network runs inside of the context."""


def unmixed(step: int, inputs: Any, targets: Tensor) -> AbstractContextManager[tuple[Any, Tensor]]:
    """Return the batch as it is."""
    return nullcontext((inputs, targets))


def mixed(values: Tensor, partners: Tensor, share: float) -> Tensor:
    """Return share · values + (1 − share) · values[partners], exactly `values` at 1; no sample of a batch moves."""
    return torch.lerp(values[partners], values, share)


@dataclass(frozen=True)
class Mixing:
    """Mixes each sample of a batch with another of it, and their targets alike; one share and one layer a batch.

    Everything is drawn from streams that step and process alone decide. Each process mixes its own part of a batch, in
    a share and at a layer that all have in common. The host draws, so nothing waits for the device.

    Attributes:
        backbone: Lists as `mixable` the names of the submodules whose outputs layers 1, 2, … are ("" is itself), and
            may say as `unmixable_input` what its inputs are, if their mean makes no sense.
        alpha: Shares are drawn from Beta(alpha, alpha): the smaller, the nearer to 0 and 1.
        layers: Layers to draw from; 0 is the input.
        streams: From a purpose and a position in training to a random generator.
        rank: This process.

    Raises:
        UserError: The backbone has no such layer, or its inputs cannot be mixed.
    """

    backbone: nn.Module
    alpha: float
    layers: tuple[int, ...]
    streams: Callable[..., np.random.Generator]
    rank: int = 0

    def __post_init__(self) -> None:
        name, deepest = type(self.backbone).__name__, len(self._names)
        reason = getattr(self.backbone, "unmixable_input", None)
        lowest = 0 if reason is None else 1
        valid = list(range(lowest, deepest + 1))
        way_out = f"set mixup=manifold and mixup.layers={valid}" if valid else "choose another backbone or mixup=none"
        if 0 in self.layers and reason is not None:
            raise UserError(
                f"mixup of layer 0 means the input, and {name} takes {reason}, which have no mean: {way_out}"
            )
        if max(self.layers) > deepest:
            raise UserError(
                f"mixup.layers={list(self.layers)} names layer {max(self.layers)}, and {name} has layers {lowest} to "
                f"{deepest} to mix (0 is the input): {way_out}"
            )

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(getattr(self.backbone, "mixable", ()))

    @contextmanager
    def __call__(self, step: int, inputs: Any, targets: Tensor) -> Iterator[tuple[Any, Tensor]]:
        """Give the inputs and the targets of a batch to train on; within, the layer that was drawn mixes its outputs.

        Raises:
            UserError: The input is to be mixed, and is no tensor.
        """
        rng = self.streams("mixup", step)
        share = float(rng.beta(self.alpha, self.alpha))
        layer = self.layers[rng.integers(len(self.layers))]
        order = torch.from_numpy(self.streams("mixup-partners", step, self.rank).permutation(len(targets)))
        if targets.is_cuda:
            order = order.pin_memory()
        mix = partial(mixed, partners=order.to(targets.device, non_blocking=True), share=share)
        if layer == 0:
            if not isinstance(inputs, Tensor):
                raise UserError(f"mixup takes inputs that are one tensor, not {type(inputs).__name__}: drop layer 0")
            yield mix(scaled(inputs)), mix(targets)
            return
        module = self.backbone.get_submodule(self._names[layer - 1])
        hook = module.register_forward_hook(lambda module, given, output: mix(output))
        try:
            yield inputs, mix(targets)
        finally:
            hook.remove()
