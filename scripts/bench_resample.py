"""Time the plan of SMOGN against the plain loop: `python scripts/bench_resample.py [--device cuda]`.

191,509 made-up pictures of 32 × 32 × 3 pixels (as large as IMDB-WIKI-DIR, with about its distribution of ages) are
resampled, k = 5. The loop does what SMOGN's published packages do: for one rare sample after the other, the distances
to all of its partition, sorted. It is timed on a few samples of the largest rare partition, and its time for all rare
ones reckoned from that; its neighbours must be ours.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import numpy as np
import torch
from bench_common import processor
from rich.console import Console
from rich.table import Table
from torch import Tensor

from dir_bench.labels import TargetBins, lds_density, relevance
from dir_bench.methods.resample import IntArray, Settings, make_plan, nearest_neighbours

TRAIN, SIDE, NEIGHBOURS = 191_509, 32, 5
BINS = TargetBins.regular(0, 121, 1, rule="truncate")


def ages(n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw whole ages: a bell around 30, 7,000 a year at its top, with a long upper tail."""
    return np.clip(20 + rng.gamma(1.8, 11.0, n) + rng.normal(0, 6, n), 0, 186).astype(int).astype(np.float64)


def pictures(index: IntArray, device: torch.device) -> Tensor:
    """Return made-up pixels, 0 to 255, which do not depend on what else is asked for."""
    coarse = np.random.default_rng(0).integers(0, 256, (TRAIN, 4, 4, 3), dtype=np.uint8)[index]
    small = torch.from_numpy(coarse).permute(0, 3, 1, 2).float().to(device)
    return torch.nn.functional.interpolate(small, size=(SIDE, SIDE), mode="bilinear").flatten(1)


def loop(vectors: np.ndarray, samples: np.ndarray, k: int) -> list[np.ndarray]:
    """Return the neighbours of some samples, one sample after the other."""
    found = []
    for sample in samples:
        distances = np.sqrt(((vectors - vectors[sample]) ** 2).sum(1))
        order = np.argsort(distances)
        found.append(order[order != sample][:k])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, help="CPU threads; torch's choice if not given")
    parser.add_argument("--loop", type=int, default=20, help="samples that the loop is timed on")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    found = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(found if args.device == "auto" else args.device)
    rng = np.random.default_rng(0)
    targets = ages(TRAIN, rng)
    counts = BINS.counts(targets)
    asked: list[IntArray] = []

    def vectors(index: IntArray) -> Tensor:
        asked.append(index)
        return pictures(index, device)

    start = time.perf_counter()
    rarity = relevance(counts, lds_density(counts))
    plan = make_plan(targets, BINS, rarity, vectors, Settings(noise=True, neighbours=NEIGHBOURS), rng)
    ours = time.perf_counter() - start
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device) / 2**20
    else:
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak = resident / (2**20 if sys.platform == "darwin" else 2**10)
    largest = max(asked, key=len)
    members = pictures(largest, torch.device("cpu")).numpy()
    samples = rng.choice(len(largest), args.loop, replace=False)
    start = time.perf_counter()
    theirs = loop(members, samples, NEIGHBOURS)
    per_distance = (time.perf_counter() - start) / args.loop / len(largest)
    mine = nearest_neighbours(torch.from_numpy(members).to(device), NEIGHBOURS).indices[samples]
    agree = sum(set(one) == set(other) for one, other in zip(theirs, mine, strict=True))

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    console = Console(width=120)
    console.print(f"device {device} ({name}), torch {torch.__version__}, {torch.get_num_threads()} CPU thread(s)")
    sizes = ", ".join(f"{len(index):,}" for index in asked)
    console.print(f"{TRAIN:,} pictures, {counts.max():,} at the most of one age; rare partitions of {sizes}")
    console.print(f"planned: {plan.summary()}")
    table = Table("", "seconds", "peak MiB")
    for column in table.columns[1:]:
        column.justify = "right"
    reckoned = per_distance * sum(len(index) ** 2 for index in asked)
    table.add_row(f"loop, reckoned from {args.loop} samples", f"{reckoned:,.0f}", "")
    table.add_row("dir_bench, the whole plan", f"{ours:,.1f}", f"{peak:,.0f}")
    console.print(table)
    console.print(f"times faster: {reckoned / ours:.0f}; same neighbours: {agree} of {args.loop} samples")


if __name__ == "__main__":
    main()
