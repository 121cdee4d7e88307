"""The figures of a report: those of `dir-bench plot` that its runs can give, and why the others are not there."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from dir_bench.errors import UserError
from dir_bench.evaluation.extra import merit
from dir_bench.results.plots import PLOTS, Options, draw
from dir_bench.results.plots.runs import Group, group_records, readable
from dir_bench.results.plots.style import styled, svg
from dir_bench.results.rows import REFERENCE, Table

MOST = 6
"""Methods that one figure can hold."""


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
