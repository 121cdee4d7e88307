"""Measure own memory while training over as many pictures as IMDB-WIKI-DIR has: `python scripts/bench_memory.py`.

The pictures are 213,553 empty files, their cache a sparse file of 32 GB that takes no space; list, splits, cache,
loader, trainer and evaluation are the real ones, and the command is `dir-bench train`. Own memory is what Linux calls
RssAnon: pages that belong to no file, so that the mapped cache does not count.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from dir_bench.datasets.faces import IMDBWiki
from dir_bench.datasets.images import write_list
from dir_bench.datasets.pictures.decoding import face_decoder
from dir_bench.datasets.pictures.pixels import reserve


def write_dataset(folder: Path, counts: dict[str, int]) -> None:
    """Write a list of the published length over empty files, and reserve its cache."""
    rng = np.random.default_rng(0)
    split = np.repeat(list(counts), list(counts.values()))
    age = np.where(split == "train", rng.normal(37, 13, len(split)).clip(0, 120), rng.uniform(0, 100, len(split)))
    paths = [f"imdb_crop/{i % 100:02d}/{i}.jpg" for i in range(len(split))]
    for part in range(100):
        (folder / f"imdb_crop/{part:02d}").mkdir(parents=True)
    for path in paths:
        (folder / path).touch()
    write_list(folder / "imdb_wiki.csv", pd.DataFrame({"age": age.astype(int), "path": paths, "split": split}))
    reserve([folder / path for path in paths], face_decoder(224), folder.parent / ".cache")


def own_memory(pid: int) -> int:
    """Return the bytes of a process's pages that belong to no file; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300, help="training steps of 256 pictures")
    parser.add_argument(
        "overrides", nargs="*", help="settings for dir-bench train (default: backbone=linear, so that data count)"
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_dataset(folder / "imdb_wiki", IMDBWiki.published_rows)
        command = [
            *(sys.executable, "-m", "dir_bench.cli", "train", "dataset=imdb_wiki", f"paths.data={folder}"),
            *(f"paths.outputs={folder / 'outputs'}", f"trainer.max_steps={asked.steps}", "trainer.epochs=null"),
            *("schedule=none", *(asked.overrides or ["backbone=linear"])),
        ]
        started = time.perf_counter()
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        peak = 0
        while run.poll() is None:
            peak = max(peak, own_memory(run.pid))
            time.sleep(0.05)
        printed = run.communicate()[0]
        if run.returncode:
            sys.exit(printed)
        pictures = asked.steps * 256
        print(printed.strip())
        print(
            f"own memory at most {peak / 2**30:.2f} GiB over {sum(IMDBWiki.published_rows.values()):,} pictures "
            f"({pictures:,} trained on, {time.perf_counter() - started:.0f} s)"
        )


if __name__ == "__main__":
    main()
