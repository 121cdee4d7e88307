"""`loss` and `head`: what the last layer's outputs mean, and how far they are off."""

from __future__ import annotations

import inspect
import math
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

from dir_bench.errors import UserError
from dir_bench.toggles import Toggle

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from dir_bench.methods.part import Facts, Part
    from dir_bench.schema import Config


@dataclass
class Loss(Toggle):
    """An elementwise loss of `methods.losses`, by its name there."""

    name: str = "l1"
    beta: float = 1.0
    gamma: float = 1.0
    activate: str = "sigmoid"

    choices: ClassVar = {
        "loss.name": ("l1", "mse", "huber", "focal_l1", "focal_mse"),
        "loss.activate": ("sigmoid", "tanh"),
    }
    semantics: ClassVar = ("mse_selects",)

    def check(self, config: Config) -> None:
        """Numbers have to be finite and of the right sign."""
        if self.name not in ("l1", "mse") and not 0 < self.beta < math.inf:
            raise UserError(f"loss.beta={self.beta} must be a number above 0")
        if self.name.startswith("focal_") and not 0 <= self.gamma < math.inf:
            raise UserError(f"loss.gamma={self.gamma} must be 0 or a number above it")

    def reads(self, config: Config) -> tuple[str, ...]:
        """What selects an epoch may hang on this one loss."""
        return self.semantics if self.name == "mse" else ()

    def monitor(self, config: Config) -> str:
        """Return which error over all validation samples selects the epoch: as published, that of the loss on faces."""
        swapped = config.semantics.mse_selects and self.name == "mse" and config.dataset.monitor == "mae"
        return "mse" if swapped else config.dataset.monitor

    def used(self) -> Self:
        """Keep those settings that the loss has."""
        if self.name in ("l1", "mse"):
            return type(self)(self.name)
        return type(self)(self.name, self.beta) if self.name == "huber" else self

    def function(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the elementwise loss with its settings."""
        from dir_bench.methods import losses

        function = getattr(losses, self.name)
        taken = inspect.signature(function).parameters.keys()
        return partial(function, **{key: value for key, value in asdict(self).items() if key in taken})


@dataclass
class HeadToggle(Toggle):
    """What the last layer gives: the target itself, or a score for each bin, and which label a bin stands for."""

    name: str = "regression"
    decode: str = "argmax"
    value: str = "center"

    choices: ClassVar = {
        "head.name": ("regression", "classification"),
        "head.decode": ("argmax", "expected"),
        "head.value": ("center", "edge", "by_targets"),
    }

    @property
    def on(self) -> bool:
        """Whether it has settings."""
        return self.name != "regression"

    def check(self, config: Config) -> None:
        """A loss of numbers, and a mean of two labels, mean nothing to classes."""
        if not self.on:
            return
        if config.loss.name != config.dataset.recipe.loss:
            raise UserError(
                f"loss={config.loss.name} measures how far a number is off, and head=classification learns by "
                "cross-entropy: drop one of them"
            )
        if config.mixup.on:
            raise UserError(
                f"mixup={config.mixup.name} mixes targets as numbers, and the mean of two labels lies in a class of "
                "neither: drop it or head=classification"
            )

    def part(self, config: Config, facts: Facts) -> Part | None:
        """Return the head itself; a part of the config named `head` takes its place."""
        import numpy as np
        import torch

        from dir_bench.methods.heads import Classification, Regression, class_values

        if not self.on:
            start = None
            if config.dataset.standardize:
                start = float(np.median(facts.targets) - facts.target_shift) / facts.target_scale
            return Regression(config.loss.function(), facts.target_scale, facts.target_shift, start)
        values: Any = torch.from_numpy(class_values(facts.bins, self.value))
        return Classification(facts.bins, values, expected=self.decode == "expected")
