"""What several rooms do with tensors, whatever they hold."""

import torch
from torch import Tensor


def wide_dtype(device: torch.device) -> torch.dtype:
    """Return the type that sums are kept in: float64, or float32 on Apple's GPUs, which have no wider one."""
    return torch.float32 if device.type == "mps" else torch.float64


def in_single(tensor: Tensor) -> Tensor:
    """Return a tensor in float32 at least: half precision is widened, float64 stays."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def sent(numbers: Tensor, device: torch.device) -> Tensor:
    """Return a few numbers of the host on a device. The host does not wait for a GPU to have come to them."""
    if device.type == "cuda":
        return numbers.pin_memory().to(device, non_blocking=True)
    return numbers.to(device)
