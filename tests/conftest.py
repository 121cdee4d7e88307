"""Options that pytest must know before it collects, whatever folder it is pointed at."""

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
