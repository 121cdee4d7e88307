"""Run folders become tidy records; a folder that cannot be read is reported with its reason."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dir_bench.errors import UserError
from dir_bench.results.content import METRICS
from dir_bench.results.records import collect, run_folders
from dir_bench.results.store import RunFolder, _seal

Make = Callable[..., RunFolder]
Report = Callable[..., dict[str, Any]]


def rewrite(run: RunFolder, text: str) -> None:
    """Put other metrics into a finished run, and let DONE vouch for them."""
    run.metrics_path.write_text(text)
    seal = json.loads(run.done_path.read_text())
    run.done_path.write_text(json.dumps({**seal, "metrics.json": _seal(run.metrics_path)}))


def test_one_record_per_region_and_metric(tmp_path: Path, make_run: Make, regions: Report) -> None:
    run = make_run(tmp_path, regions(7.0, 4.0))
    records, problems = collect([tmp_path])
    assert problems == []
    assert len(records) == 4 * 2  # regions × metrics
    row = records[(records["region"] == "few") & (records["metric"] == "mae")].iloc[0]
    assert (row["value"], row["count"], row["seed"], row["state"]) == (11.0, 162, 0, "done")
    assert (row["dataset"], row["title"], row["method"], row["label"]) == ("agedb", "AgeDB-DIR", "VANILLA", "VANILLA")
    assert (row["slug"], row["identity"], row["path"]) == ("vanilla", run.path.name, str(run.path))
    assert (row["table_metrics"], row["command"]) == ("mae,gm", "dataset=agedb method=vanilla seed=0")
    assert (row["monitor"], row["commit"]) == ("mae", "0123456")


def test_null_of_an_empty_region_is_nan_with_count_zero(tmp_path: Path, make_run: Make, regions: Report) -> None:
    make_run(tmp_path, {**regions(7.0, 4.0), "zero": {"count": 0, "mae": None, "gm": None}})
    records, _ = collect([tmp_path])
    zero = records[records["region"] == "zero"]
    assert zero["value"].isna().all()
    assert (zero["count"] == 0).all()


def test_optional_keys_may_be_absent(tmp_path: Path, make_run: Make, regions: Report) -> None:
    make_run(
        tmp_path,
        regions(7.0, 4.0),
        drop=("title", "slug", "row_id", "identity", "command", "monitor", "table_metrics"),
    )
    records, problems = collect([tmp_path])
    assert problems == []
    row = records.iloc[0]
    assert (row["title"], row["slug"], row["row_id"]) == ("agedb", "vanilla", "VANILLA")
    assert (row["command"], row["monitor"], row["table_metrics"]) == ("", "", "")


def test_unfinished_runs_are_problems_with_their_reason(tmp_path: Path, make_run: Make, regions: Report) -> None:
    kinds = {kind: RunFolder(tmp_path / kind) for kind in ("failed", "interrupted", "running", "broken")}
    for run in kinds.values():
        run.start({}, {})
    kinds["failed"].fail("CUDA out of memory at step 3")
    make_run(tmp_path / "fine", regions(7.0, 4.0))
    broken = make_run(tmp_path / "torn", regions(7.0, 4.0), seed=1)
    broken.metrics_path.write_text("{}")
    kinds["broken"].done_path.write_text("{}")
    (kinds["broken"].path / ".metrics.json.9-00000000.tmp.json").write_text('{"half')  # of a killed writer
    with kinds["running"].lock():
        records, problems = collect([tmp_path])
    assert len(records["path"].unique()) == 1
    found = {problem.path: (problem.state, problem.reason) for problem in problems}
    assert found == {
        kinds["failed"].path: ("failed", "CUDA out of memory at step 3"),
        kinds["interrupted"].path: ("interrupted", "start it again and it resumes"),
        kinds["running"].path: ("running", found[kinds["running"].path][1]),
        kinds["broken"].path: ("broken", "DONE lacks 'metrics.json'"),
        broken.path: ("broken", "metrics.json is not the file that the run finished with"),
    }
    assert found[kinds["running"].path][1].startswith("since 20")
    assert f"{kinds['failed'].path}: failed, CUDA out of memory at step 3" in map(str, problems)


GOOD: dict[str, Any] = {"dataset": "d", "method": "m", "seed": 0, "test": {"all": {"count": 1, "mae": 1.0}}}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"seed": None}, ": 'seed' is None, not a whole number"),
        ({"seed": True}, ": 'seed' is True, not a whole number"),
        ({"seed": 10**40}, ": 'seed' is too large"),
        ({"method": 3}, ": 'method' is 3, not a text"),
        ({"method": "x" * 3000}, ": 'method' has 3,000 characters"),
        ({"method": "\ud800"}, ": 'method' is no Unicode text"),
        ({"test": {}}, " lacks 'test.all'"),
        ({"test": {"all": {"mae": 1.0}}}, " lacks 'test.all.count'"),
        ({"test": {"all": 3}}, ": 'test.all' is 3, not an object"),
        ({"test": {"all": {"count": -1}}}, ": 'test.all.count' is -1, below 0"),
        ({"test": {"all": {"count": 1, "mae": "1.0"}}}, ": 'test.all.mae' is '1.0', not a number"),
        ({"test": {"all": {"count": 1, "mae": True}}}, ": 'test.all.mae' is True, not a number"),
        ({"test": {"all": {"count": 1, "mae": -2}}}, ": 'test.all.mae' is -2, below 0"),
        ({"test": {"all": {"count": 1, "mae": 10**400}}}, ": 'test.all.mae' is too large to be a result"),
        ({"command": ["a", 3]}, ": 'command[1]' is 3, not a text"),
        ({"monitor": {"best": "low"}}, ": 'monitor.best' is 'low', not a number"),
    ],
)
def test_bad_metrics_are_named(
    tmp_path: Path, change: dict[str, Any], reason: str, make_run: Make, regions: Report
) -> None:
    run = make_run(tmp_path, regions(7.0, 4.0))
    rewrite(run, json.dumps({**GOOD, **change}))
    records, problems = collect([tmp_path])
    assert records.empty
    assert [(p.state, p.reason) for p in problems] == [("broken", f"metrics.json{reason}")]


@pytest.mark.parametrize("key", GOOD)
def test_missing_keys_are_named(key: str) -> None:
    assert METRICS(GOOD) == ""
    assert METRICS({k: v for k, v in GOOD.items() if k != key}) == f"lacks '{key}'"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "cannot be read as JSON"),
        ("{", "cannot be read as JSON"),
        ("[1]", "is a list, not an object"),
        ('{"seed": NaN}', "cannot be read as JSON (NaN is no number of JSON)"),
        ('{"seed": 0, "seed": 1}', "cannot be read as JSON (a key comes twice)"),
        ("[" * 10**5, "cannot be read (it is nested too deeply)"),
    ],
)
def test_metrics_that_are_no_object_are_a_problem(
    tmp_path: Path, text: str, reason: str, make_run: Make, regions: Report
) -> None:
    rewrite(make_run(tmp_path, regions(7.0, 4.0)), text)
    (problem,) = collect([tmp_path])[1]
    assert problem.reason.startswith(f"metrics.json {reason}")


def test_rows_of_one_method_are_told_apart_by_what_differs(tmp_path: Path, make_run: Make, regions: Report) -> None:
    for seed in (0, 1):
        for epochs in (5, 90):
            make_run(tmp_path, regions(7.0, 4.0), seed=seed, settings={"trainer": {"epochs": epochs}})
    make_run(tmp_path, regions(7.0, 4.0), method="INV")
    records, _ = collect([tmp_path])
    labels = records.groupby("label")["seed"].unique().map(sorted).to_dict()
    assert labels == {"INV": [0], "VANILLA (trainer.epochs=5)": [0, 1], "VANILLA (trainer.epochs=90)": [0, 1]}


def test_settings_that_cannot_change_numbers_tell_nothing_apart(
    tmp_path: Path, make_run: Make, regions: Report
) -> None:
    for epochs in (5, 90):
        settings = {"trainer": {"epochs": epochs, "accelerator": f"a{epochs}"}, "paths": {"outputs": f"o{epochs}"}}
        make_run(tmp_path, regions(7.0, 4.0), settings=settings)
    labels = set(collect([tmp_path])[0]["label"])
    assert labels == {"VANILLA (trainer.epochs=5)", "VANILLA (trainer.epochs=90)"}


def test_labels_stay_distinct_when_configs_do_not_say_why(tmp_path: Path, make_run: Make, regions: Report) -> None:
    runs = [make_run(tmp_path, regions(7.0, 4.0), settings={"a": value}) for value in (1, 2)]
    for run in runs:
        run.config_path.unlink()
    records, problems = collect([tmp_path])
    assert problems == []
    assert set(records["label"]) == {f"VANILLA (#{row_id})" for row_id in records["row_id"].unique()}


def test_many_differences_are_cut_and_the_row_named(tmp_path: Path, make_run: Make, regions: Report) -> None:
    same = {"a": 1, "b": 1, "c": 1}
    make_run(tmp_path, regions(7.0, 4.0), settings={**same, "d": 1, "e": {"f": 1}})
    make_run(tmp_path, regions(7.0, 4.0), settings={**same, "d": 2, "e": {"f": 2}, "g": None})
    make_run(tmp_path, regions(7.0, 4.0), settings={"a": 2, "b": 2, "c": 2, "d": 2, "e": {"f": 2}, "g": None})
    labels = sorted(set(collect([tmp_path])[0]["label"]))
    assert len(labels) == 3
    assert labels[0].startswith("VANILLA (a=1, b=1, c=1, …, #")


def test_a_setting_that_only_one_row_has_is_unset_in_the_other(tmp_path: Path, make_run: Make, regions: Report) -> None:
    make_run(tmp_path, regions(7.0, 4.0))
    make_run(tmp_path, regions(7.0, 4.0), settings={"clip": None})
    assert set(collect([tmp_path])[0]["label"]) == {"VANILLA (clip=null)", "VANILLA (clip=unset)"}


def test_same_seed_twice_counts_once_and_is_reported(tmp_path: Path, make_run: Make, regions: Report) -> None:
    make_run(tmp_path / "a", regions(7.0, 4.0))
    copy = make_run(tmp_path / "b", regions(7.0, 4.0))
    records, problems = collect([tmp_path])
    assert len(records["path"].unique()) == 1
    assert [problem.path for problem in problems] == [copy.path]
    assert "seed 0 of VANILLA is taken from" in problems[0].reason


def test_overlapping_and_linked_paths_give_each_run_once(tmp_path: Path, make_run: Make, regions: Report) -> None:
    run = make_run(tmp_path / "outputs", regions(7.0, 4.0))
    (tmp_path / "outputs" / "loop").symlink_to(tmp_path / "outputs")
    (tmp_path / "outputs" / ".hidden").mkdir()
    (tmp_path / "outputs" / ".hidden" / "config.yaml").touch()
    run.checkpoints.mkdir()
    (run.checkpoints / "config.yaml").touch()  # below a run: not a run
    found = list(run_folders([tmp_path, tmp_path / "outputs", run.path]))
    assert [folder.path for folder in found] == [run.path]


def test_missing_path_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no folder"):
        collect([tmp_path / "nowhere"])


def test_nothing_found_is_empty(tmp_path: Path) -> None:
    records, problems = collect([tmp_path])
    assert records.empty
    assert "value" in records
    assert problems == []
