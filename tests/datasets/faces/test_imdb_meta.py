"""IMDB-WIKI's Matlab files: what is written is read back, the published filter and ages, damage said in a sentence."""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.io import loadmat, savemat

from dir_bench.datasets.faces.imdb_meta import CAP, WRITTEN, Database, ages_at, imdb_wiki_list, read_faces, write_mat
from dir_bench.datasets.splits import split_by_label
from dir_bench.errors import UserError

DATABASES: tuple[Database, Database] = ("imdb", "wiki")
FACE = {
    "dob": 724824,  # 1984-07-01
    "photo_taken": 2010,
    "full_path": "01/face.jpg",
    "gender": 1.0,
    "name": "Ada",
    "face_location": (1.0, 1.0, 90.5, 110.0),
    "face_score": 3.5,
    "second_face_score": np.nan,
}


def faces(*changes: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame([FACE | {"full_path": f"{i:02d}/f.jpg"} | change for i, change in enumerate(changes)])


def datenum(year: int, month: int, day: int) -> int:
    return date(year, month, day).toordinal() + 366


def test_matlab_day_numbers_are_366_ahead_of_ordinals() -> None:
    assert datenum(1984, 7, 1) == 724824  # MATLAB: datenum(1984, 7, 1)


@pytest.mark.parametrize(
    ("born", "taken", "age"),
    [
        ((1984, 6, 30), 2010, 26),
        ((1984, 7, 1), 2010, 25),
        ((1900, 2, 28), 1960, 60),  # 1900 was no leap year, 2000 was one
        ((2000, 2, 29), 2010, 10),
        ((2000, 12, 31), 2001, 0),
        ((2001, 1, 1), 2001, 0),
        ((2001, 7, 1), 2001, -1),
        ((1969, 12, 31), 1970, 0),
        ((1970, 1, 1), 1970, 0),
        ((1, 1, 1), 2010, 2009),
    ],
)
def test_ages_by_hand(born: tuple[int, int, int], taken: int, age: int) -> None:
    assert ages_at([datenum(*born)], [taken]).tolist() == [age]


def test_ages_equal_those_of_python_dates() -> None:
    rng = np.random.default_rng(0)
    dob, taken = rng.integers(-500, 740_000, 3000), rng.integers(1, 2016, 3000)
    births = [date.fromordinal(max(int(day) - 366, 1)) for day in dob]
    expected = [year - born.year - (born.month >= 7) for year, born in zip(taken.tolist(), births, strict=True)]
    assert ages_at(dob, taken.astype(np.uint16)).tolist() == expected
    assert ages_at(dob + 0.75 * (dob > 0), taken).tolist() == expected


def test_only_sure_and_lone_faces_of_a_possible_age_are_kept(tmp_path: Path) -> None:
    old = datenum(1800, 7, 1)
    rows = faces(
        {},
        {"face_score": -np.inf},
        {"face_score": 0.999},
        {"face_score": 1.0},
        {"second_face_score": 2.0},
        {"second_face_score": -1.0},
        {"photo_taken": 1984},  # age -1
        {"photo_taken": 1985},
        {"dob": old, "photo_taken": 2001},
        {"dob": old, "photo_taken": 2002},  # age 201
        {"dob": 5},  # born in year 1
        {"face_score": np.nan},
    )
    mat = tmp_path / "wiki.mat"
    write_mat(mat, "wiki", rows)
    kept = read_faces(mat, "wiki")
    assert kept["path"].tolist() == [f"{i:02d}/f.jpg" for i in (0, 3, 5, 7, 8, 11)]
    assert kept["age"].tolist() == [25, 25, 25, 0, 200, 25]
    assert read_faces(mat, "wiki", min_score=3.6)["path"].tolist() == ["11/f.jpg"]
    assert len(read_faces(mat, "wiki", min_score=0.9)) == 7


def test_file_is_built_as_the_authors_built_theirs(tmp_path: Path) -> None:
    mat, same = tmp_path / "imdb.mat", tmp_path / "same.mat"
    rows = faces({}, {"name": "Zoë", "gender": 0.0})
    write_mat(mat, "imdb", rows)
    write_mat(same, "imdb", rows)
    assert mat.read_bytes() == same.read_bytes()
    assert b"Created on" not in mat.read_bytes()
    structure = loadmat(mat)["imdb"]
    assert structure.shape == (1, 1)
    assert structure.dtype.names == WRITTEN
    assert all(structure[name][0, 0].shape == (1, 2) for name in WRITTEN)
    assert structure["full_path"][0, 0][0, 1].tolist() == ["01/f.jpg"]
    assert structure["name"][0, 0][0, 1].tolist() == ["Zoë"]
    assert structure["face_location"][0, 0][0, 0].tolist() == [[1.0, 1.0, 90.5, 110.0]]
    assert structure["dob"][0, 0].tolist() == [[724824, 724824]]
    assert structure["gender"][0, 0].tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("n", [0, 1])
def test_file_of_no_face_or_one_is_read_back(tmp_path: Path, n: int) -> None:
    write_mat(tmp_path / "wiki.mat", "wiki", faces({}).iloc[:n])
    assert len(read_faces(tmp_path / "wiki.mat", "wiki")) == n


def test_list_joins_both_databases_and_splits_them_together(tmp_path: Path) -> None:
    sizes = dict(zip(DATABASES, (500, 40), strict=True))
    for db, n in sizes.items():
        write_mat(tmp_path / f"{db}_crop" / f"{db}.mat", db, faces(*[{"photo_taken": 2010 + i % 2} for i in range(n)]))
    listed = imdb_wiki_list(tmp_path)
    assert listed.columns.tolist() == ["age", "path", "split"]
    assert listed["path"].tolist() == [f"{db}_crop/{i:02d}/f.jpg" for db, n in sizes.items() for i in range(n)]
    assert listed["split"].tolist() == split_by_label(listed["age"], cap=CAP).tolist()
    assert listed["split"].value_counts().to_dict() == {"train": 180, "val": 180, "test": 180}  # 270 // 3, two ages
    assert (imdb_wiki_list(tmp_path, seed=1)["split"] != listed["split"]).any()
    assert imdb_wiki_list(tmp_path, min_score=4).empty


def test_path_listed_twice_is_on_one_side_only(tmp_path: Path) -> None:
    for db in DATABASES:
        rows = faces(*[{"full_path": f"{i // 2}.jpg"} for i in range(60)])
        write_mat(tmp_path / f"{db}_crop" / f"{db}.mat", db, rows)
    listed = imdb_wiki_list(tmp_path)
    assert (listed.groupby("path")["split"].nunique() == 1).all()
    assert set(listed["split"]) == {"train", "val", "test"}


@pytest.fixture
def fields(tmp_path: Path) -> dict[str, Any]:
    write_mat(tmp_path / "good.mat", "wiki", faces({}, {}, {}))
    structure = loadmat(tmp_path / "good.mat")["wiki"]
    return {name: structure[name][0, 0] for name in WRITTEN}


def cells(*values: Any) -> np.ndarray:
    row = np.empty((1, len(values)), object)
    row[0, :] = values
    return row


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dob": None}, "lacks dob"),
        ({"face_score": np.ones((1, 2))}, "differ in length .*face_score 2"),
        ({"photo_taken": np.array([[2000.0, np.nan, 2000.0]])}, "photo_taken holds what is no year"),
        ({"second_face_score": cells("a", "b", "c")}, "second_face_score is not one number a face"),
        ({"full_path": np.ones((1, 3))}, "full_path is not one cell of text a face"),
        ({"full_path": cells("a.jpg", 7.0, "b.jpg")}, "full_path of face 2 is not one text"),
    ],
)
def test_bad_fields_are_named(tmp_path: Path, fields: dict[str, Any], change: dict[str, Any], words: str) -> None:
    changed = {name: value for name, value in (fields | change).items() if value is not None}
    savemat(tmp_path / "wiki.mat", {"wiki": changed})
    with pytest.raises(UserError, match=words) as caught:
        read_faces(tmp_path / "wiki.mat", "wiki")
    assert str(tmp_path / "wiki.mat") in str(caught.value)


def test_file_that_is_no_such_database_is_refused(tmp_path: Path) -> None:
    mat = tmp_path / "wiki.mat"
    with pytest.raises(UserError, match=r"is missing: .*wiki_crop\.tar"):
        read_faces(mat, "wiki")
    write_mat(mat, "imdb", faces({}))
    with pytest.raises(UserError, match="holds no structure 'wiki'"):
        read_faces(mat, "wiki")
    savemat(mat, {"wiki": np.ones(3)})
    with pytest.raises(UserError, match="holds no structure 'wiki'"):
        read_faces(mat, "wiki")
    write_mat(mat, "wiki", faces(*[{}] * 50))
    whole = mat.read_bytes()
    hdf5 = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400)
    for content in (b"", b"<html>not found</html>" * 50, hdf5, whole[:100], whole[:130], whole[:-40]):
        mat.write_bytes(content)
        with pytest.raises(UserError, match="cannot be read as a Matlab file"):
            read_faces(mat, "wiki")
