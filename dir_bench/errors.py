"""Errors that a user can cause, and can mend: reported in one sentence, without a traceback."""

import errno
import os
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class UserError(Exception):
    """Something the user can put right: the message says what is wrong, where, and what to do.

    The command line prints the message alone and exits with `exit_code`.
    """

    exit_code = 2


class RunFailed(UserError):
    """A run that started and could not finish; its folder keeps the reason and the last checkpoint."""

    exit_code = 1


class DiskFull(UserError):
    """There is no room on the disk, or in the user's quota of it: nothing that was asked for is a mistake."""

    exit_code = 1


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" with the choice closest to `name`, or "" if none is close."""
    found = get_close_matches(name, list(choices), n=1, cutoff=0.5)
    return f" (did you mean '{found[0]}'?)" if found else ""


def last_line(error: object) -> str:
    """Return the last line of what an error says, which in torch is the telling one; its name if it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__


def of_disk(error: OSError) -> RunFailed:
    """Put what the system refused into a sentence: a full disk, a folder that is a file or cannot be written."""
    path = error.filename2 or error.filename  # of a file that was to be renamed, the one that it was to replace
    if not path or isinstance(path, int):
        if error.errno == errno.ENOENT and not _is_somewhere():
            return RunFailed("the folder that this command runs in is gone: change to another")
        return RunFailed(error.strerror or str(error))
    path = Path(os.fsdecode(path))
    if blocking := next((parent for parent in path.parents if os.path.exists(parent) and not parent.is_dir()), None):
        return RunFailed(f"{blocking} is no folder, and {path.relative_to(blocking)} is to be in it: name another")
    if error.errno == errno.EEXIST:
        return RunFailed(f"{path} is in the way, where a folder is wanted: move it away")
    if error.errno == errno.ENAMETOOLONG:
        return RunFailed(f"the name '{max(path.parts, key=len)[:40]}…' is too long for this disk: give a shorter one")
    return RunFailed(f"{error.strerror or error}: {path}")


def _is_somewhere() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True
