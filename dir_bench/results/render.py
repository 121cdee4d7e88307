"""Tables as lines of printed cells, the same for every format; and as text for a terminal.

The only place where numbers are rounded and scaled.
"""

import io
import math
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, ConsoleRenderable, Group
from rich.measure import Measurement
from rich.text import Span, Text

from dir_bench.evaluation.extra import FURTHER, UNCERTAINTY, arrow
from dir_bench.files.values import visible
from dir_bench.labels.regions import REGIONS
from dir_bench.results.published import PER_CENT, decimals_for, full_name, is_secondary, methods, sources
from dir_bench.results.records import Problem, relevance_text
from dir_bench.results.rows import REFERENCE, SPREADS, Column, Row, Table

HOLE = "–"
UNDEFINED = "n/a"
"""What is printed where a row has runs, but they have no such number."""
MARKS = {"seeds": "†", "samples": "‡"}
"""How a significant difference is marked, by what it was tested over."""
_TESTED = {
    "seeds": "p < 0.05 by a paired t-test over the seeds that both have, after Holm's correction over all cells.",
    "samples": "p < 0.05 by a paired sign-flip test over test samples of the error averaged over shared seeds, after "
    "Holm's correction over all cells. It says that another test set would show the difference of these trained "
    "networks, not that other seeds of the methods would.",
}
_LABEL = 16  # characters that a method's label is given at least, before a table is wider than the screen


@dataclass(frozen=True)
class Shown:
    """One printed cell: "7.70 ± 0.20", and whether it is the best of its column or cannot be told from it.

    `tested` is the mark of a significant difference, or "".
    """

    text: str
    best: bool = False
    near: bool = False
    tested: str = ""


@dataclass(frozen=True)
class Line:
    """One printed line: a row of the table ("row"), or below it a paper's numbers or the gains ("note")."""

    kind: Literal["row", "note"]
    label: str
    seeds: str
    cells: tuple[Shown, ...]


def lines(table: Table, columns: Sequence[Column]) -> Iterator[Line]:
    """Yield the printed lines of a table: each row with, below it, what papers print of it and its gains."""
    places = {column: _places_of(table, column) for column in columns}
    best = [table.best(column) for column in columns]
    near = [table.within_noise(column) for column in columns]
    unlike = departures(table)
    mark = MARKS[table.compared_over]
    for row in table.rows:
        cells = [
            Shown(
                _cell(table, row, c, places[c]),
                row.label in b,
                row.label in n,
                mark if c in row.tests and row.tests[c].significant else "",
            )
            for c, b, n in zip(columns, best, near, strict=True)
        ]
        sign = f" {unlike[row.departures]}" if row.departures else ""
        yield Line("row", f"{row.label}{sign}", str(len(row.seeds)), tuple(cells))
        for paper, name in row.printed_as.items():
            label = paper if name == row.method else f"{paper}: {name}"
            label += ", secondary" if is_secondary(table.title, name, paper=paper) else ""
            yield Line("note", f"{label}{sign and f', unlike{sign}'}", "", _numbers(table, row.printed[paper], places))
        if row.gains:
            yield Line("note", f"gain over {REFERENCE}", "", _numbers(table, row.gains, places, sign="+"))
    if table.top_gains:
        label = f"OURS (BEST) VS. {REFERENCE}"
        yield Line("row", label, "", _numbers(table, table.top_gains, places, sign="+"))


def notes(table: Table, best: str, near: str) -> Iterator[str]:
    """Yield what has to be known to read the table; `best` and `near` say how those cells are marked."""
    if any(table.best(column) for column in table.columns):
        mixed = len({row.departures for row in table.rows if row.cells}) > 1
        among = " among the rows that follow the recipe, or depart from it, as it does" if mixed else ""
        yield f"{best}: best of its column{among}."
    if any(table.within_noise(column) for column in table.columns):
        paired = "the paired test finds no difference to it (p ≥ 0.05 after Holm's correction)"
        overlap = (
            f"its {'95 % interval' if table.spread == 'interval' else 'mean ± standard deviation'} overlaps the best's"
        )
        yield f"{near}: within noise of the best, {overlap if table.near is None else paired}."
    if any(test.significant for row in table.rows for test in row.tests.values()):
        yield f"{MARKS[table.compared_over]}: differs from {table.compared}, {_TESTED[table.compared_over]}"
    elif table.compared is not None:
        yield f"No cell is marked to differ from {table.compared}, {_TESTED[table.compared_over]}"
    for row in table.rows:
        if row.legend:
            yield f"{row.label}: {row.legend}."
    for kind, sign in departures(table).items():
        ways = "; ".join(kind)
        yield (
            f"{sign}: departs from the dataset's recipe, so is not to be held against published numbers, nor against "
            f"rows without {sign}: {ways}."
        )
    if unknown := [row.label for row in table.rows if row.seeds and row.departures is None]:
        if len(unknown) < sum(bool(row.seeds) for row in table.rows):
            yield f"It is not recorded how these depart from the dataset's recipe: {', '.join(unknown)}."
    if any(len(row.seeds) > 1 for row in table.rows):
        yield f"Mean ± {SPREADS[table.spread]}."
    if table.top_gains or any(row.gains for row in table.rows):
        yield f"Gains are over {REFERENCE}'s mean in label units, more is better; OURS are the rows with LDS or FDS."
    if any(row.seeds and column not in row.cells for row in table.rows for column in table.columns):
        why = "a region without samples, a correlation of constants, the log of a negative depth"
        yield f"{UNDEFINED}: no such number ({why})."
    if table.counts:
        yield f"Test samples: {', '.join(f'{region} {n}' for region, n in table.counts.items())}."
    for paper in table.against:
        printed = methods(table.title, paper=paper)
        shown = [row.printed_as[paper] for row in table.rows if paper in row.printed_as]
        unprinted = [row.label for row in table.rows if paper not in row.printed_as]
        if printed and unprinted:
            yield f"Not printed ({paper}): {', '.join(unprinted)}."
        if shown:
            places = dict.fromkeys(s for name in shown for s in sources(table.title, name, paper=paper))
            yield f"{paper}: {full_name(paper)}; {_places(places)}."
            if any(is_secondary(table.title, name, paper=paper) for name in shown):
                yield "secondary: not read in the paper's own table, but where it says."
    yield from table.notes


def departures(table: Table) -> dict[tuple[str, ...], str]:
    """Return the sign of each way in which rows of a table depart from the dataset's published recipe: "§1", …"""
    kinds = dict.fromkeys(row.departures for row in table.rows if row.departures)
    return {kind: f"§{place}" for place, kind in enumerate(kinds, 1)}


def holes(table: Table) -> Iterator[tuple[str, str]]:
    """Yield (what is missing, the command that fills it or "")."""
    for row in table.rows:
        plural = "s" if len(row.missing) > 1 else ""
        if row.seeds and row.missing:
            yield f"{row.label} lacks seed{plural} {', '.join(map(str, row.missing))}", row.fill
        elif not row.seeds:
            yield f"{row.label} has no run{'' if row.fill else ', and no method preset makes one'}", row.fill


def region_table(metrics: Mapping[str, Any]) -> ConsoleRenderable:
    """Return one run's errors by region, from the content of its metrics.json, for `rich` to print."""
    title, test = str(metrics.get("title") or metrics["dataset"]), metrics["test"]
    present = list(dict.fromkeys(name for values in test.values() for name in values if name != "count"))
    first = [name for name in metrics.get("table_metrics") or () if name in present]
    names = list(dict.fromkeys([*first, *present]))
    further = [[name for name in names if name in kind and name not in first] for kind in (FURTHER, UNCERTAINTY)]
    grids: list[ConsoleRenderable] = []
    for chosen in ([name for name in names if not any(name in kind for kind in further)], *further):
        places = {m: decimals_for(title, m, (v[m] for v in test.values() if _is_finite(v.get(m)))) for m in chosen}
        body: list[list[Text | str]] = []
        for region in sorted(test, key=lambda name: REGIONS.index(name) if name in REGIONS else len(REGIONS)):
            values = test[region]
            numbers = [number(m, values[m], places[m]) if _is_finite(values.get(m)) else UNDEFINED for m in chosen]
            body.append([Text(visible(region)), str(values["count"]), *numbers])
        if chosen or not grids:
            heads = (visible(heading(name)) for name in chosen)
            grids += [*([Text()] if grids else []), _grid(["region", "samples", *heads], body)]
    if "sera" in names and (points := relevance_text(metrics.get("relevance") or ())):
        grids += [Text(), Text(f"SERA's relevance is {points}.")]
    return Group(*grids) if len(grids) > 1 else grids[0]


def regions_note(config: Mapping[str, Any], regions: Iterable[str]) -> str:
    """Return one line that says what the regions of a run's table are, from its config."""
    shots = config["dataset"]["regions"]
    many, few = shots["many_over"], shots["few_under"]
    said = {
        "many": f"many: labels whose bin has more than {many:g} training samples",
        "medium": "medium: as many or fewer",
        "few": f"few: fewer than {few:g}",
        "with_data": "with_data: any",
        "zero": "zero: none",
        "interp": "interp: none, between labels that have some",
        "extrap": "extrap: none, beyond them",
    }
    if any(shots.get(name) for name in ("many", "medium", "few")):
        said |= {"many": "many, medium, few: the dataset's own lists of labels"}
        del said["medium"], said["few"]
    return "; ".join(text for name, text in said.items() if name in regions)


def as_text(renderable: ConsoleRenderable, width: int | None = None, colour: bool | None = None) -> str:
    """Return what `rich` would print: terminal codes only if `colour`, and no number cut to fit `width`."""
    width = width or shutil.get_terminal_size((100, 24)).columns
    colour = (sys.stdout is not None and sys.stdout.isatty()) if colour is None else colour
    need = _measure(renderable).minimum
    buffer = io.StringIO()
    Console(
        file=buffer,
        width=max(width, need),
        force_terminal=colour,
        color_system="standard" if colour else None,
        legacy_windows=False,
    ).print(renderable)
    return "".join(f"{line.rstrip()}\n" for line in buffer.getvalue().splitlines())


def number(metric: str, value: float, places: int, sign: str = "") -> str:
    """Return a value with so many decimals, see `published.decimals_for`; correlations in per cent, "+" with a sign."""
    return f"{value * _scale(metric):{sign}.{places}f}"


def _places_of(table: Table, column: Column) -> int:
    """Return how many decimals a column of a table has."""
    means = (row.cells[column].mean for row in table.rows if column in row.cells)
    return decimals_for(table.title, column[0], means)


def heading(metric: str) -> str:
    """Return a metric's name as a column head: "MAE ↓", "PEARSON % ↑", "BIAS → 0"; the arrow points to better."""
    return f"{metric.upper()}{' %' if metric in PER_CENT else ''} {arrow(metric)}".rstrip()


def _scale(metric: str) -> int:
    return 100 if metric in PER_CENT else 1


def _places(sources: Iterable[str]) -> str:
    """Join sources, with the tables of one document behind its name: "arXiv … PDF Table 2, Table 9"."""
    tables: dict[str, list[str]] = {}
    for source in sources:
        document, table, rest = source.partition(" Table ")
        tables.setdefault(document, []).append(f"{table}{rest}".strip())
    return "; ".join(f"{document} {', '.join(names)}".strip() for document, names in tables.items())


def _numbers(
    table: Table, values: Mapping[Column, float], places: Mapping[Column, int], sign: str = ""
) -> tuple[Shown, ...]:
    return tuple(Shown(number(c[0], values[c], digits, sign) if c in values else HOLE) for c, digits in places.items())


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _cell(table: Table, row: Row, column: Column, places: int) -> str:
    cell = row.cells.get(column)
    if cell is None:
        return UNDEFINED if row.seeds else HOLE
    text = number(column[0], cell.mean, places)
    if (spread := cell.spread(table.spread)) is not None:
        text += f" ± {number(column[0], spread, places)}"
    return text if cell.n == len(row.seeds) else f"{text} (n={cell.n})"


def text(tables: Sequence[Table], problems: Sequence[Problem], width: int | None, colour: bool | None) -> str:
    """Return the tables for a terminal; see `tables.table` for the arguments."""
    width = width or shutil.get_terminal_size((100, 24)).columns
    parts = [_text_table(table, width, colour) for table in tables]
    if problems:
        parts.append("".join(["Left out:\n", *(f"  {problem}\n" for problem in problems)]))
    return "\n".join(parts) or "No finished run.\n"


def _text_table(table: Table, width: int, colour: bool | None) -> str:
    shown, places = list(lines(table, table.columns)), range(len(table.columns))
    grids = [_text_grid(table, shown, places)]
    if grids[0].widest > width:  # one grid a metric
        blocks = [list(block) for _, block in groupby(places, key=lambda place: table.columns[place][0])]
        grids = [_text_grid(table, shown, block) for block in blocks]
    text = "\n".join([f"{visible(table.title)}\n", *(as_text(grid, width, colour) for grid in grids)]) + "\n"
    below = [*notes(table, "*", "°")]
    below += [f"{missing}{f': {command}' if command else ''}" for missing, command in holes(table)]
    return text + "".join(f"{visible(line)}\n" for line in below)


def _text_grid(table: Table, shown: Sequence[Line], places: Sequence[int]) -> "_Grid":
    """Return the lines of a table with the cells of some of its columns."""
    marks = 1 if table.compared is None else 2
    body: list[list[Text | str]] = []
    for line in shown:
        row = line.kind == "row"
        style = "" if row else "dim"
        cells = [_styled(f"{c.text}{_mark(c):<{marks}}", "bold" if c.best else style)
                 for c in map(line.cells.__getitem__, places)]  # fmt: skip
        body.append([_styled(visible(line.label) if row else f"  {visible(line.label)}", style), line.seeds, *cells])
    pad = " " * marks
    heads = [f"{visible(heading(metric))}{pad}\n{visible(region)}{pad}"
             for metric, region in map(table.columns.__getitem__, places)]  # fmt: skip
    return _grid(["method", "\nseeds", *heads], body)


def _styled(text: str, style: str) -> Text | str:
    return Text(text, style) if style else text


def _mark(cell: Shown) -> str:
    return ("*" if cell.best else "°" if cell.near else "") + cell.tested


def _grid(headings: Sequence[str], body: Sequence[Sequence[Text | str]]) -> "_Grid":
    """Return a grid; heads may have several lines, of which the first column's is the last."""
    heads = list(zip(*(head.splitlines() for head in headings[1:]), strict=True))
    rows = [*heads, *(line[1:] for line in body)]
    widths = [max(cell_len(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
    first: list[Text | str] = [*[""] * (len(heads) - 1), headings[0], *(line[0] for line in body)]
    return _Grid(first, [_flush_right(cells, widths) for cells in rows], len(heads), sum(widths) + 2 * len(widths) - 2)


def _flush_right(cells: Sequence[Text | str], widths: Sequence[int]) -> Text:
    """Return cells as one text, two spaces apart, each flush right in its width."""
    parts, spans, end = [], [], 0
    for cell, width in zip(cells, widths, strict=True):
        text = str(cell)
        parts.append(" " * (width - cell_len(text)) + text)
        end += len(parts[-1])
        if isinstance(cell, Text):
            spans.append(Span(end - len(text), end, cell.style))
        end += 2
    return Text("  ".join(parts), spans=spans)


@dataclass(frozen=True)
class _Grid:
    """Lines for `rich` whose first column may be folded and whose numbers may not be cut, with a rule below the heads.

    Laid out here: rich's own table weighs and wraps each cell for itself, which takes seconds for some thousands.
    """

    first: Sequence[Text | str]
    numbers: Sequence[Text]
    heads: int
    numbers_width: int

    @property
    def widest(self) -> int:
        """Characters of a line where nothing is folded."""
        return self._first_width + 2 + self.numbers_width

    @property
    def narrowest(self) -> int:
        """Characters of a line where no word of the first column, nor a short label, is cut."""
        longest = max(cell_len(word) for cell in self.first for word in str(cell).split())
        return max(longest, min(self._first_width, _LABEL)) + 2 + self.numbers_width

    @property
    def _first_width(self) -> int:
        return max(cell_len(str(cell)) for cell in self.first)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(self.narrowest, self.widest)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        width = min(self.widest, max(options.max_width, self.narrowest)) - 2 - self.numbers_width
        made = []
        for place, (first, numbers) in enumerate(zip(self.first, self.numbers, strict=True)):
            if place == self.heads:
                made.append(Text("─" * (width + 2 + self.numbers_width)))
            label = first if isinstance(first, Text) else Text(first)
            top, *more = label.wrap(console, width, overflow="fold") if cell_len(label.plain) > width else [label]
            made += [Text.assemble(top, " " * (width - cell_len(top.plain) + 2), numbers), *more]
        yield Text("\n", no_wrap=True, overflow="ignore").join(made)


def _measure(renderable: ConsoleRenderable) -> Measurement:
    console = Console(file=io.StringIO(), width=10_000, legacy_windows=False)
    return Measurement.get(console, console.options, renderable)
