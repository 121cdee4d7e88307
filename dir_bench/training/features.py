"""Statistics of the learned features by label, of any run: what the paper's figures 4, 8 and 10 are drawn from."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dir_bench.datasets.base import Split
from dir_bench.labels import TargetBins
from dir_bench.methods.fds_moments import LabelSlots, Moments
from dir_bench.training.loaders import eval_batches, on_device
from dir_bench.training.trainer import Trainer


def feature_statistics(trainer: Trainer, split: Split, bins: TargetBins) -> dict[str, npt.NDArray[Any]]:
    """Return mean and variance of the features of each bin, in one pass in evaluation mode and without augmentation.

    Neither weights, running averages of batch norm nor random numbers move. FDS has no part in it: these are the
    features that the regressor gets when it is tested. All processes take part, and return the same.

    Args:
        trainer: Holds the network, at the checkpoint that counts.
        split: Usually the training split; of dense targets, each pixel counts.
        bins: Of its targets.

    Returns:
        bin (number of each bin from the first in use on, shape ``(r,)``), count (``(r,)``), mean and unbiased
        variance (``(r, d)``, float32; 0 where there are too few samples).
    """
    module, settings, fabric = trainer.module, trainer.settings, trainer.fabric
    module.eval()
    slots = LabelSlots.over(bins, None, None, "clamp")
    moments = Moments(slots, module.backbone.feature_dim, fabric.device)
    batches = eval_batches(split, settings.eval_batch_size, fabric.global_rank, fabric.world_size, settings.workers)
    labelled = ((index, (inputs, torch.from_numpy(np.asarray(split.targets[index])))) for index, inputs in batches)
    with torch.no_grad():
        for _, tensors in on_device(labelled, fabric):
            inputs, targets = split.prepare(*tensors)
            with fabric.autocast():
                features = module.backbone(fabric.strategy.precision.convert_input(inputs))
            moments.add(features, targets)
    moments.reduce(trainer.processes.sum)
    count, mean, variance = (table.cpu().numpy() for table in moments.by_row())
    return {
        "bin": np.arange(slots.first, slots.last + 1),
        "count": count.astype(np.int64),
        "mean": mean.astype(np.float32),
        "variance": variance.astype(np.float32),
    }
