"""One HTML file of finished runs: tables, figures, and each run with its config and the command that repeats it.

It needs no other file and no network, which its Content-Security-Policy forbids; the same runs give the same bytes.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path

from dir_bench.atomic import write_named
from dir_bench.errors import UserError
from dir_bench.results.comparison import Over, without
from dir_bench.results.export import HtmlTable
from dir_bench.results.markup import html_page
from dir_bench.results.published import decimals_for
from dir_bench.results.render import HOLE, UNDEFINED, number
from dir_bench.results.report.entries import Entry, finished, left_out
from dir_bench.results.report.figures import Figures, draw_each, draw_over
from dir_bench.results.rows import Column
from dir_bench.results.tables import collect_some, summarise

_SCREEN = 8
"""Columns of numbers that 1280 pixels hold."""


@dataclass(frozen=True)
class Section:
    """One dataset, or subset of one; without a table if none of its runs is finished."""

    title: str
    table: HtmlTable | None
    figures: Figures | None
    runs: Sequence[Entry]

    @property
    def out(self) -> str:
        """How many runs are in no table, and in which states they are; "" if all are in it."""
        states = Counter(run.state for run in self.runs if run.reason)
        if not states:
            return ""
        where = "No finished run" if self.table is None else "Left out of the table"
        return f"{where}: {_plural(states.total(), 'run')} ({_counts(states)})"

    @property
    def timed(self) -> bool:
        """Whether it is known of any run how long it took."""
        return any(run.seconds is not None for run in self.runs)

    @cached_property
    def parts(self) -> list[HtmlTable]:
        """The table in parts that a screen holds; each run is shown with the columns of the first."""
        return [] if self.table is None else [*self.table.parts(_SCREEN)]

    def cells(self, run: Entry) -> list[str]:
        """Return a run's numbers in the columns that are shown of it, as printed."""
        columns = self.parts[0].columns if self.table is not None else ()
        absent = UNDEFINED if run.values else HOLE
        return [
            number(column[0], run.values[column], self._places[column]) if column in run.values else absent
            for column in columns
        ]

    @cached_property
    def _places(self) -> dict[Column, int]:
        """How many decimals the runs' numbers have in each column."""
        found: dict[Column, list[float]] = {}
        for run in self.runs:
            for column, value in run.values.items():
                found.setdefault(column, []).append(value)
        return {column: decimals_for(self.title, column[0], values) for column, values in found.items()}


def write(out: Path, paths: Iterable[Path | str] = ("outputs",), **options: object) -> None:
    """Write the report of all runs under `paths`, whole or not at all; see `page` for the options.

    Raises:
        UserError: As `tables.table`; or the file cannot be written.
    """
    if out.is_dir():
        raise UserError(f"{out} is a folder: name a file, such as {out / 'report.html'}")
    text = page(paths, **options)  # type: ignore[arg-type]
    try:
        write_named(out, text.encode())
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror}; name another file") from error


def page(
    paths: Iterable[Path | str] = ("outputs",),
    *,
    title: str | None = None,
    against: str | Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
    compare: str | None = None,
    over: Over = "seeds",
    gains: bool = False,
    presets: Sequence[str] | None = None,
    spread: str = "interval",
    select: Sequence[str] | None = None,
    figures: bool = True,
    processes: int = 1,
) -> str:
    """Return the report as HTML.

    Args:
        paths: Run folders, or folders that hold some.
        title: Of the page; by default the datasets'.
        against: See `tables.table`, as for the eight that follow.
        metrics: See there.
        regions: See there.
        compare: See there; the gains of figures are over this row too.
        over: See there.
        gains: See there.
        presets: See there.
        spread: See there.
        select: See there; the runs that were not chosen are listed all the same.
        figures: Whether to draw figures.
        processes: That draw figures, if there are several datasets; see `figures.draw_each`.

    Raises:
        UserError: As `tables.table`.
        RunFailed: A process was killed.
    """
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
    unread = [problem for table in tables for problem in table.left_out]
    problems, records = problems + unread, without(records, unread)
    tables = [table for table in tables if table.rows]
    others = left_out(problems, records)
    sections = []
    parts = [
        (table, records[(records["dataset"] == table.dataset) & (records["title"] == table.title)]) for table in tables
    ]
    drawings = draw_each(parts, processes) if figures else [None] * len(parts)
    for (table, part), drawn in zip(parts, drawings, strict=True):
        order = {row.label: place for place, row in enumerate(table.rows)}
        runs = sorted(finished(part), key=lambda run: order.get(run.label, len(order)))
        sections.append(Section(table.title, HtmlTable.of(table), drawn, [*runs, *others.pop(table.title, [])]))
    sections += [Section(name, None, None, runs) for name, runs in sorted(others.items())]
    over_all = draw_over(tables, records) if figures else None
    return _page(title or ", ".join(section.title for section in sections), sections, over_all)


def _page(title: str, sections: Sequence[Section], over: Figures | None) -> str:
    style, script = (
        resources.files(__name__).joinpath(f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js")
    )
    return html_page(
        "report/page.html.jinja",
        title=title,
        summary=_summary(sections),
        sections=sections,
        over=over,
        style=style,
        script=script,
        hole=HOLE,
        span=_span,
        base64=_base64,
        sha256=lambda text: f"sha256-{_base64(hashlib.sha256(text.encode()).digest())}",
    )


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _summary(sections: Sequence[Section]) -> str:
    """Return how many runs there are, in which states, and from when to when they ran."""
    runs = [run for section in sections for run in section.runs]
    states = _counts(Counter(run.state for run in runs))
    days = sorted({date[:10] for run in runs for date in run.dates if date})
    when = f" Run from {days[0]} to {days[-1]}." if len(days) > 1 else f" Run on {days[0]}." if days else ""
    return f"{_plural(len(runs), 'run')}: {states}.{when}"


def _span(seconds: float) -> str:
    """Return a duration in its two largest units: "48 s", "3 min 20 s", "1 h 5 min", "2 d 3 h"."""
    rest = round(seconds)
    sizes = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    largest = next((place for place, (size, _) in enumerate(sizes) if rest >= size), 3)
    parts: list[str] = []
    for size, unit in sizes[largest : largest + 2]:
        count, rest = divmod(rest, size)
        parts += [f"{count} {unit}"] if count or not parts else []
    return " ".join(parts)


def _counts(states: Counter[str]) -> str:
    return ", ".join(f"{count} {state}" for state, count in states.items())


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' if count != 1 else ''}"
