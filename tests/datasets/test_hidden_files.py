"""macOS's own files, ._NAME beside each picture and .DS_Store, are nobody's data."""

from pathlib import Path

import numpy as np
import pytest

from dir_bench.datasets.faces import AgeDB
from dir_bench.datasets.images import Images
from dir_bench.datasets.nyud2 import LISTS, NYUD2
from dir_bench.datasets.recognition import Place
from dir_bench.datasets.sleep.tables import find_recordings


def hide(folder: Path) -> None:
    for path in list(folder.iterdir()):
        (folder / f"._{path.name}").write_bytes(b"\0\5\26\7")
    (folder / ".DS_Store").write_bytes(b"")


def test_faces_and_scenes_are_listed_without_them(tmp_path: Path) -> None:
    faces, scenes = AgeDB(str(tmp_path / "a")), NYUD2(str(tmp_path / "n"), cache="none")
    faces.sample(tmp_path / "a", n=40)
    scenes.sample(tmp_path / "n", n=4)
    listed = {path: sorted(path.read_bytes().split()) for path in (faces.list_path, tmp_path / "n" / LISTS["train"])}
    for path in listed:
        path.unlink()
    for folder in (tmp_path / "a" / "AgeDB", tmp_path / "n" / "nyu2_train", *(tmp_path / "n" / "nyu2_train").iterdir()):
        hide(folder)
    faces.write_split()
    scenes.write_split()
    assert {path: sorted(path.read_bytes().split()) for path in listed} == listed


def test_recordings_are_found_without_them(tmp_path: Path) -> None:
    folder = tmp_path / "polysomnography" / "edfs" / "shhs2"
    folder.mkdir(parents=True)
    (folder / "shhs2-200077.edf").write_bytes(b"0")
    hide(folder)
    assert find_recordings(tmp_path, "shhs2") == {200077: folder / "shhs2-200077.edf"}


def test_tables_of_splits_are_found_without_them(tmp_path: Path) -> None:
    for name in ("houses_train.csv", "houses_test.csv", ".houses_val.csv", "._houses_val.csv", ".houses_train.csv"):
        (tmp_path / name).write_text("a,y\n1,2\n")
    assert set(Place(tmp_path / "houses_train.csv").tables) == {"train", "test"}
    (tmp_path / "houses_train.csv").unlink()
    assert Place(tmp_path / "houses_test.csv").beside == ()


def test_replaced_pictures_are_other_data_and_a_moved_folder_the_same(tmp_path: Path) -> None:
    first = Images(str(tmp_path / "a"), size=8)
    first.sample(tmp_path / "a", n=24)
    before = first.fingerprint()
    (tmp_path / "a").rename(tmp_path / "b")
    moved = Images(str(tmp_path / "b"), size=8)
    assert moved.fingerprint() == before
    pixels = moved.load().train.fetch(np.arange(2), None)[0]
    picture = next((tmp_path / "b" / "pictures").iterdir())
    content = bytearray(picture.read_bytes())
    content[-20] ^= 1  # of the same size
    picture.write_bytes(bytes(content))
    assert moved.fingerprint() != before
    assert pixels.shape == (2, 8, 8, 3)


@pytest.mark.parametrize("heeded", [None, True])
def test_orientation_is_a_setting_of_own_pictures(tmp_path: Path, heeded: bool | None) -> None:
    assert ("exif" in Images(str(tmp_path), exif_orientation=heeded).decoder.name) == bool(heeded)
