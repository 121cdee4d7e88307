"""Pictures from a csv: what is read, what training sees, and that every mistake names the file before training."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from dir_bench.datasets.base import Dataset
from dir_bench.datasets.images import Images, write_list
from dir_bench.errors import UserError
from dir_bench.files.text import text_type
from dir_bench.labels import TargetBins

SIZE = 32


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    return images(folder).sample(folder, n=48)


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "images", ignore=shutil.ignore_patterns(".cache")))


def images(folder: Path, **options: object) -> Images:
    return Images(str(folder), size=SIZE, decode_threads=1, **options)  # type: ignore[arg-type]


def rows(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "images.csv")


def test_load_gives_the_listed_pictures_and_targets(folder: Path) -> None:
    dataset = images(folder)
    assert isinstance(dataset, Dataset)
    data, listed = dataset.load(), rows(folder)
    for name, split in (("train", data.train), ("val", data.val), ("test", data.test)):
        part = listed[listed["split"] == name]
        np.testing.assert_array_equal(split.targets, part["target"])
        pictures, targets = split.prepare(split.fetch(np.arange(len(part)), None), torch.arange(len(part)))
        assert pictures.shape == (len(part), 3, SIZE, SIZE)
        assert torch.equal(targets, torch.arange(len(part)))
        for picture, path in zip(pictures[:3], part["path"], strict=False):
            with Image.open(folder / path) as opened:
                reference = np.asarray(opened.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR))
            seen = picture.permute(1, 2, 0).numpy() * 127.5 + 127.5
            assert np.abs(seen - reference).max() <= 1.01  # torchvision's resize may differ by one grey level
    assert dict(data.backbone_kwargs) == {"in_channels": 3, "size": SIZE}


def test_training_pictures_are_random_crops_and_mirror_images(folder: Path) -> None:
    train = images(folder, padding=3).load().train
    index = np.zeros(64, np.int64)  # one picture, 64 times
    plain, _ = train.prepare(train.fetch(index[:1], None), None)
    padded = torch.nn.functional.pad(plain[0], (3,) * 4, value=-1.0)  # black
    crops = {
        (dy, dx, mirrored): torch.flip(crop, [2]) if mirrored else crop
        for dy in range(7)
        for dx in range(7)
        for crop in [padded[:, dy : dy + SIZE, dx : dx + SIZE]]
        for mirrored in (False, True)
    }
    augmented, _ = train.prepare(train.fetch(index, np.random.default_rng(0)), None)
    found = [{key for key, crop in crops.items() if torch.equal(crop, picture)} for picture in augmented]
    assert all(found)
    assert {key[2] for keys in found for key in keys} == {False, True}
    assert len(set.union(*found)) > 30
    again, _ = train.prepare(train.fetch(index, np.random.default_rng(0)), None)
    assert torch.equal(augmented, again)


def test_flip_can_be_switched_off(folder: Path) -> None:
    train = images(folder, padding=0, flip=False).load().train
    index = np.zeros(16, np.int64)
    plain, _ = train.prepare(train.fetch(index, None), None)
    augmented, _ = train.prepare(train.fetch(index, np.random.default_rng(0)), None)
    assert torch.equal(plain, augmented)


@pytest.mark.parametrize("cache", ["disk", "ram", "none"])
def test_every_cache_gives_the_same_pixels(folder: Path, cache: str) -> None:
    split = images(folder, cache=cache).load().train
    reference = images(folder, cache="none").load().train
    index = np.array([5, 0, 3])
    assert torch.equal(split.fetch(index, None)[0], reference.fetch(index, None)[0])
    assert (folder.parent / ".cache").exists() == (cache == "disk")


def test_without_a_split_column_splits_are_drawn_evenly(folder: Path) -> None:
    listed = rows(folder).drop(columns="split")
    write_list(folder / "images.csv", listed)
    data = images(folder, split_cap=2).load()
    assert len(data.train) + len(data.val) + len(data.test) == len(listed)
    bins = TargetBins.regular(0, 101, 1)
    assert data.val.label_counts(bins).max() == 2
    np.testing.assert_array_equal(data.val.label_counts(bins), data.test.label_counts(bins))
    again = images(folder, split_cap=2).load()
    np.testing.assert_array_equal(data.train.targets, again.train.targets)


def test_a_picture_that_is_listed_twice_goes_to_one_split(folder: Path) -> None:
    listed = rows(folder).drop(columns="split")
    write_list(folder / "images.csv", pd.concat([listed, listed.assign(target=listed["target"][::-1].to_numpy())]))
    drawn = images(folder, split_cap=2).read_list()
    assert (drawn["split"] != "train").any()
    assert (drawn.groupby("path")["split"].nunique() == 1).all()


@pytest.mark.parametrize("spelling", ["{}", "./{}", "pictures/../{}", "pictures//{}", "{folder}/{}"])
def test_a_picture_in_two_splits_is_refused(folder: Path, spelling: str) -> None:
    listed = rows(folder)
    train, test = (int((listed["split"] == name).to_numpy().argmax()) for name in ("train", "test"))
    path = spelling.format(listed.loc[train, "path"], folder=folder)
    listed.loc[test, "path"] = path.replace("//pictures/", "//")
    write_list(folder / "images.csv", listed)
    with pytest.raises(UserError, match=rf"line {min(train, test) + 2}: path .* is listed in two splits"):
        images(folder).load()


def test_a_list_without_its_pictures_says_what_is_missing(folder: Path) -> None:
    shutil.rmtree(folder / "pictures")
    for attempt in (images(folder).load, images(folder).fingerprint):
        with pytest.raises(
            UserError, match=r"images.csv is there, and the pictures that it names are missing, such as"
        ):
            attempt()


def test_a_split_without_pictures_is_a_problem_to_check_and_to_training(folder: Path) -> None:
    listed = rows(folder)
    write_list(folder / "images.csv", listed.assign(split=listed["split"].replace("val", "test")))
    said = "has no picture of the split 'val': give it some"
    assert [problem for problem in images(folder).check().problems if said in problem]
    with pytest.raises(UserError, match=said):
        images(folder).load()


def test_a_stand_in_is_not_mixed_with_pictures_that_are_there(folder: Path) -> None:
    (folder / "images.csv").unlink()
    with pytest.raises(UserError, match="pictures exists and is left as it is"):
        images(folder).sample(folder, n=48)
    assert not (folder / "images.csv").exists()


def change(folder: Path, column: str, value: str) -> None:
    listed = rows(folder).astype(str)
    listed.loc[2, column] = value
    write_list(folder / "images.csv", listed)


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("target", "-1", "line 4: target '-1' is not a number from 0 to 120"),
        ("target", "abc", "line 4: target 'abc' is not a number"),
        ("target", "1e39", "line 4: target '1e39' is beyond 32-bit floats"),
        ("target", "nan", "line 4: target 'nan' is not a number"),
        ("target", "", "line 4: target '' is not a number"),
        ("split", "trian", "line 4: split 'trian' is not one of train, val, test"),
        ("path", "pictures/nowhere.jpg", "nowhere.jpg"),
    ],
)
def test_a_wrong_line_is_named(folder: Path, column: str, value: str, says: str) -> None:
    change(folder, column, value)
    with pytest.raises(UserError) as raised:
        images(folder, lowest=0, highest=120).load()
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_column_is_named_with_the_nearest(folder: Path) -> None:
    write_list(folder / "images.csv", rows(folder).rename(columns={"target": "targets"}))
    with pytest.raises(UserError, match=r"has no column 'target' \(did you mean 'targets'\?\)"):
        images(folder).load()


def test_a_damaged_picture_is_named_before_training(folder: Path) -> None:
    path = folder / rows(folder)["path"][0]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for cache in ("disk", "ram"):
        with pytest.raises(UserError, match=path.name):
            images(folder, cache=cache).load()
    problems = images(folder).check().problems
    assert len(problems) == 1
    assert path.name in problems[0]


def test_check_finds_missing_and_twice_listed_pictures(folder: Path) -> None:
    listed = rows(folder)
    (folder / listed["path"][0]).unlink()
    listed.loc[1, "path"] = listed.loc[2, "path"]
    write_list(folder / "images.csv", listed)
    report = images(folder).check()
    assert len(report.problems) == 2
    assert listed["path"][0] in report.problems[0]
    assert listed["path"][2] in report.problems[1]


def test_check_counts_the_training_labels(folder: Path) -> None:
    report, listed = images(folder).check(), rows(folder)
    assert report.problems == ()
    assert "stand-in" in report.facts["list"]
    assert report.label_counts is not None
    train = listed.loc[listed["split"] == "train", "target"]
    counts = report.label_counts(TargetBins.regular(0, 101, 1))
    np.testing.assert_array_equal(counts, np.bincount(train, minlength=101))


def test_fingerprint_is_that_of_the_list(folder: Path) -> None:
    before = images(folder).fingerprint()
    change(folder, "target", "7")
    assert images(folder).fingerprint() != before
    (folder / "images.csv").unlink()
    with pytest.raises(UserError, match="dir-bench data sample images"):
        images(folder).fingerprint()


def test_a_split_without_pictures_is_refused(folder: Path) -> None:
    write_list(folder / "images.csv", rows(folder).assign(split="train"))
    with pytest.raises(UserError, match="no picture of the split 'val'"):
        images(folder).load()


def test_sample_never_overwrites_and_goes_by_its_seed(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="left as it is"):
        images(folder).sample(folder)
    one, other = (images(tmp_path).sample(tmp_path / name, n=24, seed=3) for name in "ab")
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert len(files) == 25
    assert all((one / file).read_bytes() == (other / file).read_bytes() for file in files)
    with pytest.raises(UserError, match="too few"):
        images(tmp_path).sample(tmp_path / "c", n=5)


def test_file_names_that_are_no_text_are_read(folder: Path) -> None:
    listed = rows(folder)
    odd = b"pictures/Andr\xe9.jpg".decode("utf-8", "surrogateescape")
    (folder / listed["path"][0]).rename(folder / odd)
    listed["path"] = pd.Series([odd, *listed["path"][1:]], dtype=text_type())
    write_list(folder / "images.csv", listed)
    assert len(images(folder, cache="ram").load().train) == (listed["split"] == "train").sum()


@pytest.mark.parametrize("bad", [{"padding": -1}, {"mean": [0.5]}, {"std": [0.5, 0.0, 0.5]}])
def test_settings_without_sense_are_refused(tmp_path: Path, bad: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"dataset\.source"):
        images(tmp_path, **bad)
