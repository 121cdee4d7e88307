"""Unpack a downloaded archive whole or not at all, and nothing of it outside the folder it is meant for."""

import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath

Report = Callable[[int, int | None], object]
"""Is told how many bytes are done, and of how many (None: not known)."""

_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,  # zipfile's word for an encrypted member, and for a compression it does not know
)
_OTHERS = {b"Rar!": "a rar archive", b"7z\xbc\xaf\x27\x1c": "a 7z archive"}


class Unusable(Exception):
    """A file that is damaged, cut short, not to be trusted, or another one; the message goes on from "FILE …"."""


def unpack(
    archive: Path, folder: Path, members: Collection[str], strip: int, report: Report, only: str = ""
) -> list[str]:
    """Unpack an archive into a temporary folder beside its goal, then move its top-level entries into place.

    An entry that is already in `folder` is left as it is. Whatever fails, nothing is placed.

    Args:
        archive: A zip, or a tar, plain or compressed, whatever its name.
        folder: Where the content goes.
        members: Paths below `folder` that the archive has to hold.
        strip: Leading parts taken off every path in the archive; what has no more parts than that is left out.
        report: Is told of the progress.
        only: The one folder that is taken, by its path below the archive's own top folder; "": all.

    Returns:
        The names of the entries that were placed.

    Raises:
        Unusable: If the archive is damaged or cut short, lacks one of `members`, or holds nothing, or holds anything
            but plain files and folders with paths inside it.
        OSError: If the content cannot be written.
    """
    temporary = folder / f".{archive.name}.unpacking"
    shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
    temporary.mkdir(parents=True)
    try:
        take = partial(_inside, strip=strip, only=only)
        (_unpack_zip if _is_zip(archive) else _unpack_tar)(archive, temporary, take, report)
        lacking = [name for name in members if not (temporary / name).exists()]
        if lacking:
            raise Unusable(f"does not hold {', '.join(lacking)}: it is another archive than the published one")
        if not any(temporary.iterdir()):
            raise Unusable("holds nothing")
        placed = [entry.name for entry in sorted(temporary.iterdir()) if not (folder / entry.name).exists()]
        for name in placed:
            (temporary / name).rename(folder / name)
        return placed
    except _DAMAGE as error:
        reason = str(error).partition("\n")[0].rstrip(" :") or type(error).__name__
        raise Unusable(f"is cut short or damaged ({reason})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_zip(archive: Path) -> bool:
    """Tell a zip from a tar; Unusable if it is known to be neither."""
    with archive.open("rb") as file:
        begin = file.read(8)
    for mark, kind in _OTHERS.items():
        if begin.startswith(mark):
            raise Unusable(f"is {kind}, and zip and tar are read (pack its files as one of these)")
    if tarfile.is_tarfile(archive):  # first, as a tar may end in a zip
        return False
    # What is no whole archive goes by its name, so that the damage is told in the right words.
    return zipfile.is_zipfile(archive) or ".zip" in map(str.lower, archive.suffixes)


def _unpack_tar(archive: Path, folder: Path, take: Callable[..., str], report: Report) -> None:
    total = archive.stat().st_size
    with archive.open("rb") as raw, tarfile.open(fileobj=raw) as tar:
        # Before Python 3.11.4 there is no filter; the refusals here leave it little to do.
        tar.extraction_filter = getattr(tarfile, "data_filter", None)
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # half a million headers, not needed again
            path = take(member.name, plain=member.isreg() or member.isdir())
            if path:
                tar.extract(member.replace(name=path, deep=False), folder)
            report(raw.tell(), total)
        # tarfile takes a file that ends between two members, or within a header, for a whole one.
        assert tar.fileobj is not None
        tar.fileobj.seek(tar.offset)
        if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise Unusable("is cut short or damaged (a tar's mark of the end is missing)")


def _unpack_zip(archive: Path, folder: Path, take: Callable[..., str], report: Report) -> None:
    with zipfile.ZipFile(archive) as opened:
        done, total = 0, sum(member.file_size for member in opened.infolist())
        for member in opened.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            name = member.filename.replace("\\", "/")  # some programs of Windows write these
            path = take(name, plain=kind in (0, stat.S_IFREG, stat.S_IFDIR))
            if path:
                member.filename = path + "/" * name.endswith("/")
                opened.extract(member, folder)
            done += member.file_size
            report(done, total)


def _inside(name: str, strip: int, only: str, plain: bool) -> str:
    """Return a member's path below the folder, "" if it is not to be taken; refuse one that could leave the folder."""
    if not plain:
        raise Unusable(f"holds a link or a device ('{name}'), which is not unpacked")
    windows = PureWindowsPath(name)  # splits at both kinds of slash
    if windows.drive or windows.root or ".." in windows.parts:
        raise Unusable(f"holds a path that leads out of its folder ('{name}'), which is not unpacked")
    parts, wanted = PurePosixPath(name).parts, PurePosixPath(only).parts
    return "/".join(parts[strip:]) if parts[1 : 1 + len(wanted)] == wanted else ""
