"""UTK-DIR: raw files become its list, archives of the user's own are unpacked, the real pictures are as described."""

import io
import shutil
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dir_bench import config, experiment, inspection
from dir_bench.cli import main
from dir_bench.datasets.faces import UTKFace
from dir_bench.datasets.splits import split_by_label
from dir_bench.errors import UserError

TAR = Path(__file__).parents[4] / "shared" / "data" / "utk" / "utk_faces_112.tar"


def make(folder: Path) -> UTKFace:
    return UTKFace(str(folder), size=32, decode_threads=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces") / "utk"
    return make(folder).sample(folder, n=60)


def tar_of(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_the_list_is_made_from_names_as_utkface_gives_them(made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "utk", ignore=shutil.ignore_patterns(".cache")))
    dataset = make(folder)
    before = dataset.list_path.read_bytes()
    with pytest.raises(UserError, match="is there already and counts"):
        dataset.write_split()
    dataset.list_path.unlink()
    assert dataset.write_split().read_bytes() == before
    listed = pd.read_csv(dataset.list_path)
    assert list(listed.columns) == ["path", "target", "split"]
    assert [int(Path(path).name.split("_")[0]) for path in listed["path"]] == listed["target"].tolist()
    assert listed["split"].tolist() == split_by_label(listed["target"], cap=30, seed=666).tolist()
    assert dataset.check().problems == ()


def test_copies_count_once_and_other_files_do_not(made: Path, tmp_path: Path) -> None:
    pictures = sorted((made / "images").iterdir())[:4]
    folder = tmp_path / "utk"
    for place, picture in {
        "a/9_0_2_20170109000000001.jpg.chip.jpg": 0,  # nine before ten: by age, not by text
        "a/10_1_0_20170109000000002.jpg": 1,
        "b/10_1_0_20170109000000002.jpg": 2,  # the same picture as a crop of another size
        "a/55_0_20170109000000003jpg.chip.jpg": 3,  # without a race and a dot, as some of UTKFace are
        "b/55_0_0_20170109000000004.jpg": 3,  # the same byte for byte
        "a/._9_0_2_20170109000000001.jpg": 0,
        "a/1_Somebody_30_f.jpg": 2,  # of AgeDB
    }.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(pictures[picture], folder / place)
    rows = make(folder).split_raw(folder, 666)
    assert rows["target"].tolist() == [9, 10, 55]
    assert rows["path"].str.startswith("a/").all()


def test_what_is_missing_is_said_with_the_terms(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data fetch utk.*non-commercial research only.*data sample utk"):
        make(tmp_path / "utk").load()
    with pytest.raises(UserError, match=r"no picture named <age>_<gender>.*non-commercial"):
        make(tmp_path / "utk").write_split()


def test_a_list_of_another_length_is_told(made: Path, tmp_path: Path) -> None:
    listed = pd.read_csv(made / "images.csv").assign(path=lambda rows: rows["path"].str.replace("StandIn", "2017"))
    listed.to_csv(tmp_path / "images.csv", index=False)
    dataset = make(tmp_path)
    said, problem = dataset._compare_with_published(dataset.read_list())
    assert said == "NOT that of UTK-DIR"
    assert "UTK-DIR {'train': 5622, 'val': 2026, 'test': 2026}" in problem


def test_an_archive_that_the_user_has_is_unpacked_whole_or_not_at_all(tmp_path: Path) -> None:
    files = {"images.csv": b"path,target,split\n", "pictures/00000_1.jpg": b"picture"}
    archive = tar_of(tmp_path / "own.tar", files)
    said = inspection.fetch("utk", str(tmp_path / "data"), archive=archive)
    assert said.startswith("own.tar: unpacked (")
    assert "non-commercial research only" in said
    folder = tmp_path / "data" / "utk"
    assert {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.[cj]*")} == files
    assert archive.exists()
    with pytest.raises(UserError, match="is left as it is: move it away first"):
        inspection.fetch("utk", str(tmp_path / "data"), archive=archive)
    with zipfile.ZipFile(tmp_path / "own.zip", "w") as opened:
        opened.writestr("images.csv", files["images.csv"])
    words = ["data", "fetch", "utk", "--data", str(tmp_path / "of_zip"), "--from", str(tmp_path / "own.zip")]
    assert main(words) == 0
    assert (tmp_path / "of_zip" / "utk" / "images.csv").read_bytes() == files["images.csv"]


def zip_of(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as opened:
        for name, content in files.items():
            opened.writestr(zipfile.ZipInfo(name), content)
    return path


@pytest.mark.parametrize("name", ["own.ZIP", "own", "own.tar"])
def test_a_zip_is_known_by_its_content_and_backslashes_are_folders(tmp_path: Path, name: str) -> None:
    archive = zip_of(tmp_path / name, {"images.csv": b"path", "pictures\\": b"", "pictures\\a.jpg": b"picture"})
    inspection.fetch("utk", str(tmp_path / "data"), archive=archive)
    assert (tmp_path / "data/utk/pictures/a.jpg").read_bytes() == b"picture"


@pytest.mark.parametrize("name", ["..\\out.jpg", "pictures\\..\\..\\out.jpg", "\\out.jpg", "C:\\out.jpg"])
def test_a_zip_that_reaches_out_of_its_folder_by_backslashes_is_refused(tmp_path: Path, name: str) -> None:
    archive = zip_of(tmp_path / "bad.zip", {"images.csv": b"", name: b"out"})
    with pytest.raises(UserError, match=r"leads out of its folder .* nothing was taken from it"):
        inspection.fetch("utk", str(tmp_path / "data"), archive=archive)
    assert not [*tmp_path.rglob("out.jpg")]


@pytest.mark.parametrize("name", ["../out.jpg", "pictures/../../out.jpg", "/tmp/out.jpg", "C:\\out.jpg"])
def test_an_archive_that_reaches_out_of_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    archive = tar_of(tmp_path / "bad.tar", {"images.csv": b"", name: b"out"})
    with pytest.raises(UserError, match=r"leads out of its folder .* nothing was taken from it"):
        inspection.fetch("utk", str(tmp_path / "data"), archive=archive)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] in (["bad.tar"], ["bad.tar", ".fetch.lock"])


def test_mistakes_with_an_archive_are_sentences(tmp_path: Path) -> None:
    (tmp_path / "text.tar").write_text("no archive")
    (tmp_path / "text.ZIP").write_text("no archive")
    (tmp_path / "a.rar").write_bytes(b"Rar!\x1a\x07\x01\x00")
    (tmp_path / "a.7z").write_bytes(b"7z\xbc\xaf\x27\x1c")
    zip_of(tmp_path / "empty.zip", {})
    for named, mirror, said in (
        ("none.tar", None, "is no file"),
        ("text.tar", None, "is cut short or damaged"),
        ("text.ZIP", None, "is cut short or damaged .*zip"),
        ("a.rar", None, "is a rar archive, and zip and tar are read"),
        ("a.7z", None, "is a 7z archive, and zip and tar are read"),
        ("empty.zip", None, "empty.zip holds nothing: nothing was taken from it"),
        ("text.tar", "http://127.0.0.1", "give one of them"),
    ):
        with pytest.raises(UserError, match=said):
            inspection.fetch("utk", str(tmp_path), mirror, tmp_path / named)
    with pytest.raises(UserError, match="needs no files"):
        inspection.fetch("gauge", str(tmp_path), archive=tmp_path / "text.tar")


@pytest.mark.data
@pytest.mark.skipif(not TAR.is_file(), reason="no ../shared/data/utk/utk_faces_112.tar beside the checkout")
def test_the_real_pictures_are_as_described_and_train(tmp_path: Path) -> None:
    """The list's counts, regions and rule; and, of every thirtieth picture, one epoch."""
    folder = tmp_path / "data" / "utk"
    with tarfile.open(TAR) as tar:
        tar.extract("images.csv", folder, filter="data")
        dataset = make(folder)
        rows = dataset.read_list()
        assert dataset._compare_with_published(rows) == ("that of UTK-DIR (git blob id)", "")
        ages = rows["target"].astype(int)
        drawn = split_by_label(ages, cap=30, seed=666)
        assert Counter(zip(ages, drawn, strict=True)) == Counter(zip(ages, rows["split"], strict=True))
        train = np.bincount(ages[rows["split"] == "train"])
        assert (train.max(), train[train > 0].min(), train.argmax()) == (1049, 1, 1)
        few = rows.iloc[::30]
        few.to_csv(folder / "images.csv", index=False)
        tar.extractall(folder, [tar.getmember(path) for path in few["path"]], filter="data")
    run = experiment.run(
        config.compose(
            [
                *("dataset=utk", "trainer.epochs=1", "trainer.threads=1", "trainer.figures=false"),
                *(f"paths.data={tmp_path / 'data'}", f"paths.outputs={tmp_path / 'outputs'}"),
            ]
        )
    )
    assert run.metrics["test"]["all"]["count"] == (few["split"] == "test").sum()
    assert np.isfinite(run.metrics["test"]["all"]["mae"])
