"""Time what NYUD2-DIR does per pixel, the plain way and here: `python scripts/bench_depth.py [--device cuda]`.

Depth maps and features are made up; sizes are the published ones. The plain ways do what the published code does: a
function of Python for the bin of each pixel, all features of the FDS subset collected before a loop over bins. The
metrics of the test pixels are added up pixel by pixel, which the published code does for their bins only. With
`--device cuda` our weights and both ways to statistics are on the GPU; metrics are always on the host.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_common import processor
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor

from dir_bench.datasets.depth.metrics import terms as depth_terms
from dir_bench.evaluation import region_metrics
from dir_bench.labels import Regions, TargetBins, bin_weights
from dir_bench.methods.fds import FDS

BINS = TargetBins.regular(0, 10, 0.1, first=7, rule="truncate", precision="float32")
MANY = (*range(9, 46), 47, 49)
MEDIUM = (7, 8, 46, 48, *range(50, 57), 58, 60, 61, 63)
PER_BIN = 9357
"""Pixels of the balanced test mask in each of the bins 7 … 99: 870,201 together."""
CHANNELS, HEIGHT, WIDTH = 128, 114, 152
BATCH = 8
"""Images of the FDS subset whose features are made at once."""


@dataclass(frozen=True)
class Measured:
    """One line of the report: the best times in milliseconds, peak memory where it matters, and a remark."""

    what: str
    plain_ms: float
    ours_ms: float
    plain_mib: float | None = None
    ours_mib: float | None = None
    remark: str = ""


def compare(plain: Callable[[], object], ours: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the best milliseconds of both, run in turn so that a change of the machine's speed meets both."""
    best = [math.inf, math.inf]
    for _ in range(repeats):
        for side, function in enumerate((plain, ours)):
            start = time.perf_counter()
            function()
            best[side] = min(best[side], (time.perf_counter() - start) * 1e3)
    return best[0], best[1]


def peak_mib(function: Callable[[], object], device: torch.device) -> float | None:
    """Return the memory that a function takes beyond what was there before: the device's, or resident memory.

    None where it is not told.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        allocated = torch.cuda.memory_allocated(device)
        function()
        return (torch.cuda.max_memory_allocated(device) - allocated) / 2**20
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not (status.exists() and clear.exists()):
        return None

    def highest() -> int:
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))

    clear.write_text("5")  # resets the high-water mark
    before = highest()
    function()
    return (highest() - before) / 1024


def plain_bin(depth: np.float32) -> int:
    """Return the bin of one pixel."""
    return min(int(depth * np.float32(10)), 99)


def depth_maps(images: int, seed: int) -> Tensor:
    """Return skewed depth in metres, most of it 1 to 4 m, [images, 1, 114, 152]."""
    drawn = np.random.default_rng(seed).lognormal(np.log(2.4), 0.5, (images, 1, HEIGHT, WIDTH))
    return torch.from_numpy(drawn.clip(0.7, 10).astype(np.float32))


def ready(result: Tensor) -> Tensor:
    """Return a result once it is there."""
    if result.is_cuda:
        torch.cuda.synchronize(result.device)
    return result


def measure_weights(repeats: int, device: torch.device, **_: Any) -> Measured:
    """Time the weight of each pixel of a training batch of 32."""
    depth = depth_maps(32, seed=0)
    weights = bin_weights(BINS.counts(depth).clip(1), "inv", lds={"boundary": "reflect"}, first=BINS.first)
    by_bin, table, placed = list(weights), torch.from_numpy(weights).to(device), depth.to(device)

    def plain() -> Tensor:
        looked_up = list(map(lambda pixel: by_bin[plain_bin(pixel)], depth.view(-1).numpy()))
        return torch.tensor(np.array(looked_up)).view(depth.shape)

    def ours() -> Tensor:
        return ready(table.take(BINS.index(placed)))

    torch.testing.assert_close(ours().cpu(), plain(), rtol=0, atol=0)
    return Measured(f"weights of {depth.numel():,} pixels", *compare(plain, ours, repeats))


def subset_features(images: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield features [b, 128, 114, 152] and depth of the FDS subset, batch by batch."""
    base = torch.randn(BATCH, CHANNELS, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0)).to(device)
    for start in range(0, images, BATCH):
        depth = depth_maps(min(BATCH, images - start), seed=start + 1).to(device)
        yield base[: len(depth)] * (1 + start / images), depth


def plain_statistics(batches: Iterable[tuple[Tensor, Tensor]]) -> dict[int, tuple[int, Tensor, Tensor]]:
    """Collect everything, find each pixel's bin, then mask and reduce bin after bin."""
    features, depth = (torch.cat(parts) for parts in zip(*batches, strict=True))
    rows = features.permute(0, 2, 3, 1).reshape(-1, CHANNELS)
    buckets = np.array([max(plain_bin(np.float32(pixel.cpu())), BINS.first) for pixel in depth.view(-1)])
    statistics = {}
    for bucket in np.unique(buckets):
        current = rows[torch.from_numpy(buckets == bucket).to(rows.device)]
        statistics[int(bucket)] = len(current), current.mean(0), current.var(0, unbiased=len(current) > 1)
    return statistics


def measure_statistics(repeats: int, images: int, device: torch.device) -> Measured:
    """Time the statistics of the FDS subset on given features, and weigh them with the features made on the way."""
    fds = FDS(CHANNELS, bins=BINS, clip=(0.2, 5.0), empty="initial", lag="snapshot", new_bins="blend").to(device)

    def ours(batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
        moments = fds.new_moments()
        for features, depth in batches:
            moments.add(features, depth)
        count, mean, variance = moments.by_row()
        return count, mean, ready(variance)

    plain_mib = peak_mib(lambda: plain_statistics(subset_features(images, device)), device)
    ours_mib = peak_mib(lambda: ours(subset_features(images, device)), device)
    batches = list(subset_features(images, device))
    counts, means, variances = ours(batches)
    for bucket, (count, mean, variance) in plain_statistics(batches).items():
        row = bucket - BINS.first
        assert counts[row] == count
        torch.testing.assert_close(means[row].float(), mean, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(variances[row].float(), variance, rtol=1e-3, atol=1e-4)
    times = compare(lambda: plain_statistics(batches), lambda: ours(batches), repeats)
    gib = CHANNELS * HEIGHT * WIDTH * 4 / 2**30
    remark = (
        f"features: {images * gib:.2f} GiB, of the published 600 images {600 * gib:.1f}; the plain way holds 3 copies"
    )
    return Measured(f"FDS statistics of {images} images", *times, plain_mib, ours_mib, remark)


def balanced_pixels() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return predicted and true depth of the balanced test pixels, in the order of a shuffled test set."""
    rng = np.random.default_rng(0)
    bins = rng.permutation(np.repeat(np.arange(BINS.first, len(BINS)), PER_BIN))
    millimetres = bins * 100 + rng.integers(1, 100, len(bins))
    depth = millimetres.astype(np.float32) / np.float32(1000)
    return (depth * rng.lognormal(0, 0.15, len(depth))).astype(np.float32), depth


def plain_regions(output: NDArray[np.float32], depth: NDArray[np.float32]) -> dict[str, dict[str, float]]:
    """Add up the depth metrics of each region, one pixel after the other."""
    many, medium = set(MANY), set(MEDIUM)
    sums: dict[str, defaultdict[str, float]] = {name: defaultdict(float) for name in ("all", "many", "medium", "few")}
    for o, d in zip(output, depth, strict=True):
        index = plain_bin(d)
        region = "many" if index in many else "medium" if index in medium else "few"
        error, ratio = abs(o - d), max(o / d, d / o)
        log10 = abs(math.log10(o) - math.log10(d))
        for name in ("all", region):
            total = sums[name]
            total["count"] += 1
            total["mse"] += error * error
            total["mae"] += error
            total["abs_rel"] += error / d
            total["log10"] += log10
            for k in (1, 2, 3):
                total[f"delta{k}"] += ratio <= 1.25**k
    return {name: {key: value / total["count"] for key, value in total.items()} for name, total in sums.items()}


def measure_regions(repeats: int, slice_of: int = 10, correlations: bool = False, **_: Any) -> Measured:
    """Time the metrics of all test pixels; the plain way on one pixel in `slice_of`, scaled up."""
    output, depth = balanced_pixels()
    regions = Regions.from_counts(BINS.counts(depth), many=MANY, medium=MEDIUM, few=set(range(100)) - {*MANY, *MEDIUM})
    part = slice(None, None, slice_of)

    def ours(part: slice = slice(None)) -> dict[str, dict[str, float]]:
        return region_metrics(
            output[part], depth[part], bins=BINS, regions=regions, terms=depth_terms, correlations=correlations
        )

    found, expected = ours(part), plain_regions(output[part], depth[part])
    for region, errors in expected.items():
        for name in errors.keys() - {"count"}:
            assert math.isclose(found[region][name], errors[name], rel_tol=1e-4), (region, name)
    plain_ms, ours_ms = compare(lambda: plain_regions(output[part], depth[part]), ours, repeats)
    more = "gm, pearson and spearman" if correlations else "gm"
    remark = f"plain: 1 pixel in {slice_of} timed, × {slice_of}; ours has {more} besides"
    return Measured(f"region metrics of {len(depth):,} pixels", plain_ms * slice_of, ours_ms, remark=remark)


def report(lines: list[Measured], device: torch.device) -> None:
    """Print one table."""
    console = Console(width=140)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    console.print(f"{name}, torch {torch.__version__}, {torch.get_num_threads()} CPU thread(s)")
    table = Table("", "plain, ms", "dir_bench, ms", "times faster", "plain, peak MiB", "dir_bench, peak MiB", "remark")
    for column in table.columns[1:-1]:
        column.justify = "right"
    for line in lines:
        peaks = ("" if mib is None else f"{mib:.0f}" for mib in (line.plain_mib, line.ours_mib))
        ratio = line.plain_ms / line.ours_ms
        table.add_row(line.what, f"{line.plain_ms:.0f}", f"{line.ours_ms:.1f}", f"{ratio:.0f}", *peaks, line.remark)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=24, help="images of the FDS subset (600 as published)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    parser.add_argument("--repeats", type=int, default=3, help="best of so many")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    sections: tuple[Callable[..., Measured], ...] = (
        measure_weights,
        measure_statistics,
        measure_regions,
        partial(measure_regions, correlations=True),
    )
    device = torch.device(args.device)
    report([section(repeats=args.repeats, images=args.images, device=device) for section in sections], device)


if __name__ == "__main__":
    main()
