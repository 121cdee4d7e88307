"""Simulate SHHS-DIR at its real size on sparse files: `python scripts/bench_shhs.py [--backbone psg_small]`.

2,651 empty recordings with a table of scores and features of 7,278 to 45,448 s each, whose files take no space. What
runs over them is the real command. Printed: bytes on disk, own memory (pages that belong to no file), seconds of
training steps and of evaluation, and from these the time of an epoch.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from bench_memory import own_memory

from dir_bench import config
from dir_bench.datasets.shhs import SHHS

SUBJECTS, SHORTEST, LONGEST, COLUMNS = 2651, 7278, 45_448, 116
TRAINED = 1892


def write_dataset(data: Path, subjects: int) -> int:
    """Write table, empty recordings and sparse features; return the bytes that the features would take."""
    rng = np.random.default_rng(0)
    folder = data / "shhs"
    dataset: SHHS = config.build(config.compose(["dataset=shhs", f"paths.data={data}"]).dataset.source)
    recordings = folder / "polysomnography" / "edfs" / "shhs2"
    for place in (recordings, folder / "datasets", dataset.prepared):
        place.mkdir(parents=True)
    seconds = rng.triangular(SHORTEST, 30_000, LONGEST, subjects).astype(int)
    scores = (5 * rng.binomial(20, 0.7, subjects)).clip(0, 100)
    rows = ["nsrrid,visitnumber,gh_s2"]
    for subject, (length, score) in enumerate(zip(seconds, scores, strict=True), 200_001):
        rows.append(f"{subject},2,{score}")
        (recordings / f"shhs2-{subject}.edf").touch()
        features = dataset.prepared / f"shhs2-{subject}.npy"
        np.lib.format.open_memmap(features, "w+", np.float16, (int(length), COLUMNS))
        about = {"seconds": int(length), "sha256": str(subject), "reason": "", "sentence": "", "notes": []}
        size = {"recording_bytes": 0, "bytes": features.stat().st_size}
        features.with_suffix(".json").write_text(json.dumps(about | size))
    (folder / "datasets" / "shhs2-dataset-0.0.0.csv").write_text("\n".join(rows) + "\n")
    return sum(path.stat().st_size for path in dataset.prepared.glob("*.npy"))


def run(command: list[str]) -> tuple[float, int, str]:
    """Return seconds, the most memory of its own, and what was printed."""
    started, peak = time.perf_counter(), 0
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while process.poll() is None:
        peak = max(peak, own_memory(process.pid))
        time.sleep(0.05)
    printed = process.communicate()[0]
    if process.returncode:
        sys.exit(printed)
    return time.perf_counter() - started, peak, printed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="psg_small")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--subjects", type=int, default=SUBJECTS)
    parser.add_argument("overrides", nargs="*", help="more settings for dir-bench train")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        data = Path(name)
        size = write_dataset(data, asked.subjects)
        taken = sum(path.stat().st_blocks * 512 for path in data.rglob("*.npy"))
        times = {}
        for steps in (1, 1 + asked.steps):
            command = [
                *(sys.executable, "-m", "dir_bench.cli", "train", "dataset=shhs", f"paths.data={data}"),
                *(f"paths.outputs={data / 'outputs'}", f"backbone={asked.backbone}", f"trainer.max_steps={steps}"),
                *("trainer.epochs=null", *asked.overrides),
            ]
            times[steps], peak, printed = run(command)
        print(printed.strip())
        batch = int((re.search(r"trainer\.batch_size=(\d+)", " ".join(asked.overrides)) or [0, 32])[1])
        step = (times[1 + asked.steps] - times[1]) / asked.steps
        print(f"features of {asked.subjects:,} nights: {size / 1e9:.1f} GB on disk (here sparse: {taken / 1e6:.0f} MB)")
        print(f"own memory at most {peak / 2**30:.2f} GiB")
        print(f"a step of {batch} nights {step:.2f} s, so an epoch of {TRAINED} nights {step * TRAINED / batch:.0f} s")
        print(f"start, one step, validation and test (369 whole nights each): {times[1]:.0f} s")


if __name__ == "__main__":
    main()
