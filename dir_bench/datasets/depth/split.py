"""Pictures with a depth map each: what the trainer takes of NYUD2-DIR."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dir_bench.datasets.base import IntArray, Stored
from dir_bench.datasets.depth.transform import CROP, Augmentation, augment, draw, prepare, upsample
from dir_bench.datasets.pictures.pixels import Store
from dir_bench.labels import TargetBins
from dir_bench.lazy import Lazy

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = Lazy("torch")

CHUNK = 256
"""Depth maps read at a time where all are looked through: bounds the memory."""


@dataclass(frozen=True)
class Codes:
    """Some rows of a store of depth codes, indexed like an array."""

    store: Store
    rows: IntArray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, indices: IntArray) -> npt.NDArray[Any]:
        return self.store.read(self.rows[indices])


@dataclass(frozen=True)
class DepthSplit(Stored):
    """Pictures, uint8 of shape ``(240, 320, 3)``, and depth codes, ``(240, 320)``, both stored.

    Attributes:
        images: Store of pictures.
        targets: Depth codes of the same rows.
        rows: Which rows of the store are in this split.
        augmentation: What training varies.
        rotation_order: See `depth.transform.augment`.
        pixels: The pixels that are judged, increasing: image · 228 · 304 + pixel of the crop. None in training.
        counts: Training pixels per bin, if they are known without counting.
    """

    images: Store
    targets: Codes
    rows: IntArray
    augmentation: Augmentation = field(default_factory=Augmentation)
    rotation_order: int = 2
    pixels: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    counts: IntArray | None = None
    lengths: None = None

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, indices: IntArray) -> Tensor:
        """Return pixels, uint8."""
        return torch.from_numpy(self.images.read(self.rows[indices]))

    def beside(
        self, pixels: Tensor, indices: IntArray, rng: np.random.Generator | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return them, and in training what the batch's augmentation drew."""
        return pixels, () if rng is None else draw(rng, len(indices), self.augmentation)

    def prepare(self, inputs: tuple[Tensor, Any], targets: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return pictures ``(b, 3, 228, 304)`` and, as training has it, depth in metres ``(b, 1, 114, 152)``."""
        pixels, draws = inputs
        if targets is None:
            return prepare(pixels, pixels[..., 0], train_resolution=False)[0], None
        if draws:
            return augment(pixels, targets, draws, rotation_order=self.rotation_order)
        return prepare(pixels, targets, train_resolution=True)

    @cached_property
    def judged(self) -> npt.NDArray[np.float32]:
        """Depth of the judged pixels, metres."""
        image, row, column = np.unravel_index(self.pixels, (max(len(self), 1), *CROP))
        depths = np.empty(len(image), np.float32)
        for rows in chunks(len(self)):
            part = slice(*np.searchsorted(image, [rows[0], rows[-1] + 1]))
            depths[part] = metres(centre(self.targets[rows])[image[part] - rows[0], row[part], column[part]])
        return depths

    def judge(self, output: Tensor, indices: IntArray) -> tuple[Tensor, Tensor]:
        """Return the judged pixels of the network's output, resized to 228 × 304 first, and their places."""
        starts = np.searchsorted(self.pixels, np.append(indices, indices + 1) * (CROP[0] * CROP[1]))
        first, last = starts.reshape(2, -1)
        places = np.concatenate([np.arange(*ends) for ends in zip(first, last, strict=True)])
        of_batch = np.repeat(np.arange(len(indices)), last - first)
        flat = torch.from_numpy(of_batch * (CROP[0] * CROP[1]) + self.pixels[places] % (CROP[0] * CROP[1]))
        return torch.from_numpy(places), upsample(output).flatten()[flat.to(output.device)]

    def label_counts(self, bins: TargetBins) -> IntArray:
        """Return the pixels of the 228 × 304 crop in each bin: the published ones, or counted a chunk at a time."""
        if self.counts is not None and len(self.counts) == len(bins):
            return self.counts
        codes = np.arange(np.iinfo(self.targets.store.dtype).max + 1, dtype=self.targets.store.dtype)
        per_code = np.zeros(len(codes), np.int64)
        for rows in chunks(len(self)):
            per_code += np.bincount(centre(self.targets[rows]).ravel(), minlength=len(codes))
        counts: IntArray = np.bincount(bins.index(metres(codes)), per_code, minlength=len(bins)).astype(np.int64)
        return counts


def chunks(n: int) -> Iterator[IntArray]:
    """Yield the numbers 0 to n - 1, `CHUNK` at a time."""
    for start in range(0, n, CHUNK):
        yield np.arange(start, min(start + CHUNK, n))


def centre(codes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the 228 × 304 in the middle of depth maps, shape ``(b, 240, 320)``."""
    top, left = (codes.shape[1] - CROP[0]) // 2, (codes.shape[2] - CROP[1]) // 2
    return codes[:, top : top + CROP[0], left : left + CROP[1]]


def metres(codes: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return depth of 8-bit codes (10 m / 255) or 16-bit ones (mm), in the published steps of float32."""
    if codes.dtype == np.uint8:
        return codes.astype(np.float32) / np.float32(255) * np.float32(10)
    return codes.astype(np.float32) / np.float32(1000)
