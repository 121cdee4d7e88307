"""Plain files: opened only if they are some, since a pipe would block and a device never end."""

import errno
import math
import os
import stat
from io import BufferedReader
from pathlib import Path

from dir_bench.errors import UserError

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class NotThere(UserError):
    """There is no such file."""


def status(path: Path) -> os.stat_result:
    """Return what the file system says of a plain file; NotThere or UserError, as of `open_plain`."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        if path.is_symlink():
            raise UserError(f"{path} is a link to nothing") from None
        raise NotThere(f"{path} is missing") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UserError(f"{path} {_refused(error)}") from error
    if not stat.S_ISREG(found.st_mode):
        kind = next((kind for is_kind, kind in _KINDS if is_kind(found.st_mode)), "something else")
        raise UserError(f"{path} is {kind}, not a plain file")
    return found


def fault(path: Path) -> str:
    """Return why there is no plain file at a path, going on from "PATH …"; "" if there is one."""
    try:
        status(path)
    except UserError as error:
        return str(error).removeprefix(str(path)).lstrip()
    return ""


def is_plain(path: Path) -> bool:
    """Tell whether there is a plain file, or a link to one."""
    try:
        status(path)
    except UserError:
        return False
    return True


def is_missing(path: Path) -> bool:
    """Tell whether there is nothing at all at a path."""
    try:
        status(path)
    except NotThere:
        return True
    except UserError:
        return False
    return False


def open_plain(path: Path) -> BufferedReader:
    """Open a plain file for reading.

    Raises:
        NotThere: If there is none.
        UserError: If it is a folder, a pipe, a device or a loop of links, or must not be read.
    """
    status(path)
    try:
        # Should a pipe take the file's place meanwhile, this does not wait for its other end.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise UserError(f"{path} {_refused(error)}") from error
    return os.fdopen(descriptor, "rb")


def read_plain(path: Path, most: int | None = None) -> bytes:
    """Return the content of a plain file; see `open_plain`.

    Args:
        path: The file.
        most: Bytes that such a file has at most; UserError if it has more.
    """
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        if most is not None and size > most:
            raise UserError(f"{path} has {size:,} bytes, and no such file has more than {most:,}: is it another one?")
        try:
            return file.read()
        except OSError as error:
            raise UserError(f"{path} {_refused(error)}") from error


def available_memory() -> float:
    """Return the bytes of memory that can be had; infinity where the system does not say."""
    found = [math.inf]
    if (memory := Path("/proc/meminfo")).exists():
        fields = (line.split() for line in memory.read_text().splitlines())
        found += [int(field[1]) * 1024 for field in fields if field[0] == "MemAvailable:"]
    if (container := Path("/sys/fs/cgroup/memory.max")).exists() and (limit := container.read_text().strip()) != "max":
        found.append(int(limit))
    return min(found)


def _refused(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        if error.errno == errno.ELOOP:
            return "is a link that leads back to itself"
        return f"cannot be read ({error.strerror or error})"
    return f"is no name of a file ({error})"
