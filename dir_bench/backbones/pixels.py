"""What backbones do with the pixels of pictures before anything else, and how their sizes are told."""

from collections.abc import Sequence

import torch
from torch import Tensor


def scaled(inputs: Tensor) -> Tensor:
    """Return uint8 scaled to [−0.5, 0.5] in the type that torch makes now, and anything else as it is."""
    return inputs.to(torch.get_default_dtype()) / 255 - 0.5 if inputs.dtype == torch.uint8 else inputs


def sides(size: int | Sequence[int]) -> tuple[int, ...]:
    """Return the length of each axis behind the channels; a number alone is height and width of a picture."""
    return (size, size) if isinstance(size, int) else tuple(size)
