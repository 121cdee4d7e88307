"""What `dir-bench data` prints: which datasets there are, what they need, and what is on disk."""

import io
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from dir_bench import config as configs
from dir_bench.datasets.base import Dataset
from dir_bench.errors import UserError, nearest
from dir_bench.schema import Config
from dir_bench.task import Task


def _compose(name: str, data_dir: str | None) -> Config:
    known = configs.options("dataset")
    if name not in known:
        raise UserError(f"no dataset '{name}'{nearest(name, known)}: {', '.join(known)}")
    return configs.compose([f"dataset={name}", *([f"paths.data={data_dir}"] if data_dir else [])])


def _dataset(config: Config) -> Dataset:
    built: Dataset = configs.build(config.dataset.source)
    return built


def list_datasets(data_dir: str | None = None) -> str:
    """Return one line per dataset: its name, whether its files are there, and what it needs."""
    table = Table("dataset", "benchmark", "state", "what it needs", show_lines=True)
    for name in configs.options("dataset"):
        config = _compose(name, data_dir)
        where = config.dataset.source.get("data_dir")
        state = "built in" if where is None else "there" if Path(str(where)).is_dir() else "missing"
        table.add_row(name, config.dataset.title, state, _dataset(config).requirements)
    return _text(table)


def check(name: str, data_dir: str | None = None) -> tuple[str, tuple[str, ...]]:
    """Return what a check found, as text with the label histogram by region, and its problems."""
    config = _compose(name, data_dir)
    report = _dataset(config).check()
    lines = [f"{key}: {value}" for key, value in report.facts.items()]
    if report.label_counts is not None:
        lines += ["", _histogram(Task.of(config, report.label_counts))]
    if not report.problems:
        lines.append("all is well")
    return "\n".join(lines), report.problems


def sample(name: str, data_dir: str | None = None, size: int | None = None) -> Path:
    """Write a stand-in for a dataset where its files would be, and return the folder."""
    config = _compose(name, data_dir)
    where = config.dataset.source.get("data_dir")
    if where is None:
        raise UserError(f"{name} needs no files: it is made on the fly")
    return _dataset(config).sample(Path(str(where)), **({} if size is None else {"n": size}))


def _histogram(task: Task) -> str:
    """Return training counts per bin as bars, a colour and a letter for each region."""
    bins, counts, regions = task.bins, task.counts, task.regions
    names = np.array(["many", "medium", "few", "none"])[regions.codes]
    names[counts == 0] = "zero"
    # Neighbouring bins share a line, so that any dataset fits on a screen.
    step = -(-len(bins) // 25)
    table = Table("bins", "training samples", "", "regions")
    widest = max(int(np.add.reduceat(counts, np.arange(0, len(bins), step)).max()), 1)
    for start in range(0, len(bins), step):
        part = slice(start, min(start + step, len(bins)))
        total = int(counts[part].sum())
        here = ", ".join(dict.fromkeys(names[part].tolist()))
        label = f"{bins.edges[start]:g} – {bins.edges[part.stop]:g}"
        table.add_row(label, str(total), "█" * round(40 * total / widest), here)
    shares = {name: int(counts[names == name].sum()) for name in ("many", "medium", "few")}
    return _text(table) + "\n" + ", ".join(f"{name}: {n} samples" for name, n in shares.items())


def _text(table: Table) -> str:
    console = Console(file=io.StringIO(), width=110)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().rstrip()
