"""FDS's share of an epoch of the embedded run; `bench_fds.py` prints it below its own table."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from bench_common import make_trainer, seconds
from rich.console import Console

from dir_bench import config
from dir_bench.datasets.base import Data
from dir_bench.methods.fds_part import FDSPart

VARIANTS = {"none": [], "stream": ["fds=gaussian", "fds.statistics=stream"], "pass": ["fds=gaussian"]}


def report(device: str, rounds: int, changed: Sequence[str] = ()) -> None:
    """Print what `stream` adds to an epoch, and how the extra pass of `pass` compares with one forward pass.

    Each is set against its partner of the same round, in an order that turns round: the machine's pace drifts by
    more than what is measured. `changed` are settings of the run.
    """
    settings = config.compose(changed)
    torch.set_num_threads(settings.trainer.threads or torch.get_num_threads())
    data: Data = config.build(settings.dataset.source).load()
    with tempfile.TemporaryDirectory() as folder:
        trainers = {
            name: make_trainer(config.compose([*changed, *more]), data, Path(folder) / name, device)
            for name, more in VARIANTS.items()
        }
        passing = trainers["pass"]
        fds = passing.parts["fds"]
        assert isinstance(fds, FDSPart)

        def forward() -> None:
            passing.network.train()
            with torch.no_grad():
                for _, tensors in passing._batches(passing.loader, 0):
                    passing.module(passing.train.prepare(*tensors)[0])

        def collect() -> None:
            moments = fds.new_moments()
            for step in passing._walk(fds.split, "fds", fds.shuffled):
                fds._gather(moments, step)

        actions = {name: trainer.train_epoch for name, trainer in trainers.items()}
        actions |= {"forward": forward, "collect": collect}
        times: dict[str, list[float]] = {name: [] for name in actions}
        for number in range(rounds + 2):  # FDS calibrates from its third epoch on
            for name in list(actions)[:: 1 if number % 2 else -1]:
                taken = seconds(actions[name], passing.fabric.device)
                for trainer in trainers.values():
                    trainer.writer.join()  # it would go on in the time of the next one
                times[name] += [taken] if number >= 2 else []

    def ratio(one: str, other: str) -> float:
        return statistics.median(a / b for a, b in zip(times[one], times[other], strict=True))

    plain, threads = statistics.median(times["none"]), torch.get_num_threads()
    console = Console(width=120)
    console.print(f"an epoch of the embedded run without FDS: {plain:.3f} s ({threads} CPU threads); {rounds} rounds")
    console.print(f"  stream: FDS makes the epoch {100 * (ratio('stream', 'none') - 1):.1f} % longer")
    console.print(f"  pass:   FDS makes the epoch {100 * (ratio('pass', 'none') - 1):.1f} % longer")
    console.print(f"          its pass for statistics takes {ratio('collect', 'forward'):.2f} forward passes")
