"""Options that pytest must know before it collects, whatever folder it is pointed at."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

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


@pytest.fixture(autouse=True, scope="session")
def _ctrl_c_reaches_us() -> None:
    """A shell starts what runs in its background deaf to Ctrl-C, and children inherit that; tests send it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


_RUN_ALL = """
import json, sys
from pathlib import Path
from dir_bench.cli import main
for arguments in json.loads(sys.argv[1]):
    runs = [str(path.parent) for path in Path("outputs").glob("*/*/*/DONE")]
    arguments = [runs[0] if text == "RUN" and len(runs) == 1 else text for text in arguments]
    print("$", *arguments, flush=True)
    code = main(arguments)
    if code:
        sys.exit(code)
"""


@pytest.fixture
def commands(tmp_path: Path) -> Callable[..., str]:
    """Run `dir-bench` commands one after the other in one process, whose imports take longer than most of them.

    All have to succeed; what they print is returned. "RUN" stands for the folder of the one run that is finished.
    """

    def run(*arguments: list[str]) -> str:
        line = [sys.executable, "-c", _RUN_ALL, json.dumps(arguments)]
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    return run
