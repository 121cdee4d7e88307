"""`mixup`: weighted means of two samples."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Self

from dir_bench.errors import UserError
from dir_bench.toggles import Toggle

if TYPE_CHECKING:
    from dir_bench.methods.part import Facts, Part
    from dir_bench.schema import Config


@dataclass
class MixupToggle(Toggle):
    """`layers` of manifold mixup: 0 is the input, 1, 2, … are what the backbone lists as `mixable`."""

    name: str = "none"
    alpha: float = 0.2
    layers: list[int] = field(default_factory=lambda: [0, 1, 2, 3])

    choices: ClassVar = {"mixup.name": ("none", "input", "manifold")}

    def check(self, config: Config) -> None:
        """Layers have to be layers, and the backbone open to hooks."""
        if not self.alpha > 0:
            raise UserError(f"mixup.alpha={self.alpha} must be above 0 (mixup=none: no mixing)")
        if not self.layers or min(self.layers) < 0 or len(set(self.layers)) < len(self.layers):
            raise UserError(f"mixup.layers={self.layers} must name at least one layer, from 0, and none twice")
        if self.name == "manifold" and config.trainer.compile:
            raise UserError("mixup=manifold reaches into the backbone at each step: set trainer.compile=false")

    def used(self) -> Self:
        """Only manifold mixup has layers."""
        used = super().used()
        return used if self.name == "manifold" else replace(used, layers=type(self)().layers)

    def part(self, config: Config, facts: Facts) -> Part | None:
        """Mix the samples of each batch."""
        if not self.on:
            return None
        from dir_bench.methods.mixup import Mixing

        return Mixing(facts.backbone, self.alpha, tuple(self.layers) if self.name == "manifold" else (0,))
