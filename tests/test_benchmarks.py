"""The vision benchmarks from stand-in to table, through the real command; their errors reckoned again from files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dir_bench import config

PLAIN = ["trainer.figures=false"]
SMALL = ["dataset.source.size=32", "trainer.epochs=2", "trainer.batch_size=64"]
PLAIN_CNN = ["backbone=cnn", *PLAIN]
NARROW = ["backbone=depth_small", "dataset.source.rotation_order=1", "trainer.epochs=1", "trainer.batch_size=2"]
RUNS = {
    "agedb": ["120", *SMALL, "backbone=resnet18", "method=sqinv_lds_fds"],
    "imdb_wiki": ["120", *SMALL, *PLAIN_CNN, "method=focal_r_fds", "fds.statistics=stream", "trainer.cache=ram"],
    "images": ["120", *SMALL, *PLAIN_CNN, "method=inv_lds", "trainer.cache=none", "trainer.precision=bf16-mixed"],
    "nyud2": ["2", *NARROW, *PLAIN, "method=inv_lds_fds"],
}


Commands = Callable[..., str]


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", RUNS)
def test_from_stand_in_to_table(name: str, tmp_path: Path, commands: Commands) -> None:
    size, *overrides = RUNS[name]
    printed = commands(
        ["data", "sample", name, "--size", size],
        ["data", "check", name],
        ["train", f"dataset={name}", *overrides, "trainer.threads=1"],
        ["table", "--format", "json"],
        ["evaluate", "RUN"],
    )
    assert "all is well" in printed
    (run,) = (path.parent for path in tmp_path.glob("outputs/*/*/*/DONE"))
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["monitor"]["split"] == "validation"
    stored = np.load(run / "predictions.npz")
    assert len(stored["index"]) == len(stored["target"]) == len(stored["prediction"]) == metrics["test"]["all"]["count"]
    assert_errors_follow(name, tmp_path, metrics["test"], stored["target"], stored["prediction"])
    assert "equal to the recorded metrics.json" in printed


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_classifiers_of_two_stages_predict_labels(tmp_path: Path, commands: Commands) -> None:
    train = ["train", "dataset.source.n_train=300", "dataset.source.n_test_per_bin=1", "trainer.epochs=2", *PLAIN]
    printed = commands([*train, "method=crt", "stages.epochs=1"], [*train, "method=cb"], ["table", "--format", "csv"])
    assert all(method in printed for method in ("CLS-VANILLA", "CB", "CRT"))
    runs = [path.parent for path in tmp_path.glob("outputs/*/*/*/DONE")]
    assert sorted(run.parent.name for run in runs) == ["cb", "cls_vanilla", "crt"]
    for run in runs:
        stored = np.load(run / "predictions.npz")
        test = json.loads((run / "metrics.json").read_text())["test"]["all"]
        error = stored["prediction"] - stored["target"].astype(np.float64)
        assert test["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-12)
        assert np.isin(stored["prediction"], np.arange(100) + 0.5).all()
    (crt,) = (str(run) for run in runs if run.parent.name == "crt")
    assert "equal to the recorded metrics.json" in commands(["evaluate", crt])


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_mixup_of_pictures_and_of_features(tmp_path: Path, commands: Commands) -> None:
    train = ["train", "dataset.source.n_train=300", "dataset.source.n_test_per_bin=1", "trainer.epochs=2", *PLAIN]
    printed = commands(
        [*train, "method=mixup"],
        [*train, "method=m_mixup", "fds=gaussian"],
        [*train, "backbone=linear", "mixup=input"],
        ["table", "--format", "csv"],
    )
    assert all(method in printed for method in ("MIXUP", "M-MIXUP + FDS"))
    assert len(list(tmp_path.glob("outputs/*/*/*/DONE"))) == 3


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.usefixtures("forked_workers")
def test_shhs_from_recordings_to_a_table_that_beats_the_mean(tmp_path: Path, commands: Commands) -> None:
    source = ["dataset.source.min_seconds=60", "dataset.source.processes=2"]
    train = [
        *("train", "dataset=shhs", *source, "backbone=psg_small", "method=inv_lds_fds", "trainer.epochs=12"),
        *PLAIN,
        *(
            "dataset.source.crop_seconds=300",
            "trainer.batch_size=8",
            "dataset.source.n_val=8",
            "dataset.source.n_test=10",
        ),
    ]
    printed = commands(
        ["data", "sample", "shhs", "--size", "48"],
        ["data", "prepare", "shhs", *source],
        ["data", "check", "shhs", *source],
        train,
        ["table", "--format", "json"],
        ["evaluate", "RUN"],
    )
    assert "all is well" in printed
    assert "left out, no score: 1" in printed
    (run,) = (path.parent for path in tmp_path.glob("outputs/*/*/*/DONE"))
    test = json.loads((run / "metrics.json").read_text())["test"]
    stored = np.load(run / "predictions.npz")
    target, prediction = stored["target"].astype(np.float64), stored["prediction"]
    assert test["all"]["mae"] == pytest.approx(np.abs(prediction - target).mean(), rel=1e-12)
    assert test["all"]["mae"] < 0.7 * np.abs(target - target.mean()).mean()  # the mean of the test itself, even
    assert "equal to the recorded metrics.json" in printed


def assert_errors_follow(name: str, folder: Path, test: dict[str, Any], target: Any, prediction: Any) -> None:
    """Reckon the errors of each region again, from labels and predictions alone."""
    settings = config.compose([f"dataset={name}"]).dataset
    if name == "nyud2":
        bins = np.minimum((target * np.float32(10)).astype(int), 99)
        regions = {part: np.isin(bins, getattr(settings.regions, part)) for part in ("many", "medium", "few")}
    else:
        (file,) = folder.glob("data/*/*.csv")
        rows = pd.read_csv(file)
        labels = rows.loc[rows["split"] == "train"].iloc[:, 0 if "age" in rows else 1]
        counts = np.bincount(labels.astype(int), minlength=300)[target.astype(int)]
        regions = {"many": counts > 100, "medium": (counts >= 20) & (counts <= 100), "few": counts < 20}
    regions["all"] = np.ones(len(target), bool)
    for region, inside in regions.items():
        assert test[region]["count"] == inside.sum()
        if not inside.any():
            assert test[region]["mae"] is None
            continue
        true, given = target[inside].astype(np.float64), prediction[inside]
        error = np.abs(given - true)
        expected = {"mae": error.mean(), "mse": (error**2).mean(), "rmse": np.sqrt((error**2).mean())}
        if name == "nyud2":
            expected["abs_rel"] = (error / true).mean()
            ratio = np.maximum(given / true, true / given)
            expected |= {f"delta{k}": (ratio <= 1.25**k).mean() for k in (1, 2, 3)}
            if (given > 0).all():
                expected["log10"] = np.abs(np.log10(given) - np.log10(true)).mean()
        else:
            expected["gm"] = np.exp(np.log(error).mean())
        for metric, value in expected.items():
            assert test[region][metric] == pytest.approx(value, rel=1e-12), (region, metric)


ABSENT = {
    "agedb": ["missing AgeDB-DIR", "password", "AgeDB/*.jpg", "dir-bench data sample agedb"],
    "imdb_wiki": ["dir-bench data fetch imdb_wiki", "dir-bench data sample imdb_wiki"],
    "nyud2": ["dir-bench data fetch nyud2", "dir-bench data sample nyud2"],
    "images": ["your own pictures", "dir-bench data sample images"],
    "shhs": ["sleepdata.org", "agreement", "dir-bench data sample shhs"],
}


def test_a_benchmark_that_is_not_there_says_how_to_get_it(mistakes: Callable[..., list[tuple[int, str]]]) -> None:
    ended = mistakes([["train", f"dataset={name}"] for name in ABSENT])
    for (name, parts), (code, said) in zip(ABSENT.items(), ended, strict=True):
        assert code == 2, name
        assert said.startswith("error: "), name
        assert said.count("\n") == 1, name
        assert all(part in said for part in parts), said
