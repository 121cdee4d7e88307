"""A training split that was resampled: it fetches the samples that a plan names, and blends them on the device.

Nothing is copied and nothing is written: pictures of 191,509 faces stay where they are, and a synthetic one is made
whenever its batch is. It is the same in every epoch, since the plan and the noise's keys are drawn once.
"""

import copy
import itertools
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

from dir_bench.backbones.blending import Blend
from dir_bench.datasets.base import IntArray, ScalarTargets, Split
from dir_bench.errors import UserError
from dir_bench.labels import TargetBins
from dir_bench.methods.resample import Plan, Settings, make_plan

log = logging.getLogger("dir_bench")

BATCH = 256
"""Samples read at a time while a plan is made."""
SPREAD_SAMPLES = 2048
"""Rare samples that standard deviations are estimated from, at most: known to 2%, and soon read."""


@runtime_checkable
class Embeds(Protocol):
    """A backbone that turns inputs which are no numbers into vectors, and takes a `Blend` of two such inputs."""

    def summarise(self, inputs: Any) -> Tensor:
        """Return a vector of each input, between which distances are taken, shape ``(b, d)``."""
        ...

    def spread(self) -> Tensor:
        """Return the standard deviation of what `Blend.of` mixes, of a shape that broadcasts to it."""
        ...


@dataclass(frozen=True)
class ResampledSplit(ScalarTargets):
    """The samples of a plan.

    Attributes:
        split: The split that the plan is made for; one target a sample.
        plan: What each sample is made of.
        scale: Standard deviation of the noise of inputs, see `Blend`.
    """

    split: Split
    plan: Plan
    scale: Tensor

    @property
    def targets(self) -> npt.NDArray[np.float32]:
        """Those of the plan, label units."""
        return self.plan.targets

    @cached_property
    def lengths(self) -> IntArray | None:
        """The longer of the two lengths that a sample is made from."""
        lengths = self.split.lengths
        return None if lengths is None else np.maximum(lengths[self.plan.base], lengths[self.plan.neighbour])

    def __len__(self) -> int:
        return len(self.plan)

    def fetch(self, indices: IntArray, rng: np.random.Generator | None) -> tuple[Any, ...]:
        """Return both inputs of each sample, the second's share, which samples are noisy, and the noise's keys."""
        plan = self.plan
        # The same draws for both: the synthetic picture is augmented, not each of the two it is made from.
        again = copy.deepcopy(rng)
        first = self.split.fetch(plan.base[indices], rng)
        second = self.split.fetch(plan.neighbour[indices], again)
        noisy = np.flatnonzero(plan.noisy[indices])
        numbers = (plan.share[indices], noisy, plan.keys[indices][noisy])
        return first, second, *(torch.from_numpy(array) for array in numbers)

    def prepare(self, inputs: tuple[Any, ...], targets: Tensor | None) -> tuple[Any, Any]:
        """Return the blended inputs, or, of words, the `Blend` that the backbone mixes; and the targets as they are."""
        first, second, share, noisy, keys = inputs
        (first, _), (second, _) = self.split.prepare(first, None), self.split.prepare(second, None)
        blend = Blend(first, second, share, noisy, keys, self.scale)
        return blend.of(first, second) if isinstance(first, Tensor) else blend, targets


def resampled(
    split: Split,
    bins: TargetBins,
    rarity: npt.NDArray[np.float64],
    settings: Settings,
    rng: np.random.Generator,
    *,
    backbone: nn.Module,
    device: torch.device,
    size: int,
) -> ResampledSplit:
    """Resample a training split by SMOTER or SMOGN; the outcome is a function of data, settings, weights and `rng`.

    Distances are Euclidean: between vectors as they are, between pictures and volumes of at most `size` pixels a side
    (larger ones are averaged over areas), between what a backbone makes of words with its initial vectors. Only rare
    samples are read. On one device, the same plan comes out each time, so a run that resumes makes it anew.

    Args:
        split: The original training split.
        bins: Of its targets.
        rarity: Relevance of each bin.
        settings: See there.
        rng: Draws everything that is random.
        backbone: As initialised: embeds words, if the inputs are words.
        device: Where distances are taken, and batches will be prepared.
        size: Pixels.

    Raises:
        UserError: If samples have many targets each, or inputs that cannot be interpolated.
    """
    started = time.monotonic()
    if np.ndim(split.targets) != 1:
        raise UserError("resample needs one target a sample, and these have one a pixel: set resample=none")
    reader = _Reader(split, backbone, device, size)
    reader.vectors(np.arange(1))  # refuses what cannot be interpolated, before all the work
    targets = np.asarray(split.targets)
    plan = make_plan(targets, bins, rarity, reader.vectors, settings, rng)
    scale = torch.zeros(1, device=device)
    if plan.noisy.any():
        noisy = np.unique(plan.base[plan.noisy])
        chosen = np.sort(rng.permutation(noisy)[:SPREAD_SAMPLES])
        scale = settings.perturbation * reader.spread(chosen)
    taken = time.monotonic() - started
    log.info("resampled %d training samples to %d: %s (%.1f s)", len(targets), len(plan), plan.summary(), taken)
    return ResampledSplit(split, plan, scale)


@dataclass(frozen=True)
class _Reader:
    """Reads samples of a split as numbers, without augmentation."""

    split: Split
    backbone: nn.Module
    device: torch.device
    size: int

    @torch.no_grad()
    def vectors(self, indices: IntArray) -> Tensor:
        """Return the vectors that distances are taken between, float32 of shape ``(k, d)``, on the device."""
        return torch.cat([self._vectors(inputs) for inputs in self._inputs(indices)])

    @torch.no_grad()
    def spread(self, indices: IntArray) -> Tensor:
        """Return the standard deviation of each number of an input over these samples, on the device."""
        batches = self._inputs(indices)
        first = next(batches)
        if not isinstance(first, Tensor):
            assert isinstance(self.backbone, Embeds)  # `vectors` was asked before
            return self.backbone.spread().to(self.device)
        center = first[0].float()  # differences to it are small, and lose no digits
        total, squares = torch.zeros_like(center), torch.zeros_like(center)
        for inputs in itertools.chain([first], batches):
            difference = inputs.float() - center
            total += difference.sum(0)
            squares += difference.square().sum(0)
        n = len(indices)
        return ((squares - total.square() / n) / max(1, n - 1)).clamp(min=0).sqrt()

    def _inputs(self, indices: IntArray) -> Iterator[Any]:
        for start in range(0, len(indices), BATCH):
            fetched = self.split.fetch(indices[start : start + BATCH], None)
            moved = apply_to_collection(fetched, Tensor, Tensor.to, device=self.device)
            yield self.split.prepare(moved, None)[0]

    def _vectors(self, inputs: Any) -> Tensor:
        if not isinstance(inputs, Tensor):
            if not isinstance(self.backbone, Embeds):
                raise UserError(
                    "resample needs inputs of one shape, or a backbone that embeds words: these inputs cannot be "
                    "interpolated; set resample=none"
                )
            there = next(self.backbone.parameters()).device
            inputs = apply_to_collection(inputs, Tensor, Tensor.to, device=there)
            return self.backbone.summarise(inputs).to(self.device, torch.float32)
        values = inputs.float()
        pools: dict[int, Callable[..., Tensor]] = {
            4: nn.functional.adaptive_avg_pool2d,
            5: nn.functional.adaptive_avg_pool3d,
        }
        if values.dim() in pools and max(values.shape[2:]) > self.size:
            values = pools[values.dim()](values, [min(self.size, side) for side in values.shape[2:]])
        return values.flatten(1)
