"""A bounded number of worker processes on this machine, each with its own GPUs and threads."""

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import active_children, connection, get_context, parent_process
from types import FrameType
from typing import Any

from dir_bench.errors import RunFailed
from dir_bench.interrupt import Interrupted

_STOPPING = (signal.SIGINT, signal.SIGTERM)


def environments(n_jobs: int | None, threads: int, gpus_per_job: int, gpus: list[str]) -> list[dict[str, str]]:
    """Return the environment variables of each worker.

    Args:
        n_jobs: Workers; None: one for each share of the GPUs, or without GPUs as many as the cores allow.
        threads: Threads of each worker.
        gpus_per_job: GPUs that a worker sees, as many as `trainer.devices` asks for.
        gpus: The GPUs of this machine (`visible_gpus`). More workers than shares take turns at them.
    """
    shares = [gpus[i : i + gpus_per_job] for i in range(0, len(gpus) - gpus_per_job + 1, gpus_per_job)]
    workers = n_jobs or len(shares) or max(1, _cores() // threads)
    each = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    seen = [{"CUDA_VISIBLE_DEVICES": ",".join(shares[i % len(shares)])} if shares else {} for i in range(workers)]
    return [{**each, **own} for own in seen]


def visible_gpus() -> list[str]:
    """Return the NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; torch is not needed."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False)
    found = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]
    return [str(i) for i in range(len(found))] if listed.returncode == 0 else []


def run_all(
    work: Callable[[Any], Any], jobs: Iterable[Any], environments: list[dict[str, str]]
) -> Iterator[tuple[int, Any]]:
    """Yield (number of the job, its result) as jobs end; a result is a `RunFailed` where the worker died.

    Workers are fresh interpreters that may start processes of their own, and stay for one job after another; a dead
    one is replaced. If the caller is interrupted, every worker is told to stop, saves, and has ended when this ends.

    Args:
        work: Picklable; called with one job, in a worker.
        jobs: Picklable; taken as workers come free.
        environments: Variables of each worker, one entry a worker.
    """
    waiting = enumerate(jobs)
    workers = []
    try:
        with _stop_on_sigterm():
            for environment in environments:
                job = next(waiting, None)
                if job is None:
                    break
                workers.append(_Worker(work, environment, job))
            while busy := [worker for worker in workers if worker.number is not None]:
                ready = connection.wait([worker.pipe for worker in busy])
                for worker in busy:
                    if worker.number is not None and worker.pipe in ready:
                        yield worker.number, worker.result()
                        worker.next(next(waiting, None))
    finally:
        for worker in workers:
            worker.stop()
        for worker in workers:
            worker.process.join()


class _Worker:
    def __init__(self, work: Callable[[Any], Any], environment: Mapping[str, str], job: tuple[int, Any]) -> None:
        self.work, self.environment = work, environment
        self.number: int | None = None
        self._start()
        self.next(job)

    def _start(self) -> None:
        self.pipe, end = get_context("spawn").Pipe()
        # Not daemonic: training with several processes starts them from here.
        self.process = get_context("spawn").Process(target=_serve, args=(end, self.work, dict(self.environment)))
        self.process.start()
        end.close()  # so that its death reads as the end of the file

    def next(self, job: tuple[int, Any] | None) -> None:
        if job is None:
            self.number = None
            self.pipe.close()
            return
        if not self.process.is_alive():
            self._start()
        self.number = job[0]
        self.pipe.send(job[1])

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
        if self.number is not None and self.process.is_alive():
            self.process.terminate()
        self.pipe.close()


def _serve(pipe: connection.Connection, work: Callable[[Any], Any], environment: dict[str, str]) -> None:
    """Work on jobs until there are no more. Nothing of torch is imported before the variables are set."""
    os.environ.update(environment)
    for number in _STOPPING:
        signal.signal(number, _interrupt_once)  # while training, the trainer's own handler saves
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        while True:
            pipe.send(work(pipe.recv()))
    except (EOFError, BrokenPipeError):
        pass
    except (KeyboardInterrupt, Interrupted):
        _ignore_more()
        for child in active_children():
            child.terminate()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)  # a run at work saves


@contextmanager
def _stop_on_sigterm() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _interrupt_once(number: int, frame: FrameType | None) -> None:
    """A terminal's Ctrl-C comes again from the parent; raised while what is on the stack ends, it would be printed."""
    _ignore_more()
    raise KeyboardInterrupt


def _ignore_more() -> None:
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
