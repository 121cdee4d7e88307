"""Stand-ins of many files: made whole in a hidden folder, then put where they belong."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dir_bench.errors import UserError


@contextmanager
def placed_whole(folder: Path, *names: str) -> Iterator[Path]:
    """Give a folder to write files into; when all are written they move to `folder`, else nothing is left of them.

    So the same command can be given again after it was interrupted or killed.

    Args:
        folder: Where the files go. Others that are there stay.
        names: Files that will be written, and folders of such, by their paths in `folder`.

    Raises:
        UserError: If one of these files is there, or one of these folders with something in it.
    """
    for path in (folder / name for name in names):
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise UserError(f"{path} exists and is left as it is: take another folder (--data DIR), or move it away")
    temporary = folder / ".sampling"
    shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for path in sorted(temporary.iterdir(), key=lambda path: path.is_file()):  # a list behind what it lists
            _move(path, folder / path.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _move(source: Path, target: Path) -> None:
    if target.is_dir():
        for path in source.iterdir():
            _move(path, target / path.name)
    else:
        source.rename(target)
