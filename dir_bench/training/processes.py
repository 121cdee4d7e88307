"""What the processes of one run say to each other."""

from typing import Any

import torch
from torch import Tensor


class Processes:
    """All processes of a run; with one, each call returns what it is given.

    Args:
        count: How many there are.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of every process's tensor; it is summed in place."""
        return self._reduce(tensor, torch.distributed.ReduceOp.SUM)

    def max(self, tensor: Tensor) -> Tensor:
        """Return the largest of every process's tensor, element by element and in place."""
        return self._reduce(tensor, torch.distributed.ReduceOp.MAX)

    def gather(self, item: Any) -> list[Any]:
        """Return every process's item; its tensors have to be on the CPU."""
        items: list[Any] = [item]
        if self.count > 1:
            items = [None] * self.count
            torch.distributed.all_gather_object(items, item)
        return items

    def _reduce(self, tensor: Tensor, operation: Any) -> Tensor:
        if self.count > 1:
            torch.distributed.all_reduce(tensor, operation)
        return tensor
