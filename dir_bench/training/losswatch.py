"""The training loss of an epoch, summed and looked over without waiting for the device at each step."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dir_bench.errors import RunFailed
from dir_bench.training.processes import Processes


class LossWatch:
    """Sums losses, and remembers the first batch whose mean loss was not finite or above a limit.

    Args:
        limit: Of the mean loss of a batch.
        device: Where the losses are.
        processes: Each adds its own share of a batch's loss, and calls `first_bad`, `mean` and `state` along.
    """

    def __init__(self, limit: float, device: torch.device, processes: Processes) -> None:
        self.limit, self.device, self.processes = limit, device, processes
        self.reset()

    def reset(self) -> None:
        """Begin an epoch."""
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        self._sum = torch.zeros((), dtype=dtype, device=self.device)
        self._count = 0
        self._bad_batch = torch.full((), -1, dtype=torch.int64, device=self.device)

    def add(self, loss_sum: Tensor, samples: int, batch: int) -> None:
        """Add a batch's loss, summed over its samples, of which there are `samples` over all processes."""
        bad = ~(loss_sum.abs() <= self.limit * samples)  # true for NaN too
        self._bad_batch = torch.where(bad & (self._bad_batch < 0), batch, self._bad_batch)
        self._sum += loss_sum.to(self._sum.dtype)
        self._count += samples

    def first_bad(self) -> int | None:
        """Return the number of the first bad batch of the epoch; waits for the device."""
        number = int(self.processes.max(self._bad_batch.clone()))
        return None if number < 0 else number

    def breakdown(self, step: int, epoch: int, batch: int, samples: Sequence[int], last: Path) -> RunFailed:
        """Return the error that says where a bad loss was met, and what is left.

        Args:
            step: From 1.
            epoch: From 0.
            batch: Of the epoch, from 0.
            samples: The batch's training samples.
            last: Where the last checkpoint would be.
        """
        kept = f"the last good checkpoint is {last}" if last.exists() else "there is no checkpoint before it"
        shown = ", ".join(map(str, samples[:16])) + (", …" if len(samples) > 16 else "")
        return RunFailed(
            f"the training loss is not finite, or above trainer.loss_limit={self.limit:g}, "
            f"at step {step} (epoch {epoch + 1}, batch {batch + 1}, training samples {shown}); {kept}; "
            f"try a lower optimizer.lr or trainer.clip_norm"
        )

    def mean(self) -> float:
        """Return the mean loss of a sample so far; NaN if there was none."""
        total = float(self.processes.sum(self._sum.clone()))
        return total / self._count if self._count else math.nan

    def state(self) -> dict[str, Any]:
        """Return the sums over all processes."""
        return {"loss_sum": float(self.processes.sum(self._sum.clone())), "loss_count": self._count}

    def load(self, state: Mapping[str, Any], first: bool) -> None:
        """Take up `state`; the first process alone takes the sum, so that it counts once."""
        self.reset()
        self._count = state["loss_count"]
        if first:
            self._sum.fill_(state["loss_sum"])
