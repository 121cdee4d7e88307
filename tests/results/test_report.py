"""A report has the numbers of the table, every run, whole or not, and nothing that a browser would have to fetch."""

import base64
import builtins
import html.parser
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dir_bench.cli import main
from dir_bench.errors import RunFailed, UserError
from dir_bench.labels.regions import FEW, MANY, MEDIUM
from dir_bench.results import report
from dir_bench.results.export import render
from dir_bench.results.records import collect
from dir_bench.results.report import figures as drawing
from dir_bench.results.store import RunFolder
from dir_bench.results.tables import summarise

Make = Callable[..., RunFolder]
Report = Callable[..., dict[str, dict[str, Any]]]
SCRIPT = Path(__file__).parents[2] / "scripts" / "check_report.py"


class Page(html.parser.HTMLParser):
    """The tables of a page, cell by cell, its text, its attributes; its elements nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.blocks: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag == "pre":
            self.blocks.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "pre" in self.open:
            self.blocks[-1] += data
        elif {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data.strip()


@pytest.fixture
def make_toy(tmp_path: Path, make_run: Make) -> Make:
    """Write a run with all that figures read, but for FDS: labels, features, history and predictions."""

    def run(method: str, seed: int = 0, error: float = 1.0, name: str = "toy") -> RunFolder:
        title = f"{name.upper()}-DIR"
        bins = {"start": 0, "stop": 4, "width": 1, "first": 0, "rule": "edges", "precision": "float64"}
        dataset = {"name": name, "title": title, "label": "age", "monitor": "mae", "bins": bins}
        test = {r: {"count": 8, "mae": error * k} for k, r in enumerate(("all", "many", "medium", "few"), 1)}
        target = np.repeat(np.arange(4) + 0.5, 4)
        predictions = {"target": target, "prediction": target + error * np.tile([-1, 1, 0.5, 2], 4)}
        folder = make_run(
            tmp_path, test, dataset=name, title=title, method=method, seed=seed, table_metrics=["mae"],
            settings={"dataset": dataset, "backbone": {}, "trainer": {}}, predictions=predictions,
        )  # fmt: skip
        counts, region = np.array([200, 50, 8, 1]), np.array([MANY, MEDIUM, FEW, FEW], dtype=np.int8)
        np.savez(folder.labels_path, edges=np.arange(5.0), first=0, counts=counts, region=region, density=counts + 5.0)
        rng = np.random.default_rng(seed)
        statistics = {"mean": rng.normal(size=(4, 3)), "variance": rng.uniform(1, 2, (4, 3))}
        np.savez(folder.features_path, bin=np.arange(4), count=counts, **statistics)
        epochs = np.arange(1, 4)
        history = {"epoch": epochs, "step": 10 * epochs, "loss": 1 / epochs, "lr": 0.1}
        history |= {f"val/{r}/mae": error / epochs for r in test}
        pd.DataFrame(history).to_csv(folder.history_path, index=False)
        return folder

    return run


def fail(folder: RunFolder, error: str, **config: Any) -> RunFolder:
    folder.start(config, {"command": ["method=inv", "seed=4"], "git": {"commit": "f" * 40, "dirty": True}})
    folder.fail(error, "Traceback: <b>here</b>")
    return folder


def test_numbers_are_those_of_the_table(tmp_path: Path, make_run: Make, regions: Report) -> None:
    for method, values in (("VANILLA", (7.0, 7.4)), ("SQINV + LDS", (7.3, 7.5)), ("RRT", (9.0, 9.1))):
        for seed, mae in enumerate(values):
            make_run(tmp_path, regions(mae, 4.0), method=method, seed=seed)
    options = {"against": ["paper"], "gains": True}
    page = Page(report.page([tmp_path], figures=False, **options))
    (table,) = summarise(collect([tmp_path])[0], **options)  # type: ignore[arg-type]
    methods, runs = page.tables
    assert methods == Page(render([table], "html")).tables[0]
    assert "7.77" in [cell for row in methods for cell in row]  # the paper's VANILLA
    # The paper's order of rows; 5 columns of names, 8 of errors, of which MAE of all is the first.
    assert [[row[0], row[1], row[3], row[5]] for row in runs if len(row) == 13] == [
        ["VANILLA", "0", "done", "7.00"], ["VANILLA", "1", "done", "7.40"],
        ["RRT", "0", "done", "9.00"], ["RRT", "1", "done", "9.10"],
        ["SQINV + LDS", "0", "done", "7.30"], ["SQINV + LDS", "1", "done", "7.50"],
    ]  # fmt: skip


def test_a_run_has_its_command_and_its_config(tmp_path: Path, make_run: Make, regions: Report) -> None:
    run = make_run(tmp_path, regions(7.0, 4.0), command=["dataset=agedb", "subset.remove=[[20,30],[45,60]]"])
    command, config = Page(report.page([tmp_path], figures=False)).blocks
    assert command == "dir-bench train dataset=agedb 'subset.remove=[[20,30],[45,60]]'"
    assert config == run.config_path.read_text()


def test_runs_that_are_not_finished_are_listed_with_the_reason(tmp_path: Path, make_run: Make, regions: Report) -> None:
    made = make_run(tmp_path, regions(7.0, 4.0), method="INV")
    fail(RunFolder.of(tmp_path, "agedb", "inv", "aaaa"), "the loss is NaN at step 15", seed=4)
    RunFolder.of(tmp_path, "agedb", "rrt", "bbbb").start({"seed": 1}, {})
    RunFolder.of(tmp_path, "new", "inv", "cccc").start({"seed": 2, "dataset": {"title": "NEW-DIR"}}, {})
    broken = make_run(tmp_path, regions(7.0, 4.0), method="SQINV")
    broken.metrics_path.write_text("{}")
    text = report.page([tmp_path], figures=False)
    page = Page(text)
    _, runs, other = page.tables
    found = {
        row[2]: [row[0], row[1], row[3]]
        for row in [*runs, *other]
        if len(row) >= 5 and row[0] in ("INV", "inv", "rrt", "sqinv")
    }
    assert found == {
        made.path.name: ["INV", "0", "done"], "aaaa": ["INV", "4", "failed"], "bbbb": ["rrt", "1", "interrupted"],
        broken.path.name: ["sqinv", "0", "broken"], "cccc": ["inv", "2", "interrupted"],
    }  # fmt: skip
    assert "5 runs: 1 done, " in text
    for said in ("the loss is NaN at step 15", "start it again and it resumes", "metrics.json is not the file"):
        assert said in text
    assert "dir-bench train method=inv seed=4" in page.blocks
    assert "with changes that were not committed" in text
    assert "NEW-DIR" in text


def test_what_a_folder_says_is_text_and_no_markup(tmp_path: Path, make_run: Make, regions: Report) -> None:
    evil = "</script><script>alert(1)</script>\"'&"
    make_run(tmp_path / "<i>runs", regions(7.0, 4.0), title=evil, method=evil, settings={"note": evil})
    fail(RunFolder.of(tmp_path / "<i>runs", "agedb", "x", "y"), evil, seed=evil)
    text = report.page([tmp_path], title=evil, figures=False)
    page = Page(text)
    tags = [tag for tag, _ in page.tags]
    assert tags.count("script") == 1
    assert not {"i", "b"} & set(tags)
    assert evil in page.tables[0][2][0]
    assert not re.search("&amp;(lt|gt|amp|#)", text)  # escaped once
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on") or name == "style"]


def test_a_page_asks_for_nothing_and_forbids_it(tmp_path: Path, make_run: Make, regions: Report) -> None:
    make_run(tmp_path, regions(7.0, 4.0))
    text = report.page([tmp_path], figures=False)
    page = Page(text)
    for _, attributes in page.tags:
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#"))
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy") or ""
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    identifiers = [a["id"] for _, a in page.tags if "id" in a]
    assert len(identifiers) == len(set(identifiers))
    targets = {a["href"] for tag, a in page.tags if tag == "a"}
    assert targets <= {f"#{name}" for name in identifiers}


def test_figures_are_drawn_or_the_reason_is_there(tmp_path: Path, make_toy: Make) -> None:
    pytest.importorskip("matplotlib")
    make_toy("VANILLA")
    make_toy("SQINV")
    text = report.page([tmp_path])
    pictures = [a for tag, a in Page(text).tags if tag == "img"]
    assert len(pictures) == 6
    for picture in pictures:
        assert base64.b64decode((picture["src"] or "").partition("base64,")[2]).startswith(b"<?xml")
        assert (picture["alt"] or "").startswith("TOY-DIR: ")
    assert re.search(r"<li>fds: None of these runs kept FDS distances", text)
    assert text == report.page([tmp_path])  # the same bytes


def test_several_datasets_are_ranked_and_drawn_in_processes(tmp_path: Path, make_toy: Make) -> None:
    pytest.importorskip("matplotlib")
    for name in ("toy", "game"):
        for place, method in enumerate(("VANILLA", "INV", "SQINV")):
            make_toy(method, error=1.0 + place, name=name).labels_path.unlink()  # and with it five figures
    text = report.page([tmp_path], processes=2)
    pictures = [a for tag, a in Page(text).tags if tag == "img"]
    shown = [(a["alt"] or "").partition(": ")[0] for a in pictures]
    assert shown == ["Over datasets", "Over datasets", "GAME-DIR", "TOY-DIR"]
    assert "by MAE of few" in (pictures[1]["alt"] or "")
    assert "<code>dir-bench plot cd --metric mae --region few</code>" in text
    assert text == report.page([tmp_path])


def test_a_process_that_was_ended_is_said_in_a_sentence_about_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        drawing, "run_all", lambda *_: (pair for pair in [(0, RunFailed("goes on from its checkpoint"))])
    )
    with pytest.raises(RunFailed, match=r"drew figures was ended, .*: name fewer runs, or add --no-figures"):
        drawing.draw_each([None, None], processes=2)  # type: ignore[list-item]


def test_too_few_methods_are_not_ranked(tmp_path: Path, make_toy: Make) -> None:
    pytest.importorskip("matplotlib")
    for name in ("toy", "game"):
        make_toy("VANILLA", name=name).labels_path.unlink()
    assert "<li>cd --metric mae --region all: ranks over datasets need 3 methods" in report.page([tmp_path])


def test_of_many_methods_the_base_and_the_best_are_drawn(tmp_path: Path, make_toy: Make) -> None:
    pytest.importorskip("matplotlib")
    for place, method in enumerate(("VANILLA", "INV", "SQINV", "RRT", "FOCAL-R", "SMOGN", "MIXUP")):
        make_toy(method, error=3.0 - place / 4 if place else 9.0)
    text = report.page([tmp_path])
    assert "6 of 7 methods: VANILLA and the best by MAE of all; name fewer runs for others." in text
    (shown,) = {(a["alt"] or "").partition(", of ")[2] for tag, a in Page(text).tags if tag == "img"} - {""}
    assert "INV" not in shown.split(", ")
    assert {"VANILLA", "SQINV", "MIXUP"} <= set(shown.split(", "))


def test_without_matplotlib_there_are_tables_and_how_to_get_figures(
    tmp_path: Path, make_run: Make, regions: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path, regions(7.0, 4.0))
    real = builtins.__import__

    def absent(name: str, *rest: Any) -> Any:
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    text = report.page([tmp_path])
    assert text.count("pip install &#39;dir-bench[plots]&#39;") == 1
    assert len(Page(text).tables) == 2


def test_the_command_writes_a_page_or_says_why_not(
    tmp_path: Path, make_run: Make, regions: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "runs", regions(7.0, 4.0))
    out = tmp_path / "new" / "r.html"
    ask = ["report", str(out), str(tmp_path / "runs"), "--no-figures", "--against", "none", "--title", "First"]
    assert main(ask) == 0
    assert [path.name for path in out.parent.iterdir()] == ["r.html"]
    assert "<title>First</title>" in out.read_text(encoding="utf-8")
    for wrong, says in (
        ([str(tmp_path / "runs")], "no name of a page"),
        ([str(out), str(tmp_path / "nowhere")], "does not exist"),
        ([str(out), str(tmp_path / "new")], "There is no run"),
    ):
        assert main(["report", *wrong]) == 2
        assert says in capsys.readouterr().err
    (tmp_path / "d.html").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        report.write(tmp_path / "d.html", [tmp_path / "runs"])


def test_time_is_that_of_the_last_attempt(tmp_path: Path, make_run: Make, regions: Report) -> None:
    run = make_run(tmp_path, regions(7.0, 4.0))
    run.status_path.write_text('{"started": "2026-03-01T23:58:00+00:00", "ended": "2026-03-02T00:01:20+00:00"}')
    text = report.page([tmp_path], figures=False)
    assert Page(text).tables[1][2][4] == "3 min 20 s"
    assert '<td data-sort="200">' in text
    assert "1 run: 1 done. Run from 2026-03-01 to 2026-03-02." in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.6, "1 min"), (200, "3 min 20 s"), (3900, "1 h 5 min"), (90000, "1 d 1 h"), (86460, "1 d")],
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert report._span(seconds) == text


@pytest.mark.slow
def test_a_browser_finds_nothing_wrong(tmp_path: Path, make_toy: Make) -> None:
    pytest.importorskip("playwright")
    spec = importlib.util.spec_from_file_location("check_report", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    if script.CHROMIUM is None:
        pytest.skip("no Chromium here to open the report with")
    for seed in (0, 1):
        make_toy("VANILLA", seed)
        make_toy("SQINV + LDS + FDS", seed, error=0.8 + seed)
    fail(RunFolder.of(tmp_path, "toy", "inv", "aaaa"), "the loss is NaN", seed=4)
    out = tmp_path / "r.html"
    report.write(out, [tmp_path])
    assert script.check(out) == []
    # It would have found an order that is none, and a request.
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", out.read_text(encoding="utf-8"))
    text = text.replace("there.sort(", "there.slice().sort(").replace("<h1>", '<img src="http://127.0.0.1:9/"><h1>')
    out.write_text(text, encoding="utf-8")
    wrong = script.check(out)
    assert any("Method: not ascending" in sentence for sentence in wrong)
    assert "request: http://127.0.0.1:9/" in wrong
