"""Options that pytest must know before it collects, whatever folder it is pointed at."""

import signal
from pathlib import Path

import pytest


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
