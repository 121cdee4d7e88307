"""Kill a small run at random moments, resume it, and compare with one that was left alone.

    python scripts/kill_test.py --runs 30 --seed 0 [--accelerator cuda --data gauge]

Each trial starts the real command, sends SIGKILL after a random time, starts it again, and so on up to three times,
then lets it end. Every number of metrics.json, the selected weights and the predictions must equal those of the run
that was not interrupted, bit for bit. Before, that run is made twice, which must be equal too. Exit code 1 if one
differs.
"""

import argparse
import csv
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

SETTINGS = [
    "method=sqinv_lds_fds",
    "trainer.threads=1",
    "trainer.checkpoint_minutes=0.001",  # a checkpoint every 60 ms, so that kills hit the writing of them too
]
DATA = {
    "arrays": [
        *("dataset=arrays", "trainer.epochs=30", "trainer.batch_size=16", "backbone.dropout=0.2"),
        *("dataset.regions.many_over=40", "dataset.regions.few_under=8"),
    ],
    "gauge": ["dataset=gauge", "trainer.epochs=10", "dataset.source.n_train=2000"],
}
"""Vectors and a network with dropout; pictures and convolutions."""


def history(run: Path) -> list[dict[str, str]]:
    """Return the lines of a run's history.csv, but for how long they took."""
    rows = csv.DictReader((run / "history.csv").read_text().splitlines())
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def place(work: Path, name: str) -> Path:
    """Make a folder to start the command in, so that the command itself is the same for every trial."""
    (work / name).mkdir()
    (work / name / "data").symlink_to(work / "data")
    return work / name


def only_run(work: Path) -> Path:
    (folder,) = (work / "outputs").glob("*/*/*")
    return folder


def same(one: Path, other: Path) -> bool:
    metrics = [json.loads((run / "metrics.json").read_text()) for run in (one, other)]
    predictions = [np.load(run / "predictions.npz") for run in (one, other)]
    best = [torch.load(run / "checkpoints" / "best.pt", weights_only=True) for run in (one, other)]
    return (
        metrics[0] == metrics[1]
        and history(one) == history(other)
        and all(np.array_equal(predictions[0][key], predictions[1][key]) for key in predictions[0].files)
        and best[0]["epoch"] == best[1]["epoch"]
        and all(torch.equal(best[0]["network"][key], best[1]["network"][key]) for key in best[0]["network"])
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=30, help="how many kills to place")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--accelerator", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--data", choices=list(DATA), default="arrays")
    asked = parser.parse_args()
    settings = [*DATA[asked.data], *SETTINGS, f"trainer.accelerator={asked.accelerator}"]
    command = [sys.executable, "-m", "dir_bench.cli", "train", *settings]
    rng = np.random.default_rng(asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        sample = [sys.executable, "-m", "dir_bench.cli", "data", "sample", "arrays", "--size", "600"]
        subprocess.run([*sample, "--data", str(work / "data")], check=True, capture_output=True)
        straight, again = (place(work, name) for name in ("straight", "again"))
        started = time.monotonic()
        subprocess.run(command, cwd=straight, check=True, capture_output=True)
        whole = time.monotonic() - started
        subprocess.run(command, cwd=again, check=True, capture_output=True)
        alike = same(only_run(straight), only_run(again))
        print(f"{asked.data}, {asked.accelerator}, twice: {'equal' if alike else 'DIFFER'} ({whole:.1f} s)", flush=True)
        kills = trial = differing = training = 0
        while kills < asked.runs:
            trial += 1
            here = place(work, f"trial{trial}")
            for _ in range(int(rng.integers(1, 4))):
                process = subprocess.Popen(command, cwd=here, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                try:
                    process.wait(timeout=float(rng.uniform(0.3, 1.0)) * whole)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    kills += 1
                    training += bool(list(here.glob("outputs/*/*/*/checkpoints/last.pt")))
            subprocess.run(command, cwd=here, check=True, capture_output=True)
            equal = same(only_run(straight), only_run(here))
            differing += not equal
            print(f"trial {trial}: {'equal' if equal else 'DIFFERS'} ({kills} kills so far)", flush=True)
            shutil.rmtree(here)
    print(
        f"{kills} kills in {trial} resumed runs ({training} of them after the first checkpoint): "
        f"{trial - differing} equal, {differing} different"
    )
    return 1 if differing or not alike else 0


if __name__ == "__main__":
    sys.exit(main())
