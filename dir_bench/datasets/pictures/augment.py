"""Random crops, mirror images and normalisation of a whole batch of pictures at once.

Published: RandomCrop(size, padding=16), RandomHorizontalFlip, ToTensor, Normalize, picture by picture
(YyzHarry/imbalanced-regression, agedb-dir/datasets.py and imdb-wiki-dir/datasets.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from dir_bench.lazy import Lazy

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = Lazy("torch")

CPU_PICTURES = 8
"""Pictures cropped at once on a CPU: what its cache holds."""


def draw_crop_and_flip(rng: np.random.Generator, b: int, padding: int) -> tuple[Tensor, Tensor]:
    """Draw what `crop_and_flip` does to `b` pictures, as published: all crops equally likely, half of them mirrored.

    Returns:
        Where each crop begins, (down, right) from 0 to 2 · `padding`, int64 of shape ``(b, 2)``; and which are
        mirrored, bool of shape ``(b,)``. Both on the CPU.
    """
    shift = rng.integers(0, 2 * padding, (b, 2), endpoint=True)
    return torch.from_numpy(shift), torch.from_numpy(rng.random(b) < 0.5)


def crop_and_flip(pixels: Tensor, shift: Tensor, flip: Tensor, padding: int) -> Tensor:
    """Put `padding` black pixels around each picture, cut out its own size at `shift`, then mirror it where `flip`.

    Args:
        pixels: uint8 of shape ``(b, height, width, channels)``, on any device.
        shift: Where each crop begins, (down, right) from 0 to 2 · `padding`, shape ``(b, 2)``.
        flip: Which crops are mirrored left to right, bool of shape ``(b,)``.
        padding: In pixels, on every side.

    Returns:
        As `pixels`, in memory of its own.
    """
    method = _by_windows if pixels.device.type == "cpu" else _by_gather
    return method(pixels, shift, flip, padding)


def _by_windows(pixels: Tensor, shift: Tensor, flip: Tensor, padding: int) -> Tensor:
    source, begin, mirrored = pixels.numpy(), shift.numpy(), flip.numpy()
    b, height, width, channels = source.shape
    result = np.empty_like(source, order="C")
    # One padded buffer for all: its border stays black, and it stays in the CPU's cache.
    padded = np.zeros((min(b, CPU_PICTURES), height + 2 * padding, width + 2 * padding, channels), source.dtype)
    inner = padded[:, padding : padding + height, padding : padding + width]
    windows = sliding_window_view(padded, (height, width, channels), (1, 2, 3))[:, :, :, 0]
    for start in range(0, b, CPU_PICTURES):
        part = slice(start, start + CPU_PICTURES)
        inner[: b - start] = source[part]
        straight, flipped = np.flatnonzero(~mirrored[part]), np.flatnonzero(mirrored[part])
        down, right = begin[part].T
        result[start + straight] = windows[straight, down[straight], right[straight]]
        crops = windows[flipped, down[flipped], right[flipped]]
        for channel in range(channels):  # three long strided copies: far faster than one of three bytes at a time
            result[start + flipped, :, :, channel] = crops[:, :, ::-1, channel]
    return torch.from_numpy(result)


def _by_gather(pixels: Tensor, shift: Tensor, flip: Tensor, padding: int) -> Tensor:
    b, height, width, _ = pixels.shape
    device = pixels.device
    shift, flip = shift.to(device), flip.to(device)
    rows = shift[:, :1] + torch.arange(-padding, height - padding, device=device)
    columns = shift[:, 1:] + torch.arange(-padding, width - padding, device=device)
    columns = torch.where(flip[:, None], columns.flip(1), columns)
    outside = ((rows < 0) | (rows >= height))[:, :, None] | ((columns < 0) | (columns >= width))[:, None, :]
    picture = torch.arange(b, device=device)[:, None, None]
    crops = pixels[picture, rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None, :]]
    return crops.masked_fill_(outside[..., None], 0)


def to_float(
    pixels: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    out: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Return (pixels / 255 − mean) / std as networks take it, as ToTensor and Normalize do to within 1e-6.

    Args:
        pixels: uint8 of shape ``(b, height, width, channels)``.
        mean: Of each channel, for brightness from 0 to 1.
        std: Of each channel.
        out: Where the result goes, as returned. On a CPU a buffer used over and over saves a third of the time; it must
            not be filled again before its batch has been used.
        dtype: Of the result, without `out`; None: float32. Narrower ones are rounded from float32.

    Returns:
        Floats of shape ``(b, channels, height, width)``, in channels_last memory.
    """
    b, height, width, channels = pixels.shape
    if out is None:
        out = _empty(pixels.shape, dtype or torch.float32, pixels.device).permute(0, 3, 1, 2)
    rows = (b, height, width * channels)
    result = out.permute(0, 2, 3, 1).view(rows)
    values = result if out.dtype == torch.float32 else torch.empty_like(result, dtype=torch.float32)
    factor, offset = _affine(tuple(mean), tuple(std), width, values.device)
    torch.addcmul(offset, values.copy_(pixels.reshape(rows)), factor, out=values)
    if values is not result:
        result.copy_(values)
    return out


def _empty(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return memory for a batch: on a CPU NumPy's, which asks Linux for huge pages.

    A batch of fresh small pages costs several times the arithmetic on it.
    """
    if device.type != "cpu":
        return torch.empty(shape, dtype=dtype, device=device)
    return torch.from_numpy(np.empty(shape.numel() * dtype.itemsize, np.uint8)).view(dtype).view(shape)


@lru_cache(maxsize=16)
def _affine(mean: tuple[float, ...], std: tuple[float, ...], width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return factor and offset of each value in a row of pixels: 1 / (255 · std) and −mean / std.

    A whole row, because broadcasting over three channels would be far slower.
    """
    means, stds = (torch.tensor(values, dtype=torch.float64).repeat(width) for values in (mean, std))
    return (1 / (255 * stds)).to(device, torch.float32), (-means / stds).to(device, torch.float32)
