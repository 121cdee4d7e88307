"""Every format holds the same numbers: each is parsed back and compared; pages and files are whole."""

import csv
import html.parser
import io
import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pandas as pd
import pytest
from hypothesis import given, settings

from dir_bench.cli import main
from dir_bench.commands import TABLE_FORMATS
from dir_bench.results.export import FORMATS, HtmlTable, render
from dir_bench.results.published import decimals
from dir_bench.results.records import COLUMNS, collect
from dir_bench.results.render import HOLE, UNDEFINED, number
from dir_bench.results.store import RunFolder
from dir_bench.results.tables import summarise

Make = Callable[..., RunFolder]
Report = Callable[..., dict[str, dict[str, Any]]]


class Page(html.parser.HTMLParser):
    """The rows of the tables of a page, what it holds else, and that its elements nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def parse_text(text: str) -> list[list[str]]:
    body = text.split("─\n")[1].split("\n\n")[0]
    return [re.split(r" {2,}", line.strip()) for line in body.splitlines()]


def parse_markdown(text: str) -> list[list[str]]:
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.replace("*", "").replace("\\", "") for cell in row] for row in rows]


def parse_latex(text: str) -> list[list[str]]:
    body = text.split("\\midrule\n")[1].split("\\bottomrule")[0]
    plain = re.sub(r"\\text(bf|it)\{(.*?)\}(?= &| \\\\)", r"\2", body.replace(r"$\pm$", "±").replace(" --", f" {HOLE}"))
    return [line.removesuffix(r" \\").split(" & ") for line in plain.splitlines()]


PARSERS: dict[str, Callable[[str], list[list[str]]]] = {
    "text": parse_text,
    "md": parse_markdown,
    "latex": parse_latex,
    "html": lambda text: Page(text).rows[2:],
}


def from_json(text: str) -> dict[str, list[str]]:
    """Return the cells that a format should print of each row, from the full precision of JSON."""
    (table,) = json.loads(text)["tables"]
    found = {}
    for row in table["rows"]:
        cells = []
        for cell in row["cells"]:
            absent = UNDEFINED if row["seeds"] else HOLE
            places = decimals("STS-B-DIR", cell["metric"])
            shown = absent if cell["mean"] is None else number(cell["metric"], cell["mean"], places)
            if cell["half_interval"] is not None:
                shown += f" ± {number(cell['metric'], cell['half_interval'], places)}"
            cells.append(shown if cell["n"] in (0, len(row["seeds"])) else f"{shown} (n={cell['n']})")
        found[row["label"]] = cells
    return found


errors = st.floats(0, 30, allow_subnormal=False)
fractions = st.floats(-1, 1, allow_subnormal=False)
runs = st.lists(
    st.tuples(errors, fractions, st.none() | errors), min_size=1, max_size=3
)  # of each seed: mae and pearson of all, mae of few


@settings(deadline=None, max_examples=25)
@given(st.lists(runs, min_size=1, max_size=3))
def test_numbers_are_identical_in_all_formats(methods: list[list[tuple[float, float, float | None]]]) -> None:

    lines: list[dict[str, Any]] = []
    for name, seeds in zip(("VANILLA", "INV", "RRT"), methods, strict=False):
        for seed, (mae, pearson, few) in enumerate(seeds):
            run = {"dataset": "sts_b", "title": "STS-B-DIR", "label": name, "method": name, "seed": seed}
            run |= {
                "path": f"{name}/{seed}",
                "table_metrics": "mae,pearson",
                "command": "",
                "monitor": "",
                "commit": "",
                "legend": "",
                "note": "",
            }
            values = {("all", "mae"): mae, ("all", "pearson"): pearson, ("few", "mae"): few, ("few", "pearson"): None}
            lines += [{**run, "region": r, "metric": m, "value": v, "count": 9} for (r, m), v in values.items()]
    tables = summarise(pd.DataFrame(lines, columns=COLUMNS).astype({"value": float}))
    expected = from_json(render(tables, "json"))
    for format, parse in PARSERS.items():
        text = render(tables, format, width=400, colour=False)
        found = {row[0].strip(): [re.sub("[*°†]", "", cell).strip() for cell in row[2:]] for row in parse(text)}
        assert found == expected, format
    written = list(csv.DictReader(io.StringIO(render(tables, "csv"))))
    full = [cell for row in json.loads(render(tables, "json"))["tables"][0]["rows"] for cell in row["cells"]]
    for line, cell in zip(written, full, strict=True):
        for key in ("mean", "std"):
            assert (float(line[key]) if line[key] else None) == cell[key]
        assert (int(line["n"]), line["best"] == "true", line["within_noise"] == "true") == (
            cell["n"], cell["best"], cell["within_noise"]
        )  # fmt: skip


def test_every_format_marks_the_same_cells(tmp_path: Path, make_run: Make, regions: Report) -> None:
    for method, values in (("VANILLA", (7.0, 7.4)), ("INV", (7.3, 7.5)), ("RRT", (9.0, 9.1))):
        for seed, mae in enumerate(values):
            make_run(tmp_path, regions(mae, 4.0), method=method, seed=seed, table_metrics=["mae"])
    # 7.2 ± 0.28 is best; 7.4 ± 0.14 overlaps it, 9.05 ± 0.07 does not
    (found,) = tables = summarise(collect([tmp_path])[0], spread="std")
    assert found.best(("mae", "all")) == {"VANILLA"}
    assert found.within_noise(("mae", "all")) == {"INV"}
    text = render(tables, "text", width=200, colour=False)
    assert text.count("7.20 ± 0.28*") == text.count("7.40 ± 0.14°") == 1
    assert "**7.20 ± 0.28** |" in render(tables, "md")
    assert "| *7.40 ± 0.14* |" in render(tables, "md")
    assert r"\textit{7.40 $\pm$ 0.14}" in render(tables, "latex")
    assert '<strong>7.20<span class="spread"> ± 0.28</span></strong>' in render(tables, "html")
    assert '<em>7.40<span class="spread"> ± 0.14</span></em>' in render(tables, "html")


def test_the_page_is_one_file_of_semantic_tables(tmp_path: Path, make_run: Make, regions: Report) -> None:
    make_run(tmp_path, regions(7.0, 4.0), title="A <b> & c")
    make_run(tmp_path, regions(7.0, 4.0), dataset="gauge", title="GAUGE")
    broken = RunFolder(tmp_path / "x")
    broken.start({}, {})
    text = render(summarise(collect([tmp_path])[0]), "html", problems=collect([tmp_path])[1])
    page = Page(text)
    tags = [tag for tag, _ in page.attributes]
    assert (tags.count("table"), tags.count("caption"), tags.count("h2")) == (2, 2, 1)
    assert {a.get("scope") for tag, a in page.attributes if tag == "th"} == {"col", "colgroup", "row"}
    assert not {"href", "src"} & {key for _, attributes in page.attributes for key in attributes}
    assert "A &lt;b&gt; &amp; c" in text
    assert "color-scheme: light dark" in text


@pytest.mark.parametrize(
    ("name", "head"),
    [("t.md", "###"), ("t.tex", "%"), ("t.html", "<!DOCTYPE"), ("t.csv", "dataset,"), ("t.json", "{"), ("t.txt", "A")],
)
def test_out_writes_the_format_of_its_suffix(
    tmp_path: Path, make_run: Make, regions: Report, name: str, head: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "runs", regions(7.0, 4.0))
    assert main(["table", str(tmp_path / "runs"), "--out", str(tmp_path / "new" / name)]) == 0
    assert (tmp_path / "new" / name).read_text(encoding="utf-8").startswith(head)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [name]
    assert capsys.readouterr().out == ""


def test_out_that_cannot_be_written_is_a_users_error(
    tmp_path: Path, make_run: Make, regions: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "runs", regions(7.0, 4.0))
    (tmp_path / "folder").mkdir()
    assert main(["table", str(tmp_path / "runs"), "--out", str(tmp_path / "folder")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_folders_after_against_are_folders(
    tmp_path: Path, make_run: Make, regions: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "runs", regions(7.0, 4.0))
    orders = (
        [str(tmp_path / "runs"), "--against", "paper", "repo"],
        ["--against", "paper", "repo", str(tmp_path / "runs")],
    )
    texts = []
    for order in orders:
        assert main(["table", *order]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert "7.77" in texts[0]


def test_help_teaches_marks_tests_and_formats(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["table", "--help"])
    text = capsys.readouterr().out
    assert all(
        word in text for word in itertools.chain(TABLE_FORMATS, ("†", "°", "Holm", "--holes", "--gains", "examples"))
    )
    assert TABLE_FORMATS == FORMATS


def test_a_wide_table_is_parted_by_whole_metrics(tmp_path: Path, make_run: Make, regions: Report) -> None:
    make_run(tmp_path, regions(7.0, 4.0, mse=1.0, rmse=2.0, pearson=0.5), table_metrics=["mae", "gm", "mse", "pearson"])
    whole = HtmlTable.of(summarise(collect([tmp_path])[0])[0])
    parts = [*whole.parts(8)]
    assert [[name for name, _ in part.metrics] for part in parts] == [["MAE ↓", "GM ↓"], ["MSE ↓", "PEARSON % ↑"]]
    cells = [cell for part in parts for cell in part.bodies[0][0].cells]
    assert cells == [*whole.bodies[0][0].cells]
    assert [len(part.columns) for part in whole.parts(3)] == [4, 4, 4, 4]  # a metric is never cut
