"""`lds` and `reweight`: the density of labels, smoothed or not, and the weights that invert it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from dir_bench.errors import UserError
from dir_bench.labels import TargetBins, bin_weights
from dir_bench.toggles import Toggle

if TYPE_CHECKING:
    from dir_bench.methods.part import Facts, Part
    from dir_bench.schema import Config, Semantics

KERNELS = ("none", "gaussian", "triang", "laplace")


@dataclass
class Smoothing(Toggle):
    """A window over bins; sizes and sigma are measured in bins."""

    name: str = "none"
    kernel_size: int = 5
    sigma: float = 2.0

    def check_window(self, key: str) -> None:
        """Raise UserError for a window that is none; `key` is the group's."""
        if self.kernel_size < 1:
            raise UserError(f"{key}.kernel_size={self.kernel_size} must be an odd number of bins, such as 5")
        if self.kernel_size % 2 == 0:
            raise UserError(
                f"{key}.kernel_size={self.kernel_size} has no centre: take an odd number, "
                f"such as {self.kernel_size - 1} or {self.kernel_size + 1}"
            )
        if not 0 < self.sigma < math.inf:
            raise UserError(f"{key}.sigma={self.sigma} must be above 0 (it is measured in bins)")

    def reads(self) -> tuple[str, ...]:
        """A window's tails are those of a Gaussian."""
        return tuple(key for key in super().reads() if key != "kernel_tails" or self.name == "gaussian")

    def used(self) -> Self:
        """A triangle ends where the window does."""
        return replace(super().used(), sigma=Smoothing.sigma) if self.name == "triang" else super().used()


@dataclass
class LDS(Smoothing):
    """Label distribution smoothing, see `labels.density.lds_density`."""

    choices: ClassVar = {
        "lds.name": KERNELS,
        "semantics.lds_integers": ("truncate", "exact"),
        "semantics.lds_boundary": ("constant", "reflect"),
        "semantics.kernel_tails": ("folded", "sampled"),
    }
    semantics: ClassVar = ("lds_integers", "lds_boundary", "kernel_tails")

    def check(self, config: Config) -> None:
        """Something has to ask for the density that is smoothed."""
        self.check_window("lds")
        if self.on and not config.reweight.on and not config.resample.on:
            raise UserError(
                f"lds={self.name} smooths the density that re-weighting inverts, and reweight=none uses none: add "
                f"reweight={config.dataset.recipe.lds_reweight} (the paper's VANILLA + LDS on {config.dataset.title}) "
                f"or drop lds"
            )

    def settings(self, semantics: Semantics) -> dict[str, Any] | None:
        """Return the settings of `lds_density`; None without LDS."""
        if not self.on:
            return None
        return {
            "kernel": self.name,
            "kernel_size": self.kernel_size,
            "sigma": self.sigma,
            "boundary": semantics.lds_boundary,
            "integers": semantics.lds_integers,
            "tails": semantics.kernel_tails,
        }


@dataclass
class Reweight(Toggle):
    """Weights of the loss by the bin of the target, see `labels.weights.bin_weights`."""

    name: str = "none"
    beta: float = 0.9999  # of class_balanced alone; 1 is its limit, the inverse of the count

    choices: ClassVar = {"reweight.name": ("none", "inv", "sqrt_inv", "class_balanced")}
    semantics: ClassVar = ("inv_clip",)

    def check(self, config: Config) -> None:
        """`beta` is a share."""
        if not 0 <= self.beta <= 1:
            raise UserError(f"reweight.beta={self.beta} must lie in [0, 1]")

    def reads(self) -> tuple[str, ...]:
        """Only inverse counts are clipped."""
        return self.semantics if self.name == "inv" else ()

    def used(self) -> Self:
        """Only class-balanced weights have a beta."""
        return self if self.name == "class_balanced" else type(self)(self.name)

    def weights(self, config: Config, bins: TargetBins, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return the weight of each bin, shape ``(b,)``, mean 1 over training samples."""
        choices: dict[str, Any] = {
            "reweight": self.name,
            "clip": config.semantics.inv_clip,
            "lds": config.lds.settings(config.semantics),
        }
        return bin_weights(counts, first=bins.first, beta=self.beta, **choices)

    def part(self, config: Config, facts: Facts) -> Part | None:
        """Weigh each loss."""
        if not self.on:
            return None
        from dir_bench.methods.weighting import BinWeights

        return BinWeights(facts, self.weights(config, facts.bins, facts.counts))
