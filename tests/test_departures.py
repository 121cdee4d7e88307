"""What is said beside numbers that are not those of a dataset's recipe, from runs of all kinds to all formats."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dir_bench import config
from dir_bench.datasets.base import STAND_IN
from dir_bench.departures import departures
from dir_bench.errors import UserError
from dir_bench.results import report
from dir_bench.results.export import FORMATS
from dir_bench.results.plots import plot
from dir_bench.results.tables import table

SMALL = ["dataset=agedb", "paths.data=data", "dataset.source.size=32", "dataset.source.cache=ram", "trainer.figures=no"]


@pytest.mark.parametrize("dataset", config.options("dataset"))
def test_a_datasets_own_recipe_departs_in_nothing_but_its_start(dataset: str) -> None:
    settings = config.compose([f"dataset={dataset}", "seed=3", "paths.data=elsewhere", "trainer.workers=2"])
    assert departures(settings) == [start.without for start in settings.dataset.start]


def test_a_method_is_no_departure() -> None:
    methods = ("rrt_lds_fds", "rnc", "crt", "uvote", "ridge", "train_median", "vanilla_knn")
    jobs = [["dataset=agedb", f"method={method}", "optimizer.lr=0.1"] for method in methods]
    for job, settings in zip(jobs, config.compose_all(jobs), strict=True):
        assert departures(settings) == [], job


@pytest.mark.parametrize(
    ("dataset", "changes", "said"),
    [
        ("agedb", "backbone=resnet18", "backbone resnet18, not resnet50"),
        ("agedb", "backbone.name=resnet34", "backbone Vision (name=resnet34), not resnet50"),
        ("agedb", "backbone.weights=FILE", "begins with weights, not at random"),
        ("agedb", "trainer.epochs=2", "2 epochs, not 90 epochs"),
        ("agedb", "trainer.max_steps=2", "90 epochs or 2 steps, not 90 epochs"),
        ("agedb", "trainer.batch_size=64", "batches of 64, not 256"),
        ("agedb", "trainer.select=last", "tested at its last epoch, not the best"),
        ("agedb", "dataset.monitor=gm", "selected by gm, not mae"),
        ("agedb", "dataset.source.size=64", "size=64, not 224"),
        ("agedb", "method=rrt stages.epochs=1", "second stage of 1 epoch, not 30"),
        ("nyud2", "backbone.weights=FILE dataset.source.select_on=test", "select_on=test, not validation"),
        ("sts_b", "dataset.source.glove=FILE trainer.patience=null", "no patience, not patience 10"),
        ("utk", "dataset.source.size=64", "size=64, not 48"),
        ("vader", "dataset.source.held_out=0.2", "held_out=0.2, not 0.1"),
        ("boston", "dataset.source.missing=mean", "missing=mean, not refuse"),
        ("images", "dataset.source.size=64 trainer.epochs=1", "1 epoch, not 90 epochs"),
        ("arrays", "dataset.standardize=false dataset.source.file=x.npz trainer.epochs=1", "1 epoch, not 40 epochs"),
    ],
)
def test_each_departure_is_said(dataset: str, changes: str, said: str) -> None:
    assert departures(config.compose([f"dataset={dataset}", *changes.split()])) == [said]


def test_a_mixed_folder_is_marked_or_refused_in_every_format(commands: Callable[..., str], tmp_path: Path) -> None:
    commands(
        ["data", "sample", "agedb", "--size", "60"],
        ["train", *SMALL, "backbone=resnet18", "trainer.max_steps=2", "trainer.batch_size=8"],
        ["train", *SMALL, "backbone=cnn", "trainer.epochs=2"],
    )
    shown = {kind: table([tmp_path / "outputs"], kind, "paper", ["mae"], compare="VANILLA (a)") for kind in FORMATS}
    report.write(tmp_path / "report.html", [tmp_path / "outputs"], figures=False, against="paper")
    shown["report"] = (tmp_path / "report.html").read_text()
    for kind, text in shown.items():
        for said in (STAND_IN, "backbone resnet18, not resnet50", "backbone cnn, not resnet50", "2 epochs, not 90"):
            assert said in text.replace("\\_", "_"), (kind, said)
    for kind in ("text", "md", "html", "latex", "report"):
        assert shown[kind].replace(r"\S{}", "§").count("§1") >= 3, kind  # its row, the paper's below it, the note
        assert shown[kind].replace(r"\S{}", "§").count("§2") >= 3, kind
    assert "depart from the dataset's recipe in other ways than VANILLA (a): VANILLA (b)" in shown["text"]
    (made,) = json.loads(shown["json"])["tables"]
    assert not any(cell["best"] or cell["within_noise"] for row in made["rows"] for cell in row["cells"])
    runs = sorted(str(path.parent) for path in tmp_path.glob("outputs/*/*/*/DONE"))
    with pytest.raises(UserError, match="depart from its recipe in different ways: there are no gains"):
        plot("gain", runs, reference=Path(runs[0]), out=[tmp_path / "gain.png"])
