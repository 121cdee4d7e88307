"""The run store: one folder a run, whose state can be read from the disk alone.

outputs/<dataset>/<method slug>/<identity>/
    config.yaml  environment.json  status.json  run.lock
    labels.npz  history.csv  tensorboard/  checkpoints/{last,best}.pt
    features.npz  predictions.npz  metrics.json  DONE          (in this order, DONE last)
"""

import hashlib
import io
import os
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import yaml

from dir_bench.atomic import json_text, plain, remove_leftovers, write_json, write_npz, write_text
from dir_bench.errors import UserError
from dir_bench.files.arrays import Expect, read_npz
from dir_bench.files.plain import NotThere, fault
from dir_bench.files.values import Damaged, fault_of, read_bytes, read_json, read_text, read_yaml
from dir_bench.lazy import Lazy
from dir_bench.results import content

if TYPE_CHECKING:
    import filelock
    import pandas as pd

    from dir_bench.labels import TargetBins
else:
    filelock = Lazy("filelock")

State = Literal["new", "running", "failed", "interrupted", "done", "broken"]
STATES: tuple[State, ...] = get_args(State)

MARKERS = ("config.yaml", "status.json", "metrics.json", "DONE")
"""A folder that holds one of these files is a run."""

_MOST_HISTORY = 2**26  # bytes
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
        if self.has_done:
            return "broken" if self.damage() else "done"
        if self._is_locked():
            return "running"
        try:
            if self.read_status().get("state") == "failed":
                return "failed"
        except Damaged:
            return "interrupted"
        begun = any(os.path.lexists(self.path / name) for name in (*MARKERS, self.checkpoints.name))
        return "interrupted" if begun else "new"

    @property
    def has_done(self) -> bool:
        """Whether the run says that it finished; whether that is true, `damage` knows."""
        return os.path.lexists(f"{self.path}/DONE")

    def damage(self, *, thorough: bool = False) -> str:
        """Return what is wrong with a run that has DONE, as a phrase, or "".

        metrics.json is compared by hash, predictions.npz by size; by hash too if `thorough`.
        """
        try:
            self.read_metrics()
            self.read_status()
            self.read_environment()
            if thorough:
                seal = self._read(f"{self.path}/DONE", content.DONE)[self.predictions_path.name]
                if _sha256(self.predictions_path) != seal["sha256"]:
                    return f"{self.predictions_path.name} is not the file that the run finished with"
        except Damaged as error:
            return error.reason
        return ""

    def read_metrics(self) -> dict[str, Any]:
        """Return what metrics.json holds; see `content.METRICS`.

        Raises:
            Damaged: If the run is not finished, or a file of its results is not the one that it finished with.
        """
        seal = self._read(f"{self.path}/DONE", content.DONE)
        if not seal:
            raise Damaged(self.done_path, "is missing")
        path, predictions = f"{self.path}/metrics.json", f"{self.path}/predictions.npz"
        try:
            held = read_bytes(path)
        except NotThere:
            raise Damaged(path, "is missing") from None
        if hashlib.sha256(held).hexdigest() != seal["metrics.json"]["sha256"]:
            raise Damaged(path, "is not the file that the run finished with")
        found = _stat(predictions)
        if found is None or not stat.S_ISREG(found.st_mode):
            raise Damaged(predictions, fault(Path(predictions)))
        if found.st_size != seal["predictions.npz"]["bytes"]:
            raise Damaged(predictions, "is not the file that the run finished with")
        metrics: dict[str, Any] = _fit(path, read_json(path, held), content.METRICS)
        return metrics

    def read_config(self) -> dict[str, Any]:
        """Return what config.yaml holds, as plain values: nothing is built; see `content.CONFIG`.

        Raises:
            Damaged: If it is missing, or cannot be the config of a run.
        """
        path = self.config_path
        try:
            config: dict[str, Any] = _fit(path, read_yaml(path), content.CONFIG)
        except NotThere:
            raise Damaged(path, "is missing") from None
        return config

    def read_bins(self, config: Mapping[str, Any]) -> "TargetBins":
        """Return the bins that this run's config describes; Damaged if they are none."""
        from dir_bench.labels import TargetBins  # SciPy comes with it, which takes half a second

        try:
            return TargetBins.of_settings(config["dataset"]["bins"])
        except (KeyError, ValueError) as error:
            raise Damaged(self.config_path, f"describes no bins ({error})") from error

    def read_config_text(self) -> str:
        """Return config.yaml as it is, "" if there is none; Damaged if it is no text."""
        try:
            return read_text(f"{self.path}/config.yaml")
        except NotThere:
            return ""

    def read_status(self) -> Mapping[str, Any]:
        """Return what status.json holds, empty if there is none; Damaged if it cannot be that of a run."""
        return self._read(f"{self.path}/status.json", content.STATUS)

    @property
    def failure(self) -> str:
        """Why the last attempt failed, as its status.json says."""
        try:
            return str(self.read_status().get("error") or "no reason recorded")
        except Damaged as error:
            return error.reason

    def read_environment(self) -> Mapping[str, Any]:
        """Return what environment.json holds, empty if there is none; Damaged if it cannot be that of a run."""
        return self._read(f"{self.path}/environment.json", content.ENVIRONMENT)

    def read_history(self) -> "pd.DataFrame":
        """Return a line for each evaluation, numbers only, with the columns epoch and step at least; else Damaged."""
        import pandas as pd

        path = self.history_path
        try:
            text = read_text(path, _MOST_HISTORY)
            history = pd.read_csv(io.StringIO(text)).astype("float64")
        except NotThere:
            raise Damaged(path, "is missing") from None
        except (ValueError, TypeError, OverflowError) as error:  # pandas' own are of these
            raise Damaged(path, f"cannot be read ({' '.join(str(error).split())[:200]})") from error
        for column in ("epoch", "step"):
            if column not in history:
                raise Damaged(path, f"lacks '{column}'")
            if not np.isfinite(history[column]).all():
                raise Damaged(path, f"lacks a value of '{column}'")
        if not history["step"].is_unique:
            raise Damaged(path, "has a step twice")
        return history.where(history.abs() <= content.LARGEST)

    def read_labels(self, bins: int) -> dict[str, npt.NDArray[Any]] | None:
        """Return the training labels of each bin, see `task.label_record`: counts, region, density (of older runs not).

        Returns:
            None if the run keeps none.

        Raises:
            Damaged: If they are no such arrays, or of another number of bins.
        """
        whole = Expect("whole numbers", shape=(bins,))
        density = Expect(shape=(bins,), finite=True, optional=True)
        held = self._read_arrays(self.labels_path, {"counts": whole, "region": whole, "density": density})
        if held is not None and not ((held["counts"] >= 0).all() and np.isin(held["region"], range(4)).all()):
            raise Damaged(self.labels_path, "has counts below 0, or regions that there are none of")
        return held

    def read_features(self, bins: int) -> dict[str, npt.NDArray[Any]] | None:
        """Return feature statistics of training by bin in use, see `training.features`: count, mean, variance.

        Returns:
            None if the run keeps none.

        Raises:
            Damaged: If they are no such arrays, or of another number of bins.
        """
        table = Expect(shape=(bins, None), finite=True)
        expected = {"count": Expect("whole numbers", shape=(bins,)), "mean": table, "variance": table}
        held = self._read_arrays(self.features_path, expected)
        if held is not None and held["mean"].shape != held["variance"].shape:
            raise Damaged(self.features_path, "has 'mean' and 'variance' of different shapes")
        return held

    def read_predictions(self) -> dict[str, npt.NDArray[Any]]:
        """Return target and prediction (label units, float64) and, if kept, index of the test split, shape ``(n,)``.

        Raises:
            Damaged: If they are no such arrays.
        """
        path, labels = self.predictions_path, Expect(dims=1, finite=True, filled=True)
        index = Expect("whole numbers", dims=1, optional=True)
        held = self._read_arrays(path, {"target": labels, "prediction": labels, "index": index})
        if held is None:
            raise Damaged(path, "is missing")
        if len({array.shape for array in held.values()}) > 1:
            raise Damaged(path, "has arrays of different lengths")
        for name in ("target", "prediction"):
            held[name] = held[name].astype(np.float64, copy=False)
            if max(abs(held[name].min()), abs(held[name].max())) > content.LARGEST:
                raise Damaged(path, f"has values in '{name}' that are too large to be results")
        return held

    def _read_arrays(self, path: Path, expected: Mapping[str, Expect]) -> dict[str, npt.NDArray[Any]] | None:
        """Return the arrays of an .npz file; None if there is no file."""
        try:
            return read_npz(path, expected)
        except NotThere:
            return None
        except UserError as error:
            raise Damaged(path, fault_of(path, error)) from error

    def _read(self, path: Path | str, schema: content.Check) -> Mapping[str, Any]:
        """Return a JSON file that fits a schema; empty if there is none."""
        try:
            return _parsed(read_bytes(path), schema)
        except NotThere:
            return {}
        except Damaged as error:
            raise error.of(path) from None

    @contextmanager
    def lock(self, *, wait: bool = False) -> Iterator[None]:
        """Keep other processes out of this run; the operating system lets go of the lock if this one dies.

        Args:
            wait: Wait for another process to end, as jobs of a sweep do that need the same run.

        Raises:
            UserError: If another live process is at this run.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.lock_path, timeout=-1 if wait else _LOCK_SECONDS)
        try:
            lock.acquire()
        except filelock.Timeout:
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
        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        text = yaml.dump(plain(config), Dumper=dumper, sort_keys=False, allow_unicode=True, width=110)
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
        try:
            status = self.read_status()
        except Damaged:  # it is written anew
            return {}
        return {"started": status["started"]} if "started" in status else {}

    def _is_locked(self) -> bool:
        try:  # taking a lock empties the file: it must be one of ours, and no link to somebody's letters
            if not stat.S_ISREG(os.lstat(self.lock_path).st_mode):
                return False
        except OSError:
            return False
        try:
            with filelock.FileLock(self.lock_path, timeout=0):
                return False
        except filelock.Timeout:
            return True
        except OSError:  # someone else's results, to read and not to lock: no process of ours is there
            return False

    def _owner(self) -> str:
        try:
            owner = self._read(self._owner_path, content.OWNER)
        except Damaged:
            return ""
        return f" (process {owner['pid']} on {owner['host']})" if owner else ""


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


@lru_cache(64)
def _parsed(held: bytes, schema: content.Check) -> Mapping[str, Any]:
    """Return what a JSON file says, if it fits; the runs of a sweep have environments that are the same to the byte."""
    value: Mapping[str, Any] = _fit("", read_json("", held), schema)
    return value


def _fit(path: Path | str, value: Any, schema: content.Check) -> Any:
    """Return the value if it fits."""
    if fault := schema(value):
        raise Damaged(path, f": {fault}" if fault.startswith("'") else fault)
    return value


def _seal(path: Path) -> dict[str, Any]:
    return {"sha256": _sha256(path), "bytes": path.stat().st_size}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
