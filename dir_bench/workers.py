"""A bounded number of worker processes on this machine, each with its own variables; none outlives who started it."""

import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import active_children, connection, get_context, parent_process
from types import FrameType
from typing import Any

from dir_bench.errors import RunFailed
from dir_bench.interrupt import Interrupted

START = "spawn"
"""How workers start: as fresh interpreters, so that variables are set before torch is imported (CUDA needs it too)."""

_STOPPING = (signal.SIGINT, signal.SIGTERM)
_LOOK_SECONDS = 1.0
"""Between two looks. The kernel may hand a signal to the thread that watches the parent, or hand it over just before a
wait begins: Python then runs its handler when the main thread wakes, so no wait of the main thread is endless."""


def run_all(
    work: Callable[[Any], Any],
    jobs: Iterable[Any],
    environments: list[dict[str, str]],
    grace: float | None = None,
) -> Generator[tuple[int, Any], None, None]:
    """Yield (number of the job, its result) as jobs end; a result is a `RunFailed` where the worker died.

    Workers are fresh interpreters that may start processes of their own, and stay for one job after another; a dead
    one is replaced. Every worker is told to stop, saves, and has ended when this ends: after an interrupt, after an
    error, or because the caller wants no more. If this process is killed, they stop by themselves.

    Args:
        work: Picklable; called with one job, in a worker.
        jobs: Picklable; taken as workers come free.
        environments: Variables of each worker, one entry a worker.
        grace: Seconds that a worker told to stop has until it is killed; None: as many as it needs.

    Raises:
        Interrupted: This process was told to end by SIGTERM.
    """
    waiting = enumerate(jobs)
    workers: list[_Worker] = []
    try:
        with _stop_on_sigterm():
            for environment in environments:
                job = next(waiting, None)
                if job is None:
                    break
                workers.append(_Worker(work, environment, grace))
                workers[-1].next(job)
            while busy := [worker for worker in workers if worker.number is not None]:
                ready = connection.wait([worker.pipe for worker in busy], _LOOK_SECONDS)
                for worker in busy:
                    if worker.number is not None and worker.pipe in ready:
                        yield worker.number, worker.result()
                        worker.next(next(waiting, None))
    finally:
        for worker in workers:
            worker.stop()
        with ExitStack() as ending:  # each is waited for, though an interrupt that comes again ends the wait for one
            for worker in workers:
                ending.callback(worker.join)


def rank_outside() -> int:
    """Return this process's rank if torchrun or Slurm started it beside others, else 0."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", 0)))


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_with_parent(grace: float | None = None) -> None:
    """From now on, have this process told to stop (SIGTERM) as soon as the one that started it has ended.

    A thread waits for the other end of a pipe that the parent alone holds. Unlike Linux's PR_SET_PDEATHSIG it works on
    every system, notices a parent that had ended before, and does not mistake the end of a parent's thread for its own.

    Args:
        grace: Seconds until this process is ended for good; None: as many as it needs to save.
    """
    parent = parent_process()
    if parent is not None:
        started_by = os.getppid()
        threading.Thread(target=_watch, args=(parent.sentinel, started_by, grace), daemon=True).start()


def _watch(sentinel: int, started_by: int, grace: float | None) -> None:
    # A process that the parent forked may hold the pipe's end too; then the parent's number tells.
    while not connection.wait([sentinel], _LOOK_SECONDS) and os.getppid() == started_by:
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # a run at work saves
    if grace is not None:
        threading.Event().wait(grace)
        os._exit(128 + signal.SIGTERM)


class _Worker:
    """A process and what it is at. Made first and started by its first job, so that no interrupt can lose it."""

    def __init__(self, work: Callable[[Any], Any], environment: Mapping[str, str], grace: float | None) -> None:
        self.work, self.environment, self.grace = work, dict(environment), grace
        self.number: int | None = None
        self.process: Any = None
        self.pipe: Any = None

    def next(self, job: tuple[int, Any] | None) -> None:
        if job is None:
            self.number = None
            self.stop()
            return
        self.number = job[0]
        with suppress(BrokenPipeError, ConnectionResetError):  # it died: the result will say so
            if self.process is None or not self.process.is_alive():
                self._start()
                self.pipe.send(self.work)
            self.pipe.send((job[1],))

    def _start(self) -> None:
        context: Any = get_context(START)
        self.pipe, end = context.Pipe()
        # Not daemonic: training with several processes starts them from here.
        self.process = context.Process(target=_serve, args=(end, self.environment, self.grace))
        self.process.start()
        end.close()  # so that its death reads as the end of the file

    def result(self) -> Any:
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            code = self.process.exitcode or 0
            how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
            hint = " (often the memory that ran out)" if code == -signal.SIGKILL else ""
            return RunFailed(f"its process was ended {how}{hint}; the same command goes on from its last checkpoint")

    def stop(self) -> None:
        if self.pipe is None or self.pipe.closed:
            return
        if self.number is None:
            with suppress(BrokenPipeError, ConnectionResetError):
                self.pipe.send(None)
        elif self.process.is_alive():
            self.process.terminate()
        self.pipe.close()

    def join(self) -> None:
        if self.process is None:
            return
        end = None if self.grace is None else time.monotonic() + self.grace
        try:
            while self.process.is_alive() and (end is None or time.monotonic() < end):
                self.process.join(_LOOK_SECONDS if end is None else min(_LOOK_SECONDS, end - time.monotonic()))
        finally:
            # It may be in a library's code that heeds no signal, such as a wait for another process.
            if self.grace is not None and self.process.is_alive():
                self.process.kill()
                self.process.join()


def _serve(pipe: connection.Connection, environment: Mapping[str, str], grace: float | None) -> None:
    """Work on jobs until there are no more. The first message is the work itself: unpickling it may import torch,
    and what is set here has to be set before that."""
    end_with_parent(grace)
    os.environ.update(environment)
    for number in _STOPPING:
        signal.signal(number, _interrupt_once)  # while training, the trainer's own handler saves
    try:
        work = pipe.recv()
        while (job := pipe.recv()) is not None:
            pipe.send(work(*job))
    except (EOFError, ConnectionError):  # who asked is gone
        pass
    except (KeyboardInterrupt, Interrupted):
        _ignore_more()
        for child in active_children():
            child.terminate()


@contextmanager
def _stop_on_sigterm() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is _interrupt:  # not if `_interrupt_once` has had enough
            signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted(number)


def _interrupt_once(number: int, frame: FrameType | None) -> None:
    """A terminal's Ctrl-C comes again from the parent; raised while what is on the stack ends, it would be printed."""
    _ignore_more()
    raise KeyboardInterrupt


def _ignore_more() -> None:
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)
