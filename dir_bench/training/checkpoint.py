"""Checkpoints: written atomically, read with `weights_only`, refused in one sentence when damaged."""

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch

from dir_bench.atomic import replace_with
from dir_bench.errors import RunFailed, UserError, last_line
from dir_bench.files.plain import fault
from dir_bench.files.values import visible


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint so that `path` holds either the old one or the whole new one, whatever happens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_with(path) as temporary:
        torch.save(state, temporary)


def load_official(path: Path) -> dict[str, torch.Tensor]:
    """Return the weights in a checkpoint of the published code: a state dict, alone or under "state_dict".

    The prefix `module.` of its DataParallel is taken off. UserError if there are none.
    """
    # What stands beside the weights there, such as the best error, may be a NumPy scalar, of NumPy 1's module or 2's.
    scalar: Any = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in (np.float32, np.float64)]
    with torch.serialization.safe_globals([scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *kinds]):
        content = load(path)
    state = content.get("state_dict", content)
    if not (isinstance(state, dict) and state and all(isinstance(value, torch.Tensor) for value in state.values())):
        raise UserError(f"{path} holds no weights: the published checkpoints are a dict of tensors, or have one in it")
    return {key.removeprefix("module."): value for key, value in state.items()}


def load(path: Path, missing: str = "train first, or name another run") -> dict[str, Any]:
    """Read a checkpoint onto the CPU; UserError if it is damaged, or missing, which says what to do then."""
    if why := fault(path):
        missing = f"no checkpoint at {path}: {missing}"
        raise UserError(missing if why == "is missing" else f"the checkpoint {path} {why}: name another run")
    try:
        _compare_checksums(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in many ways inside torch; all mean the same to a user
        reason = visible(str(error).splitlines()[0]) if str(error) else type(error).__name__
        if isinstance(error, UnpicklingError):  # torch goes on with how to load it nevertheless
            reason = "it is damaged, or holds more than weights, which could run code"
        raise UserError(f"the checkpoint {path} cannot be read ({reason}): {anew(path)}") from error
    if not isinstance(state, dict):
        raise UserError(f"the checkpoint {path} does not hold a dict: it is not one of ours")
    return state


def _compare_checksums(path: Path) -> None:
    """Raise if a byte of a checkpoint is not as it was written; torch has checksums written, and never compares them.

    Checkpoints from before torch 1.6, as some published ones are, have none.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"the checksum of {visible(damaged)} is another")


def anew(path: Path) -> str:
    """Say how to come by a whole checkpoint: what is left of a run without it is nothing to go on from."""
    if path.parent.name == "checkpoints" and path.name in ("best.pt", "last.pt"):
        return f"fetch it anew, or remove the run's folder {path.parent.parent} to train it again"
    return "fetch it anew"


def load_best(path: Path, missing: str = "train first, or name another run") -> dict[str, Any]:
    """Read the checkpoint that a run selected: the state of its network, the monitor's value and the epoch.

    UserError if it is missing, damaged, or none that a run selected; `missing` says what to do in the first case.
    """
    state = load(path, missing)
    kinds: dict[str, Any] = {"network": dict, "value": (int, float), "epoch": int}
    for key, kind in kinds.items():
        if not isinstance(state.get(key), kind):
            raise UserError(f"the checkpoint {path} has no '{key}': it is none that a run selected, train it again")
    return state


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Say in one sentence that what was read from a checkpoint does not fit what takes it up."""
    try:
        yield
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        why = f"{type(error).__name__}: {last_line(error)}"
        raise RunFailed(
            f"the checkpoint {path} does not fit this run ({why}): it is another's or damaged, remove it to begin anew"
        ) from error


def go_on(path: Path, take_up: Callable[[dict[str, Any]], None]) -> None:
    """Give the checkpoint that a run goes on from to what takes it up; see `load_last` and `fitting`."""
    state = load_last(path)
    with fitting(path):
        take_up(state)


def load_last(path: Path) -> dict[str, Any]:
    """Read the checkpoint that a run goes on from; UserError if it is missing, damaged, or of an older form."""
    state = load(path)
    if "parts" not in state:
        raise UserError(
            f"the checkpoint {path} was written before methods were made of parts, and cannot be gone on from: "
            "remove its folder `checkpoints` to start again, or finish the run with the dir_bench that began it"
        )
    return state
