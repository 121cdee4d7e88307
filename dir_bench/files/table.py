"""Tables from outside, csv, tsv or parquet: columns by name, and numbers, with the line of what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dir_bench.errors import UserError, last_line, nearest
from dir_bench.files.plain import status
from dir_bench.files.text import other_separator, read_csv, text_type
from dir_bench.lazy import Lazy

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = Lazy("pandas")

MISSING = ("", "na", "n/a", "nan", "null", "none", "?")
"""What stands for no value in a field of text, in small or capital letters."""
SHOWN = 30
"""Columns that a message lists at most."""
SUFFIXES = {".csv": ",", ".tsv": "\t", ".parquet": ""}
"""Kinds of tables by the end of a file's name, with what separates their columns."""
BEYOND = "is beyond 32-bit floats, which end at 3.4e38"
"""Of a number that is too great, what a message says."""
_ODD: dict[type, str] = {bytes: "bytes", dict: "structs", list: "lists", np.ndarray: "lists", tuple: "tuples"}


@dataclass(frozen=True)
class Table:
    """A table as it was read.

    Attributes:
        path: The file.
        frame: Its columns, of text or of what a parquet file has; the index is the line of the file, or the row.
        place: What the index counts, "line" or "row".
    """

    path: Path
    frame: pd.DataFrame
    place: str
    _numbers: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.frame)

    def column(self, name: str, key: str | None = None, *, unused: bool = False) -> pd.Series:
        """Return a column by name.

        Args:
            name: Of the column.
            key: The setting that names it, for the message.
            unused: Whether nothing is made of what stands in it.

        Raises:
            UserError: If there is none of that name, with the nearest one and all of them; or if it is used and holds
                neither numbers nor text.
        """
        if name not in self.frame.columns:
            names = [str(column)[:60] for column in self.frame.columns]
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            raise UserError(
                f"{self.path} has no column '{name}'{nearest(name, names)}; it has: {', '.join(names[:SHOWN])}{more}"
                + (f": set {key}" if key else "")
            )
        if not unused and (held := self.oddities.get(name)):
            raise UserError(
                f"{self.path}: {name} holds {held}, and an input or a target is a number or a text: set "
                f"dataset.source.ignore=[{name}], or write it so"
            )
        return self.frame[name]

    def text(self, name: str) -> pd.Series:
        """Return a column as text, missing values as they are; UserError as of `column`."""
        return self.column(name).astype(text_type())

    @cached_property
    def oddities(self) -> dict[str, str]:
        """What columns of a parquet file hold that are neither of numbers nor of text, by their names."""
        found = {}
        for name, dtype in self.frame.dtypes.items():
            if not isinstance(dtype, np.dtype) or dtype.kind != "O":
                continue
            there = self.frame[name].dropna()
            held = next((word for kind, word in _ODD.items() if len(there) and isinstance(there.iloc[0], kind)), "")
            if held:
                found[str(name)] = held
        return found

    def holds_times(self, name: str) -> bool:
        """Tell whether a column holds dates or durations, which a parquet file knows as such."""
        dtype = self.column(name).dtype
        return dtype.kind in "mM" or isinstance(dtype, pd.PeriodDtype)

    def missing(self, name: str) -> npt.NDArray[np.bool_]:
        """Tell which rows have no value in a column: nothing, or one of `MISSING`; shape ``(n,)``."""
        missing = np.isnan(self._parsed(name))
        if missing.any():
            column = self.frame[name][missing]
            missing[missing] = column.isna() | column.astype(text_type()).str.strip().str.lower().isin(MISSING)
        return missing

    def numbers(self, name: str) -> npt.NDArray[np.float64]:
        """Return a column as numbers, shape ``(n,)``; NaN where there is none, or something else than a number."""
        found = self._parsed(name)
        return np.where(np.abs(found) <= np.finfo(np.float32).max, found, np.nan)

    def _parsed(self, name: str) -> npt.NDArray[np.float64]:
        """Return a column as numbers, and NaN; each is parsed once. UserError if there is none of that name."""
        if name not in self._numbers:
            column = self.column(name)
            parsed = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
            # A date that is missing comes as the least whole number.
            self._numbers[name] = np.where(column.isna(), np.nan, parsed)
        return self._numbers[name]

    def targets(self, name: str, rows: npt.NDArray[np.integer], also: str = "") -> npt.NDArray[np.float64]:
        """Return a column's targets in some rows; UserError with the place of the first that is no finite number.

        Args:
            name: Of the column.
            rows: Which, counted from 0, shape ``(k,)``.
            also: What else can be done, the end of the message.
        """
        if self.holds_times(name):
            raise UserError(
                f"{self.path}: {name} holds dates or durations, so it is no target: write it as plain numbers, such as "
                "days, or name another column"
            )
        found = self.numbers(name)
        asked = np.zeros(len(self), np.bool_)
        asked[rows] = True
        self.refuse_numbers(asked & np.isnan(found), name, "so it is no target", also)
        return np.asarray(found[rows])

    def refuse_numbers(self, wrong: npt.NDArray[np.bool_], name: str, why: str, then: str = "") -> None:
        """Refuse, as `refuse` does, what `numbers` has no number for, telling text from what is too great."""
        beyond = wrong.any() and np.isfinite(self._parsed(name)[wrong][0])
        self.refuse(wrong, self.column(name), f"{BEYOND if beyond else 'is not a number'}, {why}", then)

    def refuse(self, wrong: npt.NDArray[np.bool_], values: pd.Series, why: str, then: str = "") -> None:
        """Raise UserError on the first row that is wrong, naming the place, the column, the value, and how many."""
        if wrong.any():
            place, count = int(np.flatnonzero(wrong)[0]), int(wrong.sum())
            others = f" (and {count - 1} more)" if count > 1 else ""
            raise UserError(
                f"{self.path}, {self.place} {values.index[place]}: {values.name} '{str(values.iloc[place])[:60]}' "
                f"{why}{others}: mend or drop the {self.place}{then}"
            )


def read_table(path: Path) -> Table:
    """Read a table whose first line names the columns; fields stay text.

    Raises:
        UserError: As of `read_csv`; or the name ends in nothing known, names of columns are empty or come twice, there
            are no rows, or a parquet file cannot be read, for want of pyarrow too.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{path}: the name of a table ends in {', '.join(SUFFIXES)}: rename or convert it")
    if suffix == ".parquet":
        frame, place = _read_parquet(path), "row"
    else:
        held = read_csv(path, delimiter=SUFFIXES[suffix])
        names = held.header
        _check_names(path, names)
        frame, place = held.frame(names), "line"
        if other := other_separator(names, SUFFIXES[suffix]):
            raise UserError(f"{path} has one column, '{names[0][:60]}': {other}")
    if not len(frame):
        raise UserError(f"{path} has no row, only a header")
    return Table(path, frame, place)


def _check_names(path: Path, names: Sequence[str]) -> None:
    if "" in names:
        raise UserError(f"{path}: column {names.index('') + 1} has no name: give it one in the first line")
    if len(set(names)) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise UserError(f"{path} has {names.count(twice)} columns '{twice}': rename all but one")


def _read_parquet(path: Path) -> pd.DataFrame:
    status(path)
    try:
        frame = pd.read_parquet(path)
    except ImportError as error:
        raise UserError(f"{path}: reading parquet takes pyarrow: `pip install pyarrow`, or save a csv") from error
    except Exception as error:  # pyarrow has a dozen of its own, and NumPy's and the system's
        _check_names(path, _parquet_names(path))  # for names that come twice it has no clear word
        raise UserError(f"{path} cannot be read as parquet ({last_line(error)}): is it whole?") from error
    frame.columns = [str(name) for name in frame.columns]
    _check_names(path, list(frame.columns))
    frame.index = pd.RangeIndex(1, len(frame) + 1)
    # pandas reads these and groups none.
    return frame.astype({name: np.float32 for name in frame.columns[frame.dtypes == np.float16]})


def _parquet_names(path: Path) -> list[str]:
    """Return the names of columns that a parquet file gives; none if it cannot be read."""
    try:
        return [str(name) for name in import_module("pyarrow.parquet").read_schema(path).names]
    except Exception:  # the file's fault is told by the error that led here
        return []
