"""Tables of one's own, from one command to a run: splits, gaps, leaks, bins from the data, mistakes in a sentence."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from dir_bench import config
from dir_bench.datasets.base import STAND_IN, Fetchable, Labelled
from dir_bench.datasets.table import SPLITS, Published, Tabular
from dir_bench.datasets.tables.columns import columns_of
from dir_bench.datasets.tables.published import FILES, TABLES
from dir_bench.errors import UserError
from dir_bench.files.table import read_table

TEN = [name for name in config.options("dataset") if "Published" in (config.config_dir() / "dataset" / f"{name}.yaml")
       .read_text(encoding="utf-8")]  # fmt: skip
SHORT = ["trainer.max_steps=2", "trainer.figures=no", "trainer.feature_statistics=no", "backbone.width=8"]


def write(path: Path, rows: int = 60, **columns: list[object]) -> Path:
    """Write a table of two inputs and a target of whole numbers; columns given replace or join them."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 5, rows)
    made: dict[str, object] = {"y": y, "a": y + rng.normal(0, 0.1, rows).round(3), "b": rng.choice(["u", "v"], rows)}
    made |= columns
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(made)
        writer.writerows(zip(*made.values(), strict=True))  # type: ignore[call-overload]
    return path


def test_one_line_from_a_csv_to_errors_by_region(commands: Callable[..., str], tmp_path: Path) -> None:
    write(tmp_path / "houses.csv", 200)
    said = commands(["train", "dataset=table", "dataset.source.path=houses.csv", "dataset.source.target=y", *SHORT])
    assert "a bin for each of the 5 places of targets 1 apart" in said
    assert "val and test drawn with seed 0" in said
    (folder,) = tmp_path.glob("outputs/table_houses/vanilla/*")
    held = yaml.safe_load((folder / "config.yaml").read_text())["dataset"]
    assert held["bins"] | {"start": 0, "stop": 5, "width": 1, "choose": "none"} == held["bins"]
    assert (held["fds_last"], held["label"], held["title"]) == (4, "y", "houses")
    assert held["regions"]["many_over"] > held["regions"]["few_under"] >= 2
    # Typed or chosen, the same bins are the same run.
    typed = ["dataset.bins.start=0", "dataset.bins.stop=5", "dataset.bins.width=1"]
    commands(["train", "dataset=table", "dataset.source.path=houses.csv", "dataset.source.target=y", *typed, *SHORT])
    assert len([*tmp_path.glob("outputs/*/*/*")]) == 1
    assert commands(["evaluate", "RUN"]).endswith("equal to the recorded metrics.json\n")


def test_bins_of_any_width_train_with_lds_and_fds_and_are_read_back(
    commands: Callable[..., str], tmp_path: Path
) -> None:
    write(tmp_path / "x.csv", 200)
    table = ["dataset=table", "dataset.source.path=x.csv", "dataset.source.target=y", "method=sqinv_lds_fds"]
    commands(["train", *table, "dataset.bins.edges=[0,1,2,5]", *SHORT])
    assert "SQINV + LDS + FDS" in commands(["table"])
    (folder,) = tmp_path.glob("outputs/*/*/*")
    assert np.load(folder / "labels.npz")["edges"].tolist() == [0, 1, 2, 5]
    assert json.loads((folder / "metrics.json").read_text())["test"]["all"]["mae"] > 0


def test_the_example_is_a_stand_in_whose_test_rows_are_read_as_new_ones(
    commands: Callable[..., str], tmp_path: Path
) -> None:
    commands(["data", "sample", "table", "--size", "120"])
    said = commands(["data", "check", "table", "dataset.bins.choose=quantiles", "dataset.bins.number=3"])
    assert "stand-in data: good for a trial" in said
    assert "3 bins that hold about equally many training samples, 0" in said
    rows = list(csv.DictReader((tmp_path / "data/table/sample.csv").read_text().splitlines()))
    assert {row["split"] for row in rows} == set(SPLITS)
    with (tmp_path / "new.csv").open("w", newline="") as file:
        names = [name for name in rows[0] if name not in ("target", "split")]
        writer = csv.DictWriter(file, ["who", *reversed(names)], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(row | {"who": "x"} for row in rows if row["split"] == "test")
    commands(["train", "dataset=table", *SHORT])
    (folder,) = tmp_path.glob("outputs/table_sample/*/*")
    assert json.loads((folder / "metrics.json").read_text())["departures"][0] == STAND_IN
    predicted = list(csv.DictReader(commands(["predict", "RUN", "new.csv"]).splitlines()))
    assert [*predicted[0]][:2] == ["who", "made_up_kind"]
    recorded = np.load(folder / "predictions.npz")["prediction"]
    assert [float(row["prediction"]) for row in predicted] == pytest.approx(recorded, rel=1e-5)
    (tmp_path / "few.csv").write_text("made_up_0\n1\n")
    said = commands(["predict", "RUN", "few.csv"], code=2)
    assert "few.csv has no column 'made_up_1' (did you mean 'made_up_0'?)" in said
    first = (tmp_path / "new.csv").read_text().splitlines()
    (tmp_path / "gap.csv").write_text("\n".join([first[0], first[1].rpartition(",")[0] + ","]))
    said = commands(["predict", "RUN", "gap.csv"], code=2)
    assert "1 of 1 rows lack values" in said
    assert "fill them in, or leave these rows out" in said
    assert "dataset.source.missing" not in said


def loads(path: Path, **settings: object) -> Tabular:
    settings.setdefault("target", "y")
    return Tabular(str(path.parent), path.name, **settings)  # type: ignore[arg-type]


def test_splits_by_column_by_file_and_drawn(tmp_path: Path) -> None:
    whole = loads(write(tmp_path / "x.csv", 60, split=["train"] * 40 + ["val"] * 12 + ["test"] * 8)).load()
    assert [len(part) for part in (whole.train, whole.val, whole.test)] == [40, 12, 8]  # type: ignore[arg-type]
    assert whole.backbone_kwargs == {"in_features": 3}
    assert whole.kind == "vectors"
    write(tmp_path / "t.csv", 200)
    write(tmp_path / "e.csv", 9)
    one = loads(tmp_path / "t.csv", test="e.csv")
    data = one.load()
    assert len(data.test) == 9
    assert 1 <= len(data.val) <= 40
    assert isinstance(one, Labelled)
    assert np.array_equal(one.train_targets(), data.train.targets)
    assert loads(tmp_path / "t.csv", test="e.csv").fingerprint() != loads(tmp_path / "t.csv", val="e.csv").fingerprint()


def test_gaps_are_refused_filled_or_dropped(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", 60, a=["", "NA", *range(58)])
    with pytest.raises(
        UserError, match=r"2 of 60 rows lack values \(by column: a 2; first in line 2\): set .*missing=mean"
    ):
        loads(path).load()
    assert loads(path, missing="mean").load().backbone_kwargs == {"in_features": 4}
    dropped = loads(path, missing="drop")
    assert dropped.check().facts["left out, as values are missing"] == "2 rows"
    lacking = write(tmp_path / "y.csv", 60, y=["", *([1, 2, 3] * 20)[:59]])
    with pytest.raises(UserError, match=r"line 2: y '' is not a number, so it is no target: .*missing=drop"):
        loads(lacking).load()
    assert sum(len(getattr(loads(lacking, missing="drop").load(), name)) for name in SPLITS) == 59


def test_an_id_in_two_splits_is_a_leak_and_rows_that_are_there_twice_are_counted(tmp_path: Path) -> None:
    split = ["train"] * 40 + ["val"] * 10 + ["test"] * 10
    path = write(tmp_path / "x.csv", 60, who=[*range(40), 3, *range(41, 60)], split=split)
    with pytest.raises(UserError, match=r"who '3' is in train \(.*, line 5\) and in val \(.*, line 42\), and 0 others"):
        loads(path, id_column="who").load()
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:41], *(line.rpartition(",")[0] + ",test" for line in lines[1:4]), *lines[41:]]))
    facts = loads(path, ignore=["who"]).check().facts
    assert next(value for key, value in facts.items() if key.startswith("rows that are in training too")) == "3 of test"
    ids = loads(write(tmp_path / "z.csv", 200, who=np.arange(200) // 4), id_column="who")
    assert ids.check().problems == ()
    few = loads(
        write(tmp_path / "v.csv", 300, who=[*range(180), *(180 + np.arange(120) // 40)]), id_column="who"
    ).load()
    assert max(len(few.val), len(few.test)) <= 60  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("columns", "settings", "said"),
    [
        ({}, {"target": "Y"}, r"has no column 'Y'.*; it has: y, a, b: set dataset.source.target"),
        ({}, {"ignore": ["c"]}, r"has no column 'c'.*: set dataset.source.ignore"),
        ({}, {"target": ["y", "a"]}, r"a run has one target"),
        ({}, {"missing": "means"}, r"missing=means is not one of refuse, mean, drop \(did you mean 'mean'\?\)"),
        ({}, {"held_out": 0.5}, r"held_out must lie between 0 and 0.5"),
        ({"y": ["many"] * 60}, {}, r"line 2: y 'many' is not a number, so it is no target \(and 59 more\)"),
        ({"y": ["nan"] * 60}, {"missing": "drop"}, r"every row has a missing value"),
        ({"split": ["train"] * 60}, {}, r"has no row of the split 'val'"),
        ({"split": ["train"] * 59 + ["tst"]}, {}, r"line 61: split 'tst' is not one of train, val, test"),
        ({"split": ["train"] * 60}, {"val": "x.csv", "test": "x.csv"}, r"a column 'split', and there are files"),
        ({"y": [1]}, {"rows": 1}, r"has one row of data"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, columns: dict, settings: dict, said: str) -> None:
    path = write(tmp_path / "x.csv", settings.pop("rows", 60), **columns)
    with pytest.raises(UserError, match=said):
        loads(path, **settings).load()


def test_a_table_that_is_not_there_is_looked_for_in_two_places(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"path=FILE .* an example\); neither .*no.csv nor no.csv is there"):
        Tabular(str(tmp_path), "no.csv").fingerprint()


def test_the_ten_published_tables_name_their_files() -> None:
    assert len(TEN) == 10
    written = [yaml.safe_load((config.config_dir() / "dataset" / f"{name}.yaml").read_text()) for name in TEN]
    sources = [each["dataset"]["source"] for each in written]
    assert sorted(source[key] for source in sources for key in ("path", "val", "test")) == sorted(FILES)
    assert [each["dataset"]["name"] for each in written] == TEN
    assert {remote.name for remote in TABLES} == set(FILES)
    built = config.build(sources[0])
    assert isinstance(built, Published)
    assert isinstance(built, Fetchable)
    assert all(remote.url.startswith("https://raw.githubusercontent.com/SteiMi/") for remote in built.remotes)


def test_other_files_than_the_published_ones_are_told_apart(commands: Callable[..., str], tmp_path: Path) -> None:
    commands(["data", "sample", "boston", "--size", "60"])
    assert "stand-in data" in commands(["data", "check", "boston"])
    assert "is left as it is" in commands(["data", "fetch", "tables"], code=2)
    for part in SPLITS:
        write(tmp_path / f"data/tables/abalone_{part}.csv", 60).write_text(
            (tmp_path / f"data/tables/abalone_{part}.csv").read_text().replace("y,a,b", "Rings,a,b")
        )
    table = Published(str(tmp_path / "data/tables"), *(f"abalone_{part}.csv" for part in SPLITS), target="Rings")
    assert table.stands_in() == "other files than the published ones"
    assert table.check().problems == ()


@pytest.mark.parametrize("low", [200_000_000, 1.7e9])
def test_targets_that_float32_would_blur_are_refused(commands: Callable[..., str], tmp_path: Path, low: float) -> None:
    write(tmp_path / "x.csv", 120, y=[low + i % 40 for i in range(120)])
    said = commands(["data", "check", "table", "dataset.source.path=x.csv", "dataset.source.target=y"], code=1)
    assert f"x.csv: y: targets from {low:.10g} to" in said
    assert "take their least value off each" in said


def test_targets_far_from_zero_are_taken_where_they_are_far_apart_too(tmp_path: Path) -> None:
    labels = 2e8 + 1e5 * np.arange(40)
    write(tmp_path / "x.csv", 120, y=[*labels, *labels, *labels])
    held = Tabular(str(tmp_path), str(tmp_path / "x.csv"), target="y").load()
    assert np.isin(held.train.targets, labels).all()


@pytest.mark.parametrize("spelling", ["{:,}", "{},5", "{:,}.50"])
def test_numbers_with_commas_are_no_categories_without_a_word(tmp_path: Path, spelling: str) -> None:
    path = write(tmp_path / "x.csv", 120, size=[spelling.format(900 + 100 * (i % 9)) for i in range(120)])
    with pytest.raises(UserError, match=r"size holds numbers with commas, .*dataset\.source\.categories=\[size"):
        Tabular(".", str(path), target="y").load()
    assert len(Tabular(".", str(path), target="y", categories=["size"]).load().train)
    found = columns_of(read_table(path), [], "y")
    assert found.names == ("size",)
    assert "size holds numbers with commas" in found.problems[0]


def test_text_that_is_no_utf8_is_read_whatever_else_is_installed(commands: Callable[..., str], tmp_path: Path) -> None:
    """In an environment with pyarrow pandas takes its strings by itself, and they refuse such bytes."""
    rows = "".join(f"K\xf6ln{i % 4},g\xe4{i % 50},{i},{i * i % 37}\n" for i in range(150))
    (tmp_path / "x.csv").write_bytes(("city,who,a,y\n" + rows).encode("latin-1"))
    table = ["dataset=table", "dataset.source.path=x.csv", "dataset.source.target=y", "dataset.source.id_column=who"]
    commands(["train", *table, *SHORT], ["predict", "RUN", "x.csv", "--out", "p.csv"])
    assert (tmp_path / "p.csv").read_bytes().splitlines()[1].startswith("K\xf6ln0,g\xe40,0,0,".encode("latin-1"))
