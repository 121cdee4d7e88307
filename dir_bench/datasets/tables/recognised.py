"""A table that nobody has described, as numbers and categories or as texts: the settings that read it."""

from pathlib import Path
from typing import Any

from dir_bench.datasets.recognition import Found, Place, shortened
from dir_bench.datasets.tables.columns import Columns
from dir_bench.errors import UserError
from dir_bench.files.table import Table

SPLIT_COLUMN = "split"
"""The column of splits that is looked for without being set."""


def as_numbers(place: Place) -> Found | None:
    """See whether there is a table with a column of numbers; free text and names of rows are left out."""
    table, columns = place.table(), place.columns
    if table is None or columns is None:
        return None
    if not columns.inputs:
        raise UserError(f"{table.path} has no column of numbers or categories that {columns.target} could be predicted "
                        "from: only names of rows, or nothing else")  # fmt: skip
    count = len(columns.inputs)
    ignore = [*columns.names, *columns.texts]
    source = _source(place, table, columns)
    if ignore:
        source["ignore"] = ignore
    notes = _notes(place, columns)
    if columns.names:
        why = "as they name rows or hold one split, neither numbers nor text, or nothing"
        notes.append(f"left out, {why}: {shortened(columns.names)}")
    if columns.texts:
        notes.append(f"left out, as they are free text: {shortened(columns.texts)}")
    if columns.targets_missing:
        source["missing"] = "drop"
    elif columns.missing:
        source["missing"] = "mean"
        notes.append("missing values become the training mean, with an input that marks them (missing: mean)")
    gaps = [f"values are missing: {shortened(f'{name} {count}' for name, count in columns.missing.items())} rows"]
    problems = (*(gaps if columns.missing else []), *_problems(columns))
    return Found(
        f"a table of {_size(place, table)}, {count} column{'s' * (count > 1)} to predict {columns.target} from",
        source, place.stem, columns.target, notes=tuple(notes), problems=problems,
    )  # fmt: skip


def as_texts(place: Place) -> Found | None:
    """See whether there is a table with columns of free text."""
    table, columns = place.table(), place.columns
    if table is None or columns is None or not columns.texts:
        return None
    pair = len(columns.texts) == 2
    texts = [name for name in map(str, table.frame.columns) if name in columns.texts[: 2 if pair else 1]]
    source = {**_source(place, table, columns), "text": texts if pair else texts[0]}
    notes = _notes(place, columns)
    if len(columns.texts) > 2:
        notes.append(f"of {len(columns.texts)} columns of text the longest is read: {texts[0]} (text: COLUMN)")
    if columns.inputs:
        notes.append(f"not read, beside the text: {shortened(columns.inputs)} (--as table reads them, and no text)")
    empty = sum(int((table.missing(name)).sum()) for name in texts)
    problems = _problems(columns)
    if columns.targets_missing or empty:
        source["missing"] = "drop"
    if empty:
        problems.insert(0, f"{empty} texts are missing: their rows are left out (missing: drop)")
    of = "pairs of texts" if pair else "texts"
    return Found(
        f"{of} with a number each: {_size(place, table)}, {' and '.join(texts)} to predict {columns.target} from",
        source, place.stem, columns.target, fits=2, notes=tuple(notes), problems=tuple(problems),
    )  # fmt: skip


def _source(place: Place, table: Table, columns: Columns) -> dict[str, Any]:
    source: dict[str, Any] = {"data_dir": str(place.tables["train"].parent)}
    names = {split: path.name for split, path in place.tables.items()}
    if columns.split is not None:
        names = {"train": names["train"]}
    source["path"] = names.pop("train")
    source |= names
    source["target"] = columns.target
    if columns.split != (SPLIT_COLUMN if SPLIT_COLUMN in table.frame.columns else None):
        source["split_column"] = columns.split
    if columns.identity:
        source["id_column"] = columns.identity
    return source


def _notes(place: Place, columns: Columns) -> list[str]:
    notes = [columns.guessed] if columns.guessed else []
    if columns.split is not None:
        notes.append(f"the column {columns.split} says which rows are for train, val and test")
        if len(place.tables) > 1:
            others: list[Path] = [path for split, path in place.tables.items() if split != "train"]
            notes.append(f"so these are not used: {', '.join(path.name for path in others)}")
    else:
        notes += place.beside
    if columns.identity:
        notes.append(f"rows of one {columns.identity} go to one split, and it is no input (id_column)")
    return notes


def _problems(columns: Columns) -> list[str]:
    lacking = columns.targets_missing
    left = f"{lacking} rows have no {columns.target}: they are left out (missing: drop), and rows with other gaps too"
    return [*([left] if lacking else []), *columns.problems]


def _size(place: Place, table: Table) -> str:
    tables = {split: place.table(split) for split in place.tables}
    if len(tables) == 1:
        return f"{len(table)} rows"
    return " + ".join(f"{len(each)}" for each in tables.values() if each is not None) + f" rows ({', '.join(tables)})"
