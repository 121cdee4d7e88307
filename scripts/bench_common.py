"""What the scripts that time share: the processor's name, its peak, a clock, and a trainer that never evaluates."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch

from dir_bench import assembly
from dir_bench.datasets.base import Data
from dir_bench.results.store import RunFolder
from dir_bench.schema import Config
from dir_bench.task import Task
from dir_bench.training.trainer import Trainer


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


PEAKS = {"H200": 989e12, "H100 80GB HBM3": 989e12, "A100": 312e12}
"""Dense bf16 operations a second that NVIDIA gives for cards whose name holds this; H100 80GB HBM3 is the SXM one."""


def peak(name: str) -> float | None:
    """Return the bf16 peak of a device, in operations a second; None if it is not in `PEAKS`."""
    return next((value for part, value in PEAKS.items() if part in name), None)


def seconds(
    action: Callable[[], object], device: torch.device, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Return the time that `action` takes, of what it queues on the device too."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda _: None
    wait(device)
    start = clock()
    action()
    wait(device)
    return clock() - start


def make_trainer(settings: Config, data: Data, folder: Path, device: str) -> Trainer:
    """Return a trainer of these settings, which are changed, that never evaluates and never ends."""
    settings.trainer.accelerator = device
    settings.trainer.eval_every = settings.trainer.epochs = 10**6
    fabric = assembly.build_fabric(settings, "auto", 1)
    task = Task.of(settings, data.train.label_counts)
    network = assembly.build_network(settings, data)
    data = assembly.train_on(data, network, fabric.device, settings.trainer.samples_on)
    return assembly.build_trainer(fabric, settings, RunFolder(folder), data, task, network)
