"""Where training stands; plain values, so that it can live in a checkpoint."""

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Progress:
    """Counters from 0, and what each evaluation gave.

    Attributes:
        best: The monitor's value at the checkpoint that is selected.
        best_epoch: That checkpoint's epoch, from 1.
        since_best: Evaluations since the lowest value.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best: float | None = None
    best_epoch: int | None = None
    since_best: int = 0
    lr: float = 0.0
    finished: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)

    def lowest(self, column: str) -> float:
        """Return the lowest value of a column of the history so far; infinity before there is one."""
        return min((float(row[column]) for row in self.history), default=math.inf)
