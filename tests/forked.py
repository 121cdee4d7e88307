"""Processes that tests start: forks of a server that has imported once what would cost each of them ten seconds.

Everything else is as it would be: a process of its own with its own folder, streams, exit code, group and signals. That
fresh interpreters do the same is tested in a few places (`test_workers`, `test_processes`).
"""

import io
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import chdir, redirect_stderr
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from dir_bench import workers

HEAVY = (
    *("dir_bench.experiment", "dir_bench.results.plots", "dir_bench.results.tables", "dir_bench.datasets.images"),
    *("hydra.main", "lightning_fabric", "matplotlib.pyplot", "torch.utils.tensorboard", "torchvision"),
    *("dir_bench.cli", "dir_bench.sweeps.job", "scipy.ndimage", "tests.warm"),
)


def start(function: Callable[..., None], *arguments: Any) -> Any:
    """Call a function in a new process; return it."""
    server = get_context("forkserver")
    server.set_forkserver_preload([*HEAVY])
    process = server.Process(target=function, args=arguments)
    process.start()
    return process


class Command:
    """A `dir-bench` command as `subprocess.Popen` would have it, the leader of a process group."""

    def __init__(self, folder: Path, arguments: Sequence[str], printed: Path) -> None:
        self.args, self.printed = list(arguments), (printed / "stdout", printed / "stderr")
        self.process = start(_command, folder, self.args, self.printed)
        self.pid = self.process.pid

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self, seconds: float | None = None) -> int:
        self.process.join(seconds)
        assert self.process.exitcode is not None, f"it went on for {seconds} s"
        return self.process.exitcode

    def said(self) -> list[str]:
        return [path.read_text() if path.exists() else "" for path in self.printed]


def _command(folder: Path, arguments: list[str], printed: tuple[Path, Path]) -> None:
    from dir_bench.cli import main

    os.setsid()
    os.chdir(folder)
    for number, (path, name) in enumerate(zip(printed, ("stdout", "stderr"), strict=True), start=1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
        setattr(sys, name, os.fdopen(number, "w", buffering=1, closefd=False))
    warnings.filterwarnings("ignore", message="This process .* is multi-threaded, use of fork")  # from Python 3.12 on
    workers.START = "fork"
    sys.exit(main(arguments))


def mistakes(folder: Path, commands: Sequence[Sequence[str]]) -> None:
    """Run commands, each in an empty folder, and write to `ended.json` their exit codes and what they say."""
    from dir_bench.cli import main

    ended = []
    for arguments in commands:
        with tempfile.TemporaryDirectory() as empty, redirect_stderr(io.StringIO()) as said, chdir(empty):
            try:
                code = main(arguments)
            except SystemExit as stop:  # argparse's
                code = stop.code
        ended.append([code, said.getvalue()])
    (folder / "ended.json").write_text(json.dumps(ended))
