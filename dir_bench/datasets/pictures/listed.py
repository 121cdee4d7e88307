"""Pictures with a csv of their targets that nobody has described: which column names them, and from which folder."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dir_bench.datasets.recognition import Found, Place
from dir_bench.datasets.tables.columns import PICTURES, names_pictures
from dir_bench.errors import UserError
from dir_bench.files.plain import is_plain

FIRST = 20
"""Pictures of a list that are looked for."""
MOST = 10_000
"""Files of a folder that are looked at, to see whether they are pictures."""
LOOKS_FOR = "a csv with a column of paths of pictures, relative to its folder, and one of numbers"


def as_pictures(place: Place) -> Found | None:
    """See whether a csv names pictures that are there.

    Pictures that are not there yet are a problem and no error: of labels alone there is much to say.

    Raises:
        UserError: Pictures are there, and no csv that names them; or its first line is none of names.
    """
    table = place.table()
    named = None
    if table is not None:
        if any(str(name).lower().endswith(PICTURES) for name in table.frame.columns):
            raise UserError(
                f"{place.tables['train']} names a picture in its first line, which has to be path,target or such, and "
                "each line below it a picture and its number (pairs of pictures and depth maps: dataset=nyud2)"
            )
        named = next((name for name in map(str, table.frame.columns) if names_pictures(table, name)), None)
    if table is None or named is None:
        if place.is_folder and table is None and (count := _pictures(place.path)):
            raise UserError(
                f"{place.path} has {count} pictures and no list of their targets: put a csv there whose first line is "
                "path,target and whose lines name a picture, from this folder, and its number"
            )
        return None
    paths = table.text(named).tolist()
    listed = place.tables["train"]
    base, absent = _base(place, paths), []
    if base is None:
        if place.columns is not None and place.columns.inputs:
            return None  # a table that names pictures beside what it says of them
        base = listed.parent
        absent = [
            f"{paths[0]} and the other pictures that {listed.name} names in its column '{named}' are not there: paths "
            f"are relative to {base}; put them there before you train"
        ]
    if listed.suffix.lower() != ".csv":
        raise UserError(f"{listed} names pictures: save it as a csv, with commas, to use them")
    columns = place.columns
    assert columns is not None  # a table has them
    file = listed.name if base == listed.parent else os.path.relpath(listed, base)
    source: dict[str, Any] = {"data_dir": str(base), "file": file, "path_column": named}
    source["target_column"] = columns.target
    if columns.split not in (None, "split"):
        source["split_column"] = columns.split
    notes = [columns.guessed] if columns.guessed else []
    if columns.split:
        notes.append(f"the column {columns.split} says which pictures are for train, val and test")
    else:
        notes.append("val and test will be drawn, nearly even over the targets (a column split would name your own)")
    if others := [path.name for split, path in place.tables.items() if split != "train"]:
        notes.append(f"not used: {', '.join(others)}; put all pictures into one csv, with a column split")
    notes.append("without a GPU, add backbone=cnn dataset.source.size=64 to the commands: a small network")
    what = f"{len(paths)} pictures, named by {listed.name}, to predict {columns.target} from"
    return Found(what, source, place.stem, columns.target, fits=3, notes=tuple(notes),
                 problems=(*absent, *columns.problems))  # fmt: skip


def _base(place: Place, paths: Sequence[str]) -> Path | None:
    """Return the folder from which the first pictures are found: that of the list, or one in it."""
    first = [path for path in paths[:FIRST] if path.lower().endswith(PICTURES)]
    folders = [place.folder, *place.folders]
    return next((folder for folder in folders if any(is_plain(folder / path) for path in first)), None)


def _pictures(folder: Path) -> int:
    """Count the pictures in a folder and those in it, of the first `MOST` files."""
    count = 0
    for seen, path in enumerate(folder.rglob("*.*")):
        if seen == MOST:
            break
        count += path.suffix.lower() in PICTURES
    return count
