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
from dir_bench.results.comparison import LEAST_SEEDS, holm, paired_t_p
from dir_bench.results.export import FORMATS
from dir_bench.results.records import collect
from dir_bench.results.store import RunFolder
from dir_bench.results.tables import summarise, table

Make = Callable[..., RunFolder]
REGIONS = ("all", "many", "medium", "few")


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
            "commit": "", "legend": "", "departures": None, **more,
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
    assert r"\S{}1: unlike" in shown["latex"]
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
