"""What each method adds to an epoch of VANILLA: `python scripts/bench_methods.py [--backbone mlp] [--batch 256]`.

Every method trains the same network on the same data, through the real trainer, without evaluations and checkpoints.
Each of its epochs is set against one of VANILLA right before it, from the third on (until then FDS, VIR and SRL do
less). Methods that need two views of each sample are set against VANILLA on two views as well, which leaves what they
reckon themselves.

On a CPU, time is that of the process, so that others on the machine count little; memory is what one step takes beyond
VANILLA's, at its peak. Of a method with two stages, the first is measured where it has something of its own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

if __name__ == "__main__":
    os.environ |= {"KINETO_LOG_LEVEL": "99", "TORCH_CPP_LOG_LEVEL": "ERROR"}  # torch's profiler says much on stderr

import torch
from bench_common import make_trainer, processor, seconds
from rich.console import Console
from rich.table import Table
from torch.profiler import profile

from dir_bench import config, experiment
from dir_bench.datasets.arrays import Arrays
from dir_bench.datasets.base import Data
from dir_bench.schema import Config
from dir_bench.training.trainer import Trainer

METHODS = (
    *("bmc", "gai", "bni", "ranksim", "conr", "rnc", "ordinal_entropy", "dense_weight", "dist_loss", "uvote"),
    *("vir", "srl", "sam", "bsam", "sqinv_lds", "vanilla_fds"),
)
SETTINGS = {
    "cnn": ["dataset=gauge"],
    "mlp": ["dataset=arrays", "backbone.hidden=[256,256,128]"],
}
WARM_UP = 2


@dataclass(frozen=True)
class Costs:
    """Of one method: seconds of its epochs and of VANILLA's, in pairs; MiB at the peak of a step of either."""

    method: str
    views: int
    own: list[float]
    vanilla: list[float]
    own_mib: float
    vanilla_mib: float

    @property
    def ratios(self) -> list[float]:
        return [own / vanilla for own, vanilla in zip(self.own, self.vanilla, strict=True)]


def settings_of(method: str, common: Sequence[str]) -> Config:
    """Return the config of a method, or of its first stage."""
    settings = config.compose([*common, f"method={method}"])
    return experiment.stage_one_config(settings) if settings.stages.first else settings


def trainer_of(settings: Config, data: Data, folder: Path, device: str, views: int | None = None) -> Trainer:
    """Return a trainer that saves nothing either; `views` of each sample, or as many as its method needs."""
    trainer = make_trainer(settings, data, folder, device)
    trainer._save = lambda selected: None  # type: ignore[method-assign]  # see `bench_checkpoints.py`
    if views is not None:
        trainer.loader = replace(trainer.loader, views=views)
    return trainer


def epoch_seconds(trainer: Trainer) -> float:
    """Take an epoch; return its time, of the process on a CPU."""
    device = trainer.fabric.device
    return seconds(trainer.train_epoch, device, time.process_time if device.type == "cpu" else time.perf_counter)


def peak_mib(trainer: Trainer) -> float:
    """Return the memory that a training step takes beyond what was there before, at its peak."""
    _, tensors = next(trainer._batches(trainer.loader, trainer.progress.epoch))
    inputs, targets = trainer.train.prepare(*tensors)
    batch = next(iter(trainer.loader.batches(trainer.progress.epoch)))
    for part in trainer.parts.values():
        part.epoch_begins(trainer.progress.epoch)
    if trainer.fabric.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        trainer._step(batch, inputs, targets)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with profile(profile_memory=True) as profiler:
        trainer._step(batch, inputs, targets)
    assert profiler.profiler is not None
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most / 2**20


def measure(methods: Sequence[str], common: Sequence[str], data: Data, device: str, rounds: int) -> list[Costs]:
    """Return what each method costs against VANILLA; one of two views twice, against VANILLA on one and on two."""
    with tempfile.TemporaryDirectory() as folder:
        vanilla = {
            views: trainer_of(settings_of("vanilla", common), data, Path(folder) / f"vanilla{views}", device, views)
            for views in (1, 2)
        }
        pairs: list[tuple[str, int, Trainer]] = []
        for method in methods:
            trainer = trainer_of(settings_of(method, common), data, Path(folder) / method, device)
            pairs += [(method, views, trainer) for views in range(1, trainer.loader.views + 1)]
        times: list[list[tuple[float, float]]] = [[] for _ in pairs]
        for number in range(WARM_UP + rounds):
            for (_, views, trainer), taken in zip(pairs, times, strict=True):
                first = epoch_seconds(vanilla[views])
                taken += [(epoch_seconds(trainer), first)] if number >= WARM_UP else []
                if number < WARM_UP:
                    epoch_seconds(trainer)
        peaks = {id(trainer): peak_mib(trainer) for trainer in [*vanilla.values(), *(pair[2] for pair in pairs)]}
    return [
        Costs(
            method,
            views,
            [own for own, _ in taken],
            [other for _, other in taken],
            peaks[id(trainer)],
            peaks[id(vanilla[views])],
        )
        for (method, views, trainer), taken in zip(pairs, times, strict=True)
    ]


def report(costs: Sequence[Costs]) -> Table:
    """Return a row for each method and number of views."""
    table = Table("method", "VANILLA on", "an epoch, ms", "ratio", "quarter to three quarters", "more MiB", box=None)
    for column in table.columns[2:]:
        column.justify = "right"
    for each in costs:
        low, middle, high = statistics.quantiles(each.ratios, n=4, method="inclusive")
        table.add_row(
            each.method,
            "1 view" if each.views == 1 else f"{each.views} views",
            f"{1e3 * statistics.median(each.own):.1f}",
            f"{middle:.3f}",
            f"{low:.3f} to {high:.3f}",
            f"{each.own_mib - each.vanilla_mib:+.2f}",
        )
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="cnn", choices=tuple(SETTINGS), help="cnn on the gauge, mlp on vectors")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--samples", type=int, default=512, help="for training: short epochs meet the same weather")
    parser.add_argument("--methods", nargs="*", default=METHODS, metavar="PRESET")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="more settings")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        common = [*SETTINGS[asked.backbone], f"trainer.batch_size={asked.batch}", f"paths.data={folder}", *asked.set]
        if asked.backbone == "cnn":
            common.append(f"dataset.source.n_train={asked.samples}")
        else:
            Arrays(f"{folder}/arrays").sample(Path(folder) / "arrays", n=asked.samples)
        settings = config.compose(common)
        torch.set_num_threads(settings.trainer.threads or 1)
        data: Data = config.build(settings.dataset.source).load()
        costs = measure(asked.methods, common, data, asked.device, asked.rounds)
    name = torch.cuda.get_device_name() if asked.device == "cuda" else processor()
    console = Console(width=120)
    console.print(
        f"{name}, torch {torch.__version__}, {torch.get_num_threads()} CPU threads; {asked.backbone}, batch "
        f"{asked.batch}, {len(data.train)} samples, {asked.rounds} rounds"
    )
    console.print(report(costs))


if __name__ == "__main__":
    main()
