"""Every golden case of the published code, one test each: `pytest tests/conformance [--cases DIR]`."""

from pathlib import Path

import numpy as np
import pytest
from harness import NOT_YET_BUILT, Case, compare, load_tables

ADAPTERS, NOT_OURS = load_tables(Path(__file__).parent)


def test_case(case: Case) -> None:
    if case.kind not in ADAPTERS:
        if case.kind in NOT_YET_BUILT:
            pytest.skip(f"{case.kind}: {NOT_YET_BUILT[case.kind]}")
        pytest.fail(f"{case.name}: no adapter knows the kind {case.kind}, and NOT_YET_BUILT does not list it")
    computed = ADAPTERS[case.kind](case)
    if case.entry.get("returns_none"):  # the reference keeps no weights at all here: ours must all be 1
        for name, array in computed.items():
            np.testing.assert_array_equal(array, 1, err_msg=f"{case.name}: {name}")
    compared = compare(case, computed, NOT_OURS.get(case.kind, {}))
    assert compared or (computed and case.entry.get("returns_none")), f"{case.name}: nothing was compared"


def test_a_kind_is_either_built_or_listed() -> None:
    assert not ADAPTERS.keys() & NOT_YET_BUILT.keys(), "built by now: take it out of NOT_YET_BUILT"
