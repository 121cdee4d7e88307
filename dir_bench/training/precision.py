"""What arithmetic in float32 is on a CUDA device, and which of the engine's hints about it users are spared."""

import logging
import os
import warnings

import torch

log = logging.getLogger("dir_bench")

TF32 = {
    "none": "all in float32",
    "convolutions": "convolutions and recurrent layers in TF32, matrix products in float32",
    "all": "convolutions, recurrent layers and matrix products in TF32",
}
"""Choices of `trainer.tf32`, and what they come to. "convolutions" is what PyTorch does if it is told nothing; its
versions 1.7 to 1.11 did "all". Before there was no TF32."""

HINTS = (
    "You are using a CUDA device",  # to choose TF32: we do, and say so
    "Using 16-bit Automatic Mixed Precision",  # which trainer.precision asked for
    "Using bfloat16 Automatic Mixed Precision",
    "Initializing distributed",  # processes that trainer.devices or torchrun asked for
    "-" * 100 + "\ndistributed_backend=",
)
"""How those messages of Lightning begin that say nothing new to somebody who chose."""


class _NoHints(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(HINTS)


_NO_HINTS = _NoHints()


def spare_hints() -> None:
    """Keep `HINTS`, and nothing else that Lightning says, from users; and one of torch's that nobody can act upon."""
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")  # of sizes of 1, too
    for name in ("rank_zero", "distributed"):
        logging.getLogger(f"lightning_fabric.utilities.{name}").addFilter(_NO_HINTS)


def forget_nvml() -> None:
    """Let torch find out by itself that there is no CUDA device, which each optimiser step asks for.

    Lightning has it look for NVIDIA's library instead, lest forks break what CUDA holds; where that library is
    missing, it is searched for again at each question, a tenth of the step of a small network.
    """
    if not torch.cuda.is_available():
        os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)


def choose_tf32(choice: str) -> None:
    """Let CUDA devices use TF32, which has 10 bits of mantissa, as `trainer.tf32` says; for the whole process.

    By the older of torch's two ways to say it: the compiler of torch 2.9 and 2.10 breaks down over the newer, and so
    does the engine.
    """
    convolutions, products = choice != "none", "high" if choice == "all" else "highest"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Please use the new API settings")
        if torch.backends.cudnn.allow_tf32 != convolutions:
            torch.backends.cudnn.allow_tf32 = convolutions
        if torch.get_float32_matmul_precision() != products:
            torch.set_float32_matmul_precision(products)


def say_tf32(choice: str, device: torch.device) -> None:
    """Log what float32 comes to, where there is a choice."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8:
        log.info("float32 on %s: %s (trainer.tf32=%s)", torch.cuda.get_device_name(device), TF32[choice], choice)
