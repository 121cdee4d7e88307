"""Write a file whole or not at all: into a temporary beside it, flushed to the disk, then renamed over it.

A reader never sees half a file, and a killed process or a full disk leaves the previous file as it was.
"""

import errno
import json
import math
import os
import secrets
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dir_bench.errors import DiskFull

NO_ROOM = {
    errno.ENOSPC: ("The disk is full", "free some space"),
    errno.EDQUOT: ("Your part of the disk is full", "free some space"),
    errno.EFBIG: ("No file may be so large here", "raise the limit (`ulimit -f unlimited`)"),
}
"""What the system says when it takes no more bytes: in words, and what to do."""


@contextmanager
def replace_with(path: Path | str, *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path in the same folder to write to; on success it becomes `path`, else it is removed.

    The temporary keeps the suffix of `path`, for writers that look at it. Missing folders are made.

    Args:
        path: What is to be replaced.
        durable: False: do not wait for the disk. A killed process still leaves the old or the new file; a power cut may
            leave neither, so it must be one that can be made again.

    Raises:
        DiskFull: The system takes no more bytes.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if durable:
            _sync(temporary, os.O_RDWR)
        os.replace(temporary, path)
        if durable and os.name == "posix":  # the rename itself must reach the disk too
            _sync(path.parent, os.O_RDONLY)
    except (OSError, RuntimeError) as error:
        if (code := _no_room(error, temporary)) is None:
            raise
        why, mend = NO_ROOM[code]
        raise DiskFull(
            f"{why}: {path} could not be written and is as it was before; {mend} and start again."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path | str, content: bytes, *, durable: bool = True) -> None:
    """Replace the file at `path` by these bytes; `durable` as of `replace_with`."""
    with replace_with(path, durable=durable) as temporary:
        temporary.write_bytes(content)


def write_named(path: Path | str, content: bytes) -> None:
    """Write these bytes to what a user names: a file is replaced, that of a link at its place, a device or pipe fed."""
    path = Path(path)
    try:
        feeds = not stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        feeds = False
    if (output := _own_output(path)) is not None:  # opened anew, its file would be cut, and written over
        output.flush()
        output.buffer.write(content)
        output.flush()
    elif feeds:
        with path.open("wb") as file:
            file.write(content)
    else:
        write_bytes(os.path.realpath(path), content)


def _own_output(path: Path) -> TextIOWrapper | None:
    """Return the stream of this process that a path such as /dev/stdout, or a link to it, stands for."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # no such file; a stream that was closed, or is none of the system's
            if isinstance(stream, TextIOWrapper) and os.path.samestat(path.stat(), os.fstat(stream.fileno())):
                return stream
    return None


def write_text(path: Path | str, text: str, *, durable: bool = True) -> None:
    """Replace the file at `path` by this text, UTF-8, line ends as given; `durable` as of `replace_with`."""
    write_bytes(path, text.encode(), durable=durable)


def write_json(path: Path | str, value: Any) -> None:
    """Replace the file at `path` by this value as JSON (see `json_text`)."""
    write_text(path, json_text(value))


def write_npz(path: Path | str, **arrays: npt.ArrayLike) -> None:
    """Replace the file at `path` by these named arrays; the same arrays give the same bytes.

    Raises:
        TypeError: If an array holds Python objects, which could only be read back by unpickling.
    """
    named = {name: np.asarray(array) for name, array in arrays.items()}
    for name, array in named.items():
        if array.dtype.hasobject:
            raise TypeError(f"the array '{name}' holds Python objects; {path} takes numbers and text only")
    with replace_with(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **named)  # type: ignore[arg-type]


def write_npy(path: Path | str, array: npt.ArrayLike) -> None:
    """Replace the file at `path` by this one array."""
    with replace_with(path) as temporary, open(temporary, "wb") as file:
        np.save(file, np.asarray(array), allow_pickle=False)


def json_text(value: Any) -> str:
    """Return JSON that any parser reads: keys in the order given, floats in full, NaN and inf as null."""
    return json.dumps(_finite(plain(value)), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """Return `value` built of dict, list, str, int, float, bool and None only.

    NumPy scalars and arrays, tuples, paths and other mappings become what they stand for.

    Raises:
        TypeError: If a value is none of these.
    """
    if value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, np.generic)):
        return value
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} cannot be written as plain data: {value!r}")


def remove_leftovers(folder: Path) -> None:
    """Remove temporaries that a killed process left in `folder`; call it only while nobody writes there."""
    for temporary in folder.glob(".*-*.tmp*"):
        temporary.unlink(missing_ok=True)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _no_room(error: OSError | RuntimeError, written: Path) -> int | None:
    """Return the key of `NO_ROOM` that made a write fail; None if that was something else.

    Where a writer (torch.save) hides it in an error of its own, a few more bytes are refused as the last ones were.
    """
    refused: OSError | None = error if isinstance(error, OSError) else None
    if refused is None and written.exists():
        try:
            with written.open("ab") as file:
                file.write(bytes(2**20))
        except OSError as again:
            refused = again
    return refused.errno if refused is not None and refused.errno in NO_ROOM else None
