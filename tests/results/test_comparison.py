"""A mark says that another training would win again: none where there is no difference, nor below five seeds."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import dir_bench
from dir_bench.errors import UserError
from dir_bench.results.comparison import LEAST_SEEDS, holm, paired_t_p
from dir_bench.results.export import FORMATS
from dir_bench.results.records import collect
from dir_bench.results.store import RunFolder
from dir_bench.results.tables import summarise, table

Make = Callable[..., RunFolder]
REGIONS = ("all", "many", "medium", "few")
MEASURED = [
    [6.0869, 1.5141, 2.3661, 13.4352, 1.9747, 0.9301, 1.2968, 5.5524],
    [5.8217, 1.4632, 2.1143, 12.9733, 1.8804, 0.9137, 1.1796, 5.3681],
    [6.287, 1.5507, 2.4564, 13.8767, 2.1264, 0.9667, 1.4224, 6.0609],
    [6.0334, 1.5026, 2.1489, 13.4958, 1.9674, 0.968, 1.2389, 5.5366],
    [6.1977, 1.6053, 2.481, 13.5592, 2.1628, 0.9907, 1.3698, 6.4391],
    [5.4591, 1.4421, 2.0548, 12.0388, 1.8024, 0.9232, 1.1499, 4.8417],
    [6.68, 1.5486, 2.5074, 14.9235, 2.0785, 0.9395, 1.3114, 6.2811],
    [6.7417, 1.5252, 2.4734, 15.1462, 2.1459, 0.991, 1.3909, 6.2107],
    [6.1294, 1.4733, 2.2808, 13.6667, 1.9921, 0.9119, 1.3214, 5.6887],
    [6.1943, 1.4486, 2.2566, 13.8904, 1.9634, 0.9266, 1.3095, 5.4336],
    [6.6496, 1.5059, 2.6917, 14.7068, 2.2324, 0.9712, 1.4427, 6.821],
    [6.1851, 1.4706, 2.4669, 13.6531, 2.0177, 0.8353, 1.3797, 6.1092],
]  # fmt: skip
"""MAE and GM by region of twelve real runs, seeds 0 to 11, of VANILLA on the gauge."""


def load_trial() -> Any:
    path = Path(dir_bench.__file__).parents[1] / "scripts" / "aa_trial.py"
    spec = importlib.util.spec_from_file_location("aa_trial", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows(errors: dict[str, np.ndarray], **more: Any) -> pd.DataFrame:
    """Return records of rows whose runs have these errors, shape ``(seeds, 8)``: MAE and GM of four regions."""
    lines = [
        {
            "dataset": "d", "title": "D", "label": name, "method": name, "slug": name, "seed": seed, "row_id": name,
            "identity": f"{name}{seed}", "path": f"{name}/{seed}", "state": "done", "region": region, "metric": metric,
            "value": values[seed, column], "count": 9, "monitor": "mae", "table_metrics": "mae,gm", "command": "",
            "commit": "", "release": "", "legend": "", "note": "", "selected_at": 1.0, "departures": None, **more,
        }
        for name, values in errors.items()
        for seed in range(len(values))
        for column, (metric, region) in enumerate((m, r) for m in ("mae", "gm") for r in REGIONS)
    ]  # fmt: skip
    return pd.DataFrame(lines)


def test_p_is_that_of_the_paired_t_test() -> None:
    ours, theirs = np.random.default_rng(0).normal(size=(2, 6))
    assert paired_t_p(ours - theirs) == pytest.approx(stats.ttest_rel(ours, theirs).pvalue, rel=1e-12)
    assert paired_t_p(np.zeros(5)) == 1.0
    assert paired_t_p(np.ones(5)) == 0.0


@pytest.mark.parametrize("seeds", [5, 8])
def test_halves_of_one_methods_seeds_are_marked_in_less_than_a_twentieth_of_tables(seeds: int) -> None:
    # Columns are alike, as MAE and GM of one run are; errors over seeds have heavy tails.
    rng = np.random.default_rng(seeds)
    trials = 2000
    common, own = rng.standard_t(5, (2, trials, seeds, 8))
    differences = common[..., :1] + own
    p = np.array([[paired_t_p(trial[:, column]) for column in range(8)] for trial in differences])
    marked = np.array([holm(each) < 0.05 for each in p])
    for found in (marked.any(axis=1), marked.ravel()):
        interval = stats.binomtest(int(found.sum()), found.size).proportion_ci()
        assert interval.low <= 0.05
        assert found.mean() < 0.05 + 0.01


def test_the_trial_marks_nothing_of_one_method() -> None:
    errors = np.random.default_rng(1).normal(7, 0.2, (12, 8))
    marked, tables, cells = load_trial().trial(rows({"VANILLA": errors}), "seeds", 20)
    assert cells == 20 * 8
    assert marked <= 0.05 * cells
    assert tables <= marked


def test_the_trial_over_measured_runs_marks_less_than_a_twentieth() -> None:
    marked, _, cells = load_trial().trial(rows({"VANILLA": np.array(MEASURED)}), "seeds", 20)
    assert marked <= 0.05 * cells


def test_the_default_test_passes_the_trial_that_the_one_over_samples_fails(tmp_path: Path, make_run: Make) -> None:
    """Seeds of one method differ by a shift of their own, which each of them shows on all samples alike."""
    rng = np.random.default_rng(0)
    target, bins = np.arange(80.0), {"start": 0, "stop": 80, "width": 1}
    for seed in range(10):
        error = np.abs(rng.normal(0, 1, 80) + 5 + 0.4 * rng.normal())
        held = {"target": target, "prediction": target + error, "index": np.arange(80)}
        make_run(tmp_path, {"all": {"count": 80, "mae": error.mean()}}, seed=seed, predictions=held,
                 table_metrics=["mae"], settings={"dataset": {"name": "d", "bins": bins, "extra_errors": "none"},
                           "semantics": {"zero_error": 0.0}})  # fmt: skip
    records = collect([tmp_path])[0]
    halves, trials = load_trial().halves, 12
    marked = {over: load_trial().trial(records, over, trials)[0] for over in ("seeds", "samples")}
    assert marked["seeds"] <= 0.05 * trials
    assert marked["samples"] > 0.3 * trials
    (found,) = summarise(halves(records, rng), compare="A")
    assert found.compared_over == "seeds"  # by default


def test_a_difference_that_seeds_agree_on_is_marked_over_all_cells() -> None:
    rng = np.random.default_rng(2)
    base = rng.normal(7, 0.2, (5, 8))
    shift = np.array([1.0, 0, 0, 0, 0, 0, 0, 0])
    (found,) = summarise(rows({"VANILLA": base, "INV": base + shift + rng.normal(0, 0.01, (5, 8))}), compare="VANILLA")
    inv = next(row for row in found.rows if row.label == "INV")
    assert [column for column, test in inv.tests.items() if test.significant] == [("mae", "all")]
    raw = np.array([test.p for test in inv.tests.values()])
    assert [test.p_holm for test in inv.tests.values()] == pytest.approx(holm(raw))
    assert found.within_noise(("mae", "all")) == frozenset()
    assert len(found.within_noise(("gm", "few"))) == 1


def test_below_five_seeds_there_is_no_mark_and_the_note_says_why(tmp_path: Path, make_run: Make) -> None:
    for method, mae in (("VANILLA", 1.0), ("INV", 9.0)):
        for seed in range(LEAST_SEEDS - 1):
            make_run(tmp_path, {"all": {"count": 5, "mae": mae + seed / 100}}, method=method, seed=seed)
    shown = table([tmp_path], "md", compare="VANILLA")
    assert "†" not in shown
    assert "a claim about a method needs 5 seeds or more that it shares with VANILLA" in shown
    assert "these share fewer: INV (4)" in shown
    (found,) = summarise(collect([tmp_path])[0], compare="VANILLA")
    assert not [row for row in found.rows if row.tests]


def test_rows_of_another_recipe_are_marked_in_every_format_and_not_tested(tmp_path: Path, make_run: Make) -> None:
    kinds = {"VANILLA": [], "INV": [], "SQINV": ["stand-in data", "trainer.max_steps=2 (90 epochs)"]}
    for method, departures in kinds.items():
        for seed in range(5):
            test = {"all": {"count": 5, "mae": 1.0 + seed / 100 + (method != "VANILLA") * (5 + seed / 1000)}}
            make_run(tmp_path, test, method=method, seed=seed, departures=departures)
    shown = {kind: table([tmp_path], kind, "paper", ["mae"], compare="VANILLA") for kind in FORMATS}
    for kind, text in shown.items():
        assert "stand-in data" in text, kind
        assert "max_steps=2" in text.replace("\\", ""), kind
    assert "SQINV §1" in shown["text"]
    assert "unlike §1" in shown["text"]
    assert r"SQINV \S{}1" in shown["latex"]
    assert r"\S{}1: departs" in shown["latex"]
    assert r"$^\dagger$: differs from VANILLA" in shown["latex"]
    assert "Not tested, as they depart from the dataset's recipe in other ways than VANILLA: SQINV." in shown["text"]
    (made,) = json.loads(shown["json"])["tables"]
    cells = {row["label"]: row["cells"][0] for row in made["rows"]}
    assert made["compared_over"] == "seeds"
    assert cells["SQINV"]["p"] is None
    assert cells["INV"]["p_holm"] < 0.05
    assert {row["label"]: row["departures"] for row in made["rows"]} == kinds


def test_long_settings_become_a_letter_with_a_legend(tmp_path: Path, make_run: Make) -> None:
    for network in ("dir_bench.backbones.vision.resnet50", "dir_bench.backbones.cnn.CNN"):
        make_run(tmp_path, {"all": {"count": 5, "mae": 1.0}}, settings={"backbone": {"_target_": network}})
    shown = table([tmp_path], metrics=["mae"])
    assert "VANILLA (a): backbone._target_=dir_bench.backbones.cnn.CNN." in shown
    assert "VANILLA (b): backbone._target_=dir_bench.backbones.vision.resnet50." in shown
    assert max(map(len, shown.split("\n\n")[1].splitlines())) < 60


def test_a_number_without_a_better_side_is_not_tested_and_weakens_no_test(tmp_path: Path, make_run: Make) -> None:
    for method, worse in (("VANILLA", 0.0), ("INV", 0.3)):
        for seed in range(5):
            errors = {"count": 9, "mae": 6 + worse + seed / 10 + worse * seed / 100, "bins": 50}
            make_run(tmp_path, {"all": errors}, method=method, seed=seed, table_metrics=["mae"])
    records = collect([tmp_path])[0]
    tests = []
    for metrics in (["mae"], ["mae", "bins"]):
        (found,) = summarise(records, compare="VANILLA", metrics=metrics)
        tests.append(next(row.tests for row in found.rows if row.label == "INV"))
    assert tests[0] == tests[1]
    assert list(tests[1]) == [("mae", "all")]


def test_best_and_gains_are_among_rows_of_one_recipe(tmp_path: Path, make_run: Make) -> None:
    for method, mae, departs in (("VANILLA", 6.0, []), ("INV", 5.0, []), ("SQINV + LDS", 1.0, ["2 epochs, not 90"])):
        make_run(tmp_path, {"all": {"count": 9, "mae": mae}}, method=method, departures=departs, table_metrics=["mae"])
    (found,) = summarise(collect([tmp_path])[0], gains=True)
    assert found.best(("mae", "all")) == {"INV"}
    rows = {row.label: row.gains for row in found.rows}
    assert rows == {"VANILLA": {}, "INV": {("mae", "all"): 1.0}, "SQINV + LDS": {}}
    assert found.top_gains == {}
    assert "No gains, as they depart from the dataset's recipe in other ways than VANILLA: SQINV + LDS." in found.notes


def test_a_dataset_with_several_such_rows_does_not_keep_the_others_from_being_tested(tmp_path: Path, make_run: Make):
    for title, method, lr in (("A", "VANILLA", 1), ("A", "INV", 1), ("B", "VANILLA", 1), ("B", "VANILLA", 2)):
        for seed in range(5):
            test = {"all": {"count": 5, "mae": 1.0 + seed / 100 + (method == "INV") * (5 + seed / 1000)}}
            own = {"dataset": title.lower(), "title": title, "settings": {"optimizer": {"lr": lr}}}
            make_run(tmp_path, test, method=method, seed=seed, **own)
    one, several = summarise(collect([tmp_path])[0], compare="VANILLA")
    assert one.compared == "VANILLA"
    assert any(row.tests for row in one.rows)
    assert several.compared is None
    assert any(note.startswith("Not tested. Several rows of B are 'VANILLA': name one of") for note in several.notes)
    with pytest.raises(UserError, match="Several rows of B"):
        table([tmp_path / "b"], compare="VANILLA")
