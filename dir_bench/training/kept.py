"""Samples that are kept on the device: a batch then brings their numbers, and no pixels."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dir_bench.datasets.base import Data, IntArray, Split, Stored
from dir_bench.errors import UserError
from dir_bench.files.plain import available_memory
from dir_bench.labels import TargetBins

log = logging.getLogger("dir_bench")

SHARE = 0.25
"""Of the memory that is free, what samples may take for them to be kept without being asked for."""
CHUNK = 2**26
"""Bytes that are read at a time."""
GB = 10**9


@dataclass(frozen=True)
class KeptSplit:
    """A split whose inputs, and targets if they are dense, lie on the device.

    What augmentation draws comes from the same streams on the host, and is done by the same code: batches are those of
    the split bit for bit.

    Attributes:
        split: Draws, and prepares.
        inputs: What it has stored, a row a sample.
        maps: Its targets; None: they are one number a sample, and come with the batch.
    """

    split: Any  # of both kinds, `Split` and `Stored`
    inputs: Tensor
    maps: Tensor | None = None

    def __len__(self) -> int:
        return len(self.split)

    @property
    def targets(self) -> Any:
        """Those of the split; of dense ones the numbers of their samples, which `prepare` turns into targets."""
        return self.split.targets if self.maps is None else np.arange(len(self))

    @property
    def lengths(self) -> IntArray | None:
        """Those of the split."""
        lengths: IntArray | None = self.split.lengths
        return lengths

    @property
    def judged(self) -> npt.NDArray[np.floating[Any]]:
        """Those of the split."""
        judged: npt.NDArray[np.floating[Any]] = self.split.judged
        return judged

    def judge(self, output: Tensor, indices: IntArray) -> tuple[Tensor, Tensor]:
        """Return what the split judges."""
        judged: tuple[Tensor, Tensor] = self.split.judge(output, indices)
        return judged

    def label_counts(self, bins: TargetBins) -> IntArray:
        """Return what the split counts."""
        counts: IntArray = self.split.label_counts(bins)
        return counts

    def fetch(self, indices: IntArray, rng: np.random.Generator | None) -> Any:
        """Return the samples' numbers, and beside them what augmentation drew."""
        return self.split.beside(torch.from_numpy(np.array(indices)), indices, rng)

    def prepare(self, inputs: Any, targets: Tensor | None) -> tuple[Any, Any]:
        """Return what the split makes of the samples of these numbers."""
        if isinstance(inputs, Tensor):
            inputs = self.inputs.index_select(0, inputs)
        else:
            inputs = (self.inputs.index_select(0, inputs[0]), *inputs[1:])
        if targets is not None and self.maps is not None:
            targets = self.maps.index_select(0, targets)
        prepared: tuple[Any, Any] = self.split.prepare(inputs, targets)
        return prepared


def keep(data: Data, device: torch.device, where: str) -> Data:
    """Return the data with the training and validation samples where `trainer.samples_on` says, and log it.

    The test split is read once, and stays on the host, as do samples of different lengths: words take few bytes.

    Args:
        data: As loaded.
        device: The one that trains.
        where: "host"; "device"; or "auto": on a CUDA device if they take less than a quarter of what it has free.

    Raises:
        UserError: They are to be kept, and take more memory than is free.
    """
    splits: dict[str, Any] = {"train": data.train, "val": data.val}
    splits = {name: split for name, split in splits.items() if isinstance(split, Stored) and split.stored}
    if where == "host" or (where == "auto" and device.type != "cuda") or not splits:
        return data
    needed = sum(_bytes(split, with_maps=name == "train") for name, split in splits.items())
    free = _free(device) if device.type == "cuda" else available_memory()
    said = f"{needed / GB:.2f} GB of the {free / GB:.1f} GB that {device} has free"
    if where == "device" and needed > free:
        raise UserError(f"the samples cannot be kept on the device: they take {said}; set trainer.samples_on=host")
    if where == "auto" and needed >= SHARE * free:
        log.info("samples stay on the host: they would take %s; trainer.samples_on=device keeps them there", said)
        return data
    log.info("samples are kept on the device: they take %s", said)
    moved: dict[str, Any] = {n: kept(split, device, with_maps=n == "train") for n, split in splits.items()}
    return replace(data, **moved)


def _free(device: torch.device) -> int:
    """Return the bytes that can be had of a CUDA device: those that nobody has, and those that torch keeps unused."""
    reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + reserved


def kept(split: Any, device: torch.device, with_maps: bool = True) -> Split:
    """Return an equal split whose inputs lie on the device, and its dense targets, if they are asked for."""
    maps = _table(_maps(split), len(split), device) if with_maps and _maps(split) else None
    return KeptSplit(split, _table(split.read, len(split), device), maps)


def _maps(split: Any) -> Any:
    """Return what reads dense targets by number; None if each sample has one number."""
    if isinstance(split.targets, np.ndarray) and split.targets.ndim == 1:
        return None
    return lambda indices: torch.from_numpy(np.asarray(split.targets[indices]))


def _bytes(split: Any, with_maps: bool) -> int:
    readers = [split.read, *([maps] if with_maps and (maps := _maps(split)) else [])]
    return sum(len(split) * int(read(np.arange(1)).nbytes) for read in readers)


def _table(read: Any, n: int, device: torch.device) -> Tensor:
    first = read(np.arange(1))
    table = torch.empty((n, *first.shape[1:]), dtype=first.dtype, device=device)
    rows = max(1, CHUNK // max(1, first.nbytes))
    for start in range(0, n, rows):
        part = np.arange(start, min(start + rows, n))
        table[start : start + rows].copy_(read(part))
    return table
