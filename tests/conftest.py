"""Options that pytest must know before it collects, whatever folder it is pointed at."""

import io
import json
import logging
import os
import signal
import subprocess
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, redirect_stderr, redirect_stdout, suppress
from multiprocessing import get_context
from pathlib import Path

import pytest

from dir_bench import workers
from tests import forked

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # workers share the cores; before torch is imported


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cases",
        action="append",
        type=Path,
        metavar="DIR",
        help="run the conformance cases of DIR (any folder holding cases.json, at any depth) instead of the "
        "default ones: those kept in the repository and, when present, ../shared/golden. May be repeated.",
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return one more than there are cores: tests that start, kill and wait for processes leave theirs idle."""
    return workers.cores() + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slow ones first, so that none is begun when other processes have nothing left to take over."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True, scope="session")
def _ctrl_c_reaches_us() -> None:
    """A shell starts what runs in its background deaf to Ctrl-C, and children inherit that; tests send it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _log_as_it_was() -> Iterator[None]:
    """`main` gives the log a handler that writes to the stderr of its time, and keeps it from pytest's own."""
    log = logging.getLogger("dir_bench")
    before = (log.handlers[:], log.level, log.propagate)
    yield
    log.handlers[:], log.level, log.propagate = before


@pytest.fixture
def never_waiting() -> Callable[[], AbstractContextManager[None]]:
    """Give a context in which each wait of the host for the GPU is an error; none is after it, however it ends."""
    import torch

    def choose(mode: int | str) -> None:
        with warnings.catch_warnings():  # torch says at the first choice, having made it, that it may miss some waits
            warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype")
            torch.cuda.set_sync_debug_mode(mode)

    @contextmanager
    def forbidden() -> Iterator[None]:
        before = torch.cuda.get_sync_debug_mode()
        try:
            choose("error")
            yield
        finally:
            choose(before)

    return forbidden


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run `dir-bench` commands one after the other in this process: a new one imports for longer than most would run.

    All have to end with `code`; what they print and log is returned. "RUN" is the folder of the one finished run.
    """
    import torch

    from dir_bench.cli import main

    def run(*arguments: list[str], code: int = 0) -> str:
        monkeypatch.chdir(tmp_path)
        printed, threads = io.StringIO(), torch.get_num_threads()
        for line in arguments:
            runs = [str(path.parent) for path in Path("outputs").glob("*/*/*/DONE")]
            logging.getLogger("dir_bench").handlers.clear()
            words = [runs[0] if word == "RUN" and len(runs) == 1 else word for word in line]
            with redirect_stdout(printed), redirect_stderr(printed):
                ended = main(words)
            assert ended == code, (line, printed.getvalue())
        torch.set_num_threads(threads)
        return printed.getvalue()

    return run


@pytest.fixture
def start(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., forked.Command]]:
    """Start `dir-bench` commands in the test's folder; what a failed test leaves of them is ended after it."""
    started: list[forked.Command] = []

    def run(*arguments: str) -> forked.Command:
        started.append(forked.Command(tmp_path, arguments, tmp_path_factory.mktemp("printed")))
        return started[-1]

    yield run
    for each in started:
        with suppress(ProcessLookupError):
            os.killpg(each.pid, signal.SIGKILL)
        each.process.join()


@pytest.fixture
def forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the worker processes that this one starts be forks of what they would import."""
    monkeypatch.setattr(workers, "START", "forkserver")
    get_context("forkserver").set_forkserver_preload([*forked.HEAVY])


@pytest.fixture
def command(start: Callable[..., forked.Command]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a `dir-bench` command in the test's folder, in a process of its own, to its end."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        started = start(*arguments)
        code = started.wait()
        return subprocess.CompletedProcess(started.args, code, *started.said())

    return run


@pytest.fixture
def mistakes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Sequence[Sequence[str]]], list[tuple[int, str]]]:
    """Run commands, each in an empty folder, in one process, and return their exit codes and what they say."""

    def run(arguments: Sequence[Sequence[str]]) -> list[tuple[int, str]]:
        folder = tmp_path_factory.mktemp("mistakes")
        process = forked.start(forked.mistakes, folder, arguments)
        process.join()
        assert process.exitcode == 0
        return [(code, said) for code, said in json.loads((folder / "ended.json").read_text())]

    return run
