"""Time FDS against the plain loop over labels: `python scripts/bench_fds.py [--device cuda]`.

One batch of 256 × 2048 features is calibrated, and the statistics of 12,208 × 2048 features (AgeDB-DIR's training
set) are taken, over 97 bins of skewed ages. The loop does what the published code does, one distinct label after
the other: mask the rows, index them, compute, write back.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import bench_epoch
import numpy as np
import torch
from bench_common import processor
from rich.console import Console
from rich.table import Table
from torch import Tensor

from dir_bench.methods.fds import FDS

FIRST, LAST = 3, 99
CLIP = (0.1, 10.0)


@dataclass(frozen=True)
class Measured:
    """One line of the report: milliseconds (medians) and peak memory of the loop and of the library."""

    what: str
    loop_ms: float
    ours_ms: float
    loop_mib: float | None
    ours_mib: float | None


class Timer:
    """Median time and peak memory of a function on one device."""

    def __init__(self, device: torch.device, repeats: int, warm_up: int) -> None:
        self.device, self.repeats, self.warm_up = device, repeats, warm_up

    def compare(self, what: str, loop: Callable[[], object], ours: Callable[[], object]) -> Measured:
        """Time both in turn, in runs of five, so that a change of the machine's speed meets both."""
        sides = {"loop": loop, "ours": ours}
        times: dict[str, list[float]] = {"loop": [], "ours": []}
        for round_number in range(self.warm_up + self.repeats):
            for side, function in sides.items():
                taken = [self._milliseconds(function) for _ in range(5)]
                times[side] += taken if round_number >= self.warm_up else []
        median = {side: statistics.median(values) for side, values in times.items()}
        return Measured(what, median["loop"], median["ours"], self._peak_mib(loop), self._peak_mib(ours))

    def _milliseconds(self, function: Callable[[], object]) -> float:
        self._wait()
        start = time.perf_counter()
        function()
        self._wait()
        return (time.perf_counter() - start) * 1e3

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _peak_mib(self, function: Callable[[], object]) -> float | None:
        """Return the memory used beyond what was there before: device memory, or resident memory on Linux."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
            function()
            return (torch.cuda.max_memory_allocated(self.device) - before) / 2**20
        status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
        if not (status.exists() and clear.exists()):
            return None
        clear.write_text("5")  # resets the high-water mark
        before = _resident_mib(status)
        function()
        return _resident_mib(status) - before


def _resident_mib(status: Path) -> float:
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def calibrate_rows(matrix: Tensor, m1: Tensor, v1: Tensor, m2: Tensor, v2: Tensor) -> Tensor:
    """Calibrate the features of one label, as published for ages."""
    if torch.sum(v1) < 1e-10:
        return matrix
    if (v1 == 0.0).any():
        valid = v1 != 0.0
        factor = torch.clamp(v2[valid] / v1[valid], *CLIP)
        matrix[:, valid] = (matrix[:, valid] - m1[valid]) * torch.sqrt(factor) + m2[valid]
        return matrix
    return (matrix - m1) * torch.sqrt(torch.clamp(v2 / v1, *CLIP)) + m2


def label_masks(labels: Tensor) -> list[tuple[int, Tensor]]:
    """Return the row of the tables and the mask of each distinct label that has a row."""
    masks = []
    for label in torch.unique(labels):
        if label > LAST or label < FIRST:
            continue
        if label == FIRST:
            mask = labels <= label
        elif label == LAST:
            mask = labels >= label
        else:
            mask = labels == label
        masks.append((int(label - FIRST), mask))
    return masks


def loop_smooth(fds: FDS, features: Tensor, labels: Tensor) -> Tensor:
    """Calibrate a batch label by label, in place."""
    for row, mask in label_masks(labels):
        features[mask] = calibrate_rows(
            features[mask],
            fds.running_mean_last_epoch[row],
            fds.running_var_last_epoch[row],
            fds.smoothed_mean_last_epoch[row],
            fds.smoothed_var_last_epoch[row],
        )
    return features


def loop_update(tables: dict[str, Tensor], features: Tensor, labels: Tensor, momentum: float = 0.9) -> None:
    """Take the statistics of an epoch label by label and blend them into the running ones."""
    for row, mask in label_masks(labels):
        current = features[mask]
        size = len(current)
        mean, var = current.mean(0), current.var(0, unbiased=size != 1)
        tables["num_samples_tracked"][row] += size
        tables["running_mean"][row] = (1 - momentum) * mean + momentum * tables["running_mean"][row]
        tables["running_var"][row] = (1 - momentum) * var + momentum * tables["running_var"][row]


def ages(count: int, seed: int) -> np.ndarray:
    """Return skewed integer ages, 1 … 101: a wide middle, few old, very few children, as in AgeDB."""
    rng = np.random.default_rng(seed)
    drawn = np.where(rng.random(count) < 0.85, rng.normal(47.0, 14.5, count), rng.gamma(9.0, 7.5, count))
    return np.clip(np.round(drawn), 1, 101).astype(np.float32)


def trained_fds(features: Tensor, labels: Tensor) -> FDS:
    """Return an FDS as published for AgeDB, in an epoch where it has an effect."""
    fds = FDS(
        features.shape[1], first=FIRST, last=LAST, clip=CLIP, edges="absorb_if_present", empty="initial",
        lag="alias", guard="nonzero_columns", new_bins="blend",
    ).to(features.device)  # fmt: skip
    fds.update_running_stats(features, labels, 0)
    fds.update_last_epoch_stats(1)
    fds.update_running_stats(features * 1.1, labels, 1)
    return fds


def measure_calibration(timer: Timer, fds: FDS, features: Tensor, labels: Tensor) -> list[Measured]:
    """Time the calibration of one batch, alone and with its gradient."""
    batch, ages_of_batch = features[:256].clone(), labels[:256, None]
    reference = loop_smooth(fds, batch.clone(), labels[:256])
    torch.testing.assert_close(fds.smooth(batch, ages_of_batch, 2), reference, rtol=1e-4, atol=2e-5)
    leaf = batch.clone().requires_grad_()

    def loop() -> Tensor:  # on values calibrated before: the work is the same
        return loop_smooth(fds, batch, labels[:256])

    calibrated = batch.clone()

    def ours() -> Tensor:
        return fds.smooth(calibrated, ages_of_batch, 2)

    def loop_grad() -> None:
        loop_smooth(fds, leaf * 1.0, labels[:256]).sum().backward()

    def ours_grad() -> None:
        fds.smooth(leaf * 1.0, ages_of_batch, 2).sum().backward()

    return [
        timer.compare("calibrate 256 × 2048", loop, ours),
        timer.compare("calibrate 256 × 2048, and its gradient", loop_grad, ours_grad),
    ]


def measure_statistics(timer: Timer, fds: FDS, features: Tensor, labels: Tensor) -> list[Measured]:
    """Time the statistics of an epoch, all at once and batch by batch."""
    names = ("running_mean", "running_var", "num_samples_tracked")
    tables = {name: getattr(fds, name).clone() for name in names}
    loop_update(tables, features, labels)
    fds.update_running_stats(features, labels, 1)
    for name in names:
        torch.testing.assert_close(getattr(fds, name), tables[name], rtol=1e-4, atol=2e-5)

    def loop() -> None:
        loop_update(tables, features, labels)

    def at_once() -> None:
        fds.update_running_stats(features, labels, 1)

    def by_batch() -> None:
        moments = fds.new_moments()
        for start in range(0, len(features), 256):
            moments.add(features[start : start + 256], labels[start : start + 256])
        fds.end_epoch(moments, 1)

    return [
        timer.compare(f"statistics {len(features):,} × 2048", loop, at_once),
        timer.compare(f"statistics {len(features):,} × 2048, added in batches of 256", loop, by_batch),
    ]


def measure_scatter(timer: Timer, fds: FDS, features: Tensor, labels: Tensor) -> list[Measured]:
    """Time the scatter of `GroupMoments` against a one-hot product (in the loop's column), in float64."""
    rows = fds.slots.rows
    matrix, group = features[:8192].double(), labels[:8192].clamp(FIRST, LAST).long() - FIRST
    own = torch.arange(rows, device=features.device)

    def one_hot() -> Tensor:
        return (own[:, None] == group).double() @ matrix

    def index_add() -> Tensor:
        return matrix.new_zeros(rows, matrix.shape[1]).index_add_(0, group, matrix)

    return [timer.compare("8,192 × 2048 summed by bin (one-hot, index_add_)", one_hot, index_add)]


# What is measured, in this order; each takes (timer, fds, features, labels) and gives lines of the report.
SECTIONS = (measure_calibration, measure_statistics, measure_scatter)


def report(lines: list[Measured], device: torch.device) -> None:
    """Print the machine and one table."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    console = Console(width=132)
    console.print(f"device {device} ({name}), torch {torch.__version__}, {torch.get_num_threads()} CPU threads")
    table = Table("", "loop, ms", "dir_bench, ms", "times faster", "loop, peak MiB", "dir_bench, peak MiB")
    for column in table.columns[1:]:
        column.justify = "right"
    for line in lines:
        peaks = ("n/a" if mib is None else f"{mib:.0f}" for mib in (line.loop_mib, line.ours_mib))
        ratio = line.loop_ms / line.ours_ms
        table.add_row(line.what, f"{line.loop_ms:.3f}", f"{line.ours_ms:.3f}", f"{ratio:.1f}", *peaks)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, help="CPU threads; torch's choice if not given")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of five calls; medians are over all calls")
    parser.add_argument("--warm-up", type=int, default=1, help="rounds that do not count")
    parser.add_argument("--epochs", type=int, default=9, help="epochs of the embedded run to time; 0: none")
    parser.add_argument("--rows", type=int, default=12_208, help="of features")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    found = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(found if args.device == "auto" else args.device)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(args.rows, 2048, generator=generator).to(device)
    labels = torch.from_numpy(ages(len(features), seed=0)).to(device)
    fds = trained_fds(features, labels)
    timer = Timer(device, args.repeats, args.warm_up)
    lines = [line for section in SECTIONS for line in section(timer, fds, features, labels)]
    report(lines, device)
    if args.epochs:
        bench_epoch.report(device.type, args.epochs)


if __name__ == "__main__":
    main()
