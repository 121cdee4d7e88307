"""What `dir-bench data` prints: which datasets there are, what they need, and what is on disk."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from dir_bench import config as configs
from dir_bench.chosen import settle
from dir_bench.datasets.base import CheckReport, Dataset, Fetchable, IntArray, Preparable, Requiring, Splittable
from dir_bench.datasets.coverage import faults
from dir_bench.datasets.download.fetch import fetch as download
from dir_bench.datasets.download.fetch import unpack_own
from dir_bench.datasets.download.remote import WEIGHTS
from dir_bench.datasets.protocols import draw
from dir_bench.datasets.subsets import runs_of, train_counts
from dir_bench.datasets.tables.published import TABLES
from dir_bench.errors import UserError, nearest
from dir_bench.labels import TargetBins
from dir_bench.schema import Config
from dir_bench.task import Task, target_bins

WIDTH = 110
"""Characters of a line that is no terminal's."""
_LARGEST = 1_000_000
"""Samples of a stand-in: more fill the disk, and are a slip."""


_SHARED = {**{name: (remotes, "weights") for name, remotes in WEIGHTS.items()}, "tables": (TABLES, "tables")}
"""What can be fetched and belongs to more than one dataset, and the folder that they look for it in."""


def _compose(name: str, data_dir: str | None, settings: Sequence[str] = (), config_dir: str | None = None) -> Config:
    known = configs.options("dataset", config_dir)
    if name not in known:
        raise UserError(f"no dataset '{name}'{nearest(name, known)}: {', '.join(known)}")
    return configs.compose([f"dataset={name}", *settings], config_dir, values={"paths.data": data_dir})


def _dataset(config: Config) -> Dataset:
    configs.check_dataset(config)
    built: Dataset = configs.build(config.dataset.source)
    return built


def list_datasets(data_dir: str | None = None, config_dir: str | None = None) -> str:
    """Return one line per dataset: its name, whether its files are there, and what it needs."""
    table = Table("dataset", "benchmark", "state", "what it needs", show_lines=True)
    for name in configs.options("dataset", config_dir):
        config = _compose(name, data_dir, config_dir=config_dir)
        dataset = _dataset(config)
        table.add_row(name, config.dataset.title, _state(config, dataset), dataset.requirements)
    return _text(table)


def _state(config: Config, dataset: Dataset) -> str:
    where = config.dataset.source.get("data_dir")
    if where is None:
        return "built in"
    if not Path(str(where)).is_dir():
        return "missing"
    try:
        (dataset.require if isinstance(dataset, Requiring) else dataset.fingerprint)()
    except UserError:
        return "incomplete"
    return "there"


def check(
    name: str, data_dir: str | None = None, settings: Sequence[str] = (), config_dir: str | None = None
) -> tuple[str, tuple[str, ...]]:
    """Return what a check found, as text with the label histogram by region, and its problems."""
    config = _compose(name, data_dir, settings, config_dir)
    dataset = _dataset(config)
    report = dataset.check()
    problems = report.problems
    lines = [f"{key}: {value}" for key, value in report.facts.items()]
    if report.label_counts is not None:
        config, said = settle(config, dataset)
        lines += said
        problems += tuple(faults(target_bins(config.dataset), report.targets))
        counted, about = _counted(report, config, dataset)
        task = Task.of(config, counted)
        if about:
            facts = {f"subset {config.subset.name}": about, **_where(task)}
            lines += [f"{key}: {value}" for key, value in facts.items()]
        lines += ["", histogram(task), shares(task)]
    if not problems:
        lines.append("all is well")
    return "\n".join(lines), problems


def _counted(report: CheckReport, config: Config, dataset: Dataset) -> tuple[Callable[[TargetBins], IntArray], str]:
    """Return what counts the training targets that a subset leaves, and what it says of itself; "" for none."""
    count, subset, bins = report.label_counts, config.subset, target_bins(config.dataset)
    assert count is not None  # the caller saw to it
    whole = count(bins)
    if subset.name == "none":
        return count, ""
    if subset.protocol.omega:
        splits = list(report.targets.values())
        if not splits:  # not every check needs to read them
            data = dataset.load()
            splits = [data.train.targets, data.val.targets, data.test.targets]
        targets = np.concatenate([np.asarray(each) for each in splits])
        drawn = draw(targets, bins, subset)
        kept = bins.counts(targets[drawn.train])
        return lambda _: kept, str(drawn)
    left = train_counts(whole, bins, subset)
    return lambda _: left, f"trains on {left.sum()} of {whole.sum()}"


def _where(task: Task) -> dict[str, str]:
    """Return where each region lies, in label units."""
    regions = task.regions
    masks = {name: (regions.codes == code) & ~regions.zero for code, name in enumerate(("many", "medium", "few"))}
    masks |= {"zero-shot, interpolation": regions.interp, "zero-shot, extrapolation": regions.extrap}
    return {
        name: ", ".join(f"{low:g}–{high:g}" for low, high in runs_of(mask, task.bins)) or "nowhere"
        for name, mask in masks.items()
    }


def prepare(
    name: str, data_dir: str | None = None, settings: Sequence[str] = (), config_dir: str | None = None
) -> tuple[str, tuple[str, ...]]:
    """Turn a dataset's raw files into what training reads; return a summary, and what failed.

    UserError if the dataset needs no such step, or its files are missing.
    """
    dataset = _dataset(_compose(name, data_dir, settings, config_dir))
    if not isinstance(dataset, Preparable):
        raise UserError(f"{name} needs no preparation: `dir-bench train dataset={name}` reads its files")
    return dataset.prepare()


def sample(name: str, data_dir: str | None = None, size: int | None = None) -> Path:
    """Write a stand-in for a dataset where its files would be, and return the folder."""
    if size is not None and not 1 <= size <= _LARGEST:
        raise UserError(f"--size {size} must be from 1 to {_LARGEST:,}: a stand-in is a small one")
    config = _compose(name, data_dir)
    where = config.dataset.source.get("data_dir")
    if where is None:
        raise UserError(f"{name} needs no files: it is made on the fly")
    return _dataset(config).sample(Path(str(where)), **({} if size is None else {"n": size}))


def fetch(name: str, data_dir: str | None = None, mirror: str | None = None, archive: Path | None = None) -> str:
    """Download what can be had freely of a dataset, or weights, and return what was done and what is still needed.

    With an archive of the user's own, that is unpacked into the dataset's folder, and nothing is downloaded.

    Raises:
        UserError: A download failed, nothing of this can be had without asking, or the archive cannot be used.
    """
    if archive is not None:
        if mirror is not None:
            raise UserError("--from unpacks a file and --mirror names an address: give one of them")
        config = _compose(name, data_dir)
        where = config.dataset.source.get("data_dir")
        if where is None:
            raise UserError(f"{name} needs no files: it is made on the fly")
        return f"{unpack_own(archive, str(where))}\nneeded in all: {_dataset(config).requirements}"
    if name in _SHARED:
        remotes, folder = _SHARED[name]
        data = Path(_compose(configs.options("dataset")[0], data_dir).paths.data)
        return "\n".join(download(remotes, data / folder, mirror=mirror))
    known = [*configs.options("dataset"), *_SHARED]
    if name not in known:
        raise UserError(f"nothing to fetch is named '{name}'{nearest(name, known)}: {', '.join(known)}")
    config = _compose(name, data_dir)
    dataset = _dataset(config)
    if not isinstance(dataset, Fetchable):
        raise UserError(f"{name} cannot be downloaded: it needs {dataset.requirements}")
    lines = download(dataset.remotes, Path(str(config.dataset.source["data_dir"])), mirror=mirror)
    return "\n".join([*lines, f"needed in all: {dataset.requirements}"])


def split(name: str, data_dir: str | None = None, seed: int | None = None, config_dir: str | None = None) -> Path:
    """Rebuild a dataset's splits from its raw files, and return where they are.

    Raises:
        UserError: The raw files are missing, splits are there already, or the dataset has no such procedure.
    """
    if seed is not None and seed < 0:
        raise UserError(f"--seed {seed} must not be negative")
    dataset = _dataset(_compose(name, data_dir, config_dir=config_dir))
    if not isinstance(dataset, Splittable):
        raise UserError(f"{name} has no splits to rebuild: it needs {dataset.requirements}")
    return dataset.write_split(seed)


def histogram(task: Task, width: int = WIDTH) -> str:
    """Return training counts per bin as bars, the region of each in a word.

    Args:
        task: The labels.
        width: Characters of a line; bars are shorter where there are fewer.
    """
    bins, counts, regions = task.bins, task.counts, task.regions
    names = np.array(["many", "medium", "few", "none"])[regions.codes]
    names[counts == 0] = "zero"
    # Neighbouring bins share a line, so that any dataset fits on a screen.
    step = -(-len(bins) // 25)
    table = Table("bins", "training samples", "", "regions")
    longest = max(width - 70, 5)
    widest = max(int(np.add.reduceat(counts, np.arange(0, len(bins), step)).max()), 1)
    for start in range(0, len(bins), step):
        part = slice(start, min(start + step, len(bins)))
        total = int(counts[part].sum())
        here = ", ".join(dict.fromkeys(names[part].tolist()))
        label = f"{bins.edges[start]:g} – {bins.edges[part.stop]:g}"
        table.add_row(label, str(total), "█" * round(longest * total / widest), here)
    return _text(table, width)


def shares(task: Task) -> str:
    """Return how many training samples the bins of each region hold."""
    held = {name: int(task.counts[task.regions.codes == code].sum())
            for code, name in enumerate(("many", "medium", "few"))}  # fmt: skip
    return ", ".join(f"{name}: {n} samples" for name, n in held.items())


def _text(table: Table, width: int = WIDTH) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().rstrip()
