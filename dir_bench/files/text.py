"""Text and csv files: what is no such text, or does not have the columns, is named with file and line."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dir_bench.errors import UserError, nearest
from dir_bench.files.plain import read_plain
from dir_bench.lazy import Lazy

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = Lazy("pandas")

BYTES = "surrogateescape"
"""How bytes that are no UTF-8 are kept, as the file system's functions keep them: AgeDB has such file names."""
MOST = 2**31
"""Bytes of a list or table: more are another file."""
_MARKS_CALLED = {",": "commas", "\t": "tabs"}
_MARKS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: Path, *, encoding: str = "utf-8", errors: str = "strict") -> str:
    """Return a file's text without a mark of byte order, line ends as they are.

    Raises:
        UserError: If the file is missing or empty, or holds something else: UTF-16, NUL bytes, other bytes that are
            no text in this encoding.
    """
    content = read_plain(path, MOST)
    if not content:
        raise UserError(f"{path} is empty: fetch or write it again")
    if content.startswith(_MARKS):
        raise UserError(f"{path} is UTF-16 or UTF-32: save it as UTF-8 (in Excel: 'CSV UTF-8')")
    content = content.removeprefix(codecs.BOM_UTF8)
    if (place := content.find(b"\0")) >= 0:
        raise UserError(f"{path}, line {_line(content, place)}: a NUL byte, so it is no text of UTF-8 or damaged")
    try:
        return content.decode(encoding, errors)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}, line {_line(content, error.start)}: not UTF-8 text ({error.reason}): save it as UTF-8, or fetch "
            "it again"
        ) from error


def _line(content: bytes, place: int) -> int:
    return content.count(b"\n", 0, place) + 1


def text_type() -> Any:
    """Return the type of columns that may hold `BYTES`: left to itself pandas takes Arrow's, which is UTF-8 alone."""
    return pd.StringDtype("python", na_value=np.nan)


@dataclass(frozen=True)
class Csv:
    """A csv as text.

    Attributes:
        path: The file.
        header: Names of the columns.
        rows: Fields of each line, as many as there are columns.
        lines: Number of the line in the file where each row ends, for messages.
    """

    path: Path
    header: list[str]
    rows: list[list[str]]
    lines: npt.NDArray[np.int64]

    def frame(self, columns: Sequence[str]) -> pd.DataFrame:
        """Return these columns, text as it stands, indexed by line; UserError if one is missing or there twice."""
        for name in columns:
            if name not in self.header:
                raise UserError(f"{self.path} has no column '{name}'{nearest(name, self.header)}; {self._there()}")
            if self.header.count(name) > 1:
                raise UserError(f"{self.path} has {self.header.count(name)} columns '{name}': rename all but one")
        places = [self.header.index(name) for name in columns]
        taken = {place: [row[place] for row in self.rows] for place in places}
        frame = pd.DataFrame(taken, pd.Index(self.lines), dtype=text_type())
        names: Any = pd.Index([*columns], dtype=text_type())
        frame.columns = names
        return frame

    def _there(self) -> str:
        shown = ", ".join(name[:60] for name in self.header[:30])
        other = other_separator(self.header)
        return f"it has: {shown}" + (f" ({other})" if other else "")


def other_separator(header: Sequence[str], delimiter: str = ",") -> str:
    """Return what to do about a header that seems to be separated by another mark, or ""."""
    mark = next((m for m in (";", "\t", "|", ",") if m != delimiter and len(header) == 1 and m in header[0]), "")
    return f"separate columns by {_MARKS_CALLED.get(delimiter, repr(delimiter))}, not by {mark!r}" if mark else ""


def one_csv(files: Sequence[Path]) -> pd.DataFrame:
    """Return all columns of one csv, text, indexed by line; UserError if it is not one, is none, or has no row."""
    if len(files) != 1 or files[0].suffix.lower() != ".csv":
        raise UserError(f"{' '.join(map(str, files[:3]))}: give one file whose name ends in .csv")
    held = read_csv(files[0])
    if not held.rows:
        raise UserError(f"{files[0]} has no row, only a header")
    return held.frame(held.header)


def read_csv(
    path: Path,
    *,
    encoding: str = "utf-8",
    errors: str = BYTES,
    most_rows: int | None = None,
    delimiter: str = ",",
) -> Csv:
    """Return the fields of a csv; empty lines are left out, and so are empty fields after the last column.

    Raises:
        UserError: As of `read_text`; and if there is no header, or a line has more or fewer fields than the header.
    """
    text = read_text(path, encoding=encoding, errors=errors)
    reader = csv.reader(io.StringIO(text, newline=None), strict=True, delimiter=delimiter)
    rows, lines = [], []
    before = csv.field_size_limit()
    try:
        csv.field_size_limit(max(before, len(text)))  # of the whole process, and 131,072 by itself
        header = [name.strip() for name in next(reader)]
        while header and not header[-1]:
            header.pop()
        if not header:
            raise UserError(f"{path} has no header: its first line must name the columns")
        width = len(header)
        for row in reader:
            if len(row) != width:
                if not row:
                    continue
                if len(row) < width or any(row[width:]):
                    if other := other_separator(header, delimiter):
                        raise UserError(f"{path} has one column, '{header[0][:60]}': {other}, decimals by a point")
                    raise UserError(f"{path}, line {reader.line_num}: {len(row)} fields, and the header has {width}")
                del row[width:]
            rows.append(row)
            lines.append(reader.line_num)
            if most_rows is not None and len(rows) == most_rows:
                break
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not csv ({error}): mend the line") from error
    except StopIteration:
        raise UserError(f"{path} has no header: its first line must name the columns") from None
    finally:
        csv.field_size_limit(before)
    return Csv(path, header, rows, np.array(lines, np.int64))
