"""One HTML file of finished runs: tables, figures, and each run with its config and the command that repeats it.

It needs no other file and no network, which its Content-Security-Policy forbids; the same runs give the same bytes.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from dir_bench.atomic import write_text
from dir_bench.errors import UserError
from dir_bench.results.comparison import Over, without
from dir_bench.results.export import html_head, html_notes, html_table
from dir_bench.results.markup import html_text as escape
from dir_bench.results.render import HOLE, UNDEFINED, number
from dir_bench.results.report.entries import Entry, finished, left_out
from dir_bench.results.report.figures import Figures, draw_all
from dir_bench.results.rows import Table
from dir_bench.results.tables import collect_some, summarise


@dataclass(frozen=True)
class Section:
    """One dataset, or subset of one; without a table if none of its runs is finished."""

    title: str
    table: Table | None
    figures: Figures | None
    runs: Sequence[Entry]


def write(out: Path, paths: Iterable[Path | str] = ("outputs",), **options: object) -> None:
    """Write the report of all runs under `paths`, whole or not at all; see `page` for the options.

    Raises:
        UserError: As `tables.table`; or the file cannot be written.
    """
    if out.is_dir():
        raise UserError(f"{out} is a folder: name a file, such as {out / 'report.html'}")
    text = page(paths, **options)  # type: ignore[arg-type]
    try:
        write_text(out, text)
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
    figures: bool = True,
) -> str:
    """Return the report as HTML.

    Args:
        paths: Run folders, or folders that hold some.
        title: Of the page; by default the datasets'.
        against: See `tables.table`, as for the six that follow.
        metrics: See there.
        regions: See there.
        compare: See there; the gains of figures are over this row too.
        over: See there.
        gains: See there.
        presets: See there.
        figures: Whether to draw figures.

    Raises:
        UserError: As `tables.table`.
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
    )
    unread = [problem for table in tables for problem in table.left_out]
    problems, records = problems + unread, without(records, unread)
    tables = [table for table in tables if table.rows]
    others = left_out(problems, records)
    sections = []
    for table in tables:
        part = records[(records["dataset"] == table.dataset) & (records["title"] == table.title)]
        drawn = draw_all(table, part) if figures else None
        order = {row.label: place for place, row in enumerate(table.rows)}
        runs = sorted(finished(part), key=lambda run: order[run.label])
        sections.append(Section(table.title, table, drawn, [*runs, *others.pop(table.title, [])]))
    sections += [Section(name, None, None, runs) for name, runs in sorted(others.items())]
    text = _page(title or ", ".join(section.title for section in sections), sections)
    return text.encode("utf-8", "backslashreplace").decode()  # names of files may be no text


def _page(title: str, sections: Sequence[Section]) -> str:
    style, script = (
        resources.files(__name__).joinpath(f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js")
    )
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    body = [part for place, section in enumerate(sections, 1) for part in _section(section, place)]
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<link rel="icon" href="data:,">',  # or a browser asks the server for one
        f"<title>{escape(title)}</title>",
        f"<style>{style}</style>",
        "</head>",
        "<body>",
        '<a class="skip" href="#main">Skip to the results</a>',
        "<header>",
        f"<h1>{escape(title)}</h1>",
        f'<p class="faint">{escape(_summary(sections))}</p>',
        *_contents(sections),
        "</header>",
        '<main id="main" tabindex="-1">',
        *body,
        "</main>",
        f"<script>{script}</script>",
        "</body>",
        "</html>",
    ]
    return "\n".join(lines) + "\n"


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _summary(sections: Sequence[Section]) -> str:
    """Return how many runs there are, in which states, and from when to when they ran."""
    runs = [run for section in sections for run in section.runs]
    states = ", ".join(f"{count} {state}" for state, count in Counter(run.state for run in runs).items())
    days = sorted({date[:10] for run in runs for date in run.dates if date})
    when = f" Run from {days[0]} to {days[-1]}." if len(days) > 1 else f" Run on {days[0]}." if days else ""
    return f"{_plural(len(runs), 'run')}: {states}.{when}"


def _contents(sections: Sequence[Section]) -> list[str]:
    parts = []
    for place, section in enumerate(sections, 1):
        there = {"methods": section.table, "figures": section.figures, "runs": section.runs}
        links = [f'<a href="#{name}-{place}">{name}</a>' for name, part in there.items() if part]
        parts.append(f"<li>{escape(section.title)}: {', '.join(links)}</li>")
    return ['<nav aria-label="Contents">', "<ul>", *parts, "</ul>", "</nav>"]


def _section(section: Section, place: int) -> list[str]:
    text = [f'<section aria-labelledby="dataset-{place}">', f'<h2 id="dataset-{place}">{escape(section.title)}</h2>']
    out = Counter(run.state for run in section.runs if run.reason)
    if section.table is not None:
        text.append(f'<h3 id="methods-{place}">Methods</h3>')
        text += _scrolled(html_table(section.table, "sortable"), f"{section.title}, methods", "methods")
        text += html_notes(section.table)
    if out:
        states = ", ".join(f"{count} {state}" for state, count in out.items())
        where = "No finished run" if section.table is None else "Left out of the table"
        text.append(
            f"<p>{where}: {_plural(out.total(), 'run')} ({escape(states)}), "
            f'<a href="#runs-{place}">listed below</a> with the reason.</p>'
        )
    if section.figures is not None:
        text += [f'<h3 id="figures-{place}">Figures</h3>', *_figures(section.title, section.figures)]
    text.append(f'<h3 id="runs-{place}">Runs</h3>')
    return [*text, *_scrolled(_runs(section), f"{section.title}, runs", "runs"), *_runs_note(section), "</section>"]


def _scrolled(table: list[str], name: str, rows: str) -> list[str]:
    """Return a table in a box that scrolls if it is too wide, by keyboard too."""
    first = table[0].replace("<table", f'<table data-rows="{rows}"', 1)
    return [f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(name)}">', first, *table[1:], "</div>"]


def _figures(title: str, figures: Figures) -> list[str]:
    text = []
    methods = ", ".join(figures.methods)
    if figures.drawn:
        text.append(f'<p class="faint">{escape(figures.note or f"Methods: {methods}.")}</p>')
        text.append('<div class="figures">')
    for name, shows, svg in figures.drawn:
        source = f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
        alt = escape(f"{title}: {shows}, of {methods}")
        caption = f"{escape(shows[0].upper() + shows[1:])}: <code>dir-bench plot {name}</code>"
        text += ["<figure>", f'<img src="{source}" alt="{alt}">', f"<figcaption>{caption}</figcaption>", "</figure>"]
    if figures.drawn:
        text.append("</div>")
    if figures.missing:
        reasons = [f"<li>{escape(', '.join(names))}: {escape(reason)}</li>" for names, reason in figures.missing]
        text += ["<p>Not drawn:</p>", "<ul>", *reasons, "</ul>"]
    return text


def _runs(section: Section) -> list[str]:
    columns = section.table.columns if section.table is not None else ()
    names = ("Method", "Seed", "Identity", "State", "Time")
    text = html_head(f"{section.title}, run by run", names, columns, "sortable")
    for run in section.runs:
        time = (
            f'<td data-sort="{run.seconds:.0f}">{_span(run.seconds)}</td>'
            if run.seconds is not None
            else f"<td>{HOLE}</td>"
        )
        cells = [
            f'<th scope="row">{escape(run.label)}</th>',
            f"<td>{escape(run.seed) or HOLE}</td>",
            f'<td class="text"><code>{escape(run.identity)}</code></td>',
            f'<td class="text"><span class="state {escape(run.state)}">{escape(run.state)}</span></td>',
            time,
        ]
        for column in columns:
            value = run.values.get(column)
            absent = UNDEFINED if run.values else HOLE
            cells.append(f"<td>{absent if value is None else number(section.title, column[0], value)}</td>")
        width = len(names) + len(columns)
        text += ["<tbody>", f"<tr>{''.join(cells)}</tr>", '<tr class="more">', f'<td colspan="{width}">']
        text += [*_details(run), "</td>", "</tr>", "</tbody>"]
    return [*text, "</table>"]


def _details(run: Entry) -> list[str]:
    """Return what is folded below a run: folder, dates, code, and to copy its command and config."""
    text = [f'<p class="reason {escape(run.state)}">{escape(run.reason)}</p>'] if run.reason else []
    of = escape(f"{run.label}, seed {run.seed}")
    text += ["<details>", f'<summary aria-label="Command and config of {of}">Command and config</summary>', "<dl>"]
    facts = {
        "Folder": run.path,
        "Started": run.dates[0],
        "Ended": run.dates[1],
        "Code": run.code,
        "Made with": run.machine,
    }
    text += [f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in facts.items() if value]
    text.append("</dl>")
    for name, kind, content in (("command", "", run.command), ("config", "config", run.config)):
        text.append(f"<h4>{name.capitalize()}</h4>")
        if content:
            text.append(f'<pre class="{kind}" tabindex="0" data-name="{name}">{escape(content)}</pre>')
        else:
            text.append('<p class="faint">Not recorded in this folder.</p>')
    if run.traceback:
        text += ["<h4>Traceback</h4>", f'<pre class="config" tabindex="0">{escape(run.traceback)}</pre>']
    return [*text, "</details>"]


def _runs_note(section: Section) -> list[str]:
    if all(run.seconds is None for run in section.runs):
        return []
    return ['<p class="faint">Time: of a run\'s last attempt, with reading of data and evaluation.</p>']


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


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' if count != 1 else ''}"
