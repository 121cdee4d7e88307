"""Mixup: train on weighted means of two samples, of their inputs or of what a hidden layer makes of them.

Source:
    Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018, arXiv:1710.09412 (inputs); Verma et al.,
    "Manifold Mixup", ICML 2019, arXiv:1806.05236 (one layer drawn at each step).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from dir_bench.backbones.base import Backbone
from dir_bench.backbones.pixels import scaled
from dir_bench.errors import UserError
from dir_bench.methods.part import Part, Step
from dir_bench.tensors import sent


def mixed(values: Tensor, partners: Tensor, share: float) -> Tensor:
    """Return share · values + (1 − share) · values[partners], exactly `values` at 1; no sample of a batch moves."""
    return torch.lerp(values[partners], values, share)


class Mixing(Part):
    """Mixes each sample of a batch with another of it, and their targets alike; one share and one layer a batch.

    Everything is drawn from streams that step and process alone decide. Each process mixes its own part of a batch, in
    a share and at a layer that all have in common. The host draws, so nothing waits for the device.

    Args:
        backbone: Lists as `mixable` the names of the submodules whose outputs layers 1, 2, … are ("" is itself), and
            may say as `unmixable_input` what its inputs are, if their mean makes no sense.
        alpha: Shares are drawn from Beta(alpha, alpha): the smaller, the nearer to 0 and 1.
        layers: Layers to draw from; 0 is the input.

    Raises:
        UserError: The backbone has no such layer, or its inputs cannot be mixed.
    """

    def __init__(self, backbone: Backbone, alpha: float, layers: tuple[int, ...]) -> None:
        super().__init__()
        self.alpha, self.layers = alpha, layers
        name, names = type(backbone).__name__, backbone.mixable
        reason, deepest = backbone.unmixable_input, len(names)
        lowest = 0 if reason is None else 1
        valid = list(range(lowest, deepest + 1))
        way_out = f"set mixup=manifold and mixup.layers={valid}" if valid else "choose another backbone or mixup=none"
        if 0 in layers and reason is not None:
            raise UserError(
                f"mixup of layer 0 means the input, and {name} takes {reason}, which have no mean: {way_out}"
            )
        if max(layers) > deepest:
            raise UserError(
                f"mixup.layers={list(layers)} names layer {max(layers)}, and {name} has layers {lowest} to "
                f"{deepest} to mix (0 is the input): {way_out}"
            )
        # A tuple, so that the backbone's modules are not taken for this one's.
        self._hooked = tuple(backbone.get_submodule(path) for path in names)

    @contextmanager
    def batch(self, step: Step) -> Iterator[None]:
        """Mix inputs and targets; or targets alone, and within the context the outputs of the layer that was drawn.

        Raises:
            UserError: The input is to be mixed, and is no tensor.
        """
        rng, targets = step.rng("mixup"), step.targets
        share = float(rng.beta(self.alpha, self.alpha))
        layer = self.layers[rng.integers(len(self.layers))]
        order = torch.from_numpy(step.rng("mixup-partners", step.rank).permutation(len(targets)))
        mix = partial(mixed, partners=sent(order, targets.device), share=share)
        step.targets = mix(targets)
        if layer == 0:
            if not isinstance(step.inputs, Tensor):
                kind = type(step.inputs).__name__
                raise UserError(f"mixup takes inputs that are one tensor, not {kind}: drop layer 0")
            step.inputs = mix(scaled(step.inputs))
            yield
            return
        hook = self._hooked[layer - 1].register_forward_hook(lambda module, given, output: mix(output))
        try:
            yield
        finally:
            hook.remove()
