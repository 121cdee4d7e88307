"""Time `dir-bench table` on thousands of run folders, written here as finished runs look on the disk.

    python scripts/bench_tables.py                      # 5,000 runs: 10 datasets × 100 methods × 5 seeds
    python scripts/bench_tables.py --runs 500 --keep RUNS

Prints the seconds of reading the records, of the whole table in each format, and of the command in a process of its
own; the bar is 3 s for the command.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dir_bench.atomic import json_text
from dir_bench.config import compose, to_dict
from dir_bench.results.environment import run_environment
from dir_bench.results.export import FORMATS
from dir_bench.results.naming import identity, slug
from dir_bench.results.records import collect
from dir_bench.results.store import RunFolder
from dir_bench.results.tables import table

SEEDS, DATASETS = 5, 10
REGIONS = {"all": 2140, "many": 1530, "medium": 448, "few": 162, "zero": 9, "interp": 3, "extrap": 6}
METRICS = ("mae", "mse", "rmse", "gm", "pearson", "spearman")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5000)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write the runs here, and leave them")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = asked.keep or Path(scratch)
        report(f"write {asked.runs} runs", lambda: write_runs(root, asked.runs))
        report("collect", lambda: collect([root]))
        for name in FORMATS:
            report(f"table, {name}", partial(table, [root], name, "paper"))
        command = [sys.executable, "-m", "dir_bench.cli", "table", str(root), "--format"]
        for name in ("text", "md"):
            report(f"dir-bench table, {name}", partial(run_silently, [*command, name]))


def report(what: str, work: Callable[[], Any]) -> None:
    """Print the seconds that `work` takes, and those that its processes computed: on a busy machine they differ."""
    start = os.times()
    work()
    end = os.times()
    computed = sum(end[:4]) - sum(start[:4])  # of this process and its children, user and system
    print(f"{what:24s} {end.elapsed - start.elapsed:6.2f} s, computing {computed:6.2f} s")


def run_silently(command: list[str]) -> None:
    """Run a command to its end; its output goes nowhere."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def write_runs(root: Path, number: int) -> None:
    """Write finished runs that differ in their numbers: the first by the run store, the rest after its example.

    The run store flushes each file to the disk, which would take minutes for so many.
    """
    rng = np.random.default_rng(0)
    config = to_dict(compose(["dataset=gauge", "method=sqinv_lds_fds"]))
    predictions = {"target": rng.uniform(0, 100, 2140), "prediction": rng.uniform(0, 100, 2140)}
    example = RunFolder(root / ".example")
    example.start(config, run_environment())
    example.finish({}, predictions | {"index": np.arange(2140)})
    files = {path.name: path.read_bytes() for path in example.path.iterdir() if path.is_file()}
    seal = json.loads(files["DONE"])
    config_text = files["config.yaml"].decode()
    for run in range(number):
        row, seed = divmod(run, SEEDS)
        method, dataset = f"METHOD {row // DATASETS}", f"set{row % DATASETS}"
        metrics = describe(dataset, method, seed) | {"test": errors(rng)}
        text = json_text(metrics).encode()
        folder = RunFolder.of(root, dataset, metrics["slug"], metrics["identity"])
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.lock_path.touch()
        folder.checkpoints.mkdir(exist_ok=True)
        content = files | {
            "metrics.json": text,
            "DONE": json_text(seal | {"metrics.json": seal_of(text)}).encode(),
            "config.yaml": config_text.replace("seed: 0", f"seed: {seed}", 1).encode(),
        }
        for name, data in content.items():
            (folder.path / name).write_bytes(data)


def seal_of(content: bytes) -> dict[str, Any]:
    """Return what DONE says of a file."""
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def describe(dataset: str, method: str, seed: int) -> dict[str, Any]:
    """Return what metrics.json says of a run besides its errors."""
    return {
        "dataset": dataset,
        "title": "AgeDB-DIR" if dataset == "set0" else dataset.upper(),
        "method": method,
        "slug": slug(method),
        "seed": seed,
        "identity": identity({"dataset": dataset, "method": method, "seed": seed}),
        "row_id": identity({"dataset": dataset, "method": method}),
        "command": [f"dataset={dataset}", f"method={slug(method)}", f"seed={seed}"],
        "table_metrics": ["mae", "gm"],
        "monitor": {"name": "mae", "best": 7.5, "epoch": 40, "split": "validation"},
    }


def errors(rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    """Return a test report with random errors."""
    drawn = rng.gamma(50.0, 0.15, (len(REGIONS), len(METRICS))).tolist()
    return {
        region: {"count": count} | dict(zip(METRICS, values, strict=True))
        for (region, count), values in zip(REGIONS.items(), drawn, strict=True)
    }


if __name__ == "__main__":
    main()
