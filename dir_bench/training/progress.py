"""Where training stands; plain values, so that it can live in a checkpoint."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from dir_bench.errors import UserError
from dir_bench.methods.part import Part

OURS = ("epoch", "step", "loss", "lr", "seconds")
"""Columns of the history that a part's own stand beside, and so do all that begin with `val/`."""


@dataclass
class Progress:
    """Counters from 0, and what each evaluation gave.

    Attributes:
        best: The monitor's value at the checkpoint that is selected.
        best_epoch: That checkpoint's epoch, from 1.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best: float | None = None
    best_epoch: int | None = None
    lr: float = 0.0
    finished: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)

    def column(self, name: str) -> list[float]:
        """Return a column of the history so far."""
        return [float(row[name]) for row in self.history]


def reports(parts: Iterable[Part]) -> dict[str, float]:
    """Return what the parts report for the history; UserError if a name is one of ours."""
    found: dict[str, float] = {}
    for part in parts:
        for name, number in part.report().items():
            if name in OURS or name.startswith("val/"):
                raise UserError(f"{type(part).__name__}.report gives '{name}', a name of ours: choose another")
            found[name] = number
    return found
