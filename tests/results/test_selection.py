"""Settings are chosen by validation, never by the test, and the table says which and among how many."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dir_bench.errors import UserError
from dir_bench.results.records import collect
from dir_bench.results.store import RunFolder
from dir_bench.results.tables import summarise, table

Make = Callable[..., RunFolder]


@pytest.fixture
def outputs(tmp_path: Path, make_run: Make) -> Path:
    """Two methods at three learning rates, of which validation likes the middle one best and the test the last."""
    for method in ("VANILLA", "INV"):
        for rate, val, mae in ((0.1, 5.0, 7.0), (0.01, 3.0, 6.0), (0.001, 4.0, 1.0)):
            for seed in range(2):
                about = {"optimizer": {"lr": rate}, "backbone": {"wide": method == "INV" and rate == 0.1}}
                monitor = {"name": "mae", "best": val + seed, "epoch": 1, "split": "validation"}
                make_run(tmp_path, {"all": {"count": 9, "mae": mae}}, method=method, seed=seed, settings=about,
                         monitor=monitor, table_metrics=["mae"])  # fmt: skip
    return tmp_path


def test_the_chosen_row_stands_alone_by_its_methods_name(outputs: Path) -> None:
    (found,) = summarise(collect([outputs])[0], select=[])
    assert [(row.label, row.cells["mae", "all"].mean, row.seeds) for row in found.rows] == [
        ("VANILLA", 6.0, (0, 1)),
        ("INV", 6.0, (0, 1)),
    ]
    assert "VANILLA: optimizer.lr=0.01, chosen by mae on validation among 3." in found.notes
    assert "INV: optimizer.lr=0.01, backbone.wide=false, chosen by mae on validation among 3." in found.notes


def test_rows_that_differ_in_more_stay_apart(outputs: Path) -> None:
    (found,) = summarise(collect([outputs])[0], select=["lr"])
    assert [row.method for row in found.rows] == ["VANILLA", "INV", "INV"]
    assert "INV: optimizer.lr=0.01, chosen by mae on validation among 2." in found.notes


def test_what_cannot_be_chosen_is_said(outputs: Path, make_run: Make) -> None:
    with pytest.raises(UserError, match=r"--select lt: no rows of one method differ in it"):
        table([outputs], select=["lt"])
    extra = {"settings": {"optimizer": {"lr": 9.0}, "backbone": {"wide": False}}, "monitor": None}
    make_run(outputs, {"all": {"count": 9, "mae": 1.0}}, **extra)
    with pytest.raises(UserError, match="does not record what its checkpoint was selected by"):
        table([outputs], select=["lr"])


def test_rows_of_another_recipe_or_selected_by_another_metric_are_not_chosen_among(
    tmp_path: Path, make_run: Make
) -> None:
    for rate, val, name, departs in ((0.1, 5.0, "mae", []), (0.01, 6.0, "mae", []), (0.001, 1.0, "mae", ["9 epochs"]),
                                     (0.5, 0.5, "gm", [])):  # fmt: skip
        monitor = {"name": name, "best": val, "epoch": 1, "split": "validation"}
        make_run(tmp_path, {"all": {"count": 9, "mae": rate}}, settings={"optimizer": {"lr": rate}}, monitor=monitor,
                 departures=departs, table_metrics=["mae"])  # fmt: skip
    (found,) = summarise(collect([tmp_path])[0], select=[])
    assert sorted(row.cells["mae", "all"].mean for row in found.rows) == [0.001, 0.1, 0.5]
    (asked,) = summarise(collect([tmp_path])[0], select=["lr"])  # who names a setting, means what it entails
    assert sorted(row.cells["mae", "all"].mean for row in asked.rows) == [0.001, 0.5]
