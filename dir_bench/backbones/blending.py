"""Inputs that lie between two others, or beside one: what SMOTER and SMOGN ask of pictures, vectors and words."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

KEY_STEP = 0x9E3779B9
"""Between the keys of one sample's several inputs: 2^32 over the golden ratio, as in Weyl sequences."""


class Blend(NamedTuple):
    """A batch of pairs of inputs, and how each pair becomes one input.

    Where inputs are arrays, `of` mixes them before the network. Numbers of words cannot be mixed: a backbone that takes
    words is handed the Blend itself, and mixes their vectors.
    """

    first: Any
    second: Any
    share: Tensor
    """Of the second in each result, 0 to 1, shape ``(b,)``."""
    noisy: Tensor
    """Which results get noise on top, int64 of shape ``(k,)``."""
    keys: Tensor
    """What their noise is a function of, int64 of shape ``(k,)``, 0 to 2^32 − 1."""
    scale: Tensor
    """Standard deviation of the noise, of a shape that broadcasts to one input."""

    def of(self, first: Tensor, second: Tensor, part: int = 0) -> Tensor:
        """Return first + share · (second − first) + scale · noise, sample by sample.

        The noise of a number depends on the sample's key and the number's place alone: not on the batch, nor on
        numbers that follow (padding).

        Args:
            first: Shape ``(b, ...)``.
            second: Likewise.
            part: Which one this is of the several inputs that a sample has; each has noise of its own.

        Returns:
            Shape and type of `first`; integers are rounded, and kept in the range of their type.
        """
        floats = torch.promote_types(first.dtype, torch.float32)
        share = self.share.to(floats).view(-1, *[1] * (first.dim() - 1))
        mixed = torch.lerp(first.to(floats), second.to(floats), share)
        if len(self.noisy):
            noise = normal_noise(self.keys + part * KEY_STEP, mixed.shape[1:]).to(floats)
            mixed = mixed.index_add(0, self.noisy, noise * self.scale.to(floats))
        if first.is_floating_point():
            return mixed
        limits = torch.iinfo(first.dtype)
        return mixed.round().clamp(limits.min, limits.max).to(first.dtype)


def normal_noise(keys: Tensor, shape: torch.Size) -> Tensor:
    """Return standard normal numbers that are a function of key and place, float32 of shape ``(k, *shape)``.

    A counter-based generator: the place is hashed with the key, and the hash read as a uniform number of 23 bits, whose
    normal quantile is returned (none lies beyond 5.3). So nothing is stored, and any part can be made on any device.

    Args:
        keys: int64, shape ``(k,)``; their lowest 32 bits count.
        shape: Of the numbers of one key.

    Source:
        Counter-based generators: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011. The rounds are
        those of the 32-bit hash "lowbias32" by Chris Wellons (public domain).
    """
    place = torch.arange(math.prod(shape), device=keys.device)
    bits = _hash(_hash(keys)[:, None] + _hash(place + KEY_STEP))
    uniform = ((bits >> 9).to(torch.float32) + 0.5) * 2**-22 - 1  # in (−1, 1)
    return (torch.erfinv(uniform) * math.sqrt(2)).view(len(keys), *shape)


def _hash(numbers: Tensor) -> Tensor:
    """Return 32 well mixed bits of each int64's lowest 32, as an int64 from 0 to 2^32 − 1."""
    mask = 0xFFFFFFFF
    x = numbers & mask
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = ((x ^ (x >> shift)) * factor) & mask
    return x ^ (x >> 16)
