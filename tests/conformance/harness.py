"""Read golden cases, find the adapter of each kind, compare what it computed.

A folder of cases holds a `cases.json` ({"cases": [...]}) and one `.npz` per case. An adapter turns the inputs
of one case into calls of the library and gives back arrays under the names of the case. It may translate
(units, names, published conventions such as 0 for an empty region); the arithmetic is the library's.

To add a kind, put `adapters_<part>.py` beside this file, with a table

    ADAPTERS = {"kind": function}           # function(case: Case) -> dict[name, array]
    NOT_OURS = {"kind": {"pattern": "why"}} # optional: expected arrays (fnmatch) the library does not offer
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# Kinds whose part of the library is not there yet, and why. Whoever builds the part takes the line out.
NOT_YET_BUILT: dict[str, str] = {}


class CasesError(Exception):
    """A folder of cases, or an adapter table, that cannot be used."""


@dataclass(frozen=True)
class Case:
    """One golden case: `case["labels"]` is an array (a copy), `case.hyperparameters` its settings."""

    entry: Mapping[str, Any]
    folder: Path

    @property
    def name(self) -> str:
        return self.entry["name"]

    @property
    def kind(self) -> str:
        return self.entry["kind"]

    @property
    def hyperparameters(self) -> Mapping[str, Any]:
        return self.entry["hyperparameters"]

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """Every array of the case by name, whatever its role."""
        with np.load(self.folder / self.entry["file"], allow_pickle=False) as stored:
            return dict(stored)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name].copy()

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def names(self, role: str) -> list[str]:
        """Return the arrays of one role: "input", "expected" or "intermediate"."""
        return [name for name, about in self.entry["arrays"].items() if about["role"] == role]

    def tolerance(self, name: str) -> dict[str, float]:
        """Return rtol and atol of one array; `rtol_f32` and the like go by the end of the array's name."""
        stated = self.entry.get("tolerance", {})
        ending = name.rsplit("_", 1)[-1]
        return {key: stated.get(f"{key}_{ending}", stated.get(key, 0.0)) for key in ("rtol", "atol")}


Adapter = Callable[[Case], Mapping[str, Any]]


def read_cases(folders: Iterable[Path]) -> list[Case]:
    """Return the cases of every `cases.json` at or below the folders; two of one name are an error."""
    cases: dict[str, Case] = {}
    for folder in folders:
        found = sorted(folder.rglob("cases.json"))
        if not found:
            raise CasesError(f"--cases: there is no cases.json in {folder}")
        for file in found:
            for entry in json.loads(file.read_text(encoding="utf-8"))["cases"]:
                if entry["name"] in cases:
                    raise CasesError(f"--cases: two cases are named {entry['name']}; the second is in {file}")
                cases[entry["name"]] = Case(entry, file.parent)
    return list(cases.values())


def default_cases(here: Path) -> list[Case]:
    """Return the cases kept beside this file, then those of ../shared/golden that are not among them."""
    folders = [here / "cases", here.parents[2] / "shared" / "golden"]
    sets = [read_cases([folder]) for folder in folders if (folder / "cases.json").is_file()]
    return list({case.name: case for cases in reversed(sets) for case in cases}.values())


def load_tables(here: Path) -> tuple[dict[str, Adapter], dict[str, dict[str, str]]]:
    """Return kind -> adapter and kind -> {array pattern: reason it is not ours}, from every adapters_*.py."""
    adapters: dict[str, Adapter] = {}
    not_ours: dict[str, dict[str, str]] = {}
    for file in sorted(here.glob("adapters_*.py")):
        module = importlib.import_module(file.stem)
        if twice := adapters.keys() & module.ADAPTERS.keys():
            raise CasesError(f"{file.name} has an adapter for {sorted(twice)}, and so has another file")
        adapters |= module.ADAPTERS
        not_ours |= getattr(module, "NOT_OURS", {})
    return adapters, not_ours


def compare(case: Case, computed: Mapping[str, Any], not_ours: Mapping[str, str]) -> int:
    """Compare computed arrays with the case and return how many were compared.

    Every expected array must have been computed, unless `not_ours` names it. An intermediate one, or one that
    the case calls an input, is compared if it was computed. Integers and booleans must be equal. The first
    difference raises AssertionError.
    """
    compared = 0
    for name in dict.fromkeys([*case.names("expected"), *case.arrays]):
        expected = case[name]
        if name not in computed:
            wanted = name in case.names("expected") and not any(fnmatchcase(name, p) for p in not_ours)
            assert not wanted, f"{case.name}: the adapter of kind {case.kind} returned no array {name}"
            continue
        actual = np.asarray(computed[name])
        label = f"{case.name}: {name}"
        assert actual.shape == expected.shape, f"{label} has shape {actual.shape}, not {expected.shape}"
        if np.issubdtype(expected.dtype, np.inexact):
            tolerance = case.tolerance(name)
            np.testing.assert_allclose(actual, expected, **tolerance, equal_nan=True, err_msg=label)
        else:
            np.testing.assert_array_equal(actual, expected, err_msg=label)
        compared += 1
    return compared


def run_case(case: Case, adapters: Mapping[str, Adapter], not_ours: Mapping[str, Mapping[str, str]]) -> None:
    """Compute one case and compare it; skip a kind that is not yet built, fail on one that nobody knows."""
    if case.kind not in adapters:
        if case.kind in NOT_YET_BUILT:
            pytest.skip(f"{case.kind}: {NOT_YET_BUILT[case.kind]}")
        pytest.fail(f"{case.name}: no adapter knows the kind {case.kind}, and NOT_YET_BUILT does not list it")
    computed = adapters[case.kind](case)
    compared = compare(case, computed, not_ours.get(case.kind, {}))
    if case.entry.get("returns_none"):  # the reference keeps no weights at all here: ours must all be 1
        compared += len(computed)
        for name, array in computed.items():
            np.testing.assert_array_equal(array, 1, err_msg=f"{case.name}: {name}")
    assert compared, f"{case.name}: nothing was compared"
