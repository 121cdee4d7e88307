"""Where training stands; plain values, so that it can live in a checkpoint."""

from dataclasses import dataclass, field
from typing import Any


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
