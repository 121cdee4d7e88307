"""The figures of a report: those of `dir-bench plot` that its runs can give, and why the others are not there."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import pandas as pd

from dir_bench.bars import on_terminal
from dir_bench.errors import RunFailed, UserError
from dir_bench.evaluation.extra import merit
from dir_bench.results.plots import PLOTS, Options, draw
from dir_bench.results.plots.runs import Group, group_records, readable
from dir_bench.results.plots.style import styled, svg
from dir_bench.results.rows import REFERENCE, Table
from dir_bench.workers import run_all

MOST = 6
"""Methods that one figure can hold."""

OVER_REGIONS = ("all", "few")
"""Regions that methods are ranked in over datasets."""


@dataclass(frozen=True)
class Figures:
    """What was drawn of one table's runs.

    Attributes:
        drawn: (name, what it shows, the content of an SVG file).
        missing: (names, the reason why they could not be drawn).
        methods: The rows in the figures.
        note: How they were chosen; "" if they are all.
    """

    drawn: tuple[tuple[str, str, bytes], ...]
    missing: tuple[tuple[tuple[str, ...], str], ...]
    methods: tuple[str, ...]
    note: str


def draw_each(parts: Sequence[tuple[Table, pd.DataFrame]], processes: int = 1) -> list[Figures]:
    """Draw the figures of each table's runs (see `draw_all`), with a progress bar on a terminal.

    Args:
        parts: Tables, and the records that each was made of.
        processes: That draw at once. With more than one, a script that calls this needs the
            ``if __name__ == "__main__"`` of Python's multiprocessing.

    Raises:
        RunFailed: A process was killed.
    """
    drawn: dict[int, Figures] = {}
    for place, figures in _shown(_drawn(parts, processes), len(parts)):
        drawn[place] = figures
    return [drawn[place] for place in range(len(parts))]


def _drawn(parts: Sequence[tuple[Table, pd.DataFrame]], processes: int) -> Iterator[tuple[int, Figures]]:
    processes = min(processes, len(parts))
    if processes <= 1:
        yield from enumerate(map(_draw_part, parts))
        return
    with closing(run_all(_draw_part, parts, [{}] * processes)) as results:
        for place, figures in results:
            if isinstance(figures, Exception):  # what it says of runs is not about a page
                raise RunFailed(
                    "a process that drew figures was ended, often for the memory that ran out: name fewer runs, or add "
                    "--no-figures"
                ) from figures
            yield place, figures


def _draw_part(part: tuple[Table, pd.DataFrame]) -> Figures:
    return draw_all(*part)


def _shown(drawn: Iterable[tuple[int, Figures]], count: int) -> Iterator[tuple[int, Figures]]:
    from rich.console import Console
    from rich.progress import track

    quiet = not on_terminal()
    yield from track(
        drawn, "figures", total=count, console=Console(stderr=True), transient=True, disable=quiet, update_period=0.5
    )


def draw_over(tables: Sequence[Table], records: pd.DataFrame) -> Figures | None:
    """Draw the figures that are over several datasets, by what the first table shows first; None for one dataset."""
    if len({table.title for table in tables}) < 2:
        return None
    metric = tables[0].columns[0][0]
    groups = group_records(records)
    drawn, missing = [], []
    for name, kind in PLOTS.items():
        if not kind.over_datasets:
            continue
        for region in OVER_REGIONS:
            command = f"{name} --metric {metric} --region {region}"
            try:
                figure = draw(name, groups, Options(metric=metric, region=region))
                drawn.append((command, f"{kind.shows}, by {metric.upper()} of {region}", svg(figure)))
            except UserError as error:
                missing.append(((command,), str(error)))
    return Figures(tuple(drawn), tuple(missing), ("the methods that all these datasets have",), "")


def draw_all(table: Table, records: pd.DataFrame) -> Figures:
    """Draw every figure of `PLOTS` that is of one table's runs, gains over the row that others are compared with.

    Args:
        table: Made of these records.
        records: Of one dataset, see `records.collect`.
    """
    everything = group_records(records)
    base = table.compared or REFERENCE
    groups, note = _chosen(everything, table, base)
    drawn, missing = [], dict[str, list[str]]()
    for name, kind in PLOTS.items():
        if kind.over_datasets:
            continue
        unread: list[UserError] = []
        try:
            with styled():
                kept, unread = readable(groups, kind.reads)
            if not kept:
                raise unread.pop(0)
            over = next((group for group in kept if group.label == base), None)
            shows = kind.shows.replace("--reference", base).replace("--anchor", "the most frequent label")
            drawn.append((name, shows, svg(draw(name, kept, Options(over)))))
        except UserError as error:
            missing.setdefault(str(error), []).append(name)
        for reason in unread:
            missing.setdefault(str(reason), []).append(f"a run in {name}")
    reasons = tuple((tuple(names), reason) for reason, names in missing.items())
    return Figures(tuple(drawn), reasons, tuple(group.label for group in groups), note)


def _chosen(groups: list[Group], table: Table, base: str) -> tuple[Sequence[Group], str]:
    """Return the groups that fit into a figure: the base, and the best of the rest in the table's first column."""
    if len(groups) <= MOST:
        return groups, ""
    first = table.columns[0]
    means = {row.label: merit(first[0], row.cells[first].mean) for row in table.rows if first in row.cells}
    ranked = sorted(means, key=means.__getitem__, reverse=True)
    kept = {base} & means.keys()
    kept |= set([label for label in ranked if label not in kept][: MOST - len(kept)])
    name = f"{base} and the" if base in means else "the"
    note = (
        f"{MOST} of {len(groups)} methods: {name} best by {first[0].upper()} of {first[1]}; name fewer runs for others."
    )
    return [group for group in groups if group.label in kept], note
