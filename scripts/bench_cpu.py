"""Time an epoch on a CPU against the same epoch with what makes it quick taken back: `python scripts/bench_cpu.py`.

What two cores train first: the gauge with its `cnn`, and STS-B-DIR (made up, or the real one with `--data`) with
`bilstm_small`. Taken back one by one, and all together: Adam in one pass over all weights, `backbones.packed_lstm`,
and `training.memory`. Each way has a process of its own, since what malloc is told cannot be taken back; they take
turns, in an order that turns too. Processor seconds, system included, of an epoch without evaluation; ratios are
within each round.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from bench_common import make_trainer, processor, seconds
from rich.console import Console
from rich.table import Table

from dir_bench import assembly, config, inspection
from dir_bench.backbones import bilstm
from dir_bench.training.trainer import Trainer

NOW = "now"
WAYS = {
    NOW: (),
    "memory given back at each step": ("memory",),
    "Adam weight by weight": ("adam",),
    "torch's own LSTM": ("lstm",),
    "all as before": ("memory", "adam", "lstm"),
}
"""What is taken back."""
TASKS = {"gauge": ["dataset=gauge"], "sts_b": ["dataset=sts_b", "backbone=bilstm_small"]}
GOES_WITHOUT = {"gauge": {"torch's own LSTM"}}

trainers: list[Trainer] = []
"""In a way's own process, the one that it times."""


def prepare(words: Sequence[str], folder: Path, threads: int, undone: Sequence[str]) -> None:
    """Build the trainer of a way."""
    torch.set_num_threads(threads)
    if "memory" in undone:
        vars(assembly)["keep_freed_memory"] = lambda: None
    if "lstm" in undone:
        vars(bilstm)["packed_lstm"] = lambda lstm, packed: lstm(packed)[0]
    settings = config.compose([*words, *(["optimizer.fused=false"] if "adam" in undone else [])])
    trainers.append(make_trainer(settings, config.build(settings.dataset.source).load(), folder, "cpu"))


def epoch() -> float:
    """Return the processor seconds of one more epoch."""
    (trainer,) = trainers

    def train() -> None:
        trainer.train_epoch()
        trainer.writer.join()

    return seconds(train, torch.device("cpu"), time.process_time)


def measure(words: Sequence[str], ways: Sequence[str], threads: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each epoch but the first, by way."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pools = {
            name: stack.enter_context(ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")))
            for name in ways
        }
        for name, pool in pools.items():
            pool.submit(prepare, words, folder / name, threads, WAYS[name]).result()
        for number in range(rounds + 1):
            for name in list(ways)[:: 1 if number % 2 else -1]:
                taken = pools[name].submit(epoch).result()
                times[name] += [taken] if number else []
    return times


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=5249, help="of made-up STS-B")
    parser.add_argument("--data", help="folder with the real sts_b; default: made up")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="more settings")
    asked = parser.parse_args(arguments)
    print(f"{processor()}, torch {torch.__version__}, {asked.threads} threads, {asked.rounds} rounds")
    for task in asked.tasks:
        with tempfile.TemporaryDirectory() as folder:
            words = [*TASKS[task], f"paths.data={asked.data or folder}", *asked.set]
            if task != "gauge" and asked.data is None:
                with contextlib.redirect_stderr(io.StringIO()):
                    inspection.sample(task, folder, asked.pairs)
            ways = [name for name in WAYS if name not in GOES_WITHOUT.get(task, ())]
            report(task, measure(words, ways, asked.threads, asked.rounds))


def report(task: str, times: dict[str, list[float]]) -> None:
    """Print one table."""
    table = Table(f"an epoch of {task}", "CPU s, median", "least", "against now, median", "least", box=None)
    for name, taken in times.items():
        ratio = statistics.median(a / b for a, b in zip(taken, times[NOW], strict=True))
        least = min(taken) / min(times[NOW])
        table.add_row(name, f"{statistics.median(taken):.2f}", f"{min(taken):.2f}", f"{ratio:.2f}", f"{least:.2f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
