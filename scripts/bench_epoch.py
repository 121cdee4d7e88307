"""FDS's share of an epoch of the embedded run; `bench_fds.py` prints it below its own table."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import torch
from lightning_fabric import Fabric
from rich.console import Console

from dir_bench import config, experiment
from dir_bench.datasets.base import Data
from dir_bench.results.store import RunFolder
from dir_bench.task import Task
from dir_bench.training.trainer import Trainer

VARIANTS = {"none": [], "stream": ["fds=gaussian", "fds.statistics=stream"], "pass": ["fds=gaussian"]}


def make_trainer(data: Data, overrides: list[str], device: str, folder: Path) -> Trainer:
    """Return a trainer of the embedded run that never evaluates."""
    settings = config.compose([*overrides, "trainer.eval_every=1000000", "trainer.epochs=1000000"])
    fabric = Fabric(accelerator=device, devices=1)
    task = Task.of(settings, data.train.targets)
    network = experiment.build_network(settings, data)
    return experiment.build_trainer(fabric, settings, RunFolder(folder), data, task, network)


def seconds(action) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def report(device: str, rounds: int) -> None:
    """Print the median epoch without FDS, with `stream` and with `pass`, taken in turn, and one forward pass."""
    data: Data = config.build(config.compose([]).dataset.source).load()
    with tempfile.TemporaryDirectory() as folder:
        trainers = {name: make_trainer(data, o, device, Path(folder) / name) for name, o in VARIANTS.items()}

        def forward() -> None:
            trainer = trainers["none"]
            trainer.network.train()
            with torch.no_grad():
                for batch in trainer.loader.batches(0):
                    trainer.module(trainer.fabric.to_device(batch.inputs))

        times: dict[str, list[float]] = {name: [] for name in (*VARIANTS, "forward")}
        for number in range(rounds + 2):  # FDS calibrates from its third epoch on
            for name, trainer in trainers.items():
                taken = seconds(trainer.train_epoch)
                times[name] += [taken] if number >= 2 else []
            times["forward"].append(seconds(forward))
    median = {name: statistics.median(values) for name, values in times.items()}
    plain = median["none"]
    console = Console(width=120)
    console.print(f"an epoch of the embedded run without FDS: {plain:.3f} s; medians of {rounds} epochs, taken in turn")
    console.print(f"  stream: {median['stream']:.3f} s, FDS adds {100 * (median['stream'] / plain - 1):.1f} %")
    console.print(
        f"  pass:   {median['pass']:.3f} s, FDS adds {median['pass'] - plain:.3f} s = "
        f"{(median['pass'] - plain) / median['forward']:.2f} forward passes ({median['forward']:.3f} s each)"
    )
