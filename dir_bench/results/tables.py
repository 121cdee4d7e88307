"""Tables of the paper's shape, from run folders alone: mean and spread over seeds, beside published numbers.

Numbers stay in full precision and label units here; `render` formats them when they are printed.
"""

import logging
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from dir_bench.errors import UserError, nearest
from dir_bench.evaluation.extra import more_is_better
from dir_bench.results import published
from dir_bench.results.holes import fill_command, missing_rows
from dir_bench.results.records import Problem, collect

if TYPE_CHECKING:
    from dir_bench.results.significance import PairedTest, Samples

REGIONS = ("all", "many", "medium", "few", "with_data", "zero", "interp", "extrap")
MAIN_REGIONS = REGIONS[:4]
REFERENCE = "VANILLA"
"""The method that gains are over, as in the last lines of the paper's tables."""
_DEFAULT_METRICS = ("mae", "gm")

Column = tuple[str, str]
"""(metric, region)"""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cell:
    """Mean over `n` seeds in label units, and the sample standard deviation (n − 1), None below two seeds."""

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class Row:
    """One method of one dataset. A column without a number is not in `cells`; a hole has no seeds and no cells."""

    label: str
    method: str
    seeds: tuple[int, ...]
    missing: tuple[int, ...]
    """Seeds that another row of the table has and this one lacks."""
    fill: str
    """The command that runs the missing seeds; "" if none are missing, or nobody knows how it is started."""
    cells: Mapping[Column, Cell]
    printed: Mapping[str, Mapping[Column, float]]
    """For each paper that was asked for and prints this method, its numbers in label units."""
    printed_as: Mapping[str, str]
    """The name of its printed row in each of these papers."""
    gains: Mapping[Column, float] = field(default_factory=dict)
    """Gain over `REFERENCE` in label units, more is better; empty if gains were not asked for."""
    tests: Mapping[Column, "PairedTest"] = field(default_factory=dict)
    """Paired tests against the row that was chosen; empty for that row, or if none was."""


@dataclass(frozen=True)
class Table:
    """One dataset's rows in the paper's order."""

    dataset: str
    title: str
    against: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    counts: Mapping[str, int]
    """Test samples per region."""
    notes: tuple[str, ...]
    compared: str | None = None
    """The label of the row that all others were tested against."""
    top_gains: Mapping[Column, float] = field(default_factory=dict)
    """The gains of the best row with LDS or FDS, as the paper's "OURS (BEST) VS. VANILLA"."""
    near: Mapping[Column, frozenset[str]] | None = None
    """Rows whose difference to the best is not significant; None if nothing was tested."""

    def best(self, column: Column) -> frozenset[str]:
        """Return the labels of the rows with the best mean; none where fewer than two rows have one."""
        means = {row.label: row.cells[column].mean for row in self.rows if column in row.cells}
        if len(means) < 2:
            return frozenset()
        top = _best(column, means.values())
        return frozenset(label for label, mean in means.items() if mean == top)

    def within_noise(self, column: Column) -> frozenset[str]:
        """Return the labels of the rows that are not the best, but cannot be told from it.

        With paired tests: those whose Holm-corrected p against the best is 0.05 or more. Without: those whose
        mean ± standard deviation overlaps the best's, where both have a standard deviation.
        """
        best = self.best(column)
        if self.near is not None or not best:
            return (self.near or {}).get(column, frozenset())
        cells = {row.label: row.cells[column] for row in self.rows if column in row.cells}
        top = [cells[label] for label in best if cells[label].std is not None]
        return frozenset(
            label for label, cell in cells.items() if label not in best and any(_overlap(cell, other) for other in top)
        )


def is_score(metric: str) -> bool:
    """Tell whether more of this metric is better."""
    return more_is_better(metric)


def table(
    paths: Iterable[Path | str] = ("outputs",),
    format: str = "text",
    against: str | Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
    *,
    compare: str | None = None,
    gains: bool = False,
    presets: Sequence[str] | None = None,
    width: int | None = None,
    colour: bool | None = None,
) -> str:
    """Return the tables of all runs under `paths`, one a dataset, and below them the runs that were left out.

    Args:
        paths: Run folders, or folders that hold some.
        format: "text", "md", "latex", "html", "csv" or "json"; the last two with numbers in full precision.
        against: Short names of papers (see `published.papers`): their numbers go beside ours.
        metrics: Which metrics; by default those that the dataset's runs name (`table_metrics`).
        regions: Which regions; by default all, many, medium, few, and what the paper's table of it has besides.
        compare: A row, such as "VANILLA": all others are tested against it, see `significance`.
        gains: Whether to show gains over VANILLA.
        presets: The method presets there are. With them, rows of the paper's table that have no run are shown as
            holes, with the command that fills each.
        width: Characters in a line of text; by default the terminal's.
        colour: Whether text may carry terminal codes; by default, if standard output is a terminal.

    Raises:
        UserError: If there is no run under `paths`, a format, metric, region, paper or row is unknown, or rows to
            compare were tested on different samples.
    """
    from dir_bench.results.render import check_format, render

    check_format(format)
    records, problems = collect_some(paths)
    tables = summarise(
        records, metrics=metrics, regions=regions, against=against, compare=compare, gains=gains, presets=presets
    )
    if format == "csv":  # the one format with no place for them
        for problem in problems:
            log.warning("Left out: %s", problem)
    return render(tables, format, problems=problems, width=width, colour=colour)


def collect_some(paths: Iterable[Path | str]) -> tuple[pd.DataFrame, list[Problem]]:
    """Return `records.collect`; UserError if there is no run at all, finished or not."""
    paths = list(paths)
    records, problems = collect(paths)
    if records.empty and not problems:
        where = ", ".join(map(str, paths))
        raise UserError(f"There is no run under {where}: `dir-bench train` makes one.")
    return records, problems


def summarise(
    records: pd.DataFrame,
    *,
    metrics: Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
    against: str | Sequence[str] | None = None,
    compare: str | None = None,
    gains: bool = False,
    presets: Sequence[str] | None = None,
) -> list[Table]:
    """Turn records (see `records.collect`) into one table per dataset, and per curated subset of one.

    Raises:
        UserError: See `table`.
    """
    papers = tuple(dict.fromkeys([against] if isinstance(against, str) else against or ()))
    for paper in papers:
        published.full_name(paper)
    for asked, column in ((metrics, "metric"), (regions, "region")):
        known = records[column].unique().tolist()
        for name in asked or ():
            if name not in known and known:
                hint = nearest(name, known)
                raise UserError(f"No run has the {column} '{name}'{hint}: there are {', '.join(known)}.")
    parts = [part for _, part in records.groupby(["dataset", "title"], sort=True)]
    tables = [_summarise_dataset(part, metrics, regions, papers, presets) for part in parts]
    if gains:
        tables = [_with_gains(table) for table in tables]
    if compare is not None and tables:
        chosen = _chosen(tables, compare)
        tables = [_compared(table, label, part) for table, label, part in zip(tables, chosen, parts, strict=True)]
    return tables


def _summarise_dataset(
    records: pd.DataFrame,
    metrics: Sequence[str] | None,
    regions: Sequence[str] | None,
    papers: tuple[str, ...],
    presets: Sequence[str] | None,
) -> Table:
    title = str(records["title"].iloc[0])
    columns = _columns(title, records, metrics, regions)
    cells = _cells(records)
    runs = records.drop_duplicates("path")
    every_seed = tuple(sorted(map(int, set(runs["seed"]))))
    rows = []
    for label, part in runs.groupby("label", sort=False):
        seeds = tuple(sorted(map(int, part["seed"])))
        missing = tuple(seed for seed in every_seed if seed not in seeds)
        method, command = str(part["method"].iloc[0]), shlex.split(str(part["command"].iloc[0]))
        fill = fill_command(command, missing) if command and missing else ""
        held = {column: cells[label, *column] for column in columns if (label, *column) in cells}
        rows.append(Row(str(label), method, seeds, missing, fill, held, *_printed(title, method, papers)))
    for hole in missing_rows(title, runs, papers, presets):
        fill = fill_command(hole.overrides, every_seed) if hole.overrides else ""
        numbers = _printed(title, hole.method, papers)
        rows.append(Row(hole.method, hole.method, (), every_seed, fill, {}, *numbers))
    order = {name: place for place, name in enumerate(published.methods(title))}
    rows.sort(key=lambda row: (_place(title, row.method, order), row.label))
    notes = _notes(records, runs, columns)
    return Table(str(records["dataset"].iloc[0]), title, papers, columns, tuple(rows), _counts(records, columns), notes)


def _columns(
    title: str, records: pd.DataFrame, metrics: Sequence[str] | None, regions: Sequence[str] | None
) -> tuple[Column, ...]:
    if metrics is None:
        named = [name for text in records["table_metrics"].unique() for name in text.split(",") if name]
        present = records["metric"].unique()
        metrics = list(dict.fromkeys(named)) or [m for m in _DEFAULT_METRICS if m in present]
    if regions is None:
        usual = {*MAIN_REGIONS, *(row.region for row in published.find(title))}
        present = records["region"].unique()
        regions = [region for region in REGIONS if region in usual and region in present]
    return tuple((metric, region) for metric in metrics for region in regions)


def _cells(records: pd.DataFrame) -> dict[tuple[Any, ...], Cell]:
    """Return {(label, metric, region): cell} of what has a number."""
    groups = records.dropna(subset="value").groupby(["label", "metric", "region"], sort=False)["value"]
    stats = groups.agg(["mean", "std", "count"])
    return {
        key: Cell(mean, std if n > 1 else None, n)
        for key, mean, std, n in zip(stats.index.tolist(), *(stats[c].tolist() for c in stats), strict=True)
    }


def _printed(title: str, method: str, papers: Sequence[str]) -> tuple[dict[str, dict[Column, float]], dict[str, str]]:
    """Return the numbers of a method in each paper, label units, and what its row is called there."""
    found, names = {}, {}
    for paper in papers:
        row = published.published_row(title, method, paper=paper)
        if row is not None:
            names[paper] = row
            numbers = published.numbers(title, row, paper=paper)
            found[paper] = {c: value / 100 if c[0] in published.PER_CENT else value for c, value in numbers.items()}
    return found, names


def _place(title: str, method: str, order: Mapping[str, int]) -> int:
    """Return where a row stands: in the paper's order; what the paper lacks after that, VANILLA first."""
    printed = published.published_row(title, method)
    return order[printed] if printed else len(order) + (not method.startswith("VANILLA"))


def _counts(records: pd.DataFrame, columns: Sequence[Column]) -> dict[str, int]:
    """Return test samples per region, where all runs agree on them."""
    sizes = {str(region): part.unique().tolist() for region, part in records.groupby("region")["count"]}
    shown = dict.fromkeys(region for _, region in columns)
    return {region: int(sizes[region][0]) for region in shown if len(sizes.get(region, ())) == 1}


def _notes(records: pd.DataFrame, runs: pd.DataFrame, columns: Sequence[Column]) -> tuple[str, ...]:
    notes = []
    monitors = sorted({name for name in runs["monitor"] if name})
    if monitors:
        notes.append(f"Checkpoints selected by {', '.join(monitors)}.")
    tested = records.loc[records["region"] == "all", "count"].unique()
    if len(tested) > 1:
        sizes = ", ".join(map(str, sorted(tested.tolist())))
        notes.append(f"Beware: these runs were tested on different splits, of {sizes} samples.")
    shown, present = {region for _, region in columns}, records["region"].unique()
    more = [region for region in REGIONS if region not in shown and region in present]
    if more:
        notes.append(f"Also recorded: {', '.join(more)}.")
    commits = sorted({commit for commit in runs["commit"] if commit})
    if commits:
        notes.append(f"Code: {', '.join(commits)}.")
    return tuple(notes)


def _with_gains(table: Table) -> Table:
    """Add each row's gains over VANILLA, and those of the best row with LDS or FDS, from the table's own means."""
    found = [row for row in table.rows if row.method == REFERENCE and row.cells]
    if len(found) != 1:
        why = f"{len(found)} rows are {REFERENCE}" if found else f"no run is {REFERENCE}"
        return replace(table, notes=(*table.notes, f"No gains: {why}."))
    base = found[0]
    rows = tuple(row if row is base else replace(row, gains=_gains(base, row.cells)) for row in table.rows)
    ours = [row.gains for row in rows if {"LDS", "FDS"} & set(row.method.split(" [")[0].split(" + "))]
    top = {c: max(gains[c] for gains in ours if c in gains) for c in table.columns if any(c in g for g in ours)}
    return replace(table, rows=rows, top_gains=top)


def _gains(base: Row, cells: Mapping[Column, Cell]) -> dict[Column, float]:
    return {
        c: (cell.mean - base.cells[c].mean) * (1 if is_score(c[0]) else -1)
        for c, cell in cells.items()
        if c in base.cells
    }


def _chosen(tables: Sequence[Table], name: str) -> list[str | None]:
    """Return for each table the label of the row of this name (a label or a method, in any case), or None."""
    chosen: list[str | None] = []
    for table in tables:
        rows = [row for row in table.rows if row.seeds]
        exact = [row.label for row in rows if row.label.casefold() == name.casefold()]
        found = exact or [row.label for row in rows if row.method.casefold() == name.casefold()]
        if len(found) > 1:
            raise UserError(f"Several rows of {table.title} are '{name}': name one of {'; '.join(found)}.")
        chosen.append(found[0] if found else None)
    if not any(chosen):
        labels = list(dict.fromkeys(row.label for table in tables for row in table.rows if row.seeds))
        raise UserError(f"No row '{name}' to compare with{nearest(name, labels)}: there are {'; '.join(labels)}.")
    return chosen


def _compared(table: Table, reference: str | None, records: pd.DataFrame) -> Table:
    """Test every row against the reference and against the best of each column."""
    from dir_bench.results.significance import read_samples

    if reference is None:
        return replace(table, notes=(*table.notes, "Not tested: the row to compare with is not in this table."))
    samples = read_samples(records, table.columns)
    labels = [row.label for row in table.rows if row.seeds]
    tests = {column: samples.against(reference, column, labels) for column in table.columns}
    rows = tuple(
        replace(row, tests={c: found[row.label] for c, found in tests.items() if row.label in found})
        for row in table.rows
    )
    near = {column: _near_best(table, samples, column, labels) for column in table.columns}
    untested = [row.label for row in rows if row.cells and not row.tests and row.label != reference]
    notes = [*table.notes, *samples.notes]
    if untested:
        notes.append(f"Not tested, as they share no seed with {reference}: {', '.join(untested)}.")
    return replace(table, rows=rows, near=near, compared=reference, notes=tuple(notes))


def _near_best(table: Table, samples: "Samples", column: Column, labels: Sequence[str]) -> frozenset[str]:
    best = table.best(column)
    if not best:
        return frozenset()
    tests = samples.against(min(best), column, labels)
    return frozenset(label for label, test in tests.items() if label not in best and not test.significant)


def _best(column: Column, means: Iterable[float]) -> float:
    return max(means) if is_score(column[0]) else min(means)


def _overlap(a: Cell, b: Cell) -> bool:
    return a.std is not None and b.std is not None and abs(a.mean - b.mean) <= a.std + b.std
