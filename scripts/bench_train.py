"""Time training against its ceiling: `python scripts/bench_train.py [--device cuda] [--dataset nyud2]`.

The ceiling is forward, backward and optimiser step of the same network on tensors that lie ready on the device. Set
against it is an epoch of the real trainer over a stand-in with a warm cache (reading, augmentation, loss by region
weights, logging of the loss), and what LDS weights and FDS add. Everything is measured in one run, round by round in
an order that turns, from the third epoch on (FDS calibrates from then). An epoch ends with its checkpoint copied; the
writing of it, which takes place beside the next epoch, is in `bench_checkpoints.py`. On a card whose bf16 peak is known
(`bench_common.PEAKS`), each line also says which share of it the forward and backward passes of the images come to.
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
from bench_common import make_trainer, peak, processor, seconds
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

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


def flops_of_an_image(trainer: Trainer) -> float:
    """Return the floating-point operations of forward and backward pass, divided by the batch: products and sums.

    Counted are convolutions and matrix products, which is all that a network of pictures does to speak of.
    """
    batch, tensors = next(trainer._batches(trainer.loader, 0))
    inputs, _ = trainer.train.prepare(*tensors)
    compiled, trainer.module.compiled = trainer.module.compiled, None
    with FlopCounterMode(display=False) as counter:
        trainer.fabric.backward(trainer.network(inputs)[0].float().sum())
    trainer.optimizer.zero_grad(set_to_none=True)
    trainer.module.compiled = compiled
    return float(counter.get_total_flops()) / batch.size


def measure(
    common: list[str], device: str, rounds: int, folder: Path, variants: Sequence[str] = tuple(VARIANTS)
) -> tuple[int, float, dict[str, list[float]]]:
    """Return the number of training samples, the operations of one, and the seconds of each epoch, by variant."""
    data: Data = config.build(config.compose(common).dataset.source).load()
    chosen = {CEILING: [], **{name: VARIANTS[name] for name in variants}}
    trainers = {
        name: make_trainer(config.compose([*common, *more]), data, folder / str(number), device)
        for number, (name, more) in enumerate(chosen.items())
    }
    ceiling = trainers.pop(CEILING)
    flops = flops_of_an_image(ceiling)
    actions: dict[str, Callable[[], None]] = {CEILING: steps_on_ready_tensors(ceiling)}
    actions |= {name: trainer.train_epoch for name, trainer in trainers.items()}
    times: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(rounds + 2):
        for name in list(actions)[:: 1 if number % 2 else -1]:
            taken = seconds(actions[name], ceiling.fabric.device)
            for trainer in trainers.values():
                trainer.writer.join()  # it would go on in the time of the next one
            if number == 0:
                print(f"first epoch: {taken:.1f} s, {name}", flush=True)
            times[name] += [taken] if number >= 2 else []
    return len(data.train), flops, times


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="agedb", choices=("agedb", "nyud2"))
    parser.add_argument("--images", type=int, default=256, help="pictures of the stand-in")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--backbone", help="default: resnet18 for faces, depth_resnet18 for depth")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS), help="default: all")
    parser.add_argument("--data", help="folder for the stand-in, to be found there the next time; default: a new one")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="more settings")
    asked = parser.parse_args(arguments)
    backbone = asked.backbone or ("resnet18" if asked.dataset == "agedb" else "depth_resnet18")
    with tempfile.TemporaryDirectory() as folder:
        data = asked.data or folder
        if not (Path(data) / asked.dataset).exists():
            with contextlib.redirect_stderr(io.StringIO()):
                inspection.sample(asked.dataset, data, asked.images)
        common = [
            *(f"dataset={asked.dataset}", f"paths.data={data}", f"backbone={backbone}"),
            *(f"trainer.batch_size={asked.batch}", f"trainer.precision={asked.precision}", *asked.set),
        ]
        samples, flops, times = measure(common, asked.device, asked.rounds, Path(folder) / "runs", asked.variants)
    report(samples, flops, times, asked.device, " ".join(common[2:]), asked.rounds)


def report(samples: int, flops: float, times: dict[str, list[float]], device: str, settings: str, rounds: int) -> None:
    """Print the machine and one table."""
    name = torch.cuda.get_device_name() if device == "cuda" else processor()
    known = peak(name)
    print(f"{name}, torch {torch.__version__}, {torch.get_num_threads()} CPU threads; {settings}")
    against = [other for other in (CEILING, "trainer") if other in times]
    heads = [f"against the {other.partition(':')[0]}" for other in against]
    table = Table("an epoch of", "s", "images/s", *heads, "of bf16 peak", box=None)
    for what, taken in times.items():
        ratios = [statistics.median(a / b for a, b in zip(taken, times[other], strict=True)) for other in against]
        middle = statistics.median(taken)
        share = "unknown" if known is None else f"{samples / middle * flops / known:.1%}"
        shown = (f"{100 * (r - 1):+.1f} %" for r in ratios)
        table.add_row(what, f"{middle:.3f}", f"{samples / middle:.1f}", *shown, share)
    console = Console(width=132)
    console.print(table)
    dense = "a peak that is not known" if known is None else f"{known / 1e12:.0f} TFLOP/s dense in bf16"
    said = (
        f"median of {rounds} rounds; ratios within each round; {flops / 1e9:.3g} GFLOP an image; the card has {dense}"
    )
    console.print(said, style="dim")


if __name__ == "__main__":
    main()
