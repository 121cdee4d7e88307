"""The run store: one folder a run, whose state can be read from the disk alone.

outputs/<dataset>/<method slug>/<identity>/
    config.yaml  environment.json  status.json  run.lock
    labels.npz  history.csv  tensorboard/  checkpoints/{last,best}.pt
    features.npz  predictions.npz  metrics.json  DONE          (in this order, DONE last)
"""

import hashlib
import json
import os
import platform
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, get_args

import numpy.typing as npt
import yaml
from filelock import FileLock, Timeout

from dir_bench import __version__
from dir_bench.atomic import json_text, plain, remove_leftovers, write_json, write_npz, write_text
from dir_bench.errors import UserError

State = Literal["new", "running", "failed", "interrupted", "done", "broken"]
STATES: tuple[State, ...] = get_args(State)

MARKERS = ("config.yaml", "status.json", "metrics.json", "DONE")
"""A folder that holds one of these files is a run."""

_PACKAGES = (
    *("torch", "torchvision", "lightning-fabric", "hydra-core", "omegaconf"),
    *("numpy", "pandas", "scipy", "tensorboard", "nltk"),
)
_LOCK_SECONDS = 0.3  # a look at `state` holds the lock for a moment: that must not refuse a run


class _File:
    """A path in a run's folder, made when it is asked for: a table of thousands of runs asks for few of them."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, folder: "RunFolder", owner: type["RunFolder"]) -> Path:
        return folder.path / self.name


class RunFolder:
    """One run on disk. Making the object reads and writes nothing."""

    config_path = _File("config.yaml")
    environment_path = _File("environment.json")
    status_path = _File("status.json")
    history_path = _File("history.csv")
    tensorboard = _File("tensorboard")
    checkpoints = _File("checkpoints")
    last_checkpoint = _File("checkpoints/last.pt")
    best_checkpoint = _File("checkpoints/best.pt")
    labels_path = _File("labels.npz")
    features_path = _File("features.npz")
    predictions_path = _File("predictions.npz")
    metrics_path = _File("metrics.json")
    done_path = _File("DONE")
    lock_path = _File("run.lock")
    _owner_path = _File("run.lock.owner.json")

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @classmethod
    def of(cls, outputs: Path | str, dataset: str, slug: str, identity: str) -> "RunFolder":
        """Return the folder of a run by what it is."""
        return cls(Path(outputs) / dataset / slug / identity)

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @property
    def state(self) -> State:
        """Where the run stands.

        "done": DONE is there and what it vouches for is whole; "broken": it is not. Without DONE, "running":
        a live process holds the lock; "failed": the last attempt gave its reason; "interrupted": it could not
        even do that (killed, power cut); "new": nothing was written yet.
        """
        if self.done_path.exists():
            return "broken" if self.damage() else "done"
        if self._is_locked():
            return "running"
        if self.read_status().get("state") == "failed":
            return "failed"
        begun = any((self.path / name).exists() for name in MARKERS) or self.checkpoints.exists()
        return "interrupted" if begun else "new"

    def damage(self, *, thorough: bool = False) -> str:
        """Return what is wrong with a run that has DONE, as a phrase, or "".

        metrics.json is compared by hash, predictions.npz by size; by hash too if `thorough`.
        """
        _, damage = self.sealed_metrics()
        if not damage and thorough:
            seal = _read_object(self.done_path)[self.predictions_path.name]
            if _sha256(self.predictions_path) != seal.get("sha256"):
                return f"{self.predictions_path.name} is not the file that the run finished with"
        return damage

    def sealed_metrics(self) -> tuple[bytes, str]:
        """Return the content of metrics.json, read once, and what is wrong with the run: see `damage`."""
        seal, content = _read_object(self.done_path), b""
        for path in (self.metrics_path, self.predictions_path):
            expected = seal.get(path.name)
            if not isinstance(expected, dict):
                return b"", f"DONE does not vouch for {path.name}"
            try:
                if path == self.metrics_path:
                    content = path.read_bytes()
                    whole = hashlib.sha256(content).hexdigest() == expected.get("sha256")
                else:
                    whole = path.stat().st_size == expected.get("bytes")
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return b"", f"{path.name} is missing"
            if not whole:
                return b"", f"{path.name} is not the file that the run finished with"
        return content, ""

    def read_status(self) -> dict[str, Any]:
        """Return what status.json holds; empty if there is none, or it cannot be read."""
        return _read_object(self.status_path)

    def read_environment(self) -> dict[str, Any]:
        """Return what environment.json holds; empty if there is none, or it cannot be read."""
        return _read_object(self.environment_path)

    @contextmanager
    def lock(self, *, wait: bool = False) -> Iterator[None]:
        """Keep other processes out of this run; the operating system lets go of the lock if this one dies.

        Args:
            wait: Wait for another process to end, as jobs of a sweep do that need the same run.

        Raises:
            UserError: If another live process is at this run.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.lock_path, timeout=-1 if wait else _LOCK_SECONDS)
        try:
            lock.acquire()
        except Timeout:
            raise UserError(
                f"Another process is at this run{self._owner()}: {self.path} is left to it; "
                "wait for it to end, or stop it, and start again."
            ) from None
        try:
            write_json(self._owner_path, {"pid": os.getpid(), "host": socket.gethostname(), "since": _now()})
            yield
        finally:
            self._owner_path.unlink(missing_ok=True)
            lock.release()

    def start(self, config: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """Begin an attempt (under `lock`): the last one's DONE or failure goes, its checkpoints stay."""
        self.done_path.unlink(missing_ok=True)
        for folder in (self.path, self.checkpoints):
            remove_leftovers(folder)
        write_json(self.status_path, {"state": "running", "started": _now(), "pid": os.getpid()})
        text = yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True, width=110)
        write_text(self.config_path, text)
        write_json(self.environment_path, environment)

    def fail(self, message: str, details: str = "") -> None:
        """Record why the attempt ended: one sentence, and the traceback."""
        self.done_path.unlink(missing_ok=True)
        status = {"state": "failed", "ended": _now(), "error": message, "traceback": details}
        write_json(self.status_path, {**self._started(), **status})

    def finish(self, metrics: Mapping[str, Any], predictions: Mapping[str, npt.ArrayLike]) -> None:
        """Write predictions.npz, metrics.json and the status, then DONE with the hashes of the first two."""
        self.done_path.unlink(missing_ok=True)
        write_npz(self.predictions_path, **predictions)
        write_text(self.metrics_path, json_text(metrics))
        finished = _now()
        write_json(self.status_path, {**self._started(), "state": "done", "ended": finished})
        write_json(
            self.done_path,
            {"finished": finished, **{p.name: _seal(p) for p in (self.metrics_path, self.predictions_path)}},
        )

    def _started(self) -> dict[str, Any]:
        status = self.read_status()
        return {"started": status["started"]} if "started" in status else {}

    def _is_locked(self) -> bool:
        if not self.lock_path.exists():
            return False
        try:
            with FileLock(self.lock_path, timeout=0):
                return False
        except Timeout:
            return True
        except OSError:  # someone else's results, to read and not to lock: no process of ours is there
            return False

    def _owner(self) -> str:
        owner = _read_object(self._owner_path)
        return f" (process {owner['pid']} on {owner['host']})" if {"pid", "host"} <= owner.keys() else ""


def run_environment() -> dict[str, Any]:
    """Return what else can change a run's numbers: Python, platform, package versions, this code's commit.

    Packages are looked up, not imported. Nothing names the machine. `git` is None outside of a checkout.
    """
    return {
        "dir_bench": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "git": _git(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git() -> dict[str, Any] | None:
    """Return commit and whether tracked files differ from it, if the package lies in its own checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None

    def ask(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout.strip()

    try:
        return {
            "commit": ask("rev-parse", "HEAD"),
            "dirty": bool(ask("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):  # no git here, or it does not trust this folder
        return None


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _seal(path: Path) -> dict[str, Any]:
    return {"sha256": _sha256(path), "bytes": path.stat().st_size}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
