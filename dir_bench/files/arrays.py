"""Arrays in .npz and .npy files: checked for type, shape, size and meaning before anybody reckons with them."""

import io
import math
import zipfile
from collections.abc import Iterator, Mapping
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


def read_npz(path: Path, expected: Mapping[str, Expect]) -> dict[str, Array]:
    """Return the expected arrays of a .npz; others in it are left alone, whatever they are.

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
                found[name] = _checked(_read_member(archive, members[name], path, name), expect, f"{path}: {name}")
            return found


def read_npy(path: Path, expect: Expect) -> Array:
    """Return the array of a .npy; UserError as of `read_npz`."""
    with open_plain(path) as file, _sentences(path, ".npy"):
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        if not size:
            raise UserError(f"{path} is empty: write it again")
        if file.peek(len(MAGIC))[: len(MAGIC)] != MAGIC:
            raise UserError(f"{path} is no .npy: write it with numpy.save")
        return _checked(_read_array(file, size, str(path)), expect, str(path))


def map_npy(path: Path) -> "np.memmap[Any, np.dtype[Any]]":
    """Return the array of a .npy that we wrote ourselves, mapped; UserError if the file was damaged since."""
    if why := _unmappable(path):
        raise UserError(f"{path} {why}")
    mapped: np.memmap[Any, np.dtype[Any]] = np.load(path, mmap_mode="r", allow_pickle=False)
    return mapped


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


def _read_array(file: IO[bytes], size: int, where: str) -> Array:
    """Read an array from a stream of `size` bytes; what its header claims is believed only if they hold it."""
    shape, fortran, dtype = _read_header(file)
    if dtype.kind in "OV":
        raise UserError(f"{where} holds {_NAMES[dtype.kind]}, which are not read: plain numbers are")
    needed = _bytes(shape, dtype)
    if needed != size - file.tell():
        raise UserError(
            f"{where} claims shape {shape} of {dtype}, {needed:,} bytes, and has {size - file.tell():,}: it is cut "
            "short or damaged, write it again"
        )
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
        _refuse(~np.isfinite(array), array, where, "is not a finite number")
    if kind == "f" and array.itemsize > 4 and expect.float32:
        _refuse((array > FLOAT32_MAX) | (array < -FLOAT32_MAX), array, where, "is beyond the range of float32")
    return array


def _refuse(wrong: npt.NDArray[np.bool_], array: Array, where: str, why: str) -> None:
    if wrong.any():
        place = tuple(map(int, np.argwhere(wrong)[0]))
        value = array[place]
        at = f"[{', '.join(map(str, place))}]"
        raise UserError(f"{where}{at} = {value} {why} ({int(wrong.sum())} such of {array.size}): mend or drop them")
