"""What backbones do with the pixels of pictures before anything else."""

import torch
from torch import Tensor


def scaled(inputs: Tensor) -> Tensor:
    """Return uint8 scaled to [−0.5, 0.5] in the type that torch makes now, and anything else as it is."""
    return inputs.to(torch.get_default_dtype()) / 255 - 0.5 if inputs.dtype == torch.uint8 else inputs
