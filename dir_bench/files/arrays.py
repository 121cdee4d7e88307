"""Arrays in .npz and .npy files: checked for type, shape, size and meaning before anybody reckons with them."""

import io
import math
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt

from dir_bench.errors import UserError, nearest
from dir_bench.files.plain import available_memory, open_plain

Array = npt.NDArray[Any]

MAGIC = b"\x93NUMPY"
DENSEST = 1032
"""Bytes that deflate makes of one at most: a member of a zip that claims more is damaged or a bomb."""
BLOCK = 2**20
FLOAT32_MAX = float(np.finfo(np.float32).max)
_KINDS = {"numbers": "biuf", "whole numbers": "biu", "truth values": "biu", "text": "U"}
_NAMES = {
    "c": "complex numbers",
    "U": "text",
    "S": "bytes",
    "O": "Python objects",
    "V": "records of several fields",
    "M": "dates",
    "m": "spans of time",
    "f": "fractional numbers",
    "b": "truth values",
}


BLUR = 1e-3
"""Part of the targets' standard deviation by which rounding to 32 bits may move one."""


@dataclass(frozen=True)
class Expect:
    """What an array has to be.

    Attributes:
        what: Of what it is made; truth values may be given as 0 and 1.
        dims: Its number of axes; None: any.
        shape: Its shape, None standing for any length; None: any.
        finite: Whether NaN and infinity are refused.
        float32: Whether values beyond the range of float32 are refused.
        filled: Whether it must hold something.
        optional: Whether it may be missing.
    """

    what: Literal["numbers", "whole numbers", "truth values", "text"] = "numbers"
    dims: int | None = None
    shape: tuple[int | None, ...] | None = None
    finite: bool = False
    float32: bool = False
    filled: bool = False
    optional: bool = False


def read_npz(path: Path, expected: Mapping[str, Expect], *, map_above: int | None = None) -> dict[str, Array]:
    """Return the expected arrays of a .npz; others in it are left alone, whatever they are.

    Args:
        path: The file.
        expected: What each array has to be, by name.
        map_above: Arrays of more bytes are mapped and not read, if they lie in the file uncompressed, as numpy.savez
            writes them; their checksum is not looked at. None: all are read.

    Raises:
        UserError: If the file is missing, damaged or no .npz, or an array is missing or not as expected; it names the
            file and the array.
    """
    with open_plain(path) as file, _sentences(path, ".npz"):
        start = file.read(len(MAGIC))
        if start == MAGIC:
            raise UserError(f"{path} holds a single array: it is a .npy under another name; write it with numpy.savez")
        if not start:
            raise UserError(f"{path} is empty: write it again")
        if not start.startswith(b"PK"):
            other = "a pickle, which is not read since it can run programs" if start[:1] == b"\x80" else "no .npz"
            raise UserError(f"{path} is {other}: write it with numpy.savez")
        with zipfile.ZipFile(file) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            found = {}
            for name, expect in expected.items():
                if name not in members:
                    if expect.optional:
                        continue
                    there = ", ".join(sorted(members)[:20]) or "nothing"
                    raise UserError(f"{path} has no array '{name}'{nearest(name, members)}; it holds {there}")
                info = members[name]
                mapped = info.compress_type == zipfile.ZIP_STORED and _is_above(info.file_size, map_above)
                array = _map_member(file, info, path, name) if mapped else _read_member(archive, info, path, name)
                found[name] = _checked(array, expect, f"{path}: {name}")
            return found


def read_npy(path: Path, expect: Expect, *, map_above: int | None = None) -> Array:
    """Return the array of a .npy; arguments and UserError as of `read_npz`."""
    with open_plain(path) as file, _sentences(path, ".npy"):
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        if not size:
            raise UserError(f"{path} is empty: write it again")
        if file.peek(len(MAGIC))[: len(MAGIC)] != MAGIC:
            raise UserError(f"{path} is no .npy: write it with numpy.save")
        read = _map_array if _is_above(size, map_above) else _read_array
        return _checked(read(file, size, str(path)), expect, str(path))


def refuse_blurred(numbers: Array, where: str, axis: int | None = None) -> None:
    """Raise UserError where training data of 32 bits would be others: far from zero, and near each other.

    Args:
        numbers: Targets as they are given, shape ``(n,)``, or inputs, shape ``(n, ...)``, in memory or mapped.
        where: File and name, for the message.
        axis: The channels' of inputs, each of which is judged alone; None: these are targets.
    """
    if np.can_cast(numbers.dtype, np.float32):
        return
    channels, what, mend = numbers, "", "take one value off all of them, in every part alike"
    if axis is None:
        channels, axis, what, mend = numbers[:, None], 1, "targets", "take their least value off each"
    std = channel_moments(channels, axis)[1]
    others = tuple(i for i in range(channels.ndim) if i != axis % channels.ndim)
    low, high, moved = np.full_like(std, np.inf), np.full_like(std, -np.inf), np.zeros_like(std)
    for part in blocks(channels, max(4, channels.itemsize)):
        exact = part.astype(np.float64)
        low, high = np.minimum(low, exact.min(axis=others)), np.maximum(high, exact.max(axis=others))
        moved = np.maximum(moved, np.abs(exact.astype(np.float32) - exact).max(axis=others))
    if not (blurred := (low < high) & (moved > BLUR * std)).any():
        return
    first = int(np.argmax(blurred))
    what = what or f"numbers of {'feature' if numbers.ndim == 2 else 'channel'} {first}"
    raise UserError(
        f"{where}: {what} from {low[first]:.10g} to {high[first]:.10g} are too far from 0 for how near they are to "
        f"each other: in 32 bits they would move by up to {moved[first]:.2g}, so {mend}"
    )


def channel_moments(inputs: Array, axis: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return mean and standard deviation of each channel, reading some samples at a time.

    Args:
        inputs: Shape ``(n, ...)``, in memory or mapped.
        axis: The channels'.
    """
    count, total, squares = 0, np.float64(0), np.float64(0)
    others = tuple(i for i in range(inputs.ndim) if i != axis % inputs.ndim)
    shift: Any = None
    for part in blocks(inputs, max(4, inputs.itemsize)):  # each number becomes one of 8 bytes
        values = part.astype(np.float64)
        # Differences to a value that is there are small, and lose no digits when squared.
        shift = values[:1].mean(axis=others, keepdims=True) if shift is None else shift
        values -= shift
        count += values.size // inputs.shape[axis]
        total = total + values.sum(axis=others)
        squares = squares + np.square(values).sum(axis=others)
    mean = total / count
    return mean + shift.reshape(-1), np.sqrt(np.maximum(squares / count - np.square(mean), 0))


def map_npy(path: Path) -> "np.memmap[Any, np.dtype[Any]]":
    """Return the array of a .npy that we wrote ourselves, mapped; UserError if the file was damaged since."""
    if why := _unmappable(path):
        raise UserError(f"{path} {why}")
    mapped: np.memmap[Any, np.dtype[Any]] = np.load(path, mmap_mode="r", allow_pickle=False)
    return mapped


def array_shape(path: Path, name: str | None = None) -> tuple[int, ...]:
    """Return the shape of the array of a .npy, or of one of a .npz, from its header alone.

    Raises:
        UserError: As of `read_npy` and `read_npz`, as far as the header tells.
    """
    if name is None:
        with open_plain(path) as file, _sentences(path, ".npy"):
            return _read_header(file)[0]
    with open_plain(path) as file, _sentences(path, ".npz"), zipfile.ZipFile(file) as archive:
        members = [info.filename for info in archive.infolist()]
        if f"{name}.npy" not in members:
            there = ", ".join(sorted(members)[:20]).replace(".npy", "") or "nothing"
            raise UserError(f"{path} has no array '{name}'{nearest(name, members)}; it holds {there}")
        with archive.open(f"{name}.npy") as member:
            return _read_header(member)[0]


def _unmappable(path: Path) -> str:
    with open_plain(path) as file, _sentences(path, ".npy"):
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        shape, _, dtype = _read_header(file)
        return "" if _bytes(shape, dtype) == size - file.tell() else "is cut short or damaged: remove it"


@contextmanager
def _sentences(path: Path, kind: str) -> Iterator[None]:
    """Turn what a damaged file draws from zipfile, zlib and NumPy, which is any exception, into a sentence."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(
            f"{path} is not a readable {kind}: it is cut short or damaged ({said}); write it again"
        ) from error


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, name: str) -> Array:
    most = info.compress_size * (1 if info.compress_type == zipfile.ZIP_STORED else DENSEST) + BLOCK
    if info.file_size > most:
        raise UserError(
            f"{path}: {name} claims {info.file_size:,} bytes, which {info.compress_size:,} cannot unpack to"
        )
    with archive.open(info) as member:
        found = _read_array(member, info.file_size, f"{path}: {name}")
        member.read(1)  # at the end zipfile compares the checksum
    return found


def _is_above(size: int, limit: int | None) -> bool:
    return limit is not None and size > limit


def _map_member(file: IO[bytes], info: zipfile.ZipInfo, path: Path, name: str) -> Array:
    """Map an array that lies uncompressed in a zip, whose directory says where: behind a header and two texts."""
    file.seek(info.header_offset)
    header = file.read(30)
    if header[:4] != b"PK\x03\x04":
        raise ValueError(f"no file begins at byte {info.header_offset}")
    file.seek(sum(struct.unpack("<HH", header[26:])), io.SEEK_CUR)
    return _map_array(file, info.file_size, f"{path}: {name}")


def _map_array(file: IO[bytes], size: int, where: str) -> Array:
    """Map an array from a file's place; of `size` bytes from there, its header included."""
    shape, fortran, dtype = _read_shape(file, file.tell() + size, where)
    order: Literal["C", "F"] = "F" if fortran else "C"
    return np.memmap(file, dtype, "r", offset=file.tell(), shape=shape, order=order)


def _read_array(file: IO[bytes], size: int, where: str) -> Array:
    """Read an array from a stream of `size` bytes; what its header claims is believed only if they hold it."""
    shape, fortran, dtype = _read_shape(file, size, where)
    needed = _bytes(shape, dtype)
    if needed > (available := available_memory()):
        raise UserError(f"{where} takes {needed / 1e9:.1f} GB of memory, and {available / 1e9:.1f} GB are there")
    flat = np.empty(math.prod(shape), dtype)
    bytes_of = flat.view(np.uint8)
    done = 0
    while done < needed:
        block = file.read(min(BLOCK, needed - done))
        if not block:
            raise EOFError("it ends too early")
        bytes_of[done : done + len(block)] = np.frombuffer(block, np.uint8)
        done += len(block)
    return flat.astype(dtype.newbyteorder("="), copy=False).reshape(shape, order="F" if fortran else "C")


def _read_shape(file: IO[bytes], end: int, where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read a header; UserError if what it claims is not what lies between it and `end`."""
    shape, fortran, dtype = _read_header(file)
    if dtype.kind in "OV":
        raise UserError(f"{where} holds {_NAMES[dtype.kind]}, which are not read: plain numbers are")
    needed = _bytes(shape, dtype)
    if needed != end - file.tell():
        raise UserError(
            f"{where} claims shape {shape} of {dtype}, {needed:,} bytes, and has {end - file.tell():,}: it is cut "
            "short or damaged, write it again"
        )
    return shape, fortran, dtype


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"version {version} of the format is for records")
    shape, fortran, dtype = read(file)
    if any(length < 0 for length in shape):
        raise ValueError(f"its shape is {shape}")
    return shape, fortran, dtype


def _bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return math.prod(shape) * dtype.itemsize


def _checked(array: Array, expect: Expect, where: str) -> Array:
    kind = array.dtype.kind
    if kind not in _KINDS[expect.what]:
        hint = ": convert it with .astype(float) first" if kind in "USc" and expect.what != "text" else ""
        raise UserError(f"{where} must be {expect.what}, and holds {_NAMES.get(kind, str(array.dtype))}{hint}")
    wanted = expect.shape
    if expect.dims is not None and array.ndim != expect.dims:
        raise UserError(f"{where} must have {expect.dims} axes, and its shape is {array.shape}")
    if wanted is not None and (
        array.ndim != len(wanted) or any(w not in (None, n) for w, n in zip(wanted, array.shape, strict=True))
    ):
        shown = str(tuple("any" if length is None else length for length in wanted)).replace("'", "")
        raise UserError(f"{where} must have shape {shown}, and its shape is {array.shape}")
    if expect.filled and not array.size:
        raise UserError(f"{where} is empty (shape {array.shape}): give it some values")
    if expect.what == "truth values" and kind != "b" and array.size and not np.isin(array, (0, 1)).all():
        raise UserError(f"{where} must be truth values, 0 or 1, and holds {array.min()} to {array.max()}")
    if kind == "f" and expect.finite:
        _refuse(lambda part: ~np.isfinite(part), array, where, "is not a finite number")
    if kind == "f" and array.itemsize > 4 and expect.float32:
        _refuse(lambda part: np.abs(part) > FLOAT32_MAX, array, where, "is beyond the range of float32")
    return array


def blocks(array: Array, itemsize: int | None = None) -> Iterator[Array]:
    """Yield an array's rows some at a time, tens of megabytes, so that a mapped one is never in memory whole.

    Args:
        array: Of one axis at least.
        itemsize: Bytes that a value is reckoned with; None: those that it has.
    """
    rows = max(1, 64 * BLOCK * max(1, len(array)) // max(1, array.size * (itemsize or array.itemsize)))
    for start in range(0, len(array), rows):
        yield array[start : start + rows]


def _refuse(wrong: Callable[[Array], npt.NDArray[np.bool_]], array: Array, where: str, why: str) -> None:
    """Raise UserError if some values are wrong; it names the first of them, and how many there are."""
    first: tuple[tuple[int, ...], Any] | None = None
    count = done = 0
    for part in blocks(array) if array.ndim else [array]:
        found = wrong(part)
        if first is None and found.any():
            place = tuple(map(int, np.argwhere(found)[0]))
            first = ((done + place[0], *place[1:]) if place else place), part[place]
        count += int(found.sum())
        done += len(part) if array.ndim else 0
    if first is not None:
        at = f"[{', '.join(map(str, first[0]))}]"
        raise UserError(f"{where}{at} = {first[1]} {why} ({count} such of {array.size}): mend or drop them")
