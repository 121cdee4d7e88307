"""Every golden case of the published code, one test each: `pytest tests/conformance [--cases DIR]`."""

from pathlib import Path

from harness import NOT_YET_BUILT, Case, load_tables, run_case

ADAPTERS, NOT_OURS = load_tables(Path(__file__).parent)


def test_case(case: Case) -> None:
    run_case(case, ADAPTERS, NOT_OURS)


def test_a_kind_is_either_built_or_listed() -> None:
    assert not ADAPTERS.keys() & NOT_YET_BUILT.keys(), "built by now: take it out of NOT_YET_BUILT"
