"""Features of recordings, made once: one file a recording, so that a night is mapped and a broken one harms no other.

<prepared>/<key of the settings>/shhs2-200077.npy     float16, shape (seconds, columns)
<prepared>/<key of the settings>/shhs2-200077.json    written last: seconds and SHA-256, or why it is left out
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dir_bench import workers
from dir_bench.atomic import remove_leftovers, write_json, write_npy
from dir_bench.bars import progress_bar
from dir_bench.datasets.base import file_hash
from dir_bench.datasets.sleep.signals import ExcludedRecording, FeatureSettings, extract, read_recording
from dir_bench.errors import UserError
from dir_bench.files.arrays import map_npy
from dir_bench.lazy import Lazy

if TYPE_CHECKING:
    import filelock
else:
    filelock = Lazy("filelock")

VERSION = 1
"""Of the features: to be raised when the same recording and settings would give others."""


@dataclass(frozen=True)
class Settings:
    """All that decides the features of a recording."""

    features: FeatureSettings
    channels: Mapping[str, Sequence[str]]
    required: Sequence[str]
    min_seconds: int

    @property
    def key(self) -> str:
        """Name of the folder of what is made with these settings."""
        plain = {
            **{"version": VERSION, "features": asdict(self.features), "min_seconds": self.min_seconds},
            "channels": {role: list(labels) for role, labels in self.channels.items()},
            "required": sorted(self.required),
        }
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Prepared:
    """What came of one recording: features, or the reason why it is left out.

    Attributes:
        path: The .npy of features.
        seconds: Length; 0 if it is left out.
        sha256: Of the .npy; "" if it is left out.
        reason: "" or why it is left out, in a word or two.
        sentence: The same with the file's name.
        notes: What is unusual about the recording.
    """

    path: Path
    seconds: int
    sha256: str
    reason: str
    sentence: str
    notes: tuple[str, ...]


def lookup(recording: Path, folder: Path) -> Prepared | None:
    """Return what was made of a recording; None if nothing was, or the recording is not the one it was made of."""
    path = folder / f"{recording.stem}.npy"
    try:
        about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        if about.pop("recording") != _version(recording):
            return None
        if not about["reason"] and path.stat().st_size != about.pop("bytes"):
            return None
        about.pop("bytes", None)
        return Prepared(path, **about | {"notes": tuple(about["notes"])})
    except (OSError, ValueError, KeyError, TypeError):  # not made, or damaged: to be made again
        return None


def prepare(recordings: Sequence[Path], folder: Path, settings: Settings, processes: int) -> list[str]:
    """Make what is missing of these recordings' features, in processes; return a sentence for each failure.

    A recording that cannot be used is noted with its reason, which is no failure. What fails otherwise (a full disk, a
    fault of ours) is tried again by the next call, as is all that a killed call did not come to.

    Raises:
        UserError: If another process prepares this folder, or one of ours was killed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder / "prepare.lock", timeout=0):
            return _prepare(recordings, folder, settings, processes)
    except filelock.Timeout:
        raise UserError(f"another process is preparing {folder}: wait until it has ended") from None


def _prepare(recordings: Sequence[Path], folder: Path, settings: Settings, processes: int) -> list[str]:
    remove_leftovers(folder)
    missing = [path for path in recordings if lookup(path, folder) is None]
    failures: list[str] = []
    with progress_bar() as bar:
        task = bar.add_task("preparing recordings", total=len(recordings), completed=len(recordings) - len(missing))
        if processes == 1:
            for path in missing:
                failures += _attempt(path, folder, settings)
                bar.advance(task)
            return failures
        # Threads of one process would share its warnings filters, which reading EDF changes.
        with ProcessPoolExecutor(processes, mp_context=get_context(workers.START), initializer=_start) as pool:
            futures = [pool.submit(_attempt, path, folder, settings) for path in missing]
            try:
                for future in as_completed(futures):
                    failures += future.result()
                    bar.advance(task)
            except BrokenProcessPool:
                raise UserError(
                    "a process that prepared recordings was killed, probably for want of memory: set "
                    "dataset.source.processes lower; the same command goes on from here"
                ) from None
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return failures


def _start() -> None:
    workers.end_with_parent()
    os.environ["OMP_NUM_THREADS"] = "1"


def _attempt(recording: Path, folder: Path, settings: Settings) -> list[str]:
    """Make one recording's features; return why it failed, if it did."""
    try:
        _make(recording, folder, settings)
    except UserError as error:
        return [str(error)]
    except Exception as error:  # one recording's failure must not stop the rest; it is reported, and tried again
        return [f"{recording}: {type(error).__name__}: {error}"]
    return []


def _version(recording: Path) -> list[int]:
    """Return size and time of change: a header that was mended in place has the same size."""
    status = recording.stat()
    return [status.st_size, status.st_mtime_ns]


def _make(recording: Path, folder: Path, settings: Settings) -> None:
    path = folder / f"{recording.stem}.npy"
    about: dict[str, Any] = {"recording": _version(recording)}
    try:
        night = read_recording(recording, settings.channels, settings.required, min_seconds=settings.min_seconds)
    except ExcludedRecording as error:
        about |= {"seconds": 0, "sha256": "", "reason": error.reason, "sentence": str(error), "notes": []}
        write_json(path.with_suffix(".json"), about)
        return
    write_npy(path, extract(night, settings.features))
    about |= {"seconds": night.seconds, "sha256": file_hash(path), "bytes": path.stat().st_size}
    notes = [*(f"no {role}: {why}" for role, why in night.missing.items()), *night.notes]
    write_json(path.with_suffix(".json"), about | {"reason": "", "sentence": "", "notes": notes})


def night(path: Path) -> npt.NDArray[np.float16]:
    """Return the features of a recording, mapped, shape ``(seconds, columns)``."""
    features: npt.NDArray[np.float16] = map_npy(path)
    return features
