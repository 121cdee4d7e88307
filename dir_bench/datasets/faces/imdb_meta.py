"""What is known of IMDB-WIKI's faces: the authors' Matlab files, and the published list of ages that comes of them.

Rothe et al., "DEX: Deep EXpectation of apparent age from a single image", ICCV Workshops 2015, made the two databases
`imdb_crop/imdb.mat` and `wiki_crop/wiki.mat`. Which faces are kept, and how old they are, follows Yang et al. 2021
(YyzHarry/imbalanced-regression, `imdb-wiki-dir/data/create_imdb_wiki.py`).
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from dir_bench.atomic import write_bytes
from dir_bench.datasets.base import IntArray
from dir_bench.datasets.faces.mat import read_structure
from dir_bench.datasets.splits import split_by_label
from dir_bench.errors import UserError
from dir_bench.files.plain import NotThere
from dir_bench.lazy import Lazy

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = Lazy("pandas")

Database = Literal["imdb", "wiki"]
READ = ("dob", "photo_taken", "full_path", "face_score", "second_face_score")
WRITTEN = (
    "dob",
    "photo_taken",
    "full_path",
    "gender",
    "name",
    "face_location",
    "face_score",
    "second_face_score",
)
"""Fields of both databases, in their order. (The real imdb.mat has celeb_names and celeb_id besides.)"""
MATLAB_ORDINAL = 366
"""Matlab counts days from year 0, Python's ordinals from year 1: 1984-07-01 is 724824 and 724458."""
EPOCH_ORDINAL = 719_163
"""Ordinal of 1970-01-01, NumPy's day 0."""
LAST_DAY, LAST_YEAR = 10_000_000, 10_000
"""Matlab's day numbers and years beyond these, on either side, are damage."""
MAX_AGE = 200
CAP = 150
"""Faces of one age in validation, and again in test, at most."""
HEADER = b"MATLAB 5.0 MAT-file".ljust(116)
"""Text that a Matlab file begins with."""


def read_faces(mat: Path, db: Database, *, min_score: float = 1.0) -> pd.DataFrame:
    """Read age and path of the faces worth having, in the file's order.

    Kept is a face that the detector is sure of, alone in its picture, and of an age from 0 to 200 years. As published,
    a score that is NaN does not exclude a face.

    Args:
        mat: `imdb.mat` or `wiki.mat`.
        db: Which of the two, which is the name of the structure inside.
        min_score: Lowest score of the face detector; where it found no face the file has -inf.

    Returns:
        Columns age (years, int64) and path (as in the file: relative to `<db>_crop`).

    Raises:
        UserError: If it is no such file, or a field is missing, is of another length than the others or no number.
    """
    fields = _read_fields(mat, db)
    ages = ages_at(fields["dob"], fields["photo_taken"])
    surely = ~(fields["face_score"] < min_score)
    alone = ~(fields["second_face_score"] > 0)
    rows = np.flatnonzero(surely & alone & (ages >= 0) & (ages <= MAX_AGE))
    paths = pd.Series(_texts(fields["full_path"][rows], rows, mat), dtype=str)
    return pd.DataFrame({"age": ages[rows], "path": paths})


def ages_at(dob: npt.ArrayLike, photo_taken: npt.ArrayLike) -> IntArray:
    """Return ages in whole years, supposing that the photo was taken in the middle of its year.

    Who is born in July or later has not yet had the birthday by then.

    Args:
        dob: Dates of birth as Matlab's day numbers, shape ``(n,)``. A fraction of a day is cut off, and what lies
            before year 1 counts as its first day.
        photo_taken: Years, shape ``(n,)``.
    """
    ordinal = np.maximum(np.asarray(dob).astype(np.int64) - MATLAB_ORDINAL, 1)
    birth = (ordinal - EPOCH_ORDINAL).astype("datetime64[D]")
    year = birth.astype("datetime64[Y]").astype(np.int64) + 1970
    month_index = birth.astype("datetime64[M]").astype(np.int64) % 12  # 0 is January
    return np.asarray(photo_taken).astype(np.int64) - year - (month_index >= 6)


def imdb_wiki_list(folder: Path, *, seed: int = 666, min_score: float = 1.0) -> pd.DataFrame:
    """Make IMDB-WIKI-DIR's list out of the two databases: age, path and split, IMDB's faces first.

    A path that is listed twice is held out as a whole, as in the published list.

    Args:
        folder: Holds `imdb_crop` and `wiki_crop`; paths are relative to it.
        seed: Of the split.
        min_score: See `read_faces`.

    Raises:
        UserError: See `read_faces`.
    """
    parts = []
    for db in ("imdb", "wiki"):
        faces = read_faces(folder / f"{db}_crop" / f"{db}.mat", db, min_score=min_score)
        parts.append(faces.assign(path=f"{db}_crop/" + faces["path"]))
    faces = pd.concat(parts, ignore_index=True)
    splits = split_by_label(faces["age"].to_numpy(), cap=CAP, seed=seed)
    held_out = splits != "train"
    by_path = dict(zip(faces["path"][held_out], splits[held_out].tolist(), strict=True))
    return faces.assign(split=[by_path.get(path, "train") for path in faces["path"]])


def write_mat(path: Path, db: Database, rows: pd.DataFrame) -> None:
    """Write a database as its authors did, for stand-ins; the same rows give the same bytes.

    Args:
        path: The file to write; one that is there is replaced.
        db: Name of the structure.
        rows: One face a row; columns dob (Matlab's day number), photo_taken (year), full_path, gender (0 female,
            1 male), name, face_location (four numbers: left, top, right, bottom, in pixels), face_score (-inf: no
            face found) and second_face_score (NaN: no second face).
    """
    types = {"dob": np.int32, "photo_taken": np.uint16}
    structure = np.empty((1, 1), [(name, object) for name in WRITTEN])
    for name in WRITTEN:
        if name in ("full_path", "name"):
            field = _cells([np.array([text]) for text in rows[name]])
        elif name == "face_location":
            field = _cells([np.array([corners], np.float64) for corners in rows[name]])
        else:
            field = rows[name].to_numpy(types.get(name, np.float64)).reshape(1, -1)
        structure[name][0, 0] = field
    from scipy.io import savemat

    buffer = BytesIO()
    savemat(buffer, {db: structure}, do_compression=True)  # type: ignore[arg-type]
    write_bytes(path, HEADER + buffer.getvalue()[len(HEADER) :])  # SciPy's text holds the time of day


def _cells(values: list[npt.NDArray[Any]]) -> npt.NDArray[np.object_]:
    """Return a row of Matlab cells, shape (1, n)."""
    cells = np.empty((1, len(values)), object)
    for i, value in enumerate(values):  # assigned at once, NumPy would stack arrays of one shape
        cells[0, i] = value
    return cells


def _read_fields(mat: Path, db: Database) -> dict[str, npt.NDArray[Any]]:
    """Return the fields in `READ`, each of shape (n,); UserError if the file does not have them so."""
    try:
        found = read_structure(mat, db, READ)
    except NotThere:
        raise UserError(f"{mat} is missing: it comes in the archive {db}_crop.tar of IMDB-WIKI (faces only)") from None
    if found is None:
        raise UserError(f"{mat} holds no structure '{db}': is it {db}.mat of IMDB-WIKI?")
    if lacking := [name for name in READ if name not in found]:
        raise UserError(f"{mat}: the structure '{db}' lacks {', '.join(lacking)}: fetch {db}.mat of IMDB-WIKI again")
    again = f"fetch {db}.mat of IMDB-WIKI again"
    for name, field in found.items():
        if isinstance(field, list) != (name == "full_path"):
            kind = "cell of text" if name == "full_path" else "number"
            raise UserError(f"{mat}: {name} is not one {kind} a face: {again}")
    if len({len(field) for field in found.values()}) > 1:
        lengths = ", ".join(f"{name} {len(field)}" for name, field in found.items())
        raise UserError(f"{mat}: the fields differ in length ({lengths}): {again}")
    fields = {name: np.array(field, object if name == "full_path" else None) for name, field in found.items()}
    for name, most in (("dob", LAST_DAY), ("photo_taken", LAST_YEAR)):
        if not (np.abs(fields[name].astype(np.float64)) <= most).all():  # NaN too
            raise UserError(f"{mat}: {name} holds what is no {'day' if name == 'dob' else 'year'}: {again}")
    return fields


def _texts(cells: npt.NDArray[np.object_], rows: IntArray, mat: Path) -> list[str]:
    """Return cells that hold one text each; `rows` are their numbers in the file."""
    for row, cell in zip(rows, cells, strict=True):
        if not cell:
            raise UserError(f"{mat}: full_path of face {row + 1} is not one text: fetch the file again")
    return [str(cell) for cell in cells]
