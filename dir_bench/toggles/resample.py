"""`resample`: SMOTER and SMOGN."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from dir_bench.errors import UserError
from dir_bench.labels import label_density, relevance
from dir_bench.toggles import Toggle
from dir_bench.toggles.stages import RE_TRAINED

if TYPE_CHECKING:
    from dir_bench.methods.part import Facts, Part
    from dir_bench.schema import Config


@dataclass
class Resample(Toggle):
    """See `methods.resample`."""

    name: str = "none"
    threshold: float = 0.8
    neighbours: int = 5
    perturbation: float = 0.1
    over: float | None = None
    under: float | None = None
    size: int = 32

    choices: ClassVar = {"resample.name": ("none", "smoter", "smogn")}

    def check(self, config: Config) -> None:
        """The imbalance may be counted once, and samples have to be of a kind that can be interpolated."""
        if not self.on:
            return
        for key in ("reweight", "stages"):
            name = getattr(config, key).name
            if key == "stages" and config.stages.on and name not in RE_TRAINED:
                raise UserError(
                    f"resample={self.name} trains on other samples, and stages={name} does not say which of its two "
                    "stages would: drop one of them"
                )
            if name != "none":
                raise UserError(
                    f"resample={self.name} makes rare labels frequent, and {key}={name} weights them as if they were "
                    f"still rare: both would count the imbalance twice; drop one of them (lds alone shapes the "
                    f"resampling)"
                )
        if config.dataset.no_resampling is not None:
            raise UserError(f"resample={self.name} is not for {config.dataset.title}: {config.dataset.no_resampling}")
        if not 0 < self.threshold < 1:
            raise UserError(f"resample.threshold={self.threshold} must lie between 0 and 1 (the relevance of a bin)")
        if self.neighbours < 1 or self.size < 1:
            raise UserError(f"resample.neighbours={self.neighbours} and resample.size={self.size} must be at least 1")
        if not self.perturbation > 0:
            raise UserError(f"resample.perturbation={self.perturbation} must be above 0 (standard deviations)")
        if self.over is not None and not 0 <= self.over < math.inf:
            raise UserError(f"resample.over={self.over} must be a number of 0 or more (synthetic samples per rare one)")
        if self.under is not None and not 0 < self.under <= 1:
            raise UserError(
                f"resample.under={self.under} must be above 0, and 1 at most (share of common samples kept)"
            )

    def used(self) -> Self:
        """SMOTER adds no noise."""
        used = super().used()
        return replace(used, perturbation=Resample.perturbation) if self.name == "smoter" else used

    def part(self, config: Config, facts: Facts) -> Part | None:
        """Train on other samples; with LDS, the smoothed density says which bins are rare."""
        if not self.on:
            return None
        from dir_bench.methods.resample import Settings
        from dir_bench.methods.resampling import Resampling

        settings = Settings(
            self.name == "smogn", self.threshold, self.neighbours, self.perturbation, self.over, self.under
        )
        density = label_density(facts.counts, facts.bins.first, config.lds.settings(config.semantics))
        return Resampling(facts, settings, relevance(facts.counts, density), config.seed, self.size)
