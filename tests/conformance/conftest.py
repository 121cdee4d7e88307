"""One parameter set per conformance case; see harness.py for the rules."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # tests are no package: adapters and tests import `harness` by its plain name

from harness import CasesError, default_cases, read_cases  # noqa: E402  (needs the path above)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" not in metafunc.fixturenames:
        return
    folders = metafunc.config.getoption("--cases")
    try:
        cases = read_cases(folders) if folders else default_cases(HERE)
    except CasesError as error:
        raise pytest.UsageError(str(error)) from error
    metafunc.parametrize("case", cases, ids=[case.name for case in cases])
