"""The harness itself: what it compares, with which tolerance, and what it refuses to pass over."""

import json
from pathlib import Path

import numpy as np
import pytest
from harness import NOT_YET_BUILT, Case, CasesError, compare, default_cases, read_cases, run_case


def write_cases(folder: Path, arrays: dict[str, np.ndarray], roles: dict[str, str], **entry: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "made_up.npz", **arrays)
    about = {name: {"role": role} for name, role in roles.items()}
    case = {"name": "made_up", "file": "made_up.npz", "kind": "k", "hyperparameters": {}, "arrays": about, **entry}
    (folder / "cases.json").write_text(json.dumps({"cases": [case]}), encoding="utf-8")


@pytest.fixture
def made_up(tmp_path: Path) -> Case:
    arrays = {"x": np.arange(3), "y_f32": np.ones(2), "y_f64": np.array([1.0, np.nan]), "n": np.array([1, 2])}
    roles = {"x": "input", "y_f32": "expected", "y_f64": "expected", "n": "expected"}
    write_cases(tmp_path, arrays, roles, tolerance={"rtol_f32": 1e-2, "rtol_f64": 1e-9})
    (only,) = read_cases([tmp_path])
    return only


def good(case: Case) -> dict[str, np.ndarray]:
    return {name: case[name] for name in case.names("expected")}


def test_all_expected_arrays_are_compared(made_up: Case) -> None:
    assert compare(made_up, good(made_up), {}) == 3


def test_tolerance_goes_by_the_end_of_the_name(made_up: Case) -> None:
    assert compare(made_up, good(made_up) | {"y_f32": np.array([1.009, 1])}, {}) == 3
    with pytest.raises(AssertionError, match="y_f64"):
        compare(made_up, good(made_up) | {"y_f64": np.array([1.009, np.nan])}, {})


def test_integers_must_be_equal(made_up: Case) -> None:
    with pytest.raises(AssertionError, match="made_up: n"):
        compare(made_up, good(made_up) | {"n": np.array([1, 3])}, {})


def test_shapes_must_be_equal(made_up: Case) -> None:
    with pytest.raises(AssertionError, match="shape"):
        compare(made_up, good(made_up) | {"y_f32": np.array(1.0)}, {})


def test_a_missing_array_fails_unless_declared(made_up: Case) -> None:
    computed = good(made_up)
    del computed["y_f32"]
    with pytest.raises(AssertionError, match="returned no array y_f32"):
        compare(made_up, computed, {})
    assert compare(made_up, computed, {"*_f32": "the library works in float64"}) == 2


def test_an_input_cannot_be_changed_by_an_adapter(made_up: Case) -> None:
    made_up["x"][:] = 9
    assert made_up["x"].tolist() == [0, 1, 2]


def test_a_folder_without_cases_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CasesError, match=r"no cases\.json"):
        read_cases([tmp_path])


def test_two_cases_of_one_name_are_an_error(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_cases(tmp_path / folder, {"x": np.ones(1)}, {"x": "expected"})
    with pytest.raises(CasesError, match="two cases are named made_up"):
        read_cases([tmp_path])


def test_cases_kept_here_hold_no_real_labels() -> None:
    kept = read_cases([Path(__file__).parent / "cases"])
    assert len(kept) == 16
    assert {case.kind for case in kept} >= {"lds_weights_age", "fds_age", "fds_stsb", "weighted_loss"}
    texts = [json.dumps(dict(case.hyperparameters)) for case in kept]
    assert not [text for text in texts if "agedb" in text or "train_new" in text or "STS-B-DIR" in text]


def test_default_cases_have_one_name_each() -> None:
    names = [case.name for case in default_cases(Path(__file__).parent)]
    assert len(names) == len(set(names)) >= 16


def test_an_unknown_kind_fails_and_one_not_yet_built_skips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NOT_YET_BUILT, "to_come", "an open piece of work")
    for kind, outcome in (("no_such_kind", pytest.fail.Exception), ("to_come", pytest.skip.Exception)):
        write_cases(tmp_path / kind, {"x": np.ones(1)}, {"x": "expected"}, kind=kind)
        (made_up,) = read_cases([tmp_path / kind])
        with pytest.raises(outcome, match=kind):
            run_case(made_up, {}, {})


def test_an_adapter_that_computes_nothing_fails(tmp_path: Path) -> None:
    write_cases(tmp_path, {"x": np.ones(1)}, {"x": "input"})
    (made_up,) = read_cases([tmp_path])
    with pytest.raises(AssertionError, match="nothing was compared"):
        run_case(made_up, {"k": lambda case: {"y": np.ones(1)}}, {})


def test_where_the_reference_keeps_no_weights_ours_are_1(tmp_path: Path) -> None:
    write_cases(tmp_path, {"x": np.ones(1)}, {"x": "input"}, returns_none=True)
    (made_up,) = read_cases([tmp_path])
    run_case(made_up, {"k": lambda case: {"weights": np.ones(1)}}, {})
    for wrong in ({"weights": np.array([1.0, 2.0])}, {}):
        with pytest.raises(AssertionError):
            run_case(made_up, {"k": lambda case, wrong=wrong: wrong}, {})
