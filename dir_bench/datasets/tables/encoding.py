"""From the columns of a table to the numbers of a vector, by what the training part has: means, spreads, categories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dir_bench.datasets.base import IntArray
from dir_bench.errors import UserError
from dir_bench.files.table import Table
from dir_bench.files.text import text_type

NUMERIC = 0.9
"""A column of which more values than this part are numbers is one of numbers; others in it are mistakes."""
IDENTIFIER = 0.5
"""Text of which more values than this part are different, and more than there may be categories, names the rows."""
_COMMAS = r"[+-]?(\d{1,3}(,\d{3})+(\.\d+)?|\d{1,3}(\.\d{3})+,\d+|\d*,\d+)"
"""A number with commas between thousands or before decimals."""
_FEWEST = 10
"""Texts that must be there before they are taken for such numbers: fewer may be so by chance."""
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Numbers:
    """A column of numbers: less the training mean, over the training deviation; a value that is missing is the mean.

    Attributes:
        name: Of the column.
        mean: Of its values in training.
        std: Of its values in training.
        marked: Whether a second number says that the value is missing, because some are in training.
    """

    name: str
    mean: float
    std: float
    marked: bool

    @property
    def width(self) -> int:
        """Numbers that it gives."""
        return 1 + self.marked

    def encode(self, table: Table, rows: IntArray) -> Floats:
        """Return the numbers of some rows, shape ``(n, width)``; UserError at a value that is none."""
        missing, found = table.missing(self.name), table.numbers(self.name)
        inside = np.zeros(len(table), np.bool_)
        inside[rows] = True
        wrong = inside & np.isnan(found) & ~missing
        also = f", or set dataset.source.categories=[{self.name}]"
        table.refuse_numbers(wrong, self.name, "and the column is one of numbers", also)
        scaled = np.where(missing, 0.0, (found - self.mean) / self.std)
        far = f"is too far from the training values (about {self.mean:g}) for numbers of 32 bits"
        table.refuse(inside & (np.abs(scaled) > np.finfo(np.float32).max), table.column(self.name), far)
        scaled = scaled[rows]
        parts = [scaled, missing[rows]] if self.marked else [scaled]
        return np.stack(parts, axis=1).astype(np.float32)


@dataclass(frozen=True)
class Categories:
    """A column of categories, one-hot; one that training has not, or too rarely, is all zeros.

    Attributes:
        name: Of the column.
        values: The categories that have a number each; "" stands for a missing one.
        rare: Training categories that have none.
    """

    name: str
    values: tuple[str, ...]
    rare: int

    @property
    def width(self) -> int:
        """Numbers that it gives."""
        return len(self.values)

    def encode(self, table: Table, rows: IntArray) -> Floats:
        """Return the numbers of some rows, shape ``(n, width)``."""
        import pandas as pd

        table.column(self.name)
        known = pd.Index(self.values, dtype=text_type())
        place = known.get_indexer(pd.Index(_categories(table, self.name)[rows], dtype=text_type()))
        return np.asarray(place[:, None] == np.arange(len(self.values)), np.float32)


@dataclass(frozen=True)
class Encoding:
    """All columns, in their order.

    Attributes:
        columns: Those that are used.
        constant: Names of those that are not, as training has one value only.
    """

    columns: tuple[Numbers | Categories, ...]
    constant: tuple[str, ...]

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return sum(column.width for column in self.columns)

    def encode(self, table: Table, rows: IntArray) -> Floats:
        """Return the vectors of some rows, shape ``(n, width)``; UserError as of the columns."""
        return np.concatenate([column.encode(table, rows) for column in self.columns], axis=1)

    def __str__(self) -> str:
        numbers = sum(isinstance(column, Numbers) for column in self.columns)
        marked = sum(isinstance(column, Numbers) and column.marked for column in self.columns)
        said = f"{numbers} columns of numbers" + (f" ({marked} with a mark where they are missing)" if marked else "")
        for column in self.columns:
            if isinstance(column, Categories):
                rare = f" and {column.rare} rarer ones" if column.rare else ""
                said += f", {column.name} ({column.width} categories{rare})"
        left = f"; left out, as training has one value: {', '.join(self.constant)}" if self.constant else ""
        return f"{said}: {self.width} inputs{left}"


def fit(
    table: Table, rows: IntArray, names: Sequence[str], *, categories: Sequence[str], most_categories: int
) -> Encoding:
    """Learn from training rows how columns become numbers.

    Args:
        table: That holds the training part.
        rows: Its training rows.
        names: Columns to use.
        categories: Those of them that are categories, though numbers stand in them.
        most_categories: Categories of a column that get a number each at most, the most frequent ones.

    Raises:
        UserError: If a column holds nothing, or names the rows instead of describing them.
    """
    found: list[Numbers | Categories] = []
    constant = []
    for name in names:
        missing, numbers = table.missing(name)[rows], table.numbers(name)[rows]
        if missing.all():
            raise UserError(f"{table.path}: {name} has no value in training: set dataset.source.ignore=[{name}]")
        held = numbers[~missing]
        if name not in categories and np.isfinite(held).mean() > NUMERIC:
            held = held[np.isfinite(held)]
            one = bool(held.min() == held.max())  # then its mean and deviation may be off by a rounding error
            mean, std = (float(held[0]), 1.0) if one else (float(held.mean()), float(held.std()))
            if one and not missing.any():
                constant.append(name)
            else:
                found.append(Numbers(name, mean, std, bool(missing.any())))
        elif name not in categories and (example := with_commas(table, name, rows)):
            raise UserError(
                f"{table.path}: {name} holds numbers with commas, such as '{example}': write them without, and with a "
                f"decimal point, or set dataset.source.categories=[{name}] to keep them as kinds"
            )
        elif (made := _of_text(table, rows, name, most_categories)).width > 1:
            found.append(made)
        else:
            constant.append(name)
    if not found:
        raise UserError(f"{table.path} has no column that differs from row to row, besides the target")
    return Encoding(tuple(found), tuple(constant))


def with_commas(table: Table, name: str, rows: IntArray | slice = slice(None)) -> str:
    """Return an example of a column's texts if nearly all are numbers with commas of thousands or decimals, else ""."""
    texts = table.text(name).iloc[rows][(np.isnan(table.numbers(name)) & ~table.missing(name))[rows]]
    if len(texts) < _FEWEST:
        return ""
    so = texts.str.strip().str.fullmatch(_COMMAS)
    return str(texts[so].iloc[0])[:60] if so.mean() > NUMERIC else ""


def _of_text(table: Table, rows: IntArray, name: str, most: int) -> Categories:
    values, counts = np.unique(_categories(table, name)[rows], return_counts=True)
    if len(values) > max(most, IDENTIFIER * len(rows)):
        raise UserError(
            f"{table.path}: {name} holds {len(values)} different texts in {len(rows)} training rows, so it names rows "
            f"and describes none: set dataset.source.id_column={name}, or dataset.source.ignore=[{name}]"
        )
    frequent = values[np.lexsort((values, -counts))][:most]
    return Categories(name, tuple(sorted(map(str, frequent))), len(values) - len(frequent))


def _categories(table: Table, name: str) -> npt.NDArray[np.str_]:
    """Return the text of each row; a whole number is the same with and without decimals.

    Programs write whole numbers as fractions as soon as one of a column is missing.
    """
    text = table.text(name).str.strip().str.replace(r"^([+-]?\d+)\.0+$", r"\1", regex=True)
    return np.where(table.missing(name), "", text.to_numpy(dtype=object)).astype(str)
