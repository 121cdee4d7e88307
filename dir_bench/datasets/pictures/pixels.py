"""Decoded pictures by index: from a cache on the disk, from memory, or decoded anew each time.

cache folder/
    <key>/{pixels.npy, about.json, used}     one entry; `used` is touched whenever it is opened
    <key>.lock                               held while the entry is built, opened or removed
    .<key>.tmp/                              an entry being built, or what a killed build left
"""

import hashlib
import io
import json
import logging
import math
import mmap
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import numpy as np

from dir_bench.atomic import NO_ROOM, write_json
from dir_bench.datasets.base import IntArray
from dir_bench.datasets.pictures.contents import Digests, contents
from dir_bench.datasets.pictures.decoding import Decoder, Pixels, decode_all, raise_for, status_or_fault
from dir_bench.errors import DiskFull, UserError
from dir_bench.files.arrays import map_npy
from dir_bench.files.plain import available_memory
from dir_bench.lazy import Lazy

if TYPE_CHECKING:
    import filelock
else:
    filelock = Lazy("filelock")

log = logging.getLogger("dir_bench")

PIXELS, ABOUT, USED = "pixels.npy", "about.json", "used"
ENTRY, TEMPORARY = re.compile(r"[0-9a-f]{16}"), re.compile(r"\.[0-9a-f]{16}\.tmp")
GB = 10**9
WITHOUT = "keep them in memory (cache=ram) or decode in every epoch (cache=none)"


class Store(Protocol):
    """Pictures of one shape and dtype, by index."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one picture."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __len__(self) -> int: ...

    def read(self, indices: IntArray) -> Pixels:
        """Return these pictures in the order asked, shape ``(b, *shape)``, in memory of the caller's own."""
        ...


class ArrayStore:
    """Pictures in memory, shape ``(n, *shape)``."""

    def __init__(self, pixels: Pixels) -> None:
        self._pixels = pixels
        self.shape: tuple[int, ...] = pixels.shape[1:]
        self.dtype = pixels.dtype

    def __len__(self) -> int:
        return len(self._pixels)

    def read(self, indices: IntArray) -> Pixels:
        return self._pixels.take(indices, axis=0)


class MemmapStore(ArrayStore):
    """Pictures in a .npy file that is mapped, not read; in another process (pickled) it is mapped again."""

    def __init__(self, path: Path) -> None:
        mapped = map_npy(path)
        super().__init__(mapped.view(np.ndarray))
        self._path, self._map, self._offset = path, cast(mmap.mmap, mapped.base), mapped.offset

    def __reduce__(self) -> tuple[Any, ...]:
        return MemmapStore, (self._path,)

    def read(self, indices: IntArray) -> Pixels:
        # Ask for all of them first, in the file's order, so that the disk has many to fetch at a time: three times
        # as fast as page by page where the file is larger than memory, and next to nothing where it is not.
        if hasattr(mmap, "MADV_WILLNEED"):
            size = self._pixels[0].nbytes if len(self) else 0
            for index in np.sort(indices).tolist():
                start = self._offset + index * size
                page = start - start % mmap.PAGESIZE
                self._map.madvise(mmap.MADV_WILLNEED, page, start + size - page)
        return super().read(indices)


class FileStore:
    """Pictures that are decoded whenever they are read, in `workers` threads (0: in the caller's)."""

    def __init__(self, files: Sequence[Path], decoder: Decoder, workers: int) -> None:
        self._files, self._decoder, self._workers = files, decoder, workers
        self.shape, self.dtype = decoder.shape, decoder.dtype

    def __len__(self) -> int:
        return len(self._files)

    def read(self, indices: IntArray) -> Pixels:
        pixels = np.empty((len(indices), *self.shape), self.dtype)

        def decode(place: int) -> None:
            pixels[place] = self._decoder.decode(self._files[indices[place]])

        if self._workers == 0:
            for place in range(len(indices)):
                decode(place)
            return pixels
        with ThreadPoolExecutor(self._workers) as pool:
            for _ in pool.map(decode, range(len(indices))):
                pass
        return pixels


def open_store(
    files: Sequence[Path],
    decoder: Decoder,
    *,
    cache: Literal["none", "disk", "ram"],
    folder: Path,
    limit_gb: float | None,
    workers: int,
    title: str,
) -> Store:
    """Return a store of these files' pictures, in their order.

    With a cache, all files are decoded before the first is read, so that damaged ones are found then. On the disk this
    happens once for all runs; a second run that starts meanwhile waits for the first. What is in the cache is known by
    the decoder and by the files' contents, in their order, wherever they lie.

    Args:
        files: One a picture.
        decoder: What makes pixels of a file.
        cache: "disk": in `folder`, mapped; "ram": in memory; "none": decoded whenever it is read.
        folder: Of the disk cache; it may hold entries of other datasets.
        limit_gb: What all entries may take, in 10⁹ bytes; those unused for longest are removed to make room. None: any.
        workers: Threads that decode.
        title: Names the dataset in messages and in the progress bar.

    Raises:
        UserError: A file is missing or damaged (the first ten are named), or disk, limit or memory are too small.
    """
    if cache == "none":
        raise_for([fault for fault in map(status_or_fault, files) if isinstance(fault, str)])
        return FileStore(files, decoder, workers)
    if cache == "ram":
        return _in_memory(files, decoder, workers, title)
    entry = folder / _key(contents(files, folder, workers=workers, title=title), decoder)
    with _locked(entry, title):
        store = _open_entry(entry, len(files), decoder)
        if store is None:
            _make_room(entry, _entry_bytes(len(files), decoder), limit_gb, title)
            with _new_entry(entry, len(files), decoder, title) as path, path.open("ab") as file:
                for pixels in decode_all(files, decoder, workers=workers, title=f"decoding {title}"):
                    file.write(pixels.data)
            store = MemmapStore(entry / PIXELS)
        (entry / USED).touch()
    return store


def reserve(files: Sequence[Path], decoder: Decoder, folder: Path) -> Path:
    """Make an entry of black pictures without decoding a file, and return its folder: for benchmarks alone.

    Where the file system knows sparse files, it takes next to no space: the files may be empty, and as many as
    the largest dataset has.
    """
    entry = folder / _key(contents(files, folder, workers=1, title="reserve"), decoder)
    with _locked(entry, "reserve"), _new_entry(entry, len(files), decoder, "reserve") as path:
        os.truncate(path, _entry_bytes(len(files), decoder))
    return entry


def _in_memory(files: Sequence[Path], decoder: Decoder, workers: int, title: str) -> ArrayStore:
    needed, available = _pixel_bytes(len(files), decoder), available_memory()
    if needed > available:
        raise UserError(
            f"the decoded pictures of {title} take {needed / GB:.1f} GB of memory, where {available / GB:.1f} GB can "
            "be had: keep them on the disk (cache=disk) or decode in every epoch (cache=none)"
        )
    pixels, done = np.empty((len(files), *decoder.shape), decoder.dtype), 0
    for part in decode_all(files, decoder, workers=workers, title=f"decoding {title}"):
        pixels[done : done + len(part)] = part
        done += len(part)
    return ArrayStore(pixels)


def _key(digests: Digests, decoder: Decoder) -> str:
    digest = hashlib.sha256(json.dumps([decoder.name, decoder.shape, decoder.dtype.str]).encode())
    digest.update(digests.tobytes())
    return digest.hexdigest()[:16]


def _header(n: int, decoder: Decoder) -> bytes:
    """Return the head of a .npy file of `n` pictures."""
    buffer = io.BytesIO()
    head = {"descr": decoder.dtype.str, "fortran_order": False, "shape": (n, *decoder.shape)}
    np.lib.format.write_array_header_1_0(buffer, head)
    return buffer.getvalue()


def _pixel_bytes(n: int, decoder: Decoder) -> int:
    return n * math.prod(decoder.shape) * decoder.dtype.itemsize


def _entry_bytes(n: int, decoder: Decoder) -> int:
    return len(_header(n, decoder)) + _pixel_bytes(n, decoder)


def _about(n: int, decoder: Decoder) -> dict[str, Any]:
    return {"decoder": decoder.name, "pictures": n, "shape": list(decoder.shape), "dtype": decoder.dtype.str}


@contextmanager
def _locked(entry: Path, title: str) -> Iterator[None]:
    """Keep other processes from this entry; wait if one is at it. The folder is made if there is none."""
    lock = filelock.FileLock(_lock_path(entry))
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=1)
    except filelock.Timeout:
        log.info("another run is decoding %s: waiting for it", title)
        lock.acquire()
    except OSError as error:
        raise UserError(
            f"the cache folder {entry.parent} cannot be written ({error.strerror}): name another (cache_dir), or "
            f"{WITHOUT}"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _open_entry(entry: Path, n: int, decoder: Decoder) -> MemmapStore | None:
    """Return the entry's pictures; None if there are none, or it is damaged."""
    try:
        about = json.loads((entry / ABOUT).read_text(encoding="utf-8"))
        if about != _about(n, decoder) or (entry / PIXELS).stat().st_size != _entry_bytes(n, decoder):
            return None
        with (entry / PIXELS).open("rb") as file:
            header = _header(n, decoder)
            return MemmapStore(entry / PIXELS) if file.read(len(header)) == header else None
    except (OSError, ValueError):
        return None


@contextmanager
def _new_entry(entry: Path, n: int, decoder: Decoder, title: str) -> Iterator[Path]:
    """Give the path of a file that holds the header, for the pixels to follow; then it becomes the entry, all or none.

    Call it with the entry locked. It is renamed last, so what a killed build leaves is never taken for an entry.
    """
    temporary = _temporary(entry)
    for old in (temporary, entry):
        shutil.rmtree(old, ignore_errors=True)
    try:
        temporary.mkdir()
        path = temporary / PIXELS
        path.write_bytes(_header(n, decoder))
        yield path
        with path.open("r+b") as file:
            os.fsync(file.fileno())
        write_json(temporary / ABOUT, _about(n, decoder))
        temporary.rename(entry)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise _no_room(entry, title, _entry_bytes(n, decoder), "and the disk takes no more", DiskFull) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _make_room(entry: Path, needed: int, limit_gb: float | None, title: str) -> None:
    """Remove leftovers, and entries unused for longest until `needed` bytes fit; UserError if they cannot."""
    folder = entry.parent
    for old in (_temporary(entry), entry):  # a killed build's, and a damaged one
        shutil.rmtree(old, ignore_errors=True)
    # Other things in this folder are not ours to remove.
    for leftover in (path for path in folder.iterdir() if TEMPORARY.fullmatch(path.name)):
        _remove(folder / leftover.name[1:-4], leftovers_only=True)
    if limit_gb is not None:
        limit = int(limit_gb * GB)
        if needed > limit:
            raise _no_room(entry, title, needed, f"more than the {limit_gb:g} GB that cache_limit_gb allows")
        others = sorted((path for path in folder.iterdir() if ENTRY.fullmatch(path.name)), key=_last_used)
        total = sum(map(_size, others))
        for path in others:
            if total + needed <= limit:
                break
            size = _size(path)
            if _remove(path):
                total -= size
                log.info("pixel cache: %s was unused for longest and made room", path)
        if total + needed > limit:
            raise _no_room(entry, title, needed, f"and others are in use within the {limit_gb:g} GB of cache_limit_gb")
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise _no_room(entry, title, needed, f"where {free / GB:.1f} GB are free", DiskFull)


def _remove(entry: Path, *, leftovers_only: bool = False) -> bool:
    """Remove an entry's leftovers, and itself too, unless its lock is held; tell whether they went.

    A run may have it mapped: on POSIX systems the content of an open file stays until it is closed (and takes space
    until then). Elsewhere the rename fails, and the entry stays.
    """
    temporary = _temporary(entry)
    try:
        with filelock.FileLock(_lock_path(entry), timeout=0):
            shutil.rmtree(temporary, ignore_errors=True)
            if entry.exists() and not leftovers_only:
                entry.rename(temporary)  # first, for a removal that is killed half-way
                shutil.rmtree(temporary)
        return True
    except OSError:  # Timeout too: the lock is held
        return False


def _temporary(entry: Path) -> Path:
    return entry.with_name(f".{entry.name}.tmp")


def _lock_path(entry: Path) -> Path:
    return entry.with_name(f"{entry.name}.lock")


def _last_used(entry: Path) -> float:
    try:
        return (entry / USED).stat().st_mtime
    except OSError:
        return 0.0


def _size(entry: Path) -> int:
    try:
        return (entry / PIXELS).stat().st_size
    except OSError:
        return 0


def _no_room(entry: Path, title: str, needed: int, why: str, kind: type[UserError] = UserError) -> UserError:
    return kind(
        f"the decoded pictures of {title} take {needed / GB:.1f} GB in {entry.parent}, {why}: free some space or raise "
        f"the limit, name another folder (cache_dir), or {WITHOUT}"
    )
