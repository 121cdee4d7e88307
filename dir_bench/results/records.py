"""Run folders as tidy records: a line per run × region × metric; and every folder that gives none."""

import json
import math
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from dir_bench.errors import UserError
from dir_bench.results.naming import flatten, slug, without
from dir_bench.results.store import MARKERS, RunFolder
from dir_bench.schema import NUMBERLESS, unset

COLUMNS = (
    *("dataset", "title", "label", "method", "slug", "seed", "row_id", "identity", "path", "state"),
    *("region", "metric", "value", "count", "monitor", "table_metrics", "command", "commit"),
)

_SHOWN = 3  # differing settings named in a label, before it falls back to the row's id


@dataclass(frozen=True)
class Problem:
    """A run folder that gives no records, its state (see `RunFolder.state`) and the reason."""

    path: Path
    state: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.state}, {self.reason}"


def collect(paths: Iterable[Path | str] = ("outputs",)) -> tuple[pd.DataFrame, list[Problem]]:
    """Read all runs under these folders (each may be a run itself).

    Returns:
        Records with `COLUMNS`, ordered by dataset, label, seed: `label` is the method, with the settings that
        tell it apart where two rows of a dataset have the same method; `value` is NaN where the run says
        null; `count` is the region's test samples; `table_metrics` and `command` are text. And the runs left
        out, each with its reason.

    Raises:
        UserError: If a path does not exist.
    """
    problems: list[Problem] = []
    runs = []
    for folder in run_folders(paths):
        run = _read(folder, problems)
        if run is not None:
            runs.append(run)
    runs.sort(key=lambda run: (run["dataset"], run["title"], run["method"], run["row_id"], run["seed"], run["path"]))
    runs = list(_each_seed_once(runs, problems))
    labels = _labels(runs)
    for run in runs:
        run["label"] = labels[run["dataset"], run["title"], run["row_id"]]
    runs.sort(key=lambda run: (run["dataset"], run["title"], run["label"], run["seed"]))
    return _frame(runs), problems


def run_folders(paths: Iterable[Path | str]) -> Iterator[RunFolder]:
    """Yield each run at or below these paths once, by name; links are followed, hidden folders are not."""
    seen: set[tuple[int, int]] = set()
    for path in map(Path, paths):
        if not path.is_dir():
            raise UserError(f"There is no folder {path}: name run folders, or a folder that holds some.")
        yield from _walk(str(path), seen)


def check_metrics(metrics: Any) -> str:
    """Return what makes this content of metrics.json unfit for a table, as a phrase, or ""."""
    if not isinstance(metrics, dict):
        return "metrics.json is not an object"
    for key, kind in (("dataset", str), ("method", str), ("seed", int), ("test", dict)):
        if key not in metrics:
            return f"metrics.json lacks '{key}'"
        if not isinstance(metrics[key], kind) or isinstance(metrics[key], bool):
            return f"'{key}' in metrics.json is {metrics[key]!r}, not of type {kind.__name__}"
    if "all" not in metrics["test"]:
        return "metrics.json lacks 'test.all'"
    for region, values in metrics["test"].items():
        if not isinstance(values, dict) or not isinstance(values.get("count"), int):
            return f"'test.{region}' in metrics.json has no count"
        for metric, value in values.items():
            if value is None:
                continue
            if type(value) not in (float, int):  # True is an int by isinstance
                return f"'test.{region}.{metric}' in metrics.json is {value!r}, not a number"
            if not math.isfinite(value):
                return f"'test.{region}.{metric}' in metrics.json is not finite"
    return ""


def _walk(folder: str, seen: set[tuple[int, int]]) -> Iterator[RunFolder]:
    found = os.stat(folder)
    if (found.st_dev, found.st_ino) in seen:
        return
    seen.add((found.st_dev, found.st_ino))
    with os.scandir(folder) as entries:
        inside = list(entries)
    if any(entry.name in MARKERS and not entry.is_dir() for entry in inside):
        yield RunFolder(folder)
        return
    for entry in sorted(inside, key=lambda entry: entry.name):
        if entry.is_dir() and not entry.name.startswith("."):
            yield from _walk(entry.path, seen)


def _read(folder: RunFolder, problems: list[Problem]) -> dict[str, Any] | None:
    """Return one run's metrics and header, or None after saying why there are none."""
    if not folder.done_path.exists():
        state = folder.state
        problems.append(Problem(folder.path, state, _reason(folder, state)))
        return None
    content, reason = folder.sealed_metrics()
    if not reason:
        try:
            metrics = json.loads(content)
            reason = check_metrics(metrics)
        except ValueError as error:
            reason = f"metrics.json cannot be read ({error})"
    if reason:
        problems.append(Problem(folder.path, "broken", reason))
        return None
    return {
        "dataset": metrics["dataset"],
        "title": str(metrics.get("title") or metrics["dataset"]),
        "method": metrics["method"],
        "slug": str(metrics.get("slug") or slug(metrics["method"])),
        "seed": metrics["seed"],
        "row_id": str(metrics.get("row_id") or metrics["method"]),
        "identity": str(metrics.get("identity") or folder.path.name),
        "path": str(folder.path),
        "state": "done",
        "monitor": _monitor(metrics.get("monitor") or {}),
        "table_metrics": ",".join(metrics.get("table_metrics") or ()),
        "command": shlex.join(metrics.get("command") or ()),
        "commit": _commit(folder),
        "test": metrics["test"],
    }


def _monitor(monitor: Mapping[str, Any]) -> str:
    """Return what selected a run's checkpoint, as "mae on validation"; "" if that is not recorded."""
    name, split = (str(monitor.get(key) or "") for key in ("name", "split"))
    return f"{name} on {split}" if name and split else name


def _reason(folder: RunFolder, state: str) -> str:
    status = folder.read_status()
    if state == "failed":
        return str(status.get("error") or "no reason recorded")
    if state in ("broken", "done"):  # it was finished while we looked
        return folder.damage() or "it finished just now: make the table again"
    if state == "running":
        return f"since {status.get('started', 'a moment ago')}"
    return "start it again and it resumes" if state == "interrupted" else "nothing was written yet"


def _commit(folder: RunFolder) -> str:
    """Return a run's commit as seven digits, with "+changes" where files differed from it; "" if unknown."""
    git = folder.read_environment().get("git") or {}
    return str(git.get("commit", ""))[:7] + ("+changes" if git.get("dirty") else "")


def _each_seed_once(runs: Sequence[dict[str, Any]], problems: list[Problem]) -> Iterator[dict[str, Any]]:
    first: dict[tuple[str, str, int], str] = {}
    for run in runs:
        path = first.setdefault((run["dataset"], run["row_id"], run["seed"]), run["path"])
        if path == run["path"]:
            yield run
        else:
            reason = f"seed {run['seed']} of {run['method']} is taken from {path} already"
            problems.append(Problem(Path(run["path"]), "done", reason))


def _labels(runs: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str, str], str]:
    """Return the label of each (dataset, title, row_id): the method, told apart where several rows share it."""
    sharing: dict[tuple[str, str, str], dict[str, str]] = {}
    for run in runs:
        sharing.setdefault((run["dataset"], run["title"], run["method"]), {}).setdefault(run["row_id"], run["path"])
    labels = {}
    for (dataset, title, method), rows in sharing.items():
        differing = _differing(rows) if len(rows) > 1 else dict.fromkeys(rows, "")
        for row_id, text in differing.items():
            labels[dataset, title, row_id] = f"{method} ({text})" if text else method
    return labels


def _differing(rows: Mapping[str, str]) -> dict[str, str]:
    """Return for each row_id the settings in which the rows' configs differ, as "key=value, …"."""
    configs = {row_id: _settings(Path(path)) for row_id, path in rows.items()}
    keys = list(dict.fromkeys(key for config in configs.values() for key in config))
    varied = [key for key in keys if len({_shown(config, key) for config in configs.values()}) > 1]
    texts = {}
    for row_id, config in configs.items():
        named = [f"{key}={_shown(config, key)}" for key in varied[:_SHOWN]]
        texts[row_id] = ", ".join(named if len(varied) <= _SHOWN else [*named, "…"])
    if len(set(texts.values())) == len(texts) and all(texts.values()):
        return texts
    return {row_id: f"{text}, #{row_id}" if text else f"#{row_id}" for row_id, text in texts.items()}


def _settings(folder: Path) -> dict[str, Any]:
    """Return the settings that can set one row apart from another; empty if the config cannot be read."""

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        config = yaml.load(RunFolder(folder).config_path.read_text(encoding="utf-8"), Loader=loader)
    except (OSError, yaml.YAMLError):
        return {}
    return dict(flatten(without(config, ("seed", *NUMBERLESS, *unset(config))))) if isinstance(config, dict) else {}


def _shown(config: Mapping[str, Any], key: str) -> str:
    if key not in config:
        return "unset"
    value = config[key]
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _frame(runs: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the records of runs: what a run says of itself, repeated beside each of its numbers."""
    numbers: dict[str, list[Any]] = {"region": [], "metric": [], "value": [], "count": []}
    sizes = []
    for run in runs:
        before = len(numbers["value"])
        for region, values in run["test"].items():
            metrics = [metric for metric in values if metric != "count"]
            numbers["region"] += [region] * len(metrics)
            numbers["metric"] += metrics
            numbers["value"] += [math.nan if values[metric] is None else values[metric] for metric in metrics]
            numbers["count"] += [values["count"]] * len(metrics)
        sizes.append(len(numbers["value"]) - before)
    which = np.repeat(np.arange(len(runs)), sizes)
    columns: dict[str, Any] = dict(numbers)
    for name in COLUMNS:
        if name not in numbers:
            columns[name] = np.array([run[name] for run in runs], dtype=object)[which]
    return pd.DataFrame({name: columns[name] for name in COLUMNS}).astype({"seed": int, "count": int, "value": float})
