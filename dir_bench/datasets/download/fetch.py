"""Fetch the published files of a dataset: what is missing, from where, and into which place."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from filelock import FileLock, Timeout

from dir_bench.bars import progress_bar
from dir_bench.datasets.download.archives import Report, Unusable, unpack
from dir_bench.datasets.download.remote import Remote
from dir_bench.datasets.download.transfer import discard, download, require_space, write_failure
from dir_bench.errors import UserError

if TYPE_CHECKING:
    from rich.progress import Progress


def fetch(
    remotes: Sequence[Remote], folder: Path | str, *, mirror: str | None = None, progress: bool = True
) -> list[str]:
    """Fetch what is missing in a dataset's folder; what is there is left alone, without a look at the network.

    A file or the content of an archive appears in its place whole and checked, or not at all. A download that broke off
    leaves a ".part" file, and the next call goes on from it. An archive that lies in its `subfolder` under its own
    name was put there by the user: it is checked, unpacked, and kept.

    Args:
        remotes: What to fetch, in this order.
        folder: The dataset's folder.
        mirror: Address that stands in for the directory part of every url: the file is at ``mirror/name``.
        progress: Show a bar where stderr is a terminal.

    Returns:
        One line on each remote: fetched, or already there.

    Raises:
        UserError: If something cannot be fetched, is not what was published, or does not fit on the disk; if a file of
            the same name but other content is in the way; if another process is fetching into the folder.
    """
    folder = Path(folder)
    if missing := _missing(remotes, folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / ".fetch.lock", timeout=0):
                missing = _missing(remotes, folder)
                _require_room(missing, folder)
                with progress_bar("bytes", shown=progress) as bar:
                    for remote in missing:
                        _fetch(remote, folder, mirror, bar)
        except Timeout as error:
            raise UserError(f"another process is fetching into {folder}: wait for it to end") from error
        except OSError as error:
            raise write_failure(error, folder, "what had arrived before is kept") from error
    return [_line(remote, folder, fetched=remote in missing) for remote in remotes]


def unpack_own(archive: Path, folder: Path | str, *, progress: bool = True) -> str:
    """Unpack an archive that the user has into a dataset's folder, whole or not at all; the archive is kept.

    Returns:
        One line on what was placed. An entry that was there is left as it is.

    Raises:
        UserError: The archive is missing, damaged or not to be trusted, holds nothing that is not there, or does not
            fit on the disk.
    """
    folder = Path(folder)
    if not archive.is_file():
        raise UserError(f"{archive} is no file: name an archive (tar or zip) that holds the dataset's files")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        require_space(folder, archive.stat().st_size, archive.name)
        with FileLock(folder / ".fetch.lock", timeout=0), progress_bar("bytes", shown=progress) as bar:
            placed = unpack(archive, folder, (), 0, _reporter(bar, f"unpacking {archive.name}"))
    except Unusable as error:
        raise UserError(f"{archive} {error}: nothing was taken from it") from error
    except Timeout as error:
        raise UserError(f"another process is fetching into {folder}: wait for it to end") from error
    except OSError as error:
        raise write_failure(error, folder, f"nothing of {archive.name} was taken") from error
    if not placed:
        raise UserError(f"all that {archive} holds is in {folder} already, and is left as it is: move it away first")
    return f"{archive.name}: unpacked ({', '.join(str(folder / name) for name in placed)})"


def _missing(remotes: Sequence[Remote], folder: Path) -> list[Remote]:
    return [remote for remote in remotes if not _is_there(remote, folder)]


def _is_there(remote: Remote, folder: Path) -> bool:
    """Tell whether a remote's content is in place; UserError if something else is."""
    root = folder / remote.subfolder
    if not remote.members:
        path = root / remote.name
        if path.is_file() and (problem := _difference(path, remote)):
            raise UserError(f"{path} {problem}: it is left as it is; move it away and fetch again")
        return path.is_file()
    lacking = [name for name in remote.members if not (root / name).exists()]
    for name in lacking:
        top = root / PurePosixPath(name).parts[0]
        if top.exists():
            raise UserError(f"{top} exists without the {root / name} of {remote.name}: move it away and fetch again")
    for name, published in zip(remote.members, remote.member_sha256, strict=False):
        if not lacking and _digest(root / name, hashlib.sha256) != published:
            raise UserError(
                f"{root / name} is not the published file, but a stand-in or another version: it is left as it is; "
                "move it away and fetch again"
            )
    return not lacking


def _require_room(missing: Sequence[Remote], folder: Path) -> None:
    """Raise UserError if the disk has no room for all that is missing; an archive is removed once it is unpacked."""
    placed = peak = 0
    for remote in missing:
        path = folder / remote.subfolder / remote.name
        brought, arrived = (file.stat().st_size if file.is_file() else 0 for file in (path, _part(path)))
        content = remote.expected_size if remote.members else 0
        peak = max(peak, placed + remote.expected_size + content - brought - arrived)
        placed += remote.expected_size - arrived
    require_space(folder, peak, ", ".join(remote.name for remote in missing))


def _fetch(remote: Remote, folder: Path, mirror: str | None, bar: Progress) -> None:
    path = folder / remote.subfolder / remote.name
    path.parent.mkdir(parents=True, exist_ok=True)
    part, brought = _part(path), path.exists()  # brought: an archive, by the user
    url = remote.url if mirror is None else f"{mirror.rstrip('/')}/{quote(remote.name)}"
    by_hand = f"download it from {remote.url} with a browser, put it at {path}, and fetch again"
    if not brought:
        download(url, part, remote.size, by_hand, _reporter(bar, remote.name))
    try:
        if problem := _difference(path if brought else part, remote):
            raise Unusable(problem)
        if remote.members:
            report = _reporter(bar, f"unpacking {remote.name}")
            unpack(path if brought else part, path.parent, remote.members, remote.strip, report, remote.only)
        else:
            os.replace(part, path)
    except Unusable as error:
        if brought:
            raise UserError(f"{path} {error}: nothing was taken from it; remove it and fetch again") from error
        discard(part)
        raise UserError(f"{url} {error}: nothing of it was kept; fetch again, or {by_hand}") from error
    except OSError as error:
        then = f"the download is kept in {path if brought else part}, and nothing else of {remote.name}"
        raise write_failure(error, path.parent, then) from error
    discard(part)


def _difference(path: Path, remote: Remote) -> str:
    """Say how a file differs from the published one, "" if it does not in anything that is known."""
    size = path.stat().st_size
    if remote.size not in (None, size):
        return f"has {size:,} bytes, and the published file {remote.size:,}"
    checks: tuple[tuple[str, str | None, Callable[[], Any]], ...] = (
        ("SHA-256", remote.sha256, hashlib.sha256),
        ("git blob id", remote.git_sha1, lambda: hashlib.sha1(b"blob %d\0" % size)),
    )
    for name, published, start in checks:
        if published is None:
            continue
        found = _digest(path, start)
        if found != published:
            return f"is not the published file (its {name} is {found}, not {published})"
    return ""


def _digest(path: Path, start: Callable[[], Any]) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, start).hexdigest()


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _line(remote: Remote, folder: Path, fetched: bool) -> str:
    root = folder / remote.subfolder
    where = ", ".join(str(root / name) for name in remote.members or (remote.name,))
    return f"{remote.name}: {'fetched' if fetched else 'already there'} ({where})"


def _reporter(bar: Progress, text: str) -> Report:
    task = bar.add_task(text, total=None)
    return lambda done, total: bar.update(task, completed=done, total=total)
