"""Digests of picture files' contents: read once, remembered as long as the file system says that a file is unchanged.

A run's identity and the store of decoded pixels go by what is in the files, not by where they lie or what they are
called. Reading all of them takes minutes for the largest sets, asking the file system about each a second.
"""

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dir_bench.atomic import write_npz
from dir_bench.datasets.pictures.decoding import MEND, in_threads, raise_for, status_or_fault
from dir_bench.errors import UserError
from dir_bench.files.arrays import Expect, read_npz
from dir_bench.files.plain import is_plain, open_plain

log = logging.getLogger("dir_bench")

Digests = npt.NDArray[np.uint8]

SIZE = 32
"""Bytes of a digest, SHA-256."""
_SIGNS = ("size", "changed", "status", "number")
"""What tells that a file is the one that was read: bytes, times of change of content and of entry (ns), inode."""


def contents(files: Sequence[Path], memory: Path, *, workers: int, title: str) -> Digests:
    """Return the SHA-256 of each file's content, uint8 of shape ``(n, 32)``.

    Args:
        files: Plain files; one may come several times.
        memory: Folder where digests are remembered between runs; if it cannot be written, they are read each time.
        workers: Threads that read.
        title: Names the files in the progress bar.

    Raises:
        UserError: Files are missing or cannot be read; the first ten are named.
    """
    distinct = list(dict.fromkeys(files))
    signs = _signs(distinct)
    place = hashlib.sha256(b"\0".join(os.fsencode(os.path.abspath(path)) for path in distinct)).hexdigest()[:16]
    path = memory / f"contents-{place}.npz"
    known, digests = _remembered(path, len(distinct))
    new = np.flatnonzero((known != signs).any(axis=1))
    if len(new):
        read = in_threads(_digest, [distinct[i] for i in new], workers=workers, title=f"reading {title}")
        found = [digest for part in read for digest in part]
        raise_for([digest for digest in found if isinstance(digest, str)])
        digests[new] = np.frombuffer(b"".join(d for d in found if isinstance(d, bytes)), np.uint8).reshape(-1, SIZE)
        try:
            write_npz(path, signs=signs, digests=digests)
        except (OSError, UserError) as error:
            log.info("the digests of %s are not remembered for the next run: %s", title, error)
    row = {file: i for i, file in enumerate(distinct)}
    return digests[[row[file] for file in files]]


def _signs(files: Sequence[Path]) -> npt.NDArray[np.int64]:
    """Return size, times and inode of each file, shape ``(n, 4)``; UserError with those that are missing."""
    found = [status_or_fault(path) for path in files]
    raise_for([fault for fault in found if isinstance(fault, str)])
    signs = [
        (s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino % 2**63) for s in found if isinstance(s, os.stat_result)
    ]
    return np.array(signs, np.int64).reshape(-1, len(_SIGNS))


def _remembered(path: Path, n: int) -> tuple[npt.NDArray[np.int64], Digests]:
    """Return signs and digests of `n` files as they were last read; signs that fit none where there are none."""
    if is_plain(path):
        shapes = {"signs": Expect("whole numbers", shape=(n, len(_SIGNS))), "digests": Expect(shape=(n, SIZE))}
        try:
            found = read_npz(path, shapes)
            return found["signs"], found["digests"].astype(np.uint8)
        except UserError as error:
            log.info("remembered digests are damaged and made anew: %s", error)
    return np.full((n, len(_SIGNS)), -1, np.int64), np.zeros((n, SIZE), np.uint8)


def _digest(path: Path) -> bytes | str:
    try:
        with open_plain(path) as file:
            return hashlib.file_digest(file, "sha256").digest()
    except (OSError, UserError) as error:
        return f"{error}: {MEND}"
