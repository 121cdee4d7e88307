"""Word vectors from a local GloVe file."""

import hashlib
import io
import logging
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from dir_bench.atomic import replace_with
from dir_bench.bars import progress_bar
from dir_bench.datasets.text.vocabulary import PADDING, UNKNOWN
from dir_bench.errors import UserError
from dir_bench.files.arrays import Expect, read_npy

log = logging.getLogger("dir_bench")

FloatMatrix = npt.NDArray[np.float32]


def read_glove(path: Path, vocabulary: Mapping[str, int], dim: int, cache_dir: Path, seed: int = 0) -> FloatMatrix:
    """Return the vectors of a vocabulary's words from a local GloVe file, shape ``(len(vocabulary), dim)``.

    The file is streamed and only the words needed are parsed. Words it lacks are drawn from N(0, 1) by a stream of
    their own; padding is 0; of a word that comes twice the last vector counts. The matrix is kept in `cache_dir` under
    a name made of file and vocabulary.

    Args:
        path: A text file of lines "word number number …", blanks or tabs between, or a .zip with one such file.
        vocabulary: Word to row.
        dim: Numbers per word.
        cache_dir: Folder of the cached matrices; where it cannot be written to, the file is read every time.
        seed: Of the vectors of unknown words.

    Raises:
        UserError: If the file is missing, damaged or cut short, has another dimension, or holds hardly any of the
            words.

    Source: YyzHarry/imbalanced-regression, sts-b-dir/preprocess.py, `get_embeddings` (behaviour).
    """
    if not path.is_file():
        raise UserError(
            f"no GloVe file at {path}: `dir-bench data fetch glove` takes glove.840B.300d.zip from Stanford NLP (2 GB) "
            "into weights/; name it, the .zip or the .txt in it, with dataset.source.glove=PATH, or leave "
            "dataset.source.glove=null to train embeddings from scratch"
        )
    stat = path.stat()
    key = f"{path.name}:{stat.st_size}:{stat.st_mtime_ns}:{dim}:{seed}:" + "\n".join(vocabulary)
    cache = cache_dir / f"glove-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"
    cached = _load_cached(cache, (len(vocabulary), dim))
    if cached is not None:
        return cached
    matrix = np.random.default_rng(seed).normal(size=(len(vocabulary), dim)).astype(np.float32)
    matrix[vocabulary[PADDING]] = 0
    found = _fill(matrix, path, vocabulary)
    if found < 0.1 * len(vocabulary):
        raise UserError(f"{path} holds {found} of the {len(vocabulary)} words: it is cut short, or of another language")
    log.info("GloVe: %d of %d words found in %s, the others drawn at random", found, len(vocabulary), path.name)
    try:
        with replace_with(cache) as temporary, temporary.open("wb") as file:
            np.save(file, matrix, allow_pickle=False)
    except OSError as error:
        log.warning("word vectors are not kept for next time: %s", error)
    return matrix


def _load_cached(path: Path, shape: tuple[int, int]) -> FloatMatrix | None:
    """Return a cached matrix; None if there is none, or one that a reader cannot use."""
    if not path.is_file():
        return None
    try:
        matrix: FloatMatrix = read_npy(path, Expect(shape=shape, finite=True))
    except UserError as error:
        log.warning("kept word vectors cannot be used and are made again: %s", error)
        return None
    return matrix


def _fill(matrix: FloatMatrix, path: Path, vocabulary: Mapping[str, int]) -> int:
    """Write the vectors found in a GloVe file into their rows, and return how many words were found."""
    dim = matrix.shape[1]
    rows = {word.encode(): row for word, row in vocabulary.items() if word not in (PADDING, UNKNOWN)}
    found: set[int] = set()
    number, line = 0, b""
    for number, line in enumerate(_lines(path), 1):
        if number > 1 and line.partition(b" ")[0] not in rows:
            continue
        # From the right: some words of the 840B file hold spaces, and begin with a word of ours (". . .").
        word, vector = _parse(line, dim, path, number)
        if number == 1 and b" " in word:
            raise _wrong_line(path, 1, line, dim)
        if word in rows:
            matrix[rows[word]] = vector
            found.add(rows[word])
    if number:
        _parse(line, dim, path, number)  # the last line, where a cut shows
    return len(found)


def _parse(line: bytes, dim: int, path: Path, number: int) -> tuple[bytes, FloatMatrix]:
    word, *values = line.rsplit(b" ", dim)
    try:
        with np.errstate(over="ignore"):
            vector = np.array(values, dtype=np.float64).astype(np.float32)
    except ValueError as error:
        raise _wrong_line(path, number, line, dim) from error
    if len(values) != dim:
        raise _wrong_line(path, number, line, dim)
    if not (finite := np.isfinite(vector)).all():
        value = values[int(finite.argmin())].decode(errors="replace")
        raise UserError(f"{path}, line {number}: '{value[:60]}' is no finite 32-bit float: mend or drop the line")
    return word, vector


def _wrong_line(path: Path, number: int, line: bytes, dim: int) -> UserError:
    return UserError(
        f"{path}, line {number}: not a word and {dim} numbers but {len(line.split())} parts: another file, another "
        "dimension (dataset.source.word_dim and backbone.word_dim), or cut short?"
    )


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a text file or of the one in a zip, with a progress bar if there is a terminal."""
    try:
        with _open(path) as (file, size), progress_bar("bytes") as bar:
            task, done = bar.add_task("reading GloVe", total=size), 0
            for number, line in enumerate(file):
                done += len(line)
                if number % 4096 == 0:
                    bar.update(task, completed=done)
                yield line.rstrip(b" \t\r\n").replace(b"\t", b" ")  # fastText ends lines with a blank
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError(f"{path} is damaged or cut short ({error}): fetch it again") from error


@contextmanager
def _open(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Give the text as a stream of bytes, and its size."""
    if path.suffix.lower() != ".zip" and not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            yield file, path.stat().st_size
        return
    with zipfile.ZipFile(path) as archive:
        # macOS packs a hidden ._NAME beside each file.
        texts = [info for info in archive.infolist() if info.filename.lower().endswith(".txt")
                 and not info.filename.rpartition("/")[2].startswith(".")]  # fmt: skip
        if len(texts) != 1:
            raise UserError(f"{path} holds {len(texts)} .txt files, not one: unpack it and name the right one")
        with archive.open(texts[0]) as member, io.BufferedReader(member, 1 << 20) as file:  # type: ignore[type-var]
            yield file, texts[0].file_size
