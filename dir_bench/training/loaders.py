"""Which samples make up each batch, and how a process takes its part of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from lightning_utilities.core.apply_func import apply_to_collection

from dir_bench.datasets.base import IntArray, Split
from dir_bench.errors import UserError
from dir_bench.parallel import ahead
from dir_bench.streams import stream

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Item = TypeVar("Item")

BUCKET_BATCHES = 32
"""Batches are cut from pools of this many batches sorted by length: like lengths together, yet in random order."""


@dataclass(frozen=True)
class Batch:
    """This process's part of one batch."""

    number: int
    inputs: Any
    targets: torch.Tensor
    """Those of `Split.targets` that belong to the batch."""
    size: int
    """Samples of the whole batch over all processes, each view counted."""
    padding: bool
    """True where there was no sample left for this process: it runs along with one that must not count."""


def epoch_batches(
    order: IntArray,
    batch_size: int,
    rng: np.random.Generator,
    lengths: npt.NDArray[np.integer[Any]] | None = None,
    smallest: int = 1,
) -> list[IntArray]:
    """Cut samples, which come in random order, into batches, see `cut`.

    With `lengths` (of all samples there are), batches hold samples of like length, for less padding.
    """
    n = len(order)
    if lengths is None:
        return cut(order, batch_size, smallest)
    pool = batch_size * BUCKET_BATCHES
    # A stable sort by (pool, length) keeps the random order among equals.
    order = order[np.lexsort((lengths[order], np.arange(n) // pool))]
    batches = cut(order, batch_size, smallest)
    return [batches[i] for i in rng.permutation(len(batches))]


def cut(order: IntArray, batch_size: int, smallest: int = 1) -> list[IntArray]:
    """Cut samples into batches as they come; a last one of fewer than `smallest` joins the one before it."""
    ends = list(range(batch_size, len(order), batch_size))
    if ends and len(order) - ends[-1] < smallest:
        ends.pop()
    return np.split(order, ends)


@dataclass(frozen=True)
class TrainLoader:
    """Batches of the training split for any epoch, from any batch on. The order is a function of seed and epoch."""

    split: Split
    batch_size: int
    seed: int
    bucket_by_length: bool = True
    rank: int = 0
    world: int = 1
    workers: int = 0
    """Threads that fetch batches ahead of the training step; 0: fetch when asked."""
    augment: bool = True
    pin: bool = False
    """Put batches into page-locked memory, from which a GPU copies them while it works."""
    draw: Callable[[np.random.Generator], IntArray | None] = lambda rng: None
    """Returns the samples of an epoch in their order; None: each once, shuffled. See `Part.draw`."""
    shuffled: bool = True
    """False: each sample once, in the split's order."""
    smallest: int = 1
    """A last batch of fewer samples joins the one before it: batch norm cannot normalise one vector."""
    views: int = 1
    """Augmented views of each sample in a batch, one after the other."""

    @cached_property
    def _length(self) -> int:
        return len(self.order(0))

    def __len__(self) -> int:
        """Return the number of batches in the first epoch."""
        return self._length

    def order(self, epoch: int, purpose: str = "order") -> list[IntArray]:
        """Return the sample indices of every batch of an epoch, over all processes.

        Raises:
            UserError: If what was drawn are no samples of the split.
        """
        rng = stream(self.seed, purpose, epoch)
        drawn = self.draw(stream(self.seed, f"draw-{purpose}", epoch))
        order = rng.permutation(len(self.split)) if drawn is None else np.asarray(drawn)
        if not self.shuffled:
            return cut(np.arange(len(self.split)), self.batch_size, self.smallest)
        kind = order.dtype.kind == "i" and order.ndim == 1 and len(order) > 0
        if drawn is not None and not (kind and 0 <= order.min() and order.max() < len(self.split)):
            raise UserError(
                f"a part drew {order.dtype} of shape {order.shape} for an epoch, which are no samples of the training "
                f"split: `draw` returns whole numbers from 0 to {len(self.split) - 1}"
            )
        lengths = self.split.lengths if self.bucket_by_length else None
        return epoch_batches(order, self.batch_size, rng, lengths, self.smallest)

    @property
    def joins(self) -> bool:
        """Whether a last batch of the first epoch is too small, and joined the one before it."""
        return any(len(batch) > self.batch_size for batch in self.order(0))

    def batches(self, epoch: int, first: int = 0, purpose: str = "order") -> Iterator[Batch]:
        """Yield this process's part of each batch, from batch number `first` on."""
        numbered = list(enumerate(self.order(epoch, purpose)))[first:]

        def make(item: tuple[int, IntArray]) -> Batch:
            number, whole = item
            mine = whole[self.rank :: self.world]
            padding = len(mine) == 0
            index = np.tile(whole[:1] if padding else mine, self.views)
            # A stream of the batch's own: which thread makes it, and when, does not matter.
            rng = stream(self.seed, f"augment-{purpose}", epoch, number, self.rank)
            inputs = self.split.fetch(index, rng if self.augment else None)
            targets = torch.from_numpy(np.asarray(self.split.targets[index]))
            if self.pin:
                inputs, targets = _pinned((inputs, targets))
            return Batch(number, inputs, targets, len(whole) * self.views, padding)

        return ahead(make, numbered, self.workers)


def eval_batches(
    split: Split, batch_size: int, rank: int = 0, world: int = 1, workers: int = 0, pin: bool = False
) -> Iterator[tuple[IntArray, Any]]:
    """Yield (indices, inputs) so that over all processes every sample comes exactly once, like lengths together.

    `pin`: in page-locked memory, from which copies to a GPU are quick and go on beside other work.
    """
    order = np.arange(len(split)) if split.lengths is None else np.argsort(split.lengths, kind="stable")
    mine = order[rank::world]
    parts = [mine[start : start + batch_size] for start in range(0, len(mine), batch_size)]

    def make(index: IntArray) -> tuple[IntArray, Any]:
        inputs = split.fetch(index, None)
        return index, _pinned(inputs) if pin else inputs

    return ahead(make, parts, workers)


def _pinned(tensors: Any) -> Any:
    return apply_to_collection(tensors, torch.Tensor, torch.Tensor.pin_memory)


def on_device(pairs: Iterable[tuple[Item, Any]], fabric: Fabric) -> Iterator[tuple[Item, Any]]:
    """Yield each (item, tensors) with the tensors on the device.

    On a GPU each copy is under way while the batch before it is at work: a stream of its own, one batch ahead.
    """
    if fabric.device.type != "cuda":
        for item, tensors in pairs:
            yield item, fabric.to_device(tensors)
        return
    copies = _copies(fabric.device)
    waiting: deque[tuple[Item, Any, torch.cuda.Event]] = deque()

    def hand_over() -> tuple[Item, Any]:
        item, tensors, copied = waiting.popleft()
        here = torch.cuda.current_stream(fabric.device)
        here.wait_event(copied)
        # Their memory was taken on the other stream: it must not be given away before this one is done with it.
        apply_to_collection(tensors, torch.Tensor, lambda tensor: tensor.record_stream(here))
        return item, tensors

    for item, tensors in pairs:
        with torch.cuda.stream(copies):
            moved = fabric.to_device(tensors)
            waiting.append((item, moved, copies.record_event()))
        if len(waiting) > 1:
            yield hand_over()
    while waiting:
        yield hand_over()


@cache
def _copies(device: torch.device) -> torch.cuda.Stream:
    """Return the stream of copies to a device: one, since what a stream leaves free no other one takes."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
