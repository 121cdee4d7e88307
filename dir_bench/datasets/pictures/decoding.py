"""Picture files to arrays of pixels, in parallel threads; what cannot be decoded is named in a sentence.

JPEG, WebP and GIF are decoded by torchvision's decoder, faster than Pillow by half and equal to it pixel by pixel.
torchvision 0.29 announces that it will drop this decoder; whatever it does not take (or all, once it is gone) is
Pillow's, which is also what the published code reads pictures with. PNG is Pillow's too: it is as fast, and the other
way a wrong bit can end the process.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import UnidentifiedImageError

from dir_bench.bars import progress_bar
from dir_bench.errors import UserError
from dir_bench.files.plain import NotThere, read_plain, status
from dir_bench.lazy import Lazy
from dir_bench.parallel import ahead

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torchvision.transforms.v2 import functional as transforms
else:
    Image = Lazy("PIL.Image")
    torch = Lazy("torch")
    transforms = Lazy("torchvision.transforms.v2.functional")

Pixels = npt.NDArray[Any]
Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 32
"""Files that a thread takes at a time."""
NAMED = 10
"""Faulty files that an error names; of more it gives the number."""
MOST_BYTES = 2**30
"""A larger file is no picture but a mistake."""
GREY16 = ("I;16", "I;16B", "I;16L", "I;16N")
ORIENTATION, BITS, ZERO_IS = 0x0112, 0x0102, 0x0106  # tags of EXIF and TIFF; the last is 0 where zero is white
TURNS = {2: (0, True), 3: (2, False), 4: (2, True), 5: (3, True), 6: (3, False), 7: (1, True), 8: (1, False)}
"""Value of the EXIF tag to quarter turns (counterclockwise), and whether the picture is then mirrored left to right."""
# Pillow refuses bombs; what it only warns of, from half of that on, may be a photograph.
warnings.filterwarnings("ignore", message=r"Image size \(\d+ pixels\) exceeds limit .* decompression bomb")
MEND = "replace the file or take its row out of the list"


@dataclass(frozen=True)
class Decoder:
    """How files become arrays of one shape.

    Args:
        name: Tells decoders apart in the cache's key: it must change whenever the result would.
        shape: Of one decoded file.
        dtype: Of the result.
        decode: Takes a path and gives a contiguous array; UserError, with the path, if it cannot.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    decode: Callable[[Path], Pixels] = field(compare=False)


def face_decoder(size: int = 224, *, exif_orientation: bool = False) -> Decoder:
    """Return the decoder of face pictures: uint8 of shape ``(size, size, 3)``, within one grey level of the published.

    Published: RGB as Pillow converts it (rotation in EXIF is not looked at), then torchvision's Resize((size, size)):
    bilinear, antialiased, proportions not kept (YyzHarry/imbalanced-regression, agedb-dir/datasets.py). Grey of 16 bits
    is scaled to 8; fractional numbers, which have no known white, are a UserError.

    Args:
        size: Width and height of the result.
        exif_orientation: Whether a picture is turned as its EXIF tag says (as phones mean it).
    """
    decode = partial(_decode_face, size=size, exif_orientation=exif_orientation)
    return Decoder("face-3-exif" if exif_orientation else "face-3", (size, size, 3), np.dtype(np.uint8), decode)


def rgb_decoder(height: int = 240, width: int = 320) -> Decoder:
    """Return the decoder of scenes: uint8 of shape ``(height, width, 3)``, bilinear and antialiased.

    It is the published Scale(240) within one grey level (YyzHarry/imbalanced-regression, nyud2-dir/nyu_transform.py),
    for pictures with the proportions of the result, 4:3 by default; others are a UserError.
    """
    return Decoder("rgb-3", (height, width, 3), np.dtype(np.uint8), partial(_decode_rgb, height=height, width=width))


def depth_decoder(height: int = 240, width: int = 320, bits: Literal[8, 16] = 8) -> Decoder:
    """Return the decoder of grey depth pictures: uint8 or uint16 of shape ``(height, width)``, nearest pixel.

    Published as `rgb_decoder`. A colour picture, or one with another number of bits, is a UserError.
    """
    decode = partial(_decode_depth, height=height, width=width, bits=bits)
    return Decoder(f"depth{bits}-1", (height, width), np.dtype(f"uint{bits}"), decode)


def _decode_face(path: Path, size: int, exif_orientation: bool) -> Pixels:
    return _resize(_read(path, partial(_rgb, exif_orientation=exif_orientation)), size, size)


def _decode_rgb(path: Path, height: int, width: int) -> Pixels:
    picture = _read(path, _rgb)
    _require_proportions(path, picture.shape[0], picture.shape[1], height, width)
    return _resize(picture, height, width)


def _decode_depth(path: Path, height: int, width: int, bits: int) -> Pixels:
    picture = _read(path, _pillow)
    # 16-bit grey is "I" in older Pillows
    found = {"1": 1, "L": 8, "I;16": 16, "I;16B": 16, "I": 16}.get(picture.mode)
    if found is None:
        raise UserError(f"{path} is a colour picture ({picture.mode}), not grey depth of {bits} bits: {MEND}")
    if found != bits:
        raise UserError(f"{path} holds depth of {found} bits where {bits} bits are wanted: {MEND}")
    _require_proportions(path, picture.height, picture.width, height, width)
    nearest = picture.resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(nearest).astype(f"uint{bits}")


def _read(path: Path, decode: Callable[[bytes], Result]) -> Result:
    """Return the decoded content of a file; UserError if there is none or it is damaged."""
    try:
        content = read_plain(path, MOST_BYTES)
    except NotThere:
        raise _missing(path) from None
    except UserError as error:
        raise UserError(f"{error}: {MEND}") from error
    if not content:
        raise _undecodable(path, "it is empty")
    try:
        return decode(content)
    except UnidentifiedImageError as error:
        raise _undecodable(path, "it is no picture of a known kind") from error
    except Exception as error:  # there is hardly an exception that no damaged file draws from a decoder
        raise _undecodable(path, str(error) or type(error).__name__) from error


def _rgb(content: bytes, exif_orientation: bool = False) -> Pixels:
    """Return all pixels as Pillow's convert("RGB") does, uint8 ``(height, width, 3)``; 16-bit grey is scaled."""
    picture = _opened(content)
    pixels = _scaled(picture) if picture.mode in (*GREY16, "I", "F") else _rgb8(content, picture)
    turns, mirrored = TURNS.get(picture.getexif().get(ORIENTATION, 1), (0, False)) if exif_orientation else (0, False)
    pixels = np.rot90(pixels, turns)
    return np.ascontiguousarray(pixels[:, ::-1] if mirrored else pixels)


def _scaled(picture: Image.Image) -> Pixels:
    """Return a grey picture of 16 bits with 8, in three channels; ValueError if it is one without a known white."""
    # Where 16 bits come as "I", they are of these formats; elsewhere "I" has 32.
    if picture.mode == "F" or (picture.mode == "I" and picture.format not in ("PNG", "PPM")):
        kind = "fractional numbers" if picture.mode == "F" else "whole numbers of 32 bits"
        raise ValueError(f"it holds {kind}, of which none is known to be white: save it with 8 or 16 bits")
    tags = getattr(picture, "tag_v2", {})  # of TIFF, whose numbers Pillow leaves as they are
    white = 2 ** int(np.ravel(tags.get(BITS, 16))[0]) - 1
    grey = (np.asarray(picture).astype(np.uint32) * 255 + white // 2) // white
    grey = 255 - grey if tags.get(ZERO_IS) == 0 else grey
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def _rgb8(content: bytes, opened: Image.Image) -> Pixels:
    import torchvision.io  # registers the decoder

    if opened.format != "PNG" and hasattr(torch.ops.image, "decode_image"):
        encoded = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        try:
            # The function of torchvision.io calls this operator, with a warning each time that it will go.
            picture = torch.ops.image.decode_image(encoded, torchvision.io.ImageReadMode.RGB.value, False)
        except RuntimeError:  # damaged, or a format it lacks: Pillow decides, and says what is wrong
            picture = None
        if picture is not None and picture.dtype == torch.uint8 and picture.ndim == 3:  # not 16 bits, nor an animation
            pixels: Pixels = picture.permute(1, 2, 0).numpy()
            return pixels
    return np.array(opened.convert("RGB"))


def _opened(content: bytes) -> Image.Image:
    """Return a picture of which only the header was read; Pillow refuses one that claims over 179 million pixels."""
    return Image.open(io.BytesIO(content))


def _pillow(content: bytes) -> Image.Image:
    picture = _opened(content)
    picture.load()
    return picture


def _resize(picture: Pixels, height: int, width: int) -> Pixels:
    channels_first = torch.from_numpy(picture).permute(2, 0, 1)
    resized: torch.Tensor = transforms.resize(channels_first, [height, width], antialias=True)
    return resized.permute(1, 2, 0).contiguous().numpy()


def _require_proportions(path: Path, height: int, width: int, to_height: int, to_width: int) -> None:
    """Raise UserError if scaling to `to_height` gives another width, by more than the pixel that rounding may take."""
    if abs(to_height * width / height - to_width) >= 1:
        raise UserError(
            f"{path} is {width} × {height} pixels, which cannot become {to_width} × {to_height} undistorted: {MEND}"
        )


def status_or_fault(path: Path) -> os.stat_result | str:
    """Return what the file system says of a picture's file, or why it is none, in a sentence."""
    try:
        return status(path)
    except NotThere:
        return str(_missing(path))
    except UserError as error:
        return f"{error}: {MEND}"


def _missing(path: Path) -> UserError:
    return UserError(f"{path} is missing: put it there or take its row out of the list")


def _undecodable(path: Path, reason: str) -> UserError:
    return UserError(f"{path} cannot be decoded ({reason}): {MEND}")


def in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int, title: str
) -> Iterator[list[Result]]:
    """Yield `function(item)` of all items in order, some at a time, under a progress bar if there is a terminal.

    With `workers` threads; with 0, in this one. Results wait for no more than two steps of each thread.
    """
    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]

    def work(chunk: Sequence[Item]) -> list[Result]:
        return [function(item) for item in chunk]

    with progress_bar() as bar:
        task = bar.add_task(title, total=len(items))
        for results in ahead(work, chunks, workers):
            bar.advance(task, len(results))
            yield results


def decode_all(files: Sequence[Path], decoder: Decoder, *, workers: int, title: str) -> Iterator[Pixels]:
    """Yield the decoded files in order, stacked some at a time, and go through all of them even if some are damaged.

    Raises:
        UserError: At the end, if files could not be decoded: it names the first ten and gives the number of the others.
    """
    blank, faults = np.zeros(decoder.shape, decoder.dtype), []
    for results in in_threads(partial(_attempt, decoder.decode), files, workers=workers, title=title):
        faults += [fault for fault in results if isinstance(fault, str)]
        yield np.stack([blank if isinstance(pixels, str) else pixels for pixels in results])
    raise_for(faults)


def raise_for(faults: Sequence[str]) -> None:
    """Raise UserError with the first ten of these sentences, and the number of the others; none: do nothing."""
    if len(faults) == 1:
        raise UserError(faults[0])
    if faults:
        more = [f"… and {len(faults) - NAMED} more"] if len(faults) > NAMED else []
        raise UserError("\n".join([f"{len(faults)} files cannot be used:", *faults[:NAMED], *more]))


def verify(files: Sequence[Path], decode: Callable[[Path], Pixels], *, workers: int, title: str) -> list[str]:
    """Return what is wrong with these files, a sentence each: missing, damaged, or there twice.

    Two files are the same picture if their content is: it is hashed where sizes are equal. A list that names one path
    twice has one picture twice, likewise.
    """
    distinct = list(dict.fromkeys(files))
    sizes = dict(zip(distinct, map(_size, distinct), strict=True))
    faults = in_threads(partial(_fault, decode), distinct, workers=workers, title=title)
    problems = [fault for part in faults for fault in part if fault]
    problems += [f"{path} is listed {n} times: keep one of these rows" for path, n in Counter(files).items() if n > 1]
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path, size in sizes.items():
        if size:
            by_size[size].append(path)
    alike = [path for group in by_size.values() if len(group) > 1 for path in group]
    hashes = in_threads(_sha256, alike, workers=workers, title=f"{title}: duplicates")
    first: dict[str, Path] = {}
    for path, digest in zip(alike, chain.from_iterable(hashes), strict=True):
        if first.setdefault(digest, path) is not path:
            problems.append(f"{path} has the same content as {first[digest]}: keep one of the two rows")
    return problems


def _attempt(decode: Callable[[Path], Pixels], path: Path) -> Pixels | str:
    try:
        return decode(path)
    except UserError as error:
        return str(error)


def _fault(decode: Callable[[Path], Pixels], path: Path) -> str:
    result = _attempt(decode, path)
    return result if isinstance(result, str) else ""


def _size(path: Path) -> int | None:
    found = status_or_fault(path)
    return None if isinstance(found, str) else found.st_size


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
