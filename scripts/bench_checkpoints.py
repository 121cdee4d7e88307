"""Time checkpoints: `python scripts/bench_checkpoints.py [--device cuda] [--set backbone=resnet50 …]`.

An epoch of the real trainer that ends with an evaluation and selects each epoch, so that `best.pt` and `last.pt` are
both due: without writing them; written where training stands, each file serialised from the live state and flushed to
the disk with `history.csv`, as it was once; and written beside training, as it is. Several epochs a round, the last
write included, in an order that turns. Processor time is that of all threads; "held up" is how long the thread that
trains is not training: it is steadier than a difference of epochs.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from bench_common import make_trainer, processor, seconds
from rich.console import Console
from rich.table import Table

from dir_bench import config
from dir_bench.datasets.base import Data
from dir_bench.results.store import RunFolder
from dir_bench.training import checkpoint
from dir_bench.training.checkpoint_writer import CheckpointWriter
from dir_bench.training.recorder import Recorder
from dir_bench.training.trainer import Trainer


class Clock:
    """Adds up what calls take of the time on the wall."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, function: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            start = time.perf_counter()
            function(*arguments)
            self.seconds += time.perf_counter() - start

        return call


class Unwritten(CheckpointWriter):
    def save(
        self, state: Mapping[str, Any], plain: Mapping[str, Any], selected: Mapping[str, Any] | None = None
    ) -> None:
        pass


class Foreground(CheckpointWriter):
    def save(
        self, state: Mapping[str, Any], plain: Mapping[str, Any], selected: Mapping[str, Any] | None = None
    ) -> None:
        if selected is not None:
            checkpoint.save(self.folder / "best.pt", {"network": state["network"], **selected})
        checkpoint.save(self.folder / "last.pt", {**state, **plain})


NONE = "no checkpoints"
WRITERS = {NONE: Unwritten, "in the foreground": Foreground, "in the background": CheckpointWriter}


def prepared(name: str, words: Sequence[str], data: Data, folder: Path, device: str, clock: Clock) -> Trainer:
    """Return a trainer that evaluates and selects each epoch, with the writer of that name."""
    writer = WRITERS[name](RunFolder(folder).checkpoints)
    settings = config.compose(words)
    trainer = make_trainer(settings, data, folder, device)
    trainer.settings = replace(trainer.settings, eval_every=1, select="last")
    writer.save, writer.join = clock.timed(writer.save), clock.timed(writer.join)  # type: ignore[method-assign]
    trainer.writer = writer
    recorder = Recorder(RunFolder(folder), trainer, settings, active=True)
    trainer.report = clock.timed(lambda record: recorder._write_history(durable=name == "in the foreground"))
    return trainer


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--epochs", type=int, default=4, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the run")
    asked = parser.parse_args(arguments)
    settings = config.compose(asked.set)
    torch.set_num_threads(settings.trainer.threads or torch.get_num_threads())
    data: Data = config.build(settings.dataset.source).load()
    wall: dict[str, list[float]] = {name: [] for name in WRITERS}
    busy: dict[str, list[float]] = {name: [] for name in WRITERS}
    held: dict[str, list[float]] = {name: [] for name in WRITERS}
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainers = {name: prepared(name, asked.set, data, Path(folder) / name, asked.device, clock) for name in WRITERS}
        for number in range(asked.rounds + 1):
            for name in list(WRITERS)[:: 1 if number % 2 else -1]:
                trainer = trainers[name]

                def epochs(trainer: Trainer = trainer) -> None:
                    for _ in range(asked.epochs):
                        trainer.train_epoch()
                    trainer.writer.join()

                before, clock.seconds = time.process_time(), 0.0
                taken = seconds(epochs, trainer.fabric.device)
                if number:  # the first round warms up
                    wall[name].append(taken / asked.epochs)
                    busy[name].append((time.process_time() - before) / asked.epochs)
                    held[name].append(clock.seconds / asked.epochs)
        last = trainers["in the background"].checkpoints / "last.pt"
        size = last.stat().st_size / 2**20
    device = torch.cuda.get_device_name() if asked.device == "cuda" else processor()
    print(f"{device}, torch {torch.__version__}, {torch.get_num_threads()} CPU threads; last.pt {size:.1f} MiB")
    table = Table("an epoch with checkpoints written", "s", "added", "CPU s", "added", "held up, s", box=None)
    for name in WRITERS:
        row = []
        for times in (wall, busy):
            added = statistics.median(one - none for one, none in zip(times[name], times[NONE], strict=True))
            row += [f"{statistics.median(times[name]):.3f}", f"{added:+.3f}"]
        table.add_row(name, *row, f"{statistics.median(held[name]):.4f}")
    console = Console(width=120)
    console.print(table)
    console.print(
        f"median of {asked.rounds} rounds of {asked.epochs} epochs; differences within each round", style="dim"
    )


if __name__ == "__main__":
    main()
