"""What a trained network says of new pictures, rows and sentences: for the test split's own, what the run recorded."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

SHORT = ["trainer.max_steps=2", "trainer.figures=no", "trainer.feature_statistics=no", "trainer.batch_size=8"]


def recorded(folder: Path) -> np.ndarray:
    (path,) = folder.glob("outputs/*/*/*/predictions.npz")
    return np.load(path)["prediction"]


def predicted(text: str) -> list[float]:
    return [float(row["prediction"]) for row in csv.DictReader(io.StringIO(text))]


def of_test(path: Path) -> list[dict[str, str]]:
    return [row for row in csv.DictReader(path.read_text().splitlines()) if row["split"] == "test"]


def test_new_pictures_by_name_and_by_csv(commands: Callable[..., str], tmp_path: Path) -> None:
    small = ["dataset.source.size=16", "dataset.source.cache=none", "backbone=cnn", "backbone.channels=[4,4]"]
    commands(["data", "sample", "images", "--size", "40"], ["train", "dataset=images", *small, *SHORT])
    rows = of_test(tmp_path / "data/images/images.csv")
    files = [f"data/images/{row['path']}" for row in rows]
    shown = commands(["predict", "RUN", *files])
    assert predicted(shown) == pytest.approx(recorded(tmp_path), rel=1e-5)
    assert [line.split(",")[0] for line in shown.splitlines()[1:]] == files
    (tmp_path / "data/images/new.csv").write_text("who,path\n" + "".join(f"x,{row['path']}\n" for row in rows))
    commands(["predict", "RUN", "data/images/new.csv", "--out", "new.csv"])
    written = (tmp_path / "new.csv").read_text()
    assert written.startswith("who,path,prediction\n")
    assert predicted(written) == pytest.approx(recorded(tmp_path), rel=1e-5)
    assert "new.xlsx: predictions are a csv" in commands(["predict", "RUN", "a.jpg", "--out", "new.xlsx"], code=2)
    assert "a.jpg" in commands(["predict", "RUN", "a.jpg"], code=2)


def test_new_rows(commands: Callable[..., str], tmp_path: Path) -> None:
    commands(["data", "sample", "arrays", "--size", "80"], ["train", "dataset=arrays", *SHORT])
    inputs = np.load(tmp_path / "data/arrays/arrays.npz")["test_x"]
    np.savetxt(tmp_path / "new.csv", inputs, delimiter=",", header=",".join("abcdefgh"), comments="")
    assert predicted(commands(["predict", "RUN", "new.csv"])) == pytest.approx(recorded(tmp_path), rel=1e-5)
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n3,four\n")
    assert "bad.csv, line 3: b 'four' is not a number" in commands(["predict", "RUN", "bad.csv"], code=2)
    (tmp_path / "few.csv").write_text("a,b\n1,2\n")
    assert "has 2 columns, and the run was trained on 8" in commands(["predict", "RUN", "few.csv"], code=2)


def test_new_sentences(commands: Callable[..., str], tmp_path: Path) -> None:
    network = ["backbone=bilstm_small", "backbone.hidden=4", "backbone.word_dim=4"]
    commands(["data", "sample", "sts_b", "--size", "40"], ["train", "dataset=sts_b", *network, *SHORT])
    rows = csv.DictReader((tmp_path / "data/sts_b/test_new.tsv").read_text().splitlines(), delimiter="\t")
    pairs = [(row["sentence1"], row["sentence2"]) for row in rows]
    lines = [f'"{one}","{two}"\n' for one, two in pairs]
    (tmp_path / "new.csv").write_text("sentence1,sentence2\n" + "".join(lines))
    assert predicted(commands(["predict", "RUN", "new.csv"])) == pytest.approx(recorded(tmp_path), rel=1e-5)
    (tmp_path / "one.csv").write_text("sentence1,other\na cat,a dog\n")
    assert "has no column 'sentence2'" in commands(["predict", "RUN", "one.csv"], code=2)


def test_a_dataset_without_a_way_says_so(commands: Callable[..., str]) -> None:
    small = ["dataset.source.n_train=64", "dataset.source.n_val_per_bin=1", "dataset.source.n_test_per_bin=1"]
    commands(["train", *small, *SHORT])
    assert "gauge has no way to read new samples" in commands(["predict", "RUN", "a.png"], code=2)
