"""Stand-ins of many files: made whole in a hidden folder, then put where they belong."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dir_bench.errors import UserError

_PREFIX = ".sampling-"


@contextmanager
def placed_whole(folder: Path, *names: str) -> Iterator[Path]:
    """Give a folder to write files into; when all are written they move to `folder`, else none is there.

    So the same command can be given again after it was interrupted or killed while they were made.

    Args:
        folder: Where the files go. Others that are there stay.
        names: Files that will be written, and folders of such, by their paths in `folder`.

    Raises:
        UserError: If one of these files is there, or one of these folders with something in it.
    """
    for path in (folder / name for name in names):
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise UserError(f"{path} exists and is left as it is: take another folder (--data DIR), or move it away")
    for left in folder.glob(f"{_PREFIX}*"):
        if not _lives(left.name.removeprefix(_PREFIX)):
            shutil.rmtree(left, ignore_errors=True)
    temporary = folder / f"{_PREFIX}{os.getpid()}"
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for path in sorted(temporary.iterdir(), key=lambda path: path.is_file()):  # a list behind what it lists
            _move(path, folder / path.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        with suppress(OSError):
            folder.rmdir()  # if nothing came of it


def _lives(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except PermissionError:
        return True
    except (OSError, ValueError, OverflowError):
        return False
    return True


def _move(source: Path, target: Path) -> None:
    if target.is_dir():
        for path in source.iterdir():
            _move(path, target / path.name)
    else:
        shutil.move(source, target)  # which may lie on another disk
