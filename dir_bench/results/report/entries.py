"""One run as a report lists it: what its folder holds, and which dataset a run that gave no numbers belongs to."""

import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from dir_bench.files.values import Damaged
from dir_bench.results.records import Problem
from dir_bench.results.rows import Column
from dir_bench.results.store import RunFolder
from dir_bench.schema import look_up

OTHER = "Other runs"
"""Where runs go that do not say of which dataset they are."""


@dataclass(frozen=True)
class Entry:
    """One run. What its folder does not hold is "" (or None); `reason` is why it is in no table."""

    path: str
    label: str
    seed: str
    identity: str
    state: str
    reason: str
    command: str
    seconds: float | None
    """From the start of the last attempt to its end: reading data, training, evaluation."""
    dates: tuple[str, str]
    code: str
    machine: str
    config: str
    traceback: str
    values: Mapping[Column, float] = field(default_factory=dict)


def finished(records: pd.DataFrame) -> list[Entry]:
    """Return the runs of these records (see `records.collect`), in their order."""
    entries = []
    for path, part in records.groupby("path", sort=False):
        head = part.iloc[0]
        numbers = part.dropna(subset="value")
        values = dict(zip(zip(numbers["metric"], numbers["region"], strict=True), numbers["value"], strict=True))
        command = shlex.split(head["command"]) or None
        entries.append(
            _entry(Path(str(path)), head["label"], head["seed"], head["identity"], "done", "", command, values)
        )
    return entries


def left_out(problems: Iterable[Problem], records: pd.DataFrame) -> dict[str, list[Entry]]:
    """Return the runs that are in no table by their dataset's title, as their folder or else their config has it.

    A run that is not finished has no name of its method yet: it takes that of finished runs beside it, or the folder's.
    """
    runs = records.drop_duplicates("path")
    titles = {_home(Path(path))[0]: title for path, title in zip(runs["path"], runs["title"], strict=True)}
    labels = {_home(Path(path)): method for path, method in zip(runs["path"], runs["method"], strict=True)}
    found: dict[str, list[Entry]] = {}
    for problem in problems:
        try:
            config = RunFolder(problem.path).read_config()
        except Damaged:  # it is shown as it is
            config = {}
        dataset, method = home = _home(problem.path)
        title = titles.get(dataset) or look_up(config, "dataset.title") or OTHER
        label, seed = labels.get(home, method), config.get("seed", "")
        entry = _entry(problem.path, label, seed, problem.path.name, problem.state, problem.reason, None, {})
        found.setdefault(title, []).append(entry)
    return found


def _entry(
    path: Path, label: str, seed: Any, identity: str, state: str, reason: str,
    command: list[str] | None, values: Mapping[Column, float],
) -> Entry:  # fmt: skip
    folder = RunFolder(path)
    faults: list[str] = []

    def read(find: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return find()
        except Damaged as error:
            faults.append(error.reason)
            return otherwise

    status, environment = read(folder.read_status, {}), read(folder.read_environment, {})
    config = read(folder.read_config_text, "")
    begun, ended = (str(status.get(key) or "") for key in ("started", "ended"))
    overrides = environment["command"] if environment.get("command") is not None else command
    return Entry(
        path=str(path),
        label=label,
        seed=str(seed),
        identity=identity,
        state=state,
        reason="; ".join(dict.fromkeys([*([reason] if reason else []), *faults])),
        command="" if overrides is None else shlex.join(["dir-bench", "train", *overrides]),
        seconds=_seconds(begun, ended),
        dates=(begun, ended),
        code=_code(environment),
        machine=_machine(environment),
        config=config,
        traceback=str(status.get("traceback") or ""),
        values=values,
    )


def _home(path: Path) -> tuple[str, str]:
    """Return the folders of the dataset and the method that a run's folder lies in."""
    return path.parent.parent.name, path.parent.name


def _seconds(begun: str, ended: str) -> float | None:
    if not begun or not ended:  # it has not ended, or was not recorded
        return None
    return max(0.0, (datetime.fromisoformat(ended) - datetime.fromisoformat(begun)).total_seconds())


def _code(environment: Mapping[str, Any]) -> str:
    """Return version and whole commit of dir_bench, and whether files differed from it."""
    git = environment.get("git") or {}
    parts = [f"dir_bench {environment['dir_bench']}"] if "dir_bench" in environment else []
    if git.get("commit"):
        parts.append(f"commit {git['commit']}" + (", with changes that were not committed" if git.get("dirty") else ""))
    return ", ".join(parts)


def _machine(environment: Mapping[str, Any]) -> str:
    """Return the device, Python and the packages that a run was made with."""
    parts = [
        f"{name} {environment[key]}" for name, key in (("device", "device"), ("Python", "python")) if key in environment
    ]
    return ", ".join([*parts, *(f"{name} {version}" for name, version in (environment.get("packages") or {}).items())])
