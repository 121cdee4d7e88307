"""Tables as Markdown, LaTeX and HTML, cell for cell as `render` prints them; as CSV and JSON in full precision."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby
from typing import Any

from dir_bench.errors import UserError, nearest
from dir_bench.files.values import visible, visible_in_json
from dir_bench.results.markup import html_page, md_code, md_text, tex_text
from dir_bench.results.records import Problem
from dir_bench.results.render import Line, Shown, heading, holes, lines, notes
from dir_bench.results.render import text as as_plain_text
from dir_bench.results.rows import REFERENCE, Column, Row, Table

_Marks = Mapping[Column, tuple[frozenset[str], frozenset[str]]]


@dataclass(frozen=True)
class HtmlTable:
    """What `table.html.jinja` shows of a table.

    Attributes:
        title: Its caption.
        columns: As the table has them.
        metrics: The columns by metric: (its heading, the regions).
        bodies: Each row's lines: its own and what is printed below it.
        foot: The lines of the gains of the best rows.
        notes: What has to be known to read it.
        holes: (what is missing, the command that fills it or "").
    """

    title: str
    columns: Sequence[Column]
    metrics: Sequence[tuple[str, Sequence[str]]]
    bodies: Sequence[Sequence[Line]]
    foot: Sequence[Line]
    notes: Sequence[str]
    holes: Sequence[tuple[str, str]]

    @classmethod
    def of(cls, table: Table) -> "HtmlTable":
        by_metric = groupby(table.columns, key=lambda column: column[0])
        metrics = [(heading(metric), [region for _, region in columns]) for metric, columns in by_metric]
        bodies: list[list[Line]] = []
        for line in lines(table, table.columns):
            if line.kind == "row":
                bodies.append([])
            bodies[-1].append(line)
        foot = bodies.pop() if table.top_gains else []
        below = [*notes(table, "Bold", "Italic")]
        return cls(table.title, table.columns, metrics, bodies, foot, below, [*holes(table)])

    def parts(self, most: int) -> Iterator["HtmlTable"]:
        """Yield tables of no more than so many columns, each of whole metrics, that a screen can hold."""
        ends = [*accumulate(len(regions) for _, regions in self.metrics)]
        first = 0
        while first < len(self.columns):
            ahead = [end for end in ends if end > first]
            last = max((end for end in ahead if end - first <= most), default=ahead[0])
            of_metric = [count for count, end in enumerate(ends) if first < end <= last]
            yield replace(
                self,
                columns=self.columns[first:last],
                metrics=[self.metrics[count] for count in of_metric],
                bodies=[[replace(line, cells=line.cells[first:last]) for line in lines] for lines in self.bodies],
                foot=[replace(line, cells=line.cells[first:last]) for line in self.foot],
            )
            first = last


def _headings(table: Table) -> list[str]:
    return ["Method", "Seeds", *(f"{heading(metric)} {region}" for metric, region in table.columns)]


def _markdown(tables: Sequence[Table], problems: Sequence[Problem]) -> str:
    parts = []
    for table in tables:
        heads = _headings(table)
        text = [
            f"### {md_text(table.title)}",
            "",
            _md_line(map(md_text, heads)),
            _md_line(["---", *["---:"] * (len(heads) - 1)]),
        ]
        text += [_md_line(_md_cells(line)) for line in lines(table, table.columns)]
        below = [md_text(note) for note in notes(table, "Bold", "Italic")]
        below += [
            f"{md_text(missing)}{f': {md_code(command)}' if command else ''}" for missing, command in holes(table)
        ]
        text += ["", *(f"- {note}" for note in below)] if below else []
        parts.append("\n".join(text) + "\n")
    if problems:
        parts.append("".join(["Left out:\n\n", *(f"- {md_text(str(problem))}\n" for problem in problems)]))
    return "\n".join(parts) or "No finished run.\n"


def _md_cells(line: Line) -> list[str]:
    label = md_text(line.label) if line.kind == "row" else f"*{md_text(line.label)}*"
    cells = [f"{cell.text}{cell.tested}" for cell in line.cells]
    marks = ["**" if cell.best else "*" if cell.near else "" for cell in line.cells]
    return [label, line.seeds, *(f"{mark}{cell}{mark}" for cell, mark in zip(cells, marks, strict=True))]


def _md_line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _latex(tables: Sequence[Table], problems: Sequence[Problem]) -> str:
    """Return `tabular`s, each with its notes below, that need the package booktabs; floats are left to the author."""
    parts = []
    for table in tables:
        heads = _headings(table)
        lacking = [f"{missing}{f': {command}' if command else ''}" for missing, command in holes(table)]
        text = [f"% {visible(note)}" for note in (table.title, *lacking)]
        text += [rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}", r"\toprule", _tex_line(map(tex_text, heads))]
        text.append(r"\midrule")
        for line in lines(table, table.columns):
            label = tex_text(line.label if line.kind == "row" else f"  {line.label}")
            text.append(_tex_line([label, line.seeds, *map(_tex_cell, line.cells)]))
        text += [r"\bottomrule", r"\end{tabular}"]
        if below := [*map(tex_text, notes(table, "Bold", "Italic"))]:
            text += [
                r"\par\smallskip",
                r"\begin{minipage}{\linewidth}\footnotesize",
                *(rf"{note}\par" for note in below),
            ]
            text.append(r"\end{minipage}")
        parts.append("\n".join(text) + "\n")
    left_out = "".join(f"% Left out: {problem}\n" for problem in problems)
    return "\n".join([*parts, left_out] if left_out else parts)


def _tex_cell(cell: Shown) -> str:
    text = tex_text(cell.text + cell.tested)
    command = "textbf" if cell.best else "textit" if cell.near else ""
    return rf"\{command}{{{text}}}" if command else text


def _tex_line(cells: Any) -> str:
    return " & ".join(cells) + r" \\"


def _html(tables: Sequence[Table], problems: Sequence[Problem]) -> str:
    """Return one page that needs no other file, with a table a dataset."""
    return html_page("export.html.jinja", tables=[*map(HtmlTable.of, tables)], problems=problems)


def _csv(tables: Sequence[Table], problems: Sequence[Problem]) -> str:
    """Return one line a dataset × method × metric × region, in label units."""
    papers = list(dict.fromkeys(paper for table in tables for paper in table.against))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    heads = ("metric", "region", "mean", "std", "half_interval", "n", "best", "within_noise", "gain", "p", "p_holm")
    more = ("label_stands_for", "departures", "tested_over")
    writer.writerow(["dataset", "title", "method", *heads, *more, *(f"published_{paper}" for paper in papers)])
    for table in tables:
        marks = _marks(table)
        for row in table.rows:
            for column in table.columns:
                cell = _plain_cell(row, column, marks)
                values = [str(v).lower() if isinstance(v, bool) else v for v in (cell[name] for name in heads)]
                values[:2] = map(visible, column)
                printed = [cell["published"].get(paper) for paper in papers]
                about = [
                    visible(row.legend),
                    visible("; ".join(row.departures or ())),
                    table.compared and table.compared_over,
                ]
                writer.writerow([*map(visible, (table.dataset, table.title, row.label)), *values, *about, *printed])
        for column, gain in table.top_gains.items():
            numbers = {**dict.fromkeys(heads), "metric": column[0], "region": column[1], "gain": gain}
            label = f"OURS (BEST) VS. {REFERENCE}"
            writer.writerow(
                [
                    visible(table.dataset),
                    visible(table.title),
                    label,
                    *numbers.values(),
                    *[None] * len((*more, *papers)),
                ]
            )
    return buffer.getvalue()


def _json(tables: Sequence[Table], problems: Sequence[Problem]) -> str:
    content = {
        "tables": [
            {
                "dataset": table.dataset,
                "title": table.title,
                "against": list(table.against),
                "compared_with": table.compared,
                "compared_over": table.compared_over if table.compared is not None else None,
                "rows": _plain_rows(table),
                "best_gains": [{"metric": m, "region": r, "gain": gain} for (m, r), gain in table.top_gains.items()],
                "test_samples": dict(table.counts),
                "notes": [*notes(table, "best", "within_noise")],
            }
            for table in tables
        ],
        "left_out": [{"path": str(p.path), "state": p.state, "reason": p.reason} for p in problems],
    }
    return visible_in_json(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)) + "\n"


def _plain_rows(table: Table) -> list[dict[str, Any]]:
    marks = _marks(table)
    return [
        {
            "label": row.label,
            "label_stands_for": row.legend or None,
            "departures": None if row.departures is None else list(row.departures),
            "method": row.method,
            "seeds": list(row.seeds),
            "missing_seeds": list(row.missing),
            "fill": row.fill or None,
            "published_as": dict(row.printed_as),
            "cells": [_plain_cell(row, column, marks) for column in table.columns],
        }
        for row in table.rows
    ]


def _marks(table: Table) -> _Marks:
    """Return for each column the labels of the best rows, and of those within noise of them."""
    return {column: (table.best(column), table.within_noise(column)) for column in table.columns}


def _plain_cell(row: Row, column: Column, marks: _Marks) -> dict[str, Any]:
    best, near = marks[column]
    cell, test = row.cells.get(column), row.tests.get(column)
    mean, std, n = (cell.mean, cell.std, cell.n) if cell is not None else (None, None, 0)
    return {
        "metric": column[0],
        "region": column[1],
        "mean": mean,
        "std": std,
        "half_interval": cell.half if cell is not None else None,
        "n": n,
        "best": row.label in best,
        "within_noise": row.label in near,
        "gain": row.gains.get(column),
        "p": test.p if test is not None else None,
        "p_holm": test.p_holm if test is not None else None,
        "published": {paper: numbers[column] for paper, numbers in row.printed.items() if column in numbers},
    }


WRITERS: dict[str, Callable[[Sequence[Table], Sequence[Problem]], str]] = {
    "md": _markdown,
    "latex": _latex,
    "html": _html,
    "csv": _csv,
    "json": _json,
}

FORMATS = ("text", *WRITERS)


def check_format(format: str) -> None:
    """Raise a UserError if there is no such format."""
    if format not in FORMATS:
        raise UserError(f"There is no table format '{format}'{nearest(format, FORMATS)}: choose {', '.join(FORMATS)}.")


def render(
    tables: Sequence[Table],
    format: str = "text",
    *,
    problems: Sequence[Problem] = (),
    width: int | None = None,
    colour: bool | None = None,
) -> str:
    """Return the tables in one of `FORMATS`, ending in a newline; see `tables.table` for the arguments."""
    check_format(format)
    tables = [table for table in tables if table.rows]
    if format == "text":
        return as_plain_text(tables, problems, width, colour)
    return WRITERS[format](tables, problems)
