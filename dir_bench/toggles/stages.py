"""`stages`: train all, then the last layer again on what was learned."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from dir_bench.errors import UserError
from dir_bench.toggles import Toggle

if TYPE_CHECKING:
    from dir_bench.schema import Config

UNWEIGHTED: dict[str, Any] = {"reweight": {"name": "none"}, "lds": {"name": "none"}}
"""What stage one of the published two has otherwise than the run: no weights (FDS, which forms features, stays)."""

RE_TRAINED = {
    "rrt": ("regression", "regressor with inverse", "inv"),
    "crt": ("classification", "classifier with class-balanced", "class_balanced"),
}
"""Of each published re-training: its head, what it re-trains, and the weights it is made for."""


@dataclass
class Stages(Toggle):
    """Settings of the second stage, and what differs in the first.

    Regressor re-training of Yang et al. 2021, section 4 (after Kang et al. 2020, arXiv:1910.09217), and any other
    pair: `first` is merged over the run's own config, where null takes a part away.
    """

    name: str = "none"
    from_run: str | None = None
    epochs: int | None = None
    max_steps: int | None = None
    lr: float | None = None
    first: dict[str, Any] = field(default_factory=lambda: dict(UNWEIGHTED))
    freeze: bool = True  # the backbone, but for what it lists as `refit`

    def check(self, config: Config) -> None:
        """Bounds count from 1; the published pairs need the weights and the head that they are about."""
        for key in ("epochs", "max_steps"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise UserError(f"stages.{key}={value} must be at least 1")
        if not self.on and self.from_run is not None:
            raise UserError(
                f"stages.from_run={self.from_run} has no effect without stages: choose a method of two, such as rrt or "
                "vanilla_knn, or add stages.name=NAME"
            )
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise UserError(f"stages.lr={self.lr} must be a number above 0")
        if self.name not in RE_TRAINED:
            return
        head, re_trained, weights = RE_TRAINED[self.name]
        if not config.reweight.on:
            raise UserError(
                f"stages={self.name} re-trains the {re_trained} weights: add reweight={weights} "
                f"(method={self.name} does)"
            )
        if config.head.name != head:
            other = next(name for name, (of, _, _) in RE_TRAINED.items() if of == config.head.name)
            raise UserError(
                f"stages={self.name} re-trains a {re_trained.split()[0]}, and head={config.head.name} "
                f"has none: choose stages={other} or the other head"
            )

    choices: ClassVar = {}
