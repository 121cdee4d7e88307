"""What a sweep has before it: its jobs, where each stands on disk, and how long the rest may take."""

import logging
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from dir_bench import config as configs
from dir_bench.files.values import Damaged
from dir_bench.results.naming import identity, names
from dir_bench.results.rows import REFERENCE
from dir_bench.results.store import RunFolder, State
from dir_bench.schema import NUMBERLESS, Config
from dir_bench.workers import end_with_parent

log = logging.getLogger(__name__)

COUNTED = ("done", "running", "failed", "waiting")
_SEARCHED = 50  # finished runs of a dataset that are looked through for their time


@dataclass
class PlannedJob:
    """One run that the sweep is to have.

    Attributes:
        overrides: What makes it, for `dir-bench train`.
        name: The overrides that not all jobs of the sweep have.
        state: That of its folder when last looked at.
    """

    overrides: list[str]
    name: str
    config: Config
    method: str
    folder: RunFolder
    state: State

    @property
    def counted_as(self) -> str:
        """One of `COUNTED`: what is new, was cut short or is damaged waits."""
        return self.state if self.state in COUNTED else "waiting"


@dataclass(frozen=True)
class Plan:
    """All jobs of a sweep, those of two stages last, so that the runs they build on are begun before them."""

    jobs: list[PlannedJob]

    @property
    def left(self) -> list[PlannedJob]:
        """The jobs to launch: what is neither done nor another process's."""
        return [job for job in self.jobs if job.state not in ("done", "running")]

    @property
    def has_reference(self) -> bool:
        """Whether on some dataset one row is VANILLA, and others can be compared with it."""
        rows: dict[str, dict[tuple[str, ...], str]] = defaultdict(dict)
        for job in self.jobs:
            row = tuple(text for text in job.overrides if not text.lstrip("+").startswith("seed="))
            rows[names(job.config)[1]][row] = job.method
        return any(len(of) > 1 and Counter(of.values())[REFERENCE] == 1 for of in rows.values())

    def look(self) -> Counter[str]:
        """Read again where each job that is not done stands, and count."""
        for job in self.jobs:
            if job.state != "done":
                job.state = job.folder.state
        return self.counts()

    def counts(self) -> Counter[str]:
        """Count the jobs by `COUNTED`."""
        return Counter(job.counted_as for job in self.jobs)

    def text(self) -> str:
        """Return the plan to print: jobs by row and state, and an estimate."""
        rows: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for job in self.jobs:
            rows[names(job.config)[1], job.method][job.counted_as] += 1
        lines = [["dataset", "method", "jobs", *COUNTED]]
        for (title, method), counts in [*rows.items(), (("all", ""), self.counts())]:
            lines.append([title, method, str(counts.total()), *(str(counts[name]) for name in COUNTED)])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        ruled = [*lines[:-1], ["─" * width for width in widths], lines[-1]]
        text = "\n".join("  ".join(_cells(line, widths)).rstrip() for line in ruled)
        begun = sum(job.state == "interrupted" for job in self.jobs)
        going_on = [f"{begun} of those waiting were begun, and go on"] if begun else []
        return "\n".join([text, *going_on, self.estimate()])

    def estimate(self) -> str:
        """Say how long what is left takes, by the median time of finished runs of the same data, network and length."""
        if not self.left:
            return "nothing is left to do"
        times = _times(self.jobs)
        known = [(job, times[key]) for job in self.left if (key := _cost(configs.to_dict(job.config))) in times]
        if not known:
            return "estimate: no finished run to estimate from"
        seconds = sum(statistics.median(found) for _, found in known)
        sources = sum(len(found) for found in {id(found): found for _, found in known}.values())
        of = f"{len(known)} of the {len(self.left)} runs left" if len(known) < len(self.left) else f"{len(known)} runs"
        return f"estimate: {duration(seconds)} for {of}, one after another (from {sources} finished)"


def make(jobs: Sequence[Sequence[str]], extra_dir: str | None = None) -> Plan:
    """Compose and check every job's config, and find its folder; two jobs with the same folder are one.

    Names of folders need the datasets, and these need torch, whose import takes seconds: unless it was imported
    before, a second process does that while this one composes.

    Raises:
        UserError: A config is wrong, or a dataset's files are missing.
    """
    if "torch" in sys.modules:
        composed = configs.compose_all(jobs, extra_dir)
        located = locate(composed)
    else:
        with ProcessPoolExecutor(1, get_context("spawn"), end_with_parent) as other:
            other.submit(locate, [])
            composed = configs.compose_all(jobs, extra_dir)
            located = other.submit(locate, composed).result()
    shared = set(jobs[0]).intersection(*map(set, jobs))
    planned: dict[str, PlannedJob] = {}
    for overrides, config, (path, method) in zip(jobs, composed, located, strict=True):
        folder = RunFolder(path)
        if path not in planned:
            name = " ".join(text for text in overrides if text not in shared) or "(the only job)"
            planned[path] = PlannedJob(list(overrides), name, config, method, folder, folder.state)
    return Plan(sorted(planned.values(), key=lambda job: job.config.stages.name != "none"))


def locate(composed: Iterable[Config]) -> list[tuple[str, str]]:
    """Return each config's run folder and method's name, having checked its settings against what they configure."""
    from dir_bench.resolved import resolve

    hashes: dict[str, str] = {}
    located = (resolve(config, hashes) for config in composed)
    return [(str(run.folder.path), run.method) for run in located]


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _times(jobs: Iterable[PlannedJob]) -> dict[str, list[float]]:
    """Return the seconds of finished runs by `_cost`: newest runs of the jobs' datasets, whatever sweep they are of."""
    times: dict[str, list[float]] = defaultdict(list)
    for folder in {Path(job.config.paths.outputs) / names(job.config)[0] for job in jobs}:
        for key, found in run_times(folder).items():
            times[key] += found
    return times


def run_times(folder: Path) -> dict[str, list[float]]:
    """Return the seconds of the newest finished runs of a dataset's folder by `_cost`."""
    times: dict[str, list[float]] = defaultdict(list)
    seals = sorted(folder.glob("*/*/DONE"), key=lambda path: path.lstat().st_mtime, reverse=True)
    for seal in seals[:_SEARCHED]:
        run = RunFolder(seal.parent)
        try:
            status, plain = run.read_status(), run.read_config()
            times[_cost(plain)].append(_seconds(status))
        except Damaged as error:
            log.warning("Not asked how long it took: %s", error)
        except KeyError:  # of another program, or one of ours that did not record it
            continue
    return times


def _seconds(status: Mapping[str, Any]) -> float:
    """Return how long a finished run took; KeyError if it does not say."""
    return (datetime.fromisoformat(status["ended"]) - datetime.fromisoformat(status["started"])).total_seconds()


def _cost(plain: Mapping[str, Any]) -> str:
    """Return a key that two configs share if their runs take about as long: the same data, network and length."""
    lengths = {key: plain["trainer"].get(key) for key in ("epochs", "max_steps", "batch_size", "precision")}
    kept = {"dataset": {"source": plain["dataset"]["source"]}, "backbone": plain["backbone"], "trainer": lengths}
    return identity(kept, NUMBERLESS)


def _cells(line: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    for place, (cell, width) in enumerate(zip(line, widths, strict=True)):
        yield cell.ljust(width) if place < 2 else cell.rjust(width)
