"""What Hydra runs for each job, here or in a worker, and what a sweep says at its end."""

import logging
import shlex
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dir_bench import config as configs
from dir_bench.bars import on_terminal
from dir_bench.errors import UserError, of_disk
from dir_bench.resolved import Resolved, resolve
from dir_bench.sweeps.plan import COUNTED, Plan, PlannedJob
from dir_bench.workers import rank_outside

_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Result:
    """How a job ended: exit code 0, or what went wrong. `log` is the file that holds what it printed."""

    exit_code: int
    error: str = ""
    log: str = ""


class TrainJobs:
    """The function that Hydra calls. Launchers pickle and send it; it returns errors, so that jobs go on.

    Attributes:
        run: A single run; None in a sweep, whose jobs bring their configs.
        jobs: Overrides of the jobs that `GridSweeper` is to launch.
        checked: Their checked configs, of which launchers of ours make no second ones.
        results: What came of them, in their order; of a single run, its one result.
        launch_error: What the launcher raised, if it did.
    """

    def __init__(
        self,
        jobs: Sequence[PlannedJob] = (),
        *,
        run: Resolved | None = None,
        sweep: bool = False,
        quiet: bool = False,
    ) -> None:
        self.run = run
        self.jobs, self.checked = [list(job.overrides) for job in jobs], [job.config for job in jobs]
        self.sweep, self.quiet = sweep, quiet
        self.results: list[Result] = []
        self.launch_error: Exception | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "jobs": [], "checked": [], "results": [], "launch_error": None}

    def __call__(self, composed: Any) -> Result:
        command = configs.job_command()
        with ExitStack() as stack:
            log = stack.enter_context(_into(configs.job_log())) if self.quiet else ""
            result = _attempt(self.run or composed, command, in_sweep=self.sweep, log=log)
        if not self.sweep:
            self.results = [result]
        return result


def _attempt(composed: Any, command: tuple[str, ...], *, in_sweep: bool, log: str) -> Result:
    try:
        run = composed if isinstance(composed, Resolved) else resolve(configs.typed(composed))
        train_one(run, command, in_sweep=in_sweep)
        return Result(0, log=log)
    except OSError as error:
        caught: Exception = of_disk(error)
    except UserError as error:
        caught = error
    except Exception as error:  # a fault of ours: show all of it, and let the other jobs go on
        traceback.print_exc()
        return Result(1, f"{type(error).__name__}: {error}", log)
    print(f"error: {caught}", file=sys.stderr)
    return Result(getattr(caught, "exit_code", 1), str(caught), log)


def train_one(run: Resolved, overrides: tuple[str, ...], *, in_sweep: bool = False) -> None:
    """Train a run, and print where it is and its errors by region.

    In a sweep it waits for a run that is another process's, such as a first stage that several jobs build on.
    """
    first = rank_outside() == 0  # of the processes that torchrun started, which run this each
    if first:
        print(f"{run.title} · {run.method} · seed {run.config.seed} → {run.folder.path}", file=sys.stderr)
    from dir_bench import experiment  # and with it torch, which takes seconds
    from dir_bench.results.render import as_text, region_table, regions_note

    outcome = experiment.run_resolved(run, overrides, wait=in_sweep)
    if not first:
        return
    if outcome.skipped:
        print("this run is finished; its numbers are:", file=sys.stderr)
    print(as_text(region_table(outcome.metrics)), end="")
    if not in_sweep:  # which says once, at its end, what is next
        print(regions_note(configs.to_dict(run.config), outcome.metrics["test"]), file=sys.stderr)
        print(f"next: dir-bench table {shlex.quote(run.config.paths.outputs)}", file=sys.stderr)


@contextmanager
def _into(path: Path) -> Iterator[str]:
    """Send what is printed and logged to a file; progress bars, which want a terminal, stay away by themselves."""
    handlers = [h for h in logging.getLogger("dir_bench").handlers if isinstance(h, logging.StreamHandler)]
    with path.open("a", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        before = [handler.setStream(file) for handler in handlers]
        try:
            yield str(path)
        finally:
            for handler, stream in zip(handlers, before, strict=True):
                handler.setStream(stream)


class Watch:
    """A line on a terminal that counts the jobs by state, from their folders, whoever runs them; elsewhere nothing."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self._ended = plan, threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> None:
        if on_terminal() and self.plan.left:
            self._thread = threading.Thread(target=self._show, args=(sys.stderr,), daemon=True)
            self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _show(self, terminal: Any) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(file=terminal), transient=True) as bar:
            task = bar.add_task("sweep", total=len(self.plan.jobs))
            while True:
                counts = self.plan.look()
                bar.update(task, completed=counts["done"], description=counted(counts))
                if self._ended.wait(_LOOK_SECONDS):
                    return


def failures(left: Sequence[PlannedJob], results: Sequence[Any], stopped: bool) -> list[tuple[PlannedJob, Result]]:
    """Return the launched jobs that failed, with what is known of why: their own word, else their folder's.

    Args:
        left: The jobs that were launched.
        results: What came back, in their order: a `Result`, or an Exception where a job's process died. Fewer, or
            none, if the launcher did not end well.
        stopped: A signal ended the sweep, so that a job without a result is none that failed.
    """
    found = []
    for place, job in enumerate(left):
        result = results[place] if place < len(results) else None
        state = job.folder.state
        if isinstance(result, Exception):
            result = Result(1, str(result))
        if isinstance(result, Result) and result.exit_code:
            found.append((job, result))
        elif state == "failed":
            found.append((job, Result(1, job.folder.failure)))
        elif state not in ("done", "running") and not stopped:
            found.append((job, Result(1, "it ended without a result")))
    return found


def summary(plan: Plan, failed: Sequence[tuple[PlannedJob, Result]]) -> str:
    """Return the end of a sweep to print: how its jobs stand, and each failed one with its error and folder."""
    plan.look()
    for job, _ in failed:
        if job.state != "running":
            job.state = "failed"
    lines = [f"{len(plan.jobs)} jobs: {counted(plan.counts())}"]
    for job, result in failed:
        last = (result.error.strip().splitlines() or ["no reason was left"])[-1]
        lines += [f"  failed: {job.name}", f"    {last}", f"    {job.folder.path}"]
        lines += [f"    what it printed: {result.log}"] if result.log else []
    counts = plan.counts()
    if failed or counts["done"] < len(plan.jobs):
        lines.append("the same command runs what is left")
    elif plan.jobs:
        folder = shlex.quote(plan.jobs[0].config.paths.outputs)
        against = " --compare VANILLA" if plan.has_reference else ""
        lines.append(f"next: dir-bench table {folder}{against}, or dir-bench report report.html {folder}")
    return "\n".join(lines)


def counted(counts: Counter[str]) -> str:
    """Return "3 done, 0 running, 1 failed, 8 waiting"."""
    return ", ".join(f"{counts[name]} {name}" for name in COUNTED)
