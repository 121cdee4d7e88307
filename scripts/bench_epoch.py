"""FDS's share of an epoch of the embedded run; `bench_fds.py` prints it below its own table."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import torch
from lightning_fabric import Fabric
from rich.console import Console

from dir_bench import assembly, config
from dir_bench.datasets.base import Data
from dir_bench.results.store import RunFolder
from dir_bench.task import Task
from dir_bench.training.trainer import Trainer

VARIANTS = {"none": [], "stream": ["fds=gaussian", "fds.statistics=stream"], "pass": ["fds=gaussian"]}


def make_trainer(data: Data, overrides: list[str], device: str, folder: Path) -> Trainer:
    """Return a trainer of the embedded run that never evaluates."""
    settings = config.compose([*overrides, "trainer.eval_every=1000000", "trainer.epochs=1000000"])
    fabric = Fabric(accelerator=device, devices=1)
    task = Task.of(settings, data.train.label_counts)
    network = assembly.build_network(settings, data)
    return assembly.build_trainer(fabric, settings, RunFolder(folder), data, task, network)


def seconds(action) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def report(device: str, rounds: int) -> None:
    """Print what `stream` adds to an epoch, and how the extra pass of `pass` compares with one forward pass.

    Each is set against its partner of the same round, in an order that turns round: the machine's pace drifts by
    more than what is measured.
    """
    settings = config.compose([])
    torch.set_num_threads(settings.trainer.threads or torch.get_num_threads())
    data: Data = config.build(settings.dataset.source).load()
    with tempfile.TemporaryDirectory() as folder:
        trainers = {name: make_trainer(data, o, device, Path(folder) / name) for name, o in VARIANTS.items()}
        passing = trainers["pass"]

        def forward() -> None:
            passing.network.train()
            with torch.no_grad():
                for batch in passing.loader.batches(0):
                    passing.module(passing.fabric.to_device(batch.inputs))

        def collect() -> None:
            passing.collect_statistics()

        actions = {name: trainer.train_epoch for name, trainer in trainers.items()}
        actions |= {"forward": forward, "collect": collect}
        times: dict[str, list[float]] = {name: [] for name in actions}
        for number in range(rounds + 2):  # FDS calibrates from its third epoch on
            for name in list(actions)[:: 1 if number % 2 else -1]:
                taken = seconds(actions[name])
                times[name] += [taken] if number >= 2 else []

    def ratio(one: str, other: str) -> float:
        return statistics.median(a / b for a, b in zip(times[one], times[other], strict=True))

    plain, threads = statistics.median(times["none"]), torch.get_num_threads()
    console = Console(width=120)
    console.print(f"an epoch of the embedded run without FDS: {plain:.3f} s ({threads} CPU threads); {rounds} rounds")
    console.print(f"  stream: FDS makes the epoch {100 * (ratio('stream', 'none') - 1):.1f} % longer")
    console.print(f"  pass:   FDS makes the epoch {100 * (ratio('pass', 'none') - 1):.1f} % longer")
    console.print(f"          its pass for statistics takes {ratio('collect', 'forward'):.2f} forward passes")
