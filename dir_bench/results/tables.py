"""Tables of the paper's shape, from run folders alone: mean and spread over seeds, beside published numbers.

Numbers stay in full precision and label units here; `render` formats them when they are printed.
"""

import logging
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from dir_bench.errors import UserError, nearest
from dir_bench.results import published
from dir_bench.results.records import collect

REGIONS = ("all", "many", "medium", "few", "zero", "interp", "extrap")
MAIN_REGIONS = REGIONS[:4]
_DEFAULT_METRICS = ("mae", "gm")
_HIGHER = ("pearson", "spearman", "delta1", "delta2", "delta3")

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
    """One method of one dataset. A column without a number is not in `cells`."""

    label: str
    method: str
    seeds: tuple[int, ...]
    missing: tuple[int, ...]
    """Seeds that another row of the table has and this one lacks."""
    fill: str
    """The command that runs the missing seeds; "" if none are missing, or no run says how it was started."""
    cells: Mapping[Column, Cell]
    printed: Mapping[Column, float]
    """The published numbers in label units; empty if none were asked for, or none are printed."""
    printed_as: str | None


@dataclass(frozen=True)
class Table:
    """One dataset's rows in the paper's order."""

    dataset: str
    title: str
    against: str | None
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    counts: Mapping[str, int]
    """Test samples per region."""
    notes: tuple[str, ...]

    def best(self, column: Column) -> frozenset[str]:
        """Return the labels of the rows with the best mean; none where fewer than two rows have one."""
        means = {row.label: row.cells[column].mean for row in self.rows if column in row.cells}
        if len(means) < 2:
            return frozenset()
        top = max(means.values()) if is_score(column[0]) else min(means.values())
        return frozenset(label for label, mean in means.items() if mean == top)


def is_score(metric: str) -> bool:
    """Tell whether more of this metric is better."""
    return metric in _HIGHER or metric.endswith("_score")


def table(
    paths: Iterable[Path | str] = ("outputs",),
    format: str = "text",
    against: str | None = None,
    metrics: Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
    *,
    width: int | None = None,
    colour: bool | None = None,
) -> str:
    """Return the tables of all runs under `paths`, one a dataset, and below them the runs that were left out.

    Args:
        paths: Run folders, or folders that hold some.
        format: "text", "md", "latex", "csv" or "json"; the last two with numbers in full precision.
        against: "paper", "repo" or the head of a paper's name (see `published`): its numbers go beside ours.
        metrics: Which metrics; by default those that the dataset's runs name (`table_metrics`).
        regions: Which regions; by default all, many, medium, few.
        width: Characters in a line of text; by default the terminal's.
        colour: Whether text may carry terminal codes; by default, if standard output is a terminal.

    Raises:
        UserError: If there is no run under `paths`, or a format, metric, region or paper is unknown.
    """
    from dir_bench.results.render import render

    paths = list(paths)
    records, problems = collect(paths)
    if records.empty and not problems:
        where = ", ".join(map(str, paths))
        raise UserError(f"There is no run under {where}: `dir-bench train` makes one.")
    tables = summarise(records, metrics=metrics, regions=regions, against=against)
    if format == "csv":  # the one format with no place for them
        for problem in problems:
            log.warning("Left out: %s", problem)
    return render(tables, format, problems=problems, width=width, colour=colour)


def summarise(
    records: pd.DataFrame,
    *,
    metrics: Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
    against: str | None = None,
) -> list[Table]:
    """Turn records (see `records.collect`) into one table per dataset.

    Raises:
        UserError: If a metric or region occurs in no record, or no published paper matches `against`.
    """
    if against is not None:
        published.find("", paper=against)
    for asked, column in ((metrics, "metric"), (regions, "region")):
        known = list(dict.fromkeys(records[column]))
        for name in asked or ():
            if name not in known and known:
                hint = nearest(name, known)
                raise UserError(f"No run has the {column} '{name}'{hint}: there are {', '.join(known)}.")
    return [
        _summarise_dataset(str(dataset), part, metrics, regions, against)
        for dataset, part in records.groupby("dataset", sort=True)
    ]


def _summarise_dataset(
    dataset: str,
    records: pd.DataFrame,
    metrics: Sequence[str] | None,
    regions: Sequence[str] | None,
    against: str | None,
) -> Table:
    title = str(records["title"].iloc[0])
    columns = _columns(records, metrics, regions)
    cells = _cells(records)
    runs = records.drop_duplicates("path")
    every_seed = sorted(set(runs["seed"]))
    rows = []
    for label, part in runs.groupby("label", sort=False):
        seeds = tuple(sorted(int(seed) for seed in part["seed"]))
        missing = tuple(int(seed) for seed in every_seed if seed not in seeds)
        method = str(part["method"].iloc[0])
        printed_as = published.published_row(title, method, paper=against) if against else None
        rows.append(
            Row(
                label=str(label),
                method=method,
                seeds=seeds,
                missing=missing,
                fill=_fill(str(part["command"].iloc[0]), missing),
                cells={column: cells[label, *column] for column in columns if (label, *column) in cells},
                printed=_printed(title, printed_as, against) if against and printed_as else {},
                printed_as=printed_as,
            )
        )
    order = {name: place for place, name in enumerate(published.methods(title))}
    rows.sort(key=lambda row: (_place(title, row.method, order), row.label))
    return Table(
        dataset=dataset,
        title=title,
        against=against,
        columns=columns,
        rows=tuple(rows),
        counts=_counts(records, columns),
        notes=_notes(records, runs, columns),
    )


def _columns(records: pd.DataFrame, metrics: Sequence[str] | None, regions: Sequence[str] | None) -> tuple[Column, ...]:
    if metrics is None:
        named = [name for text in records["table_metrics"].unique() for name in text.split(",") if name]
        metrics = list(dict.fromkeys(named)) or [m for m in _DEFAULT_METRICS if m in set(records["metric"])]
    present = set(records["region"])
    regions = regions or [region for region in MAIN_REGIONS if region in present]
    return tuple((metric, region) for metric in metrics for region in regions)


def _cells(records: pd.DataFrame) -> dict[tuple[Any, ...], Cell]:
    """Return {(label, metric, region): cell} of what has a number."""
    groups = records.dropna(subset="value").groupby(["label", "metric", "region"], sort=False)["value"]
    stats = groups.agg(["mean", "std", "count"])
    return {
        key: Cell(float(mean), float(std) if n > 1 else None, int(n))
        for key, mean, std, n in zip(stats.index.tolist(), stats["mean"], stats["std"], stats["count"], strict=True)
    }


def _printed(title: str, method: str, against: str) -> dict[Column, float]:
    found = published.numbers(title, method, paper=against)
    return {key: value / 100 if key[0] in published.PER_CENT else value for key, value in found.items()}


def _place(title: str, method: str, order: Mapping[str, int]) -> int:
    """Return where a row stands: in the paper's order; what the paper lacks after that, VANILLA first."""
    printed = published.published_row(title, method)
    return order[printed] if printed else len(order) + (not method.startswith("VANILLA"))


def _fill(command: str, missing: Sequence[int]) -> str:
    if not command or not missing:
        return ""
    overrides = [word for word in shlex.split(command) if not word.startswith("seed=")]
    several = ["-m"] if len(missing) > 1 else []
    return shlex.join(["dir-bench", "train", *several, *overrides, f"seed={','.join(map(str, missing))}"])


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
    shown = {region for _, region in columns}
    more = [region for region in REGIONS if region not in shown and region in set(records["region"])]
    if more:
        notes.append(f"Also recorded: {', '.join(more)}.")
    commits = sorted({commit for commit in runs["commit"] if commit})
    if commits:
        notes.append(f"Code: {', '.join(commits)}.")
    return tuple(notes)
