"""A structure of numbers and texts from a Matlab file (level 5), read defensively: one can kill SciPy's reader.

What a damaged file claims is held against the bytes that are there before it is used. Only what IMDB-WIKI's files are
made of is known: one structure whose fields are rows of numbers or cells of text; other fields are skipped unread.

Source of the format: MathWorks, "MAT-File Format", level 5.
"""

import math
import struct
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dir_bench.errors import UserError
from dir_bench.files.plain import read_plain

Field = npt.NDArray[Any] | list[str | None]
"""Numbers in the file's order, or texts; None for a cell that is not one line of text."""

MOST_BYTES = 2**31
MATRIX, COMPRESSED = 14, 15
CELL, STRUCTURE, CHARACTERS = 1, 2, 4
COMPLEX = 0x0800
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
NUMBERS = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
"""NumPy's names of the types that numbers are stored in, and of Matlab's classes of them."""
ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}


def read_structure(path: Path, name: str, wanted: Collection[str]) -> dict[str, Field] | None:
    """Return the wanted fields of the structure `name`, those that it has; None if there is no such structure.

    Raises:
        UserError: If the file is missing, or is damaged or no such Matlab file.
    """
    content = read_plain(path, MOST_BYTES)
    try:
        if content[:8] == b"\x89HDF\r\n\x1a\n" or content[124:126] in (b"\x00\x02", b"\x02\x00"):
            raise _Damaged("it is of version 7.3, and version 5 to 7 is read")
        orders: dict[bytes, Literal["<", ">"]] = {b"IM": "<", b"MI": ">"}
        order = orders.get(content[126:128])
        if order is None:
            raise _Damaged("it does not begin as one" if content else "it is empty")
        return _Reader(content, order).find(name, wanted)
    except (_Damaged, struct.error, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as a Matlab file ({error}): fetch it again") from error


class _Damaged(Exception):
    """The file is not as it has to be."""


class _Reader:
    """Walks through elements: a tag of type and size, then so many bytes."""

    def __init__(self, content: bytes, order: Literal["<", ">"]) -> None:
        self.content, self.order = content, order
        self.endian = {"<": "-le", ">": "-be"}[order]
        self.tag = struct.Struct(f"{order}II").unpack_from

    def find(self, name: str, wanted: Collection[str]) -> dict[str, Field] | None:
        for kind, start, stop in self._elements(128, len(self.content)):
            reader = self
            if kind == COMPRESSED:
                unpacker = zlib.decompressobj()
                content = unpacker.decompress(self.content[start:stop], MOST_BYTES)
                if not unpacker.eof:
                    raise _Damaged("its compressed part breaks off, or is too large")
                reader = _Reader(content, self.order)
                kind, start, stop = next(reader._elements(0, len(content)), (0, 0, 0))
            if kind == MATRIX:
                flags, shape, own, rest = reader._head(start, stop)
                if own == name and math.prod(shape) == 1:
                    return reader._fields(flags, rest, stop, wanted)
        return None

    def _elements(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield type, start and end of the elements in a stretch of bytes."""
        while start < stop:
            kind, first, last, start = self._element(start, stop)
            yield kind, first, last

    def _element(self, start: int, stop: int) -> tuple[int, int, int, int]:
        """Return type, start and end of an element, and where the next begins."""
        if stop - start < 8:
            raise _Damaged(f"it breaks off at byte {start}")
        kind, size = self.tag(self.content, start)
        if kind >> 16:  # four bytes or less lie within the tag
            kind, size, first, following = kind & 0xFFFF, kind >> 16, start + 4, start + 8
            if size > 4:
                raise _Damaged(f"a small element of {size} bytes at byte {start}")
        else:
            first = start + 8
            following = first + size + (0 if kind == COMPRESSED else -size % 8)
        if first + size > stop:
            raise _Damaged(f"an element at byte {start} claims {size} bytes, more than there are")
        return kind, first, first + size, following

    def _head(self, start: int, stop: int) -> tuple[int, tuple[int, ...], str, int]:
        """Return flags, dimensions and name of a matrix, and where its content begins."""
        kind, first, last, start = self._element(start, stop)
        if kind != 6 or last - first != 8:
            raise _Damaged(f"a matrix without flags at byte {first}")
        flags = int(self.tag(self.content, first)[0])
        kind, first, last, start = self._element(start, stop)
        if kind != 5 or last - first < 8 or (last - first) % 4:
            raise _Damaged(f"a matrix without dimensions at byte {first}")
        shape = struct.unpack(f"{self.order}{(last - first) // 4}i", self.content[first:last])
        if min(shape) < 0:
            raise _Damaged(f"a matrix of shape {shape} at byte {first}")
        _, first, last, start = self._element(start, stop)
        return flags, shape, self.content[first:last].decode("latin-1"), start

    def _fields(self, flags: int, start: int, stop: int, wanted: Collection[str]) -> dict[str, Field] | None:
        if flags & 0xFF != STRUCTURE:
            return None
        _, first, last, start = self._element(start, stop)
        width = int.from_bytes(self.content[first:last], "little" if self.order == "<" else "big")
        _, first, last, start = self._element(start, stop)
        if not 0 < width <= 64 or (last - first) % width:
            raise _Damaged("its names of fields are damaged")
        names = [self.content[at : at + width].split(b"\0")[0].decode("latin-1") for at in range(first, last, width)]
        found: dict[str, Field] = {}
        for name, (kind, begin, end) in zip(names, self._elements(start, stop), strict=False):
            if name in wanted:
                found[name] = self._matrix(kind, begin, end)
        return found

    def _matrix(self, kind: int, start: int, stop: int) -> Field:
        if kind != MATRIX:
            raise _Damaged(f"no matrix where one should be, at byte {start}")
        flags, shape, _, start = self._head(start, stop)
        if flags & 0xFF == CELL:
            texts = [self._text(*element) for element in self._elements(start, stop)]
            if len(texts) != math.prod(shape):
                raise _Damaged(f"{len(texts)} cells where {math.prod(shape)} should be")
            return texts
        if flags & 0xFF not in NUMBERS or flags & COMPLEX:
            return []
        kind, first, last, _ = self._element(start, stop)
        if kind not in STORED:
            raise _Damaged(f"numbers of unknown type {kind} at byte {first}")
        stored = np.dtype(STORED[kind]).newbyteorder(self.order)
        if last - first != math.prod(shape) * stored.itemsize:
            raise _Damaged(f"{last - first} bytes of numbers at byte {first} for a shape of {shape}")
        with np.errstate(invalid="ignore", over="ignore"):
            return np.frombuffer(self.content[first:last], stored).astype(NUMBERS[flags & 0xFF])

    def _text(self, kind: int, start: int, stop: int) -> str | None:
        if kind != MATRIX or start == stop:
            return None
        flags, shape, _, start = self._head(start, stop)
        if flags & 0xFF != CHARACTERS or len(shape) != 2 or shape[0] != 1:
            return None
        kind, first, last, _ = self._element(start, stop)
        encoding = ENCODINGS.get(kind)
        if encoding is None:
            raise _Damaged(f"text of unknown type {kind} at byte {first}")
        return self.content[first:last].decode(encoding + (self.endian if encoding in ("utf-16", "utf-32") else ""))
