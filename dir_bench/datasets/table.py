"""Your own table: a csv, tsv or parquet file with a target column, and columns of numbers or categories."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dir_bench.datasets.arrays import ArraySplit
from dir_bench.datasets.base import STAND_IN, CheckReport, Data, IntArray, file_hash
from dir_bench.datasets.recognition import Found, Place
from dir_bench.datasets.tables import example, recognised
from dir_bench.datasets.tables.encoding import Encoding, fit
from dir_bench.datasets.tables.holdout import HELD_OUT, hold_out
from dir_bench.datasets.tables.published import FILES, HOME, remote
from dir_bench.errors import UserError, nearest
from dir_bench.files.arrays import refuse_blurred
from dir_bench.files.plain import is_missing
from dir_bench.files.table import Table, read_table
from dir_bench.labels import TargetBins
from dir_bench.lazy import Lazy

if TYPE_CHECKING:
    import pandas as pd

    from dir_bench.datasets.download.remote import Remote
else:
    pd = Lazy("pandas")

SPLITS = ("train", "val", "test")
WAYS = ("refuse", "mean", "drop")
"""What is done about missing values."""

log = logging.getLogger("dir_bench")


@dataclass(frozen=True)
class Part:
    """Rows of a table that make a split, shape ``(n,)``, and their targets, label units."""

    table: Table
    rows: IntArray
    targets: npt.NDArray[np.float64]


class Tabular:
    """A table with a target and what it is predicted from: every other column.

    A path is one below `data_dir` or, if there is none, one from the working folder. What is learned of the columns
    (means, deviations, categories) comes from the training rows alone.

    Args:
        data_dir: Where the example of `dir-bench data sample` and published files lie.
        path: The table, or its training part where `val` or `test` is given: .csv, .tsv or .parquet.
        val: The validation part; None: rows that `split_column` names so, or that are drawn (`tables.holdout`).
        test: The test part; None: the same.
        target: Column of targets, label units.
        split_column: Column of train, val or test, if the table has it; None: it has none.
        id_column: Column that names what a row is about (a person, a house): no input, and in one split only.
        ignore: Columns that are no inputs.
        categories: Columns of numbers that are categories. Columns of text always are, one-hot.
        most_categories: Categories of a column that get an input each, the most frequent in training. Others, and
            those that training does not have, are zero in all of them.
        missing: "refuse" missing values; "mean": the training mean, and one more input that says so (for categories,
            one of their own); "drop" the rows.
        held_out: Part of the rows that is drawn for validation, and again for test, at most.
        split_seed: Of that draw.
    """

    split_bins: TargetBins | None = None
    """What held-out rows are drawn evenly over; None: bins chosen from the targets."""
    looks_for = "a csv, tsv or parquet table whose first line names the columns, one of them of numbers"

    @classmethod
    def recognise(cls, place: Place) -> Found | None:
        """See whether there is such a table."""
        return recognised.as_numbers(place)

    def __init__(
        self,
        data_dir: str,
        path: str = "sample.csv",
        val: str | None = None,
        test: str | None = None,
        target: str = "target",
        split_column: str | None = "split",
        id_column: str | None = None,
        ignore: Sequence[str] = (),
        categories: Sequence[str] = (),
        most_categories: int = 30,
        missing: str = "refuse",
        held_out: float = HELD_OUT,
        split_seed: int = 0,
    ) -> None:
        if not isinstance(target, str):
            raise UserError(
                f"dataset.source.target={target}: a run has one target, since bins and regions are those of one; name "
                "one, and the others in dataset.source.ignore"
            )
        if missing not in WAYS:
            raise UserError(f"dataset.source.missing={missing} is not one of {', '.join(WAYS)}{nearest(missing, WAYS)}")
        if not 0 < held_out < 0.5 or most_categories < 2 or split_seed < 0:
            raise UserError(
                "dataset.source: held_out must lie between 0 and 0.5, most_categories be at least 2 and split_seed not "
                f"negative, not held_out={held_out}, most_categories={most_categories}, split_seed={split_seed}"
            )
        self.data_dir, self.target, self.missing = Path(data_dir), target, missing
        self.paths = {name: Path(p) for name, p in zip(SPLITS, (path, val, test), strict=True) if p is not None}
        self.split_column, self.id_column = split_column, id_column
        self.ignore, self.categories, self.most_categories = tuple(ignore), tuple(categories), most_categories
        self.held_out, self.split_seed = held_out, split_seed

    @property
    def requirements(self) -> str:
        """What has to be on disk."""
        return (
            "your own table, csv, tsv or parquet: dataset.source.path=FILE dataset.source.target=COLUMN "
            "(`dir-bench data sample table` writes an example)"
        )

    def require(self) -> None:
        """Say what to give, or to get, if a file is missing."""
        self._require_files()

    def _require_files(self) -> None:
        for path in self.paths.values():
            self._found(path)

    def fingerprint(self) -> str:
        """Return a hash of the contents of each file, wherever it lies."""
        return " ".join(f"{name} {file_hash(self._found(path))}" for name, path in self.paths.items())

    def load(self) -> Data:
        """Read the tables; UserError names the file, the line and the column of what is wrong, and what can be set."""
        data = self._data()
        if self._drawn:
            log.info("%s", self._drawn)
        return data

    def train_targets(self) -> npt.NDArray[np.float64]:
        """Return the targets of the training part."""
        return self._parts["train"].targets

    def check(self) -> CheckReport:
        """Read the tables; report columns, sizes, ranges, and rows that stand in two splits."""
        try:
            about, parts = self._about_inputs(), self._parts
        except UserError as error:
            return CheckReport({}, (str(error),))
        facts: dict[str, Any] = {"files": self._about_files(), "columns": f"{self.target} by {about}"}
        for name, part in parts.items():
            low, high = part.targets.min(), part.targets.max()
            facts[name] = f"{len(part.rows)} rows, {self.target} {low:g} to {high:g}"
        if self._drawn:
            facts["splits"] = self._drawn
        if dropped := self._dropped:
            facts["left out, as values are missing"] = f"{dropped} rows"
        if twice := self._twice():
            facts["rows that are in training too, to the last value (no leak where things are alike)"] = twice
        targets = {name: part.targets.astype(np.float32) for name, part in parts.items()}
        return CheckReport(facts, (), partial(TargetBins.counts, targets=targets["train"]), targets)

    def new_samples(self, files: Sequence[Path]) -> tuple[pd.DataFrame, ArraySplit]:
        """Read one table with the columns that the run was trained on; others are kept, and not looked at."""
        if len(files) != 1:
            raise UserError(f"{' '.join(map(str, files[:3]))}: give one table")
        table = read_table(files[0])
        rows = np.arange(len(table))
        self._refuse_missing(table, "mean" if self.missing == "mean" else "refuse", new=True)
        inputs = self._encoding.encode(table, rows)
        return table.frame, ArraySplit(inputs, np.full(len(rows), np.nan, np.float32))

    def stands_in(self) -> str:
        """Say whether the table is the example."""
        made_up = any(str(name).startswith(example.MADE_UP) for name in self._tables["train"].frame.columns)
        return STAND_IN if made_up else ""

    def sample(self, folder: Path, n: int = 2000, seed: int = 0) -> Path:
        """Write an example: numbers and a category that determine a skewed target but for some noise."""
        files = {name: folder / path.name for name, path in self.paths.items()}
        example.write(files, self.target, self.split_column or "split", n, seed)
        return files["train"]

    def _about_inputs(self) -> str:
        """Say what the inputs are; UserError if a row's cannot be made."""
        self._data()
        return str(self._encoding)

    def _data(self) -> Data:
        train, val, test = (
            ArraySplit(self._encoding.encode(part.table, part.rows), part.targets.astype(np.float32))
            for part in self._parts.values()
        )
        return Data(train, val, test, backbone_kwargs={"in_features": self._encoding.width}, kind="vectors")

    def _found(self, path: Path) -> Path:
        below = self.data_dir / path
        if not is_missing(below):
            return below
        if not is_missing(path):
            return path
        where = f"neither {below} nor {path} is there" if below != path else f"{path} is not there"
        raise UserError(f"missing {self.requirements}; {where}")

    @cached_property
    def _tables(self) -> dict[str, Table]:
        return {name: read_table(self._found(path)) for name, path in self.paths.items()}

    @cached_property
    def _inputs(self) -> list[str]:
        """Names of the columns that are inputs."""
        self._require_columns(ignore=self.ignore, categories=self.categories)
        apart = [self.target, *self.ignore, *([self.id_column] if self.id_column else [])]
        if self._splits_named:
            apart.append(str(self.split_column))
        return [str(name) for name in self._tables["train"].frame.columns if name not in apart]

    def _require_columns(self, **named: Sequence[str]) -> None:
        """Raise UserError unless the table has the target, the ids, and the columns that these settings name."""
        table = self._tables["train"]
        table.column(
            self.target, f"dataset.source.target to one of them, as dataset.source.target={table.frame.columns[0]}"
        )
        for key, names in {"id_column": [self.id_column] if self.id_column else [], **named}.items():
            for name in names:
                table.column(name, f"dataset.source.{key}", unused=key == "ignore")

    @property
    def _splits_named(self) -> bool:
        named = self.split_column is not None and self.split_column in self._tables["train"].frame.columns
        if named and len(self.paths) > 1:
            raise UserError(
                f"{self._tables['train'].path} has a column '{self.split_column}', and there are files for splits too: "
                "set dataset.source.split_column=null to make it an input, or drop the files"
            )
        return named

    @cached_property
    def _kept(self) -> dict[str, IntArray]:
        """Rows of each table that are used, in its order."""
        kept = {}
        for name, table in self._tables.items():
            kept[name] = np.flatnonzero(~self._refuse_missing(table, self.missing))
            if not len(kept[name]):
                raise UserError(f"{table.path}: every row has a missing value: set dataset.source.missing=mean")
        return kept

    def _refuse_missing(self, table: Table, way: str, *, new: bool = False) -> npt.NDArray[np.bool_]:
        """Return which rows are left out for what is missing; UserError if it may not be.

        Args:
            table: That they are of.
            way: One of `WAYS`.
            new: Whether a trained network is asked about them, for which no setting can be changed.
        """
        used = [*self._inputs, *([self.target] if way == "drop" else [])]
        gaps = {name: where for name in used if (where := table.missing(name)).any()}
        if not gaps or way == "mean":
            return np.zeros(len(table), np.bool_)
        wrong: npt.NDArray[np.bool_] = np.any(list(gaps.values()), axis=0)
        if way == "drop":
            return wrong
        counts = ", ".join(f"{name} {int(where.sum())}" for name, where in list(gaps.items())[:10])
        first = table.frame.index[int(np.flatnonzero(wrong)[0])]
        mean = "dataset.source.missing=mean (training means, and inputs that mark them)"
        then = "fill them in, or leave these rows out" if new else f"set {mean} or drop (without these rows)"
        raise UserError(
            f"{table.path}: {int(wrong.sum())} of {len(table)} rows lack values (by column: {counts}; first in "
            f"{table.place} {first}): {then}"
        )

    @property
    def _dropped(self) -> int:
        return sum(len(table) - len(self._kept[name]) for name, table in self._tables.items())

    @cached_property
    def _parts(self) -> dict[str, Part]:
        """The three splits."""
        parts = {}
        for name, table in self._tables.items():
            rows = self._kept[name]
            also = "" if self.missing == "drop" else ", or set dataset.source.missing=drop for rows without one"
            parts[name] = Part(table, rows, table.targets(self.target, rows, also))
        whole = parts["train"]
        if len(whole.rows) < 2:
            raise UserError(f"{whole.table.path} has one row of data: there is nothing to learn from it")
        refuse_blurred(whole.targets, f"{whole.table.path}: {self.target}")
        if self._splits_named:
            named = whole.table.column(str(self.split_column))
            whole.table.refuse(~named.isin(SPLITS).to_numpy(np.bool_), named, f"is not one of {', '.join(SPLITS)}")
            of_row = named.to_numpy(str)[whole.rows]
        elif lacking := [name for name in SPLITS if name not in parts]:
            of_row = hold_out(
                whole.targets,
                self._keys(whole),
                lacking,
                share=self.held_out,
                bounded=self.id_column is not None,
                seed=self.split_seed,
                bins=self.split_bins,
            )
        else:
            of_row = np.full(len(whole.rows), "train")
        for name in SPLITS:
            if name == "train" or name not in parts:
                own = of_row == name
                if not own.any():
                    raise UserError(f"{whole.table.path} has no row of the split '{name}': give it some")
                parts[name] = Part(whole.table, whole.rows[own], whole.targets[own])
        self._refuse_leaks(parts)
        return {name: parts[name] for name in SPLITS}

    def _keys(self, part: Part) -> IntArray:
        """Return one number for rows of one id, or, without ids, for rows whose inputs are equal."""
        names = [self.id_column] if self.id_column else self._inputs
        rows = part.table.frame[names].iloc[part.rows]
        return np.asarray(rows.groupby(names, dropna=False, sort=False).ngroup(), np.int64)

    def _refuse_leaks(self, parts: Mapping[str, Part]) -> None:
        if self.id_column is None:
            return
        held = [part.table.text(self.id_column).iloc[part.rows].drop_duplicates() for part in parts.values()]
        ids = pd.concat(held, keys=list(parts))
        again = ids.duplicated()
        if not again.any():
            return
        number = pd.factorize(ids, use_na_sentinel=False)[0]
        (one, line), (other, another) = ids.index[number == number[again][0]][:2]
        first, second = parts[one].table, parts[other].table
        raise UserError(
            f"{self.id_column} '{ids[again].iloc[0]}' is in {one} ({first.path}, {first.place} {line}) and in {other} "
            f"({second.path}, {second.place} {another}), and {int(again[other].sum()) - 1} others are in two splits: "
            "that leaks; give all rows of one to one split"
        )

    @cached_property
    def _encoding(self) -> Encoding:
        train = self._parts["train"]
        return fit(
            train.table, train.rows, self._inputs, categories=self.categories, most_categories=self.most_categories
        )

    @property
    def _drawn(self) -> str:
        """Say how splits were drawn; "" if none was."""
        lacking = [name for name in SPLITS if name not in self.paths]
        if not lacking or self._splits_named:
            return ""
        sizes = ", ".join(f"{len(part.rows)} {name}" for name, part in self._parts.items())
        return (
            f"{' and '.join(lacking)} drawn with seed {self.split_seed}: of each bin of the target a third at most, "
            f"and as many of common as of rare ones where there are enough ({sizes})"
        )

    def _twice(self) -> str:
        """Count the rows of each split that are in training too, target included."""
        names = [*self._inputs, self.target]
        rows = [part.table.frame[names].iloc[part.rows] for part in self._parts.values()]
        number = pd.concat(rows).groupby(names, dropna=False, sort=False).ngroup().to_numpy()
        train, *others = np.split(number, np.cumsum([len(part) for part in rows])[:-1])
        counts = {name: int(np.isin(other, train).sum()) for name, other in zip(SPLITS[1:], others, strict=True)}
        return ", ".join(f"{count} of {name}" for name, count in counts.items() if count)

    def _about_files(self) -> str:
        shown = ", ".join(str(table.path) for table in self._tables.values())
        return f"{shown} ({self.stands_in()}: good for a trial, not for results)" if self.stands_in() else shown


class Published(Tabular):
    """One of the ten tables of the DenseWeight paper, with its splits; see `tables.published`."""

    @property
    def requirements(self) -> str:
        """What has to be on disk."""
        names = ", ".join(str(path) for path in self.paths.values())
        return f"{names}: `dir-bench data fetch tables` gets them from {HOME} (GPL-3; data of UCI, LIACC)"

    @property
    def remotes(self) -> tuple[Remote, ...]:
        """The three files."""
        return tuple(remote(path.name) for path in self.paths.values())

    def stands_in(self) -> str:
        """Say whether the files are made up, or others than the published ones."""
        return super().stands_in() or ("" if self._as_published else "other files than the published ones")

    @cached_property
    def _as_published(self) -> bool:
        return all(file_hash(self._found(path)) == FILES.get(path.name, (0, ""))[1] for path in self.paths.values())

    def _about_files(self) -> str:
        return super()._about_files() if self.stands_in() else f"{super()._about_files()} (the published ones)"
