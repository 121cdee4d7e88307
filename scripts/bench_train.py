"""Time training against its ceiling: `python scripts/bench_train.py [--device cuda] [--dataset nyud2]`.

The ceiling is forward, backward and optimiser step of the same network on tensors that lie ready on the device. Set
against it is an epoch of the real trainer over a stand-in with a warm cache (reading, augmentation, loss by region
weights, logging of the loss), and what LDS weights and FDS add. Everything is measured in one run, round by round in
an order that turns, from the third epoch on (FDS calibrates from then). An epoch ends with its checkpoint copied; the
writing of it, which takes place beside the next epoch, is in `bench_checkpoints.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from bench_common import make_trainer, processor, seconds
from rich.console import Console
from rich.table import Table

from dir_bench import config, inspection
from dir_bench.datasets.base import Data
from dir_bench.training.trainer import Trainer

VARIANTS = {
    "trainer": [],
    "trainer + LDS": ["reweight=of_dataset", "lds=gaussian"],
    "trainer + FDS, stream": ["fds=gaussian", "fds.statistics=stream"],
    "trainer + FDS, pass": ["fds=gaussian", "fds.statistics=pass"],
}
CEILING = "ceiling: the same steps on ready tensors"


def steps_on_ready_tensors(trainer: Trainer) -> Callable[[], None]:
    """Return what takes an epoch's optimiser steps on its first batch over and over."""
    _, tensors = next(trainer._batches(trainer.loader, 0))
    inputs, targets = trainer.train.prepare(*tensors)
    goal = trainer.head.in_network_units(targets.unsqueeze(-1) if targets.dim() == 1 else targets)

    def epoch() -> None:
        trainer.network.train()
        for _ in range(len(trainer.loader)):
            prediction, *_ = trainer.network(inputs)
            trainer.fabric.backward((prediction.float() - goal).abs().mean())
            trainer.optimizer.step()
            trainer.optimizer.zero_grad(set_to_none=True)

    return epoch


def measure(common: list[str], device: str, rounds: int, folder: Path) -> tuple[int, dict[str, list[float]]]:
    """Return the number of training samples, and the seconds of each epoch, by variant."""
    data: Data = config.build(config.compose(common).dataset.source).load()
    trainers = {
        name: make_trainer(config.compose([*common, *more]), data, folder / str(number), device)
        for number, (name, more) in enumerate({CEILING: [], **VARIANTS}.items())
    }
    ceiling = trainers.pop(CEILING)
    actions: dict[str, Callable[[], None]] = {CEILING: steps_on_ready_tensors(ceiling)}
    actions |= {name: trainer.train_epoch for name, trainer in trainers.items()}
    times: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(rounds + 2):
        for name in list(actions)[:: 1 if number % 2 else -1]:
            taken = seconds(actions[name], ceiling.fabric.device)
            for trainer in trainers.values():
                trainer.writer.join()  # it would go on in the time of the next one
            times[name] += [taken] if number >= 2 else []
    return len(data.train), times


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="agedb", choices=("agedb", "nyud2"))
    parser.add_argument("--images", type=int, default=256, help="pictures of the stand-in")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--backbone", help="default: resnet18 for faces, depth_resnet18 for depth")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="more settings")
    asked = parser.parse_args(arguments)
    backbone = asked.backbone or ("resnet18" if asked.dataset == "agedb" else "depth_resnet18")
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stderr(io.StringIO()):
            inspection.sample(asked.dataset, folder, asked.images)
        common = [
            *(f"dataset={asked.dataset}", f"paths.data={folder}", f"backbone={backbone}"),
            *(f"trainer.batch_size={asked.batch}", f"trainer.precision={asked.precision}", *asked.set),
        ]
        samples, times = measure(common, asked.device, asked.rounds, Path(folder) / "runs")
    name = torch.cuda.get_device_name() if asked.device == "cuda" else processor()
    print(f"{name}, torch {torch.__version__}, {torch.get_num_threads()} CPU threads; {' '.join(common[2:])}")
    table = Table("an epoch of", "s", "images/s", "against the ceiling", "against the trainer", box=None)
    for what, taken in times.items():
        ratios = [
            statistics.median(a / b for a, b in zip(taken, times[other], strict=True)) for other in (CEILING, "trainer")
        ]
        middle = statistics.median(taken)
        table.add_row(what, f"{middle:.3f}", f"{samples / middle:.1f}", *(f"{100 * (r - 1):+.1f} %" for r in ratios))
    console = Console(width=120)
    console.print(table)
    console.print(f"median of {asked.rounds} rounds; ratios within each round", style="dim")


if __name__ == "__main__":
    main()
