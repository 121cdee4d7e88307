"""SMOTER and SMOGN as a part of a method: a new training split, made once."""

import numpy as np
import torch
from numpy.typing import NDArray

from dir_bench.datasets.base import Split
from dir_bench.datasets.resampled import resampled
from dir_bench.methods.part import Facts, Part
from dir_bench.methods.resample import Settings
from dir_bench.streams import stream


class Resampling(Part):
    """Resamples the training split by the backbone as it is initialised, if that embeds what the inputs are.

    Regions, counts and FDS's bins stay those of the original split, and validation and test are untouched.

    Args:
        facts: Those of the original training split.
        settings: See there.
        rarity: Relevance of each bin, shape ``(b,)``.
        seed: The run's.
        size: Pixels of a side that pictures are shrunk to for distances.
    """

    def __init__(self, facts: Facts, settings: Settings, rarity: NDArray[np.float64], seed: int, size: int) -> None:
        super().__init__()
        self.chosen, self.rarity, self.seed, self.size = settings, rarity, seed, size
        self.bins, self._embeds = facts.bins, (facts.backbone,)  # a tuple: not a module of this one

    def samples(self, split: Split, device: torch.device) -> Split:
        """Return the resampled split, a function of data, settings, initial weights and seed."""
        rng = stream(self.seed, "resample")
        (backbone,) = self._embeds
        return resampled(
            split, self.bins, self.rarity, self.chosen, rng, backbone=backbone, device=device, size=self.size
        )
