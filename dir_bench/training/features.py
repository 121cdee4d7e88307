"""The learned features of a split: as they are, and their statistics by label (the paper's figures 4, 8 and 10)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dir_bench.datasets.base import IntArray, Split
from dir_bench.labels import TargetBins
from dir_bench.methods.fds_moments import LabelSlots, Moments
from dir_bench.methods.part import FeatureSet
from dir_bench.training.loaders import eval_batches, on_device

if TYPE_CHECKING:
    from dir_bench.training.trainer import Trainer


def feature_batches(trainer: Trainer, split: Split) -> Iterator[tuple[IntArray, Tensor, Tensor]]:
    """Yield samples, their features and their targets (label units), in evaluation mode and without augmentation.

    Neither weights, running averages of batch norm nor random numbers move, and no part acts: these are the features
    that the regressor gets when it is tested. Each process yields its own samples.
    """
    module, settings, fabric = trainer.module, trainer.settings, trainer.fabric
    module.eval()
    rank, world, on_cuda = fabric.global_rank, fabric.world_size, fabric.device.type == "cuda"
    batches = eval_batches(split, settings.eval_batch_size, rank, world, settings.workers, pin=on_cuda)
    given = ((index, (inputs, torch.from_numpy(np.asarray(split.targets[index])))) for index, inputs in batches)
    with torch.no_grad():
        for index, tensors in on_device(given, fabric):
            inputs, targets = split.prepare(*tensors)
            with fabric.autocast():
                features = module.backbone(fabric.strategy.precision.convert_input(inputs))
            yield index, features, targets


def feature_set(trainer: Trainer, split: Split) -> FeatureSet:
    """Return the features, targets and weights of a split with one target a sample, in one pass of one process."""
    places: list[Tensor] = []
    features: list[Tensor] = []
    targets: list[Tensor] = []
    weights: list[Tensor] = []
    for index, some, labels in feature_batches(trainer, split):
        weight = torch.ones_like(labels, dtype=torch.float32)
        for part in trainer.parts.values():
            if (own := part.weigh(labels[:, None])) is not None:
                weight = weight * own.squeeze(1)
        places.append(torch.from_numpy(index))
        for found, values in ((features, some.float()), (targets, labels), (weights, weight)):
            found.append(values.cpu())
    order = torch.cat(places).argsort()
    weight = torch.cat(weights)[order]
    alike = bool((weight == weight[0]).all())
    return FeatureSet(torch.cat(features)[order], torch.cat(targets)[order], None if alike else weight)


def feature_statistics(trainer: Trainer, split: Split, bins: TargetBins) -> dict[str, npt.NDArray[Any]]:
    """Return mean and variance of the features of each bin, in one pass; see `feature_batches`.

    FDS has no part in it. All processes take part, and return the same.

    Args:
        trainer: Holds the network, at the checkpoint that counts.
        split: Usually the training split; of dense targets, each pixel counts.
        bins: Of its targets.

    Returns:
        bin (number of each bin from the first in use on, shape ``(r,)``), count (``(r,)``), mean and unbiased
        variance (``(r, d)``, float32; 0 where there are too few samples).
    """
    slots = LabelSlots.over(bins, None, None, "clamp")
    moments = Moments(slots, trainer.module.backbone.feature_dim, trainer.fabric.device)
    for _, features, targets in feature_batches(trainer, split):
        moments.add(features, targets)
    moments.reduce(trainer.processes.sum)
    count, mean, variance = (table.cpu().numpy() for table in moments.by_row())
    return {
        "bin": np.arange(slots.first, slots.last + 1),
        "count": count.astype(np.int64),
        "mean": mean.astype(np.float32),
        "variance": variance.astype(np.float32),
    }
