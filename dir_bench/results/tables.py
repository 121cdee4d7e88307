"""Tables of the paper's shape, from run folders alone: mean and spread over seeds, beside published numbers.

Numbers stay in full precision and label units here; `render` formats them when they are printed.
"""

import logging
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from dir_bench.errors import UserError, nearest
from dir_bench.evaluation.extra import merit
from dir_bench.labels.regions import MAIN_REGIONS, REGIONS
from dir_bench.results import comparison, published, selection
from dir_bench.results.export import check_format, render
from dir_bench.results.holes import fill_command, missing_rows
from dir_bench.results.records import Problem, collect
from dir_bench.results.rows import REFERENCE, Cell, Column, Row, Table

_DEFAULT_METRICS = ("mae", "gm")

log = logging.getLogger(__name__)


def table(
    paths: Iterable[Path | str] = ("outputs",),
    format: str = "text",
    against: str | Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
    *,
    compare: str | None = None,
    over: comparison.Over = "seeds",
    gains: bool = False,
    presets: Sequence[str] | None = None,
    spread: str = "interval",
    select: Sequence[str] | None = None,
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
        compare: A row, such as "VANILLA": all others are tested against it, see `comparison`.
        over: What they are tested over: "seeds", or the "samples" of the test split.
        gains: Whether to show gains over VANILLA.
        presets: The method presets there are. With them, rows of the paper's table that have no run are shown as
            holes, with the command that fills each.
        select: Of rows that differ in these settings alone, only the best on validation is shown, see `selection`.
        spread: What stands behind the ±: the "interval" of 95 %, or the "std".
        width: Characters in a line of text; by default the terminal's.
        colour: Whether text may carry terminal codes; by default, if standard output is a terminal.

    Raises:
        UserError: If there is no run under `paths`, a format, metric, region, paper or row is unknown, or rows to
            compare were tested on different samples.
    """
    check_format(format)
    records, problems = collect_some(paths)
    tables = summarise(
        records,
        metrics=metrics,
        regions=regions,
        against=against,
        compare=compare,
        over=over,
        gains=gains,
        presets=presets,
        spread=spread,
        select=select,
    )
    problems += [problem for made in tables for problem in made.left_out]
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
    over: comparison.Over = "seeds",
    gains: bool = False,
    presets: Sequence[str] | None = None,
    spread: str = "interval",
    select: Sequence[str] | None = None,
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
    picked: dict[str, list[str]] = {}
    if select is not None and not records.empty:
        records, picked = selection.select(records, select)
    parts = [part for _, part in records.groupby(["dataset", "title"], sort=True)]
    choices = (metrics, regions, papers, presets, gains, spread)
    tables = [_summarise_dataset(part, *choices) for part in parts]
    tables = [replace(table, notes=(*picked.get(table.title, ()), *table.notes)) for table in tables]
    if compare is None or not tables:
        return tables
    found = []
    for table, row, part in zip(tables, comparison.chosen(tables, compare), parts, strict=True):
        evidence = comparison.evidence(part, table.columns, over)
        left = comparison.without(part, evidence.unread)
        if left.empty:
            found.append(replace(table, rows=(), left_out=evidence.unread))
            continue
        if evidence.unread:
            table = replace(_summarise_dataset(left, *choices), left_out=evidence.unread)
            if row.label is not None and row.label not in left["label"].unique():
                row = comparison.Choice(None)
        found.append(comparison.compared(table, row, evidence, over))
    return found


def _summarise_dataset(
    records: pd.DataFrame,
    metrics: Sequence[str] | None,
    regions: Sequence[str] | None,
    papers: tuple[str, ...],
    presets: Sequence[str] | None,
    gains: bool,
    spread: str,
) -> Table:
    title = str(records["title"].iloc[0])
    columns = _columns(title, records, metrics, regions)
    cells = _cells(records, columns)
    runs = records.drop_duplicates("path")
    every_seed = tuple(sorted(map(int, set(runs["seed"]))))
    rows = []
    by_label: dict[str, list[dict[Any, Any]]] = {}
    for run in runs[["label", "seed", "method", "command", "legend", "departures"]].to_dict("records"):
        by_label.setdefault(run["label"], []).append(run)
    for label, part in by_label.items():
        seeds, first = tuple(sorted(run["seed"] for run in part)), part[0]
        missing = tuple(seed for seed in every_seed if seed not in seeds)
        fill = fill_command(shlex.split(first["command"]), missing) if first["command"] and missing else ""
        held = {column: cells[label, *column] for column in columns if (label, *column) in cells}
        row = Row(label, first["method"], seeds, missing, fill, held, *_printed(title, first["method"], papers))
        rows.append(replace(row, legend=first["legend"], departures=_departures(run["departures"] for run in part)))
    for hole in missing_rows(title, runs, papers, presets):
        fill = fill_command(hole.overrides, every_seed) if hole.overrides else ""
        numbers = _printed(title, hole.method, papers)
        rows.append(Row(hole.method, hole.method, (), every_seed, fill, {}, *numbers))
    order = {name: place for place, name in enumerate(published.methods(title))}
    rows.sort(key=lambda row: (_place(title, row.method, order), row.label))
    notes = _notes(records, runs, columns)
    counts = _counts(records, columns)
    table = Table(str(records["dataset"].iloc[0]), title, papers, columns, tuple(rows), counts, notes, spread=spread)
    return _with_gains(table) if gains else table


def _departures(of_runs: Iterable[str | None]) -> tuple[str, ...] | None:
    """Return in what the runs of a row depart from the recipe: all that any of them does; None if none records it."""
    recorded = [text for text in of_runs if isinstance(text, str)]  # in a column of text, pandas has NaN for None
    return tuple(dict.fromkeys(line for text in recorded for line in text.splitlines())) if recorded else None


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


def _cells(records: pd.DataFrame, columns: Sequence[Column]) -> dict[tuple[Any, ...], Cell]:
    """Return {(label, metric, region): cell} of what is shown and has a number."""
    metrics, regions = ({column[place] for column in columns} for place in (0, 1))
    shown = records["metric"].isin(metrics) & records["region"].isin(regions) & records["value"].notna()
    groups = records[shown].groupby(["label", "metric", "region"], sort=False)["value"]
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
    notes = sorted({text for text in runs["note"] if text})
    monitors = sorted({name for name in runs["monitor"] if name})
    if monitors:
        notes.append(f"Checkpoints selected by {', '.join(monitors)}.")
    tested = records.loc[records["region"] == "all", "count"].unique()
    if len(tested) > 1:
        sizes = ", ".join(map(str, sorted(tested.tolist())))
        notes.append(f"Beware: these runs were tested on different splits, of {sizes} samples.")
    asked = {metric for metric, _ in columns}
    if "sera" in asked:
        notes += [f"SERA's relevance of labels: {text}." for text in sorted({t for t in runs["relevance"] if t})]
    if asked & {"uce", "uce_std"}:
        notes.append(
            "UCE is of the expected absolute error; UCE_STD, as UVOTE's code has it, of the standard deviation."
        )
    shown, present = {region for _, region in columns}, records["region"].unique()
    more = [region for region in REGIONS if region not in shown and region in present]
    if more:
        notes.append(f"Also recorded: {', '.join(more)}.")
    return (*notes, *_code(runs))


def _code(runs: pd.DataFrame) -> list[str]:
    """Return with which release, and which commits of it, these runs were made; and that they were with several."""
    made = {str(release): part for release, part in runs.groupby("release", sort=True)}
    said = []
    for release, part in made.items():
        commits = ", ".join(sorted({c for c in part["commit"] if c}))
        named = f"dir_bench {release}" if release else ""
        said += [f"{named} ({commits})" if named and commits else named or commits]
    said = [text for text in said if text]
    notes = [f"Code: {'; '.join(said)}."] if said else []
    if len(made) > 1:
        rows = (
            f"{', '.join(dict.fromkeys(part['label']))} by {release or 'an unknown one'}"
            for release, part in made.items()
        )
        notes.append(
            f"Beware: these runs were made by different releases, whose numbers may differ: {'; '.join(rows)}."
        )
    return notes


def _with_gains(table: Table) -> Table:
    """Add each row's gains over VANILLA, and those of the best row with LDS or FDS, from the table's own means."""
    found = [row for row in table.rows if row.method == REFERENCE and row.cells]
    if len(found) != 1:
        why = f"{len(found)} rows are {REFERENCE}" if found else f"no run is {REFERENCE}"
        return replace(table, notes=(*table.notes, f"No gains: {why}."))
    base = found[0]
    rows = tuple(
        row if row is base or row.departures != base.departures else replace(row, gains=_gains(base, row.cells))
        for row in table.rows
    )
    ours = [row.gains for row in rows if {"LDS", "FDS"} & set(row.method.split(" [")[0].split(" + "))]
    top = {c: max(gains[c] for gains in ours if c in gains) for c in table.columns if any(c in g for g in ours)}
    unlike = [row.label for row in rows if row.cells and row.departures != base.departures]
    ways = f"No gains, as they depart from the dataset's recipe in other ways than {base.label}: {', '.join(unlike)}."
    return replace(table, rows=rows, top_gains=top, notes=(*table.notes, *([ways] if unlike else ())))


def _gains(base: Row, cells: Mapping[Column, Cell]) -> dict[Column, float]:
    return {c: merit(c[0], cell.mean) - merit(c[0], base.cells[c].mean) for c, cell in cells.items() if c in base.cells}
