"""`data describe`: files of every kind are told by their contents, and the commands that are printed run."""

import csv
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from dir_bench import config
from dir_bench.chosen import settle
from dir_bench.description import describe, doubts

SHORT = ["trainer.max_steps=1", "trainer.figures=no", "trainer.feature_statistics=no"]
Commands = Callable[..., str]


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have lines of one length, whatever the terminal of those who run this."""
    monkeypatch.setenv("COLUMNS", "100")


def write(path: Path, rows: int = 90, **columns: object) -> Path:
    """Write a table of a skewed target of whole numbers and two inputs; columns given replace or join them."""
    rng = np.random.default_rng(0)
    y = rng.geometric(0.4, rows).clip(1, 6)
    made: dict[str, object] = {"size": y + rng.normal(0, 0.1, rows).round(3), "kind": rng.choice(["u", "v"], rows)}
    made |= {"price": y} | columns
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writerow(made)
        writer.writerows(zip(*made.values(), strict=True))  # type: ignore[call-overload]
    return path


def printed(said: str) -> list[list[str]]:
    """Return the commands at the end of what was said, without the program's name."""
    lines = [line.strip() for line in said.splitlines() if line.startswith("  dir-bench ")]
    return [shlex.split(part)[1:] for line in lines for part in line.split(" && ")]


def run(commands: Commands, said: str, *more: str, whole: bool = False) -> str:
    """Run what was printed, of one step: all of it, or what comes before the sweep, which is the same for any data."""
    lines = printed(said)
    asked = lines if whole else lines[:2]
    return "".join(commands([*words, *((*SHORT, *more) if words[0] in ("train", "sweep") else ())]) for words in asked)


def test_a_table_with_its_splits_beside_it_from_the_csv_to_the_table_of_three_methods(
    commands: Commands, tmp_path: Path
) -> None:
    for split, rows in (("train", 120), ("val", 40), ("test", 40)):
        write(tmp_path / f"houses_{split}.csv", rows)
    said = commands(["data", "describe", "houses_train.csv"])
    flat = " ".join(said.split())
    assert "a table of 120 + 40 + 40 rows (train, val, test), 2 columns to predict price from (dataset=table)" in flat
    assert "the target is guessed: price, as the one column of numbers with such a name" in said
    assert "say --target size" in flat
    assert "a bin for each of the 6 places of targets 1 apart" in said
    assert "as published: 5 and 2 in price" in said
    assert "wrote my_configs/dataset/houses.yaml" in said
    assert [words[0] for words in printed(said)] == ["data", "train", "sweep", "table"]
    ended = run(commands, said, "backbone.width=8", whole=True)
    assert "all is well" in ended
    assert all(row in ended for row in ("VANILLA", "SQINV + LDS", "SQINV + LDS + FDS"))
    assert len([*tmp_path.glob("outputs/houses/*/*/DONE")]) == 3  # the sweep takes the first from the run before it
    # What is written is what would be chosen without it.
    held = yaml.safe_load(next(tmp_path.glob("outputs/houses/vanilla/*/config.yaml")).read_text())["dataset"]
    asked = config.compose(["dataset=table", "dataset.name=houses", "dataset.source.path=houses_train.csv",
                            "dataset.source.val=houses_val.csv", "dataset.source.test=houses_test.csv",
                            "dataset.source.target=price"])  # fmt: skip
    chosen, _ = settle(asked, config.build(asked.dataset.source))
    for key in ("bins", "regions", "fds_first", "fds_last", "label"):
        assert held[key] == config.to_dict(chosen)["dataset"][key]


def test_a_yaml_that_says_something_else_is_kept(commands: Commands, tmp_path: Path) -> None:
    write(tmp_path / "abalone.csv", rooms=np.arange(90) % 4)  # a shipped name
    file = tmp_path / "my_configs/dataset/my_abalone.yaml"
    shown = commands(["data", "describe", "abalone.csv", "--dry-run"])
    assert not file.exists()
    assert "would be" in shown
    commands(["data", "describe", "abalone.csv"])
    before = file.read_text()
    assert before in shown
    assert "is there already, and says the same" in commands(["data", "describe", "abalone.csv"])
    said = commands(["data", "describe", "abalone.csv", "--target", "rooms"], code=2)
    assert "is there, with other settings, and is left as it is: add --force" in said
    assert "Labels (rooms) by region" in said
    assert file.read_text() == before
    commands(["data", "describe", "abalone.csv", "--target", "rooms", "--force"])
    assert yaml.safe_load(file.read_text())["dataset"]["source"]["target"] == "rooms"


def test_what_is_doubtful_in_a_table_is_said_and_set(commands: Commands, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    y = rng.gamma(2, 3, 300).round(2)
    y[:60], y[-1] = 0, 400
    gaps = ["" if i % 50 == 0 else i % 7 for i in range(300)]
    write(tmp_path / "it's mine.csv", 300, price=y, row_id=range(300), patient=np.repeat(range(100), 3), gap=gaps,
          same=["x"] * 300, name=[f"n{i}" for i in range(300)])  # fmt: skip
    said = commands(["data", "describe", "it's mine.csv", "--target", "price"])
    held = yaml.safe_load((tmp_path / "my_configs/dataset/it_s_mine.yaml").read_text())["dataset"]
    assert held["source"] == {
        **{"data_dir": ".", "path": "it's mine.csv", "target": "price", "id_column": "patient", "missing": "mean"},
        "ignore": ["row_id", "name"],
    }
    flat = " ".join(said.split())
    assert "values are missing: gap 6 rows" in flat
    assert "left out, as training has one value: same" in flat
    assert "a heavy tail: 99 % of the targets lie below" in flat
    assert "of the training targets are exactly 0: labels may be zero-inflated" in flat
    assert "and one for 0 alone" in flat
    commands(printed(said)[0])
    assert max(len(line) for line in said.splitlines() if "dir-bench" not in line) <= 100


def test_names_of_rows_are_left_out_where_training_alone_shows_them(commands: Commands, tmp_path: Path) -> None:
    write(tmp_path / "x.csv", 200, who=[f"g{i % 90}" for i in range(200)])
    commands(["data", "describe", "x.csv", "--target", "price"])
    assert yaml.safe_load((tmp_path / "my_configs/dataset/x.yaml").read_text())["dataset"]["source"]["ignore"] == [
        "who"
    ]


@pytest.mark.parametrize("name", ["${oc.env:HOME}: größe #1", "1e3"])
def test_a_target_of_any_name_is_written_so_that_it_is_read_back(commands: Commands, tmp_path: Path, name: str) -> None:
    write(tmp_path / "2024.csv", **{name: np.arange(90) % 5})
    commands(["data", "describe", "2024.csv", "--target", name])
    assert commands(["data", "check", "my_2024", "--config-dir", "my_configs"]).count(name) == 4
    narrow = describe(tmp_path / "2024.csv", target=name, folder=tmp_path).text(20)
    assert max(map(len, narrow.splitlines())) <= 60


def test_ids_in_two_files_are_a_problem_and_no_groups(tmp_path: Path) -> None:
    for split, ids in (("train", np.repeat(range(40), 3)), ("test", np.repeat(range(30, 70), 3))):
        write(tmp_path / f"{split}.csv", 120, patient_id=ids)
    found = describe(tmp_path / "train.csv", folder=tmp_path).found
    assert "10 values of patient_id are in two splits" in found.problems[0]
    assert found.source["ignore"] == ["patient_id"]
    assert found.stem == tmp_path.name


def test_texts_and_pairs_of_texts(commands: Commands, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words = np.array("this film was good bad long short never again today".split())
    texts = [[" ".join(rng.choice(words, 8)) for _ in range(120)] for _ in "ab"]
    write(tmp_path / "films.tsv", 120, text=texts[0])
    said = commands(["data", "describe", "films.tsv", "--write", "own"])
    assert "texts with a number each: 120 rows, text to predict price from (dataset=text_table)" in said
    assert "not read, beside the text: size, kind (--as table reads them, and no text)" in said
    run(commands, said)
    write(tmp_path / "pairs.csv", 120, one=texts[0], two=texts[1])
    made = describe(tmp_path / "pairs.csv", folder=tmp_path)
    assert (made.choice, made.found.source["text"]) == ("text_table", ["one", "two"])
    numbers = describe(tmp_path / "pairs.csv", kind="table", folder=tmp_path)
    assert (numbers.choice, numbers.found.source["ignore"]) == ("table", ["one", "two"])


def test_benchmarks_of_texts_are_told_by_their_files(commands: Commands) -> None:
    for name in ("sts_b", "vader"):
        commands(["data", "sample", name, "--size", "200"])
        assert f"(dataset={name})" in commands(["data", "describe", f"data/{name}", "--dry-run"]).replace("\n", " ")


def test_pictures_of_a_csv_in_whatever_folder(commands: Commands, tmp_path: Path) -> None:
    names = [f"p{i}.png" for i in range(90)]
    (tmp_path / "faces/pictures").mkdir(parents=True)
    for i, name in enumerate(names):
        Image.new("RGB", (12, 12), (i, 2 * i, 90)).save(tmp_path / "faces/pictures" / name)
    write(tmp_path / "faces/ages.csv", image=names)
    said = commands(["data", "describe", "faces"])
    assert "90 pictures, named by ages.csv, to predict price from (dataset=images)" in said
    held = yaml.safe_load((tmp_path / "my_configs/dataset/faces.yaml").read_text())["dataset"]
    assert held["source"] == {
        **{"data_dir": "faces/pictures", "file": "../ages.csv", "path_column": "image", "target_column": "price"}
    }
    assert held["bins"] == {"start": 1.0, "stop": 7.0, "width": 1.0, "choose": "none"}
    run(commands, said, "backbone=cnn", "dataset.source.size=16", "dataset.source.padding=2")


def test_labels_of_pictures_that_are_not_there_yet_are_described(commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "faces.csv").write_text("path,age\n" + "".join(f"{i}.jpg,{20 + i % 9}\n" for i in range(90)))
    said = commands(["data", "describe", "faces.csv"])
    assert "0.jpg and the other pictures that faces.csv names in its column 'path' are not there" in " ".join(
        said.split()
    )
    assert "Labels (age) by region" in said
    checked = commands(["data", "check", "faces", "--config-dir", "my_configs"], code=1)
    assert "the pictures that it names are missing, such as 0.jpg" in checked


def test_faces_whose_names_tell_the_age_are_split_first(commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    for i in range(60):
        Image.new("RGB", (12, 12), (4 * i, 0, 0)).save(tmp_path / f"faces/{20 + i % 4}_0_1_{i}.jpg")
    said = commands(["data", "describe", "faces"])
    assert "60 pictures named as UTKFace names them, by age (dataset=utk)" in said
    assert "those of dataset=utk" in said
    assert not (tmp_path / "faces/images.csv").exists()
    split, _, train, *_ = printed(said)
    commands(split)
    assert (tmp_path / "faces/images.csv").exists()
    commands([*train, *SHORT, "dataset.source.size=16", "dataset.source.padding=2"])
    again = describe(tmp_path / "faces", folder=tmp_path / "my_configs")
    assert (again.choice, len(again.commands)) == ("utk", 3)


@pytest.mark.parametrize(
    ("shape", "choice", "backbone", "last"),
    [((5,), "arrays", None, False), ((1, 9), "arrays", "cnn", False), ((9, 9, 3), "arrays", "cnn", True),
     ((1, 8, 8, 8), "volumes", None, False)],
)  # fmt: skip
def test_arrays_go_by_their_axes(
    shape: tuple[int, ...], choice: str, backbone: str | None, last: bool, commands: Commands, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    held = {f"{split}_x": rng.normal(0, 1, (60, *shape)).astype(np.float32) for split in ("train", "val", "test")}
    held |= {f"{split}_y": rng.permutation(60).astype(np.float32) / 10 for split in ("train", "val", "test")}
    if choice == "volumes":
        (tmp_path / "scans").mkdir()
        for name, array in held.items():
            np.save(tmp_path / f"scans/{name}.npy", array)
    else:
        np.savez(tmp_path / "scans.npz", **held)  # type: ignore[arg-type]
    path = "scans" if choice == "volumes" else "scans.npz"
    made = describe(tmp_path / path, folder=tmp_path / "my_configs")
    assert (made.choice, made.found.backbone, made.found.source.get("channels_last", False)) == (choice, backbone, last)
    if shape in ((1, 9), (1, 8, 8, 8)):
        run(commands, commands(["data", "describe", path]))


def test_a_folder_of_one_file_of_arrays_is_read(commands: Commands, tmp_path: Path) -> None:
    commands(["data", "sample", "arrays", "--size", "100"])
    made = describe(tmp_path / "data/arrays", folder=tmp_path / "my_configs")
    assert (made.choice, made.found.source["file"]) == ("arrays", "arrays.npz")
    run(commands, commands(["data", "describe", "data/arrays"]))


class Readings:
    """A dataset from outside: a file of readings, one a line."""

    looks_for = "a file of readings"

    @classmethod
    def recognise(cls, place):
        from dir_bench.datasets.recognition import Found

        return Found("readings", {}, place.stem) if place.path.suffix == ".readings" else None

    fingerprint = load = check = sample = lambda self: None  # never asked: only what it recognises is


def test_a_dataset_from_outside_joins_by_its_yaml(tmp_path: Path) -> None:
    from dir_bench.datasets.recognition import Place
    from dir_bench.description import _askable, _recognised

    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset/mine.yaml").write_text(f"dataset: {{source: {{_target_: {__name__}.Readings}}}}\n")
    (tmp_path / "a.readings").write_text("1\n")
    name, found = _recognised(Place(tmp_path / "a.readings"), _askable(str(tmp_path)))
    assert (name, found.what) == ("mine", "readings")


def test_labels_that_nothing_is_wrong_with_give_no_doubt() -> None:
    rng = np.random.default_rng(0)
    assert [*doubts(rng.normal(0, 1, 2000))] == []
    assert [*doubts(rng.poisson(9, 2000))] == []
    assert "above" in next(doubts([*rng.normal(0, 1, 2000), -90]))
    assert "exactly 100" in next(doubts(np.minimum(rng.normal(90, 20, 2000), 100)))


def test_mistakes_are_told_in_a_sentence(commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "pictures").mkdir()
    Image.new("L", (9, 9)).save(tmp_path / "pictures/a.png")
    os.mkfifo(tmp_path / "pipe.csv")
    write(tmp_path / "one.csv", 1)
    write(tmp_path / "text.csv", price=["dear", *range(89)])
    write(tmp_path / "words.csv", price=["dear"] * 90)
    write(tmp_path / "nan.csv", price=["nan"] * 90)
    (tmp_path / "bare.csv").write_text("a.jpg,3\nb.jpg,4\n" * 20)
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed/faces.tar.gz").write_bytes(b"")
    write(tmp_path / "same.csv", price=[3] * 90)
    write(tmp_path / "many/a.csv")
    write(tmp_path / "many/b.csv")
    (tmp_path / "zero.csv").write_bytes(b"")
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)))
    (tmp_path / "latin.csv").write_bytes("a,größe\n1,2\n".encode("latin-1") + b"1,3\n2,4\n3,5\n" * 30)
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04")
    (tmp_path / "note.txt").write_text("hello")
    told = {
        "nowhere.csv": "is missing: give the file or folder of your data",
        "empty": "holds nothing that can be read; looked for: an .npz with train_x",
        "note.txt": "holds nothing that can be read",
        "pictures": "has 1 pictures and no list of their targets: put a csv there",
        "pipe.csv": "is a pipe, not a plain file",
        "one.csv": "has one row of data",
        "text.csv --target price": "line 2: price 'dear' is not a number",
        "words.csv --target price": "price holds text such as 'dear', and a target is a number",
        "words.csv --target prise": "has no column 'prise' (did you mean 'price'?)",
        "nan.csv --target price": "price has no value in any row, so it is no target",
        "bare.csv": "names a picture in its first line, which has to be path,target or such",
        "packed": "holds faces.tar.gz, which nothing looks into: unpack it",
        "same.csv --target price": "are equal, so there is nothing to tell apart",
        "many": "has several tables (a.csv, b.csv): name the one to describe",
        "zero.csv": "is empty",
        "binary.csv": "a NUL byte, so it is no text of UTF-8 or damaged",
        "latin.csv": "holds bytes that are no UTF-8, which no YAML takes",
        "cut.npz": "is not a readable .npz",
        "same.csv --as tabel": "--as tabel is not one of arrays, images",
        "text.csv --name abalone": "--name abalone: take letters",
    }
    for words, why in told.items():
        said = commands(["data", "describe", *words.split()], code=2)
        assert said.count("\n") == 1, (words, said)
        assert why in said
