"""Run folders as tidy records: a line per run × region × metric; and every folder that gives none."""

import json
import math
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, count, product
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
import pandas as pd

from dir_bench import cycles
from dir_bench.errors import UserError
from dir_bench.files.values import Damaged, visible
from dir_bench.results.naming import flatten, slug, without
from dir_bench.results.store import MARKERS, RunFolder
from dir_bench.schema import NUMBERLESS, unset

COLUMNS = (
    *("dataset", "title", "label", "method", "slug", "seed", "row_id", "identity", "path", "state"),
    *("region", "metric", "value", "count", "monitor", "selected_at", "table_metrics", "command", "commit"),
    *("release", "legend", "departures", "relevance", "note"),
)

_LONGEST = 40  # characters of these in a label, before a letter stands for them
_SHOWN = 3  # differing settings named in a label, before it falls back to the row's id


@dataclass(frozen=True)
class Problem:
    """A run folder that gives no records, its state (see `RunFolder.state`) and the reason."""

    path: Path
    state: str
    reason: str

    def __str__(self) -> str:
        return visible(f"{self.path}: {self.state}, {self.reason}")


def collect(paths: Iterable[Path | str] = ("outputs",)) -> tuple[pd.DataFrame, list[Problem]]:
    """Read all runs under these folders (each may be a run itself).

    Returns:
        Records with `COLUMNS`, ordered by dataset, label, seed: `label` is the method, with the settings that
        tell it apart where two rows of a dataset have the same method; `value` is NaN where the run says
        null; `count` is the region's test samples; `table_metrics` and `command` are text; `legend` is what a
        letter in `label` stands for; `departures` has a line for each departure from the dataset's recipe, None
        if the run does not record them; `relevance` is SERA's, as text; `note` is the dataset's, "" for none. And the
        runs left out, each with its reason.

    Raises:
        UserError: If a path does not exist.
    """
    problems: list[Problem] = []
    runs = []
    with cycles.unsought():
        for folder in run_folders(paths, problems):
            run = _read(folder, problems)
            if run is not None:
                runs.append(run)
    runs.sort(key=lambda run: (run["dataset"], run["title"], run["method"], run["row_id"], run["seed"], run["path"]))
    runs = _with_labels(list(_each_seed_once(runs, problems)), problems)
    runs.sort(key=lambda run: (run["dataset"], run["title"], run["label"], run["seed"]))
    return _frame(runs), problems


def run_folders(paths: Iterable[Path | str], problems: list[Problem] | None = None) -> Iterator[RunFolder]:
    """Yield each run at or below these paths once, by name; links are followed, hidden folders are not.

    What cannot be looked into is added to the problems.
    """

    def unread(folder: Path, error: OSError) -> None:
        if problems is not None:
            problems.append(Problem(folder, "unknown", f"it cannot be looked into ({error.strerror})"))

    seen: set[tuple[int, int]] = set()
    for path in map(Path, paths):
        if not path.is_dir():
            raise UserError(f"There is no folder {path}: name run folders, or a folder that holds some.")
        yield from _walk(str(path), seen, unread)


def _walk(top: str, seen: set[tuple[int, int]], unread: Callable[[Path, OSError], None]) -> Iterator[RunFolder]:
    stack = [top]
    while stack:
        folder = stack.pop()
        try:
            found = os.stat(folder)
            if (found.st_dev, found.st_ino) in seen:
                continue
            seen.add((found.st_dev, found.st_ino))
            with os.scandir(folder) as entries:
                inside = list(entries)
        except OSError as error:
            unread(Path(folder), error)
            continue
        if any(entry.name in MARKERS and not _is_folder(entry) for entry in inside):
            yield RunFolder(folder)
            continue
        below = (entry for entry in inside if not entry.name.startswith(".") and _is_folder(entry))
        stack += sorted((entry.path for entry in below), reverse=True)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links
        return False


def _read(folder: RunFolder, problems: list[Problem]) -> dict[str, Any] | None:
    """Return one run's metrics and header, or None after saying why there are none."""
    if not folder.has_done:
        state = folder.state
        problems.append(Problem(folder.path, state, _reason(folder, state)))
        return None
    try:
        metrics = folder.read_metrics()
        environment = folder.read_environment()
        folder.read_status()
        folder.read_config_text()
    except Damaged as error:
        problems.append(Problem(folder.path, "broken", error.reason))
        return None
    departures = metrics.get("departures")
    return {
        "dataset": metrics["dataset"],
        "title": metrics.get("title") or metrics["dataset"],
        "method": metrics["method"],
        "slug": metrics.get("slug") or slug(metrics["method"]),
        "seed": metrics["seed"],
        "row_id": metrics.get("row_id") or metrics["method"],
        "identity": metrics.get("identity") or folder.path.name,
        "path": str(folder.path),
        "state": "done",
        "monitor": _monitor(metrics.get("monitor") or {}),
        "selected_at": (metrics.get("monitor") or {}).get("best"),
        "table_metrics": ",".join(metrics.get("table_metrics") or ()),
        "command": " ".join(map(_quoted, metrics.get("command") or ())),
        "commit": _commit(environment),
        "release": str(environment.get("dir_bench") or ""),
        "departures": None if departures is None else "\n".join(departures),
        "relevance": relevance_text(metrics.get("relevance") or ()),
        "note": metrics.get("note") or "",
        "test": metrics["test"],
    }


_quoted = lru_cache(4096)(shlex.quote)
"""Of a word of a command; the runs of a sweep share nearly all of theirs."""


def relevance_text(points: Iterable[Sequence[float]]) -> str:
    """Return the control points of SERA's relevance as "1 at 3.2, 0 at 31"; "" for none."""
    return ", ".join(f"{phi:g} at {label:.4g}" for label, phi in points)


def _monitor(monitor: Mapping[str, Any]) -> str:
    """Return what selected a run's checkpoint, as "mae on validation"; "" if that is not recorded."""
    name, split = (str(monitor.get(key) or "") for key in ("name", "split"))
    return f"{name} on {split}" if name and split else name


def _reason(folder: RunFolder, state: str) -> str:
    try:
        status = folder.read_status()
    except Damaged as error:
        return error.reason
    if state == "failed":
        return str(status.get("error") or "no reason recorded")
    if state in ("broken", "done"):  # it was finished while we looked
        return folder.damage() or "it finished just now: make the table again"
    if state == "running":
        return f"since {status.get('started', 'a moment ago')}"
    return "start it again and it resumes" if state == "interrupted" else "nothing was written yet"


def _commit(environment: Mapping[str, Any]) -> str:
    """Return a run's commit as seven digits, with "+changes" where files differed from it; "" if unknown."""
    git = environment.get("git") or {}
    return str(git.get("commit") or "")[:7] + ("+changes" if git.get("dirty") else "")


def _each_seed_once(runs: Sequence[dict[str, Any]], problems: list[Problem]) -> Iterator[dict[str, Any]]:
    first: dict[tuple[str, str, int], str] = {}
    for run in runs:
        path = first.setdefault((run["dataset"], run["row_id"], run["seed"]), run["path"])
        if path == run["path"]:
            yield run
        else:
            reason = f"seed {run['seed']} of {run['method']} is taken from {path} already"
            problems.append(Problem(Path(run["path"]), "done", reason))


def _with_labels(runs: Sequence[dict[str, Any]], problems: list[Problem]) -> list[dict[str, Any]]:
    """Give each run its label: the method, told apart where several rows of a dataset share it by their settings.

    What is left out is a run whose settings would have to be told, and cannot be read.
    """
    sharing: dict[tuple[str, str, str], dict[str, list[dict[str, Any]]]] = {}
    for run in runs:
        key = (run["dataset"], run["title"], run["method"])
        sharing.setdefault(key, {}).setdefault(run["row_id"], []).append(run)
    kept = []
    for (_, _, method), rows in sharing.items():
        texts = dict.fromkeys(rows, "")
        if len(rows) > 1:
            configs = {row_id: _settings(row, problems) for row_id, row in rows.items()}
            texts = _differing({row_id: config for row_id, config in configs.items() if rows[row_id]})
        letters = map("".join, chain.from_iterable(product(ascii_lowercase, repeat=n) for n in count(1)))
        for row_id, text in sorted(texts.items(), key=lambda item: item[1]):
            short = text if len(text) <= _LONGEST else next(letters)
            label = f"{method} ({short})" if text else method
            kept += [run | {"label": label, "legend": text if short != text else ""} for run in rows[row_id]]
    return kept


def _settings(row: list[dict[str, Any]], problems: list[Problem]) -> dict[str, Any]:
    """Return the settings that can set a row apart from another; of its runs, those that hide them are taken out."""
    while row:
        try:
            config = RunFolder(row[0]["path"]).read_config()
        except Damaged as error:
            if not os.path.lexists(error.path):
                return {}
            problems.append(Problem(Path(row.pop(0)["path"]), "broken", error.reason))
        else:
            return _plain(config)
    return {}


def row_settings(path: str) -> dict[str, Any]:
    """Return the settings, by dotted key, that set the row of a run apart from others; Damaged if it hides them."""
    return _plain(RunFolder(path).read_config())


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    return dict(flatten(without(config, ("seed", *NUMBERLESS, *unset(config)))))


def _differing(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return for each row_id the settings in which the rows' configs differ, as "key=value, …"; "" for one alone."""
    keys = list(dict.fromkeys(key for config in configs.values() for key in config))
    varied = [key for key in keys if len({shown_setting(config, key) for config in configs.values()}) > 1]
    texts = {}
    for row_id, config in configs.items():
        named = [f"{key}={shown_setting(config, key)}" for key in varied[:_SHOWN]]
        texts[row_id] = ", ".join(named if len(varied) <= _SHOWN else [*named, "…"])
    if len(texts) < 2 or (len(set(texts.values())) == len(texts) and all(texts.values())):
        return texts
    return {row_id: f"{text}, #{row_id}" if text else f"#{row_id}" for row_id, text in texts.items()}


def shown_setting(config: Mapping[str, Any], key: str) -> str:
    """Return a setting as text, "unset" if there is none."""
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
    of_run = {name: np.array([run[name] for run in runs], dtype=object) for name in COLUMNS if name not in numbers}
    # pandas looks at each value for what a column is of: at those of a run once, not beside each of its numbers.
    repeated = pd.DataFrame(of_run).take(np.repeat(np.arange(len(runs)), sizes)).reset_index(drop=True)
    records = pd.concat([repeated, pd.DataFrame(numbers)], axis=1)[list(COLUMNS)]
    return records.astype({"seed": int, "count": int, "value": float})
