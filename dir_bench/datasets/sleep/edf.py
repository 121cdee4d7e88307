"""EDF files as recorders write them: with decimal commas, fields that end at a NUL, or no count of records."""

from __future__ import annotations

import mmap
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dir_bench.files.plain import open_plain
from dir_bench.lazy import Lazy

if TYPE_CHECKING:
    import edfio
else:
    edfio = Lazy("edfio")

FIXED, SIGNAL = 256, 256
"""Bytes of the header that all files have, and of each signal's part."""
_FIXED_NUMBERS = ((184, 8), (236, 8), (244, 8), (252, 4))
_SIGNAL_TEXTS = ((0, 16), (16, 80), (96, 8), (136, 80), (224, 32))
_SIGNAL_NUMBERS = ((104, 8), (112, 8), (120, 8), (128, 8), (216, 8))
"""Where a field begins, in bytes of the header or times the number of signals, and how long it is."""


class TruncatedHeader(ValueError):
    """The file ends within its header."""


@dataclass(frozen=True)
class Opened:
    """An EDF file whose samples are read when they are asked for.

    Attributes:
        edf: The file.
        declared: Records that its header claims; -1 if it claims none.
        rest: Bytes after the last whole record.
    """

    edf: edfio.Edf
    declared: int
    rest: int


def open_edf(path: Path) -> Opened:
    """Open an EDF or EDF+ file; its header is mended in memory alone.

    Raises:
        TruncatedHeader: If it ends within its header.
        Exception: If it is no such file: edfio meets damaged headers with whatever Python raises.
    """
    with open_plain(path) as file:
        if not file.read(1):
            raise TruncatedHeader("it has 0 bytes")
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)  # written to in memory, not on the disk
    if content[:8].strip(b" \0") not in (b"0", b""):
        raise ValueError("it does not begin as one")
    if len(content) < FIXED:
        raise TruncatedHeader(f"it has {len(content)} bytes")
    for at, width in _FIXED_NUMBERS:
        content[at : at + width] = _number(content[at : at + width])
    if not content[236:244].strip():
        content[236:244] = b"-1".ljust(8)  # unknown, in the format's own words
    number = int(content[252:256])
    header = FIXED + SIGNAL * number
    if len(content) < header:
        raise TruncatedHeader(f"it has {len(content)} bytes")
    if int(content[184:192]) != header:
        raise ValueError(f"its header of {number} signals claims to have {int(content[184:192])} bytes")
    for fields, mend in ((_SIGNAL_TEXTS, _text), (_SIGNAL_NUMBERS, _number)):
        for offset, width in fields:
            for at in range(FIXED + offset * number, FIXED + (offset + width) * number, width):
                content[at : at + width] = mend(content[at : at + width])
    start = FIXED + 216 * number
    samples = [int(content[at : at + 8]) for at in range(start, start + 8 * number, 8)]
    if min(samples, default=0) < 0 or not sum(samples):
        raise ValueError("it has no signals, or one of negative length")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a wrong length, which the caller notes
        edf = edfio.read_edf(memoryview(content), lazy_load_data=True, header_encoding="latin-1")
    return Opened(edf, int(content[236:244]), (len(content) - header) % (2 * sum(samples)))


def _text(field: bytes) -> bytes:
    """Return a field up to its first NUL."""
    return field.split(b"\0")[0].ljust(len(field))


def _number(field: bytes) -> bytes:
    """Return a number's field up to its first NUL, with a decimal point, and without one where it is whole."""
    plain = field.split(b"\0")[0].strip().replace(b",", b".")
    whole, point, fraction = plain.partition(b".")
    return (whole if point and whole.lstrip(b"+-").isdigit() and not fraction.strip(b"0") else plain).ljust(len(field))
