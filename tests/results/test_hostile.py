"""A run folder may come from anybody: whatever lies under its names, the other runs are shown and it is named."""

import io
import json
import logging
import os
import re
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dir_bench.cli import main
from dir_bench.results.content import LONGEST
from dir_bench.results.store import RunFolder, _seal
from dir_bench.sweeps.plan import run_times

pytest.importorskip("matplotlib")

Make = Callable[..., RunFolder]
TARGET = np.repeat(np.arange(4) + 0.5, 4)
BINS = {"start": 0, "stop": 4, "width": 1, "first": 0, "rule": "edges", "precision": "float64"}
MARKUP = "\x1b[31m $x_1^ `|* <b>&amp; \\input{/etc/passwd} % \r\n\u202e \x00 _[a](b)"


def write(make_run: Make, folder: Path, method: str, seed: int = 0) -> RunFolder:
    """Write a run with everything that any verb reads, but for checkpoints."""
    dataset = {"name": "toy", "title": "TOY-DIR", "monitor": "mae", "bins": BINS, "extra_errors": "none"}
    settings = {"dataset": dataset, "backbone": {}, "trainer": {}, "semantics": {"zero_error": 0.0}}
    test = {r: {"count": 16, "mae": 1.25} for r in ("all", "many")} | {r: {"count": 0} for r in ("medium", "few")}
    run = make_run(
        folder, test, dataset="toy", title="TOY-DIR", method=method, seed=seed, settings=settings,
        table_metrics=["mae"], predictions={"target": TARGET, "prediction": TARGET + 1.25, "index": np.arange(16)},
    )  # fmt: skip
    np.savez(run.labels_path, counts=np.full(4, 200), region=np.zeros(4, np.int8), density=np.full(4, 200.0))
    np.savez(run.features_path, count=np.full(4, 200), mean=np.ones((4, 3)), variance=np.ones((4, 3)))
    run.history_path.write_text("epoch,step,loss,val/all/mae\n1,10,0.5,1.5\n2,20,0.4,1.25\n")
    return run


def text(content: str | bytes) -> Callable[[Path], None]:
    return lambda path: void(path.write_bytes(content if isinstance(content, bytes) else content.encode()))


def void(*_: object) -> None:
    return None


def oversized(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**36)  # a hole: it takes no disk


def bomb(path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    path.write_text("\n".join(lines))


ANY: dict[str, Callable[[Path], None]] = {
    "empty": text(""),
    "bytes": text(b"\x80\x03\xff\xfe\x00" * 9),
    "NUL": text("\0" * 40),
    "UTF-16": text("{}".encode("utf-16")),
    "a list": text("[]"),
    "a number": text("3"),
    "nested": text("[" * 100_000),
    "huge": oversized,
    "a folder": lambda path: path.mkdir(),
    "a FIFO": lambda path: os.mkfifo(path),
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a loop": lambda path: path.symlink_to(path.name),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
}
SEED = json.dumps("seed")
OBJECT: dict[str, dict[str, str]] = {
    "metrics.json": {
        "a key twice": f'{{{SEED}: 0, {SEED}: 1}}',
        "infinite": '{"test": {"all": {"count": 1, "mae": 1e400}}}',
        "NaN": '{"test": {"all": {"count": 1, "mae": NaN}}}',
        "a long number": '{"test": {"all": {"count": %s}}}' % ("9" * 400),
        "digits": '{"seed": %s}' % ("9" * 9999),
        "below 0": '{"test": {"all": {"count": -1}}}',
        "a surrogate": '{"method": "\\ud800"}',
        "a long text": json.dumps({"method": "x" * (LONGEST + 1)}),
        "null": '{"dataset": null}',
        "true": '{"seed": true}',
        "metrics by number": '{"table_metrics": 3}',
        "commands by number": '{"command": [1]}',
        "no test": '{"test": {}}',
        "a monitor": '{"monitor": [1]}',
    },
    "status.json": {"times": '{"started": 3, "ended": "then"}', "a naive time": '{"started": "2026-01-01"}'},
    "environment.json": {"git": '{"git": 3}', "a commit": '{"git": {"commit": [1]}}', "packages": '{"packages": [1]}',
                         "command": '{"command": "rm -rf"}'},
    "DONE": {"hashes": '{"metrics.json": 3, "predictions.npz": {}}', "sizes": '{"metrics.json": {"bytes": -1}}'},
}  # fmt: skip
YAML = {
    "a bomb": bomb,
    "a tag": text("a: !!python/object/apply:os.system ['touch executed']"),
    "a key twice": text("seed: 0\nseed: 1"),
    "a text": text("dataset"),
    "bins": text("dataset: {bins: {start: 0, stop: 1.0e+300, width: 1.0e-300}, title: T, monitor: m}"),
    "bins of text": text("dataset: {bins: {start: x, stop: 1, width: 1}}"),
    "no dataset": text("seed: 0"),
}


def arrays(**changed: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with np.load(path.with_suffix(".held.npz")) as held:
            np.savez(path, **{**held, **changed})

    return write


def pickled(path: Path) -> None:
    np.savez(path, target=np.array([{}], object), counts=np.array([{}], object), count=np.array([{}], object))


def header(path: Path) -> None:
    """Claim an array of a terabyte."""
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        for name in ("target", "counts", "count"):
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array_header_1_0(file, {"shape": (2**37,), "fortran_order": False, "descr": "<f8"})


NPZ = {
    "a pickle": pickled,
    "a terabyte": header,
    "cut": lambda path: void(path.write_bytes(path.with_suffix(".held.npz").read_bytes()[:-60])),
    "text": arrays(target=np.array(["x"]), counts=np.array(["x"]), count=np.array(["x"])),
    "complex": arrays(target=TARGET + 1j, counts=np.ones(4) + 1j, count=np.ones(4) + 1j),
    "another shape": arrays(target=TARGET[:3], counts=np.ones((2, 2), int), count=np.ones(1, int)),
    "not finite": arrays(target=TARGET * np.nan, density=np.full(4, np.inf), mean=np.full((4, 3), np.nan)),
}
CSV = {
    "text": text("epoch,step\nx,y"),
    "no step": text("epoch\n1"),
    "twice": text("epoch,step\n1,1\n2,1"),
    "quotes": text('"' * 99),
}
ARRAYS = ("labels.npz", "features.npz", "predictions.npz")
CASES: dict[str, dict[str, Callable[[Path], None]]] = {
    **{file: ANY | {name: text(content) for name, content in contents.items()} for file, contents in OBJECT.items()},
    **{file: ANY | NPZ for file in ARRAYS},
    "config.yaml": ANY | YAML,
    "history.csv": ANY | CSV,
}
FIGURES = dict(
    zip(
        (*ARRAYS, "history.csv", "config.yaml"),
        ("labels", "similarity", "reliability", "curves", "curves"),
        strict=True,
    )
)


def run(*words: str) -> str:
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        code = main(list(words))
    assert code == 0, said.getvalue()
    return said.getvalue()


@pytest.mark.parametrize("file", CASES)
def test_broken_folders_are_named_and_stop_nothing(
    tmp_path: Path, file: str, make_run: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    logging.getLogger("dir_bench").addHandler(caplog.handler)  # `main` keeps the log from the root's
    whole = write(make_run, Path("runs"), "VANILLA")
    victims = {}
    for name, damage in CASES[file].items():
        victim = victims[name] = write(make_run, Path("runs"), name)
        path = victim.path / file
        if file in ARRAYS:
            shutil.copy(path, path.with_suffix(".held.npz"))
        path.unlink()
        damage(path)
        if file in ("metrics.json", "predictions.npz") and path.is_file() and path.stat().st_size < 10**6:
            seal = json.loads(victim.done_path.read_text())
            victim.done_path.write_text(json.dumps({**seal, file: _seal(path)}))

    said = run("table", "runs") + run("report", "page.html", "runs", "--no-figures")
    said += run("table", "runs", "--compare", "VANILLA", "--test", "samples")
    if file in FIGURES:
        said += run("plot", FIGURES[file], "runs", "--out", "figure.svg")
    times = run_times(Path("runs/toy"))
    shown = [said, Path("page.html").read_text(encoding="utf-8")]
    assert all("1.25" in text for text in shown)
    for name, victim in victims.items():
        where = f"{victim.path}: broken, {file}" if file in OBJECT else str(victim.path)
        assert where in said + caplog.text, name
        assert victim.state == ("broken" if file in OBJECT or victim.damage() else "done"), name
    assert whole.state == "done"
    assert len(times) <= 1
    assert not Path("executed").exists()


def test_text_of_a_run_is_text_in_every_format(tmp_path: Path, make_run: Make) -> None:
    test = {"all": {"count": 1, "mae": 1.0, MARKUP: 2.0}}
    make_run(tmp_path, test, method=MARKUP, title=MARKUP, monitor={"name": MARKUP}, table_metrics=["mae", MARKUP])
    make_run(tmp_path, test, method="VANILLA", title=MARKUP, seed=1, command=[MARKUP])
    RunFolder(tmp_path / MARKUP.replace("/", "").replace("\0", "")).start({}, {})
    for kind in ("text", "md", "latex", "html", "csv", "json"):
        printed = run("table", str(tmp_path), "--format", kind)
        assert not any(sign in printed for sign in "\x1b\r\0\u202e")
        if kind == "latex":
            lines = [line for line in printed.splitlines() if not line.startswith("%")]
            assert r"\input" not in "".join(lines).replace(r"\textbackslash{}input", "")
            assert "$x" not in "".join(lines).replace(r"\$x", "")
        if kind == "md":
            rows = [line for line in printed.splitlines() if line.startswith("| ")]
            assert len({line.replace(r"\|", "").count("|") for line in rows}) == 1
            assert "<b>" not in re.sub(r"(``+).*?\1", "", printed.replace(r"\<b", ""))  # a code span shows it
        if kind == "html":
            assert "<b>" not in printed
    run("report", str(tmp_path / "page.html"), str(tmp_path))
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not [sign for sign in ("<b>", "\x1b") if sign in page]


def test_looking_at_a_folder_leaves_what_its_lock_points_to(tmp_path: Path, make_run: Make) -> None:
    letters = tmp_path / "letters.txt"
    letters.write_text("dear reader")
    run = RunFolder(tmp_path / "run")
    run.start({}, {})
    run.lock_path.symlink_to(letters)
    assert run.state == "interrupted"
    assert letters.read_text() == "dear reader"
