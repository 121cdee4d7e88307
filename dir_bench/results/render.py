"""Tables as text, Markdown, LaTeX, CSV or JSON: the only place where numbers are rounded and scaled."""

import csv
import io
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleRenderable
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from dir_bench.errors import UserError, nearest
from dir_bench.results.published import PER_CENT, decimals, methods
from dir_bench.results.records import Problem
from dir_bench.results.tables import REGIONS, Cell, Column, Row, Table, is_score

HOLE = "–"
_LABEL = 16  # characters that a method's label is given at least, before a table is wider than the screen

_Body = list[tuple[Row, list[str], list[str] | None]]
"""For each row: itself, its cells, and the published cells if there are any."""


def render(
    tables: Sequence[Table],
    format: str = "text",
    *,
    problems: Sequence[Problem] = (),
    width: int | None = None,
    colour: bool | None = None,
) -> str:
    """Return the tables in one of `FORMATS`, ending in a newline; see `tables.table` for the arguments."""
    if format not in FORMATS:
        raise UserError(f"There is no table format '{format}'{nearest(format, FORMATS)}: choose {', '.join(FORMATS)}.")
    if format == "text":
        return _text(tables, problems, width, colour)
    return _WRITERS[format](tables, problems)


def region_table(metrics: Mapping[str, Any]) -> RichTable:
    """Return one run's errors by region, from the content of its metrics.json, for `rich` to print."""
    title, test = str(metrics.get("title") or metrics["dataset"]), metrics["test"]
    present = list(dict.fromkeys(name for values in test.values() for name in values if name != "count"))
    first = [name for name in metrics.get("table_metrics") or () if name in present]
    names = list(dict.fromkeys([*first, *present]))
    lines: list[list[Text | str]] = []
    for region in sorted(test, key=lambda name: REGIONS.index(name) if name in REGIONS else len(REGIONS)):
        values = test[region]
        numbers = [HOLE if values.get(m) is None else number(title, m, values[m]) for m in names]
        lines.append([region, str(values["count"]), *numbers])
    return _grid(["region", "samples", *map(heading, names)], lines)


def as_text(renderable: ConsoleRenderable, width: int | None = None, colour: bool | None = None) -> str:
    """Return what `rich` would print: terminal codes only if `colour`, and no number cut to fit `width`."""
    width = width or shutil.get_terminal_size((100, 24)).columns
    colour = sys.stdout.isatty() if colour is None else colour
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


def number(title: str, metric: str, value: float) -> str:
    """Return a value with as many decimals as the paper gives it, correlations in per cent."""
    return f"{value * _scale(metric):.{decimals(title, metric)}f}"


def heading(metric: str) -> str:
    """Return a metric's name as a column head: "MAE ↓", "PEARSON % ↑"; the arrow points to better."""
    return f"{metric.upper()}{' %' if metric in PER_CENT else ''} {'↑' if is_score(metric) else '↓'}"


def _scale(metric: str) -> int:
    return 100 if metric in PER_CENT else 1


def _cell(table: Table, row: Row, column: Column) -> str:
    cell = row.cells.get(column)
    if cell is None:
        return HOLE
    text = number(table.title, column[0], cell.mean)
    if cell.std is not None:
        text += f" ± {number(table.title, column[0], cell.std)}"
    return text if cell.n == len(row.seeds) else f"{text} (n={cell.n})"


def _body(table: Table, columns: Sequence[Column]) -> _Body:
    body: _Body = []
    for row in table.rows:
        printed = [
            number(table.title, metric, row.printed[metric, region]) if (metric, region) in row.printed else HOLE
            for metric, region in columns
        ]
        body.append((row, [_cell(table, row, c) for c in columns], printed if row.printed_as else None))
    return body


def _printed_label(table: Table, row: Row) -> str:
    """Return the label of a published line, with its row's name where that is not the name above it."""
    return f"{table.against}" if row.printed_as == row.method else f"{table.against}: {row.printed_as}"


def _notes(table: Table) -> Iterator[str]:
    if any(len(row.seeds) > 1 for row in table.rows):
        yield "Mean ± sample standard deviation over seeds."
    if table.counts:
        yield f"Test samples: {', '.join(f'{region} {n}' for region, n in table.counts.items())}."
    unprinted = [row.label for row in table.rows if row.printed_as is None]
    if table.against and unprinted and methods(table.title, paper=table.against):
        yield f"Not printed ({table.against}): {', '.join(unprinted)}."
    yield from table.notes


def _holes(table: Table) -> Iterator[tuple[str, str]]:
    """Yield (what is missing, the command that fills it or "")."""
    for row in table.rows:
        if row.missing:
            plural = "s" if len(row.missing) > 1 else ""
            yield f"{row.label} lacks seed{plural} {', '.join(map(str, row.missing))}", row.fill


def _text(tables: Sequence[Table], problems: Sequence[Problem], width: int | None, colour: bool | None) -> str:
    width = width or shutil.get_terminal_size((100, 24)).columns
    parts = [_text_table(table, width, colour) for table in tables]
    if problems:
        parts.append("".join(["Left out:\n", *(f"  {problem}\n" for problem in problems)]))
    return "\n".join(parts) or "No finished run.\n"


def _text_table(table: Table, width: int, colour: bool | None) -> str:
    grids = [_text_grid(table, table.columns)]
    if _measure(grids[0]).maximum > width:  # one grid a metric
        blocks = [list(block) for _, block in groupby(table.columns, key=lambda column: column[0])]
        grids = [_text_grid(table, block) for block in blocks]
    text = "\n".join([f"{table.title}\n", *(as_text(grid, width, colour) for grid in grids)]) + "\n"
    if any(table.best(column) for column in table.columns):
        text += "* best of its column.\n"
    text += "".join(f"{note}\n" for note in _notes(table))
    for missing, command in _holes(table):
        text += f"{missing}{f': {command}' if command else ''}\n"
    return text


def _text_grid(table: Table, columns: Sequence[Column]) -> RichTable:
    best = [table.best(column) for column in columns]
    lines: list[list[Text | str]] = []
    for row, cells, printed in _body(table, columns):
        marked = [
            Text(f"{cell}*", style="bold") if row.label in labels else Text(f"{cell} ")
            for cell, labels in zip(cells, best, strict=True)
        ]
        lines.append([Text(row.label), str(len(row.seeds)), *marked])
        if printed is not None:
            dim = [Text(f"{cell} ", style="dim") for cell in printed]
            lines.append([Text(f"  {_printed_label(table, row)}", style="dim"), "", *dim])
    heads = [f"{heading(metric)} \n{region} " for metric, region in columns]
    return _grid(["method", "seeds", *heads], lines)


def _grid(headings: Sequence[str], lines: Sequence[Sequence[Text | str]]) -> RichTable:
    """Return a grid whose first column may be folded and whose numbers may not be cut."""
    grid = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="")
    for place, head in enumerate(headings):
        widest = max(map(cell_len, [*head.splitlines(), *(str(line[place]) for line in lines)]))
        if place == 0:
            grid.add_column(head, overflow="fold", min_width=min(widest, _LABEL))
        else:
            grid.add_column(head, justify="right", no_wrap=True, min_width=widest)
    for line in lines:
        grid.add_row(*line)
    return grid


def _measure(renderable: ConsoleRenderable) -> Measurement:
    console = Console(file=io.StringIO(), width=10_000, legacy_windows=False)
    return Measurement.get(console, console.options, renderable)


def _markdown(tables: Sequence[Table], problems: Sequence[Problem]) -> str:
    parts = []
    for table in tables:
        heads = ["Method", "Seeds", *(f"{heading(metric)} {region}" for metric, region in table.columns)]
        lines = [f"### {table.title}", "", _md_line(heads), _md_line(["---", *["---:"] * (len(heads) - 1)])]
        best = [table.best(column) for column in table.columns]
        for row, cells, printed in _body(table, table.columns):
            bold = [f"**{cell}**" if row.label in labels else cell for cell, labels in zip(cells, best, strict=True)]
            lines.append(_md_line([_md_text(row.label), str(len(row.seeds)), *bold]))
            if printed is not None:
                lines.append(_md_line([f"*{_md_text(_printed_label(table, row))}*", "", *printed]))
        notes = ["Bold: best of its column."] if any(best) else []
        notes += map(_md_text, _notes(table))
        notes += [f"{_md_text(text)}{f': `{command}`' if command else ''}" for text, command in _holes(table)]
        lines += ["", *(f"- {note}" for note in notes)] if notes else []
        parts.append("\n".join(lines) + "\n")
    if problems:
        parts.append("".join(["Left out:\n\n", *(f"- {_md_text(str(problem))}\n" for problem in problems)]))
    return "\n".join(parts) or "No finished run.\n"


def _md_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _md_text(text: str) -> str:
    return re.sub(r"([\\|*_`<\[\]])", r"\\\1", text.replace("\n", " "))


def _latex(tables: Sequence[Table], problems: Sequence[Problem]) -> str:
    """Return `tabular`s that need the package booktabs; what surrounds them is left to the author."""
    parts = []
    for table in tables:
        heads = ["Method", "Seeds", *(f"{heading(metric)} {region}" for metric, region in table.columns)]
        notes = [*_notes(table), *(text for text, _ in _holes(table))]
        lines = [f"% {table.title}", *(f"% {note}" for note in notes)]
        lines += [
            rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
            r"\toprule",
            _tex_line(heads),
            r"\midrule",
        ]
        best = [table.best(column) for column in table.columns]
        for row, cells, printed in _body(table, table.columns):
            texts = [_tex_text(cell) for cell in cells]
            bold = [
                rf"\textbf{{{cell}}}" if row.label in labels else cell for cell, labels in zip(texts, best, strict=True)
            ]
            lines.append(" & ".join([_tex_text(row.label), str(len(row.seeds)), *bold]) + r" \\")
            if printed is not None:
                lines.append(_tex_line([f"  {_printed_label(table, row)}", "", *printed]))
        parts.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n")
    left_out = "".join(f"% Left out: {problem}\n".replace("\n", " ").rstrip() + "\n" for problem in problems)
    return "\n".join([*parts, left_out] if left_out else parts)


def _tex_line(cells: Sequence[str]) -> str:
    return " & ".join(map(_tex_text, cells)) + r" \\"


def _tex_text(text: str) -> str:
    escaped = re.sub(r"([&%$#_{}])", r"\\\1", text)
    for sign, code in (("±", r"$\pm$"), ("↓", r"$\downarrow$"), ("↑", r"$\uparrow$"), (HOLE, "--")):
        escaped = escaped.replace(sign, code)
    return escaped


def _csv(tables: Sequence[Table], problems: Sequence[Problem]) -> str:
    """Return one line a dataset × method × metric × region, in label units."""
    buffer = io.StringIO()
    heads = ("dataset", "title", "method", "metric", "region", "mean", "std", "n", "published")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(heads)
    for table in tables:
        for row in table.rows:
            for column in table.columns:
                cell = _plain_cell(row, column)
                values = (cell[name] for name in heads[3:])
                writer.writerow([table.dataset, table.title, row.label, *values])
    return buffer.getvalue()


def _json(tables: Sequence[Table], problems: Sequence[Problem]) -> str:
    content = {
        "tables": [
            {
                "dataset": table.dataset,
                "title": table.title,
                "against": table.against,
                "rows": [_plain_row(table, row) for row in table.rows],
                "test_samples": dict(table.counts),
                "notes": list(table.notes),
            }
            for table in tables
        ],
        "left_out": [{"path": str(p.path), "state": p.state, "reason": p.reason} for p in problems],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _plain_row(table: Table, row: Row) -> dict[str, Any]:
    return {
        "label": row.label,
        "method": row.method,
        "seeds": list(row.seeds),
        "missing_seeds": list(row.missing),
        "fill": row.fill or None,
        "published_as": row.printed_as,
        "cells": [_plain_cell(row, column) for column in table.columns],
    }


def _plain_cell(row: Row, column: Column) -> dict[str, Any]:
    cell = row.cells.get(column)
    values = (cell.mean, cell.std, cell.n) if isinstance(cell, Cell) else (None, None, 0)
    mean, std, n = values
    return {
        "metric": column[0],
        "region": column[1],
        "mean": mean,
        "std": std,
        "n": n,
        "published": row.printed.get(column),
    }


_WRITERS: dict[str, Callable[[Sequence[Table], Sequence[Problem]], str]] = {
    "md": _markdown,
    "latex": _latex,
    "csv": _csv,
    "json": _json,
}
FORMATS = ("text", *_WRITERS)
