"""Vectors of sentences from a frozen encoder, computed once, and the features of pairs that they make."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dir_bench.atomic import write_npz
from dir_bench.datasets.arrays import ArraySplit
from dir_bench.datasets.base import Data
from dir_bench.datasets.text.encoders import Encoder
from dir_bench.datasets.text.split import TextSplit
from dir_bench.datasets.text.vocabulary import Sentences
from dir_bench.errors import UserError
from dir_bench.files.arrays import Expect, read_npz
from dir_bench.lazy import Lazy

if TYPE_CHECKING:
    import filelock
    import pandas as pd
else:
    filelock = Lazy("filelock")
    pd = Lazy("pandas")

Floats = npt.NDArray[np.float32]

log = logging.getLogger("dir_bench")


@dataclass(frozen=True)
class Texts:
    """One split as texts.

    Attributes:
        columns: One text a sample, or two that are compared; n of each.
        targets: Label units, shape ``(n,)``.
    """

    columns: tuple[Sequence[str], ...]
    targets: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Features:
    """How texts become inputs: `of_vectors`, less the training mean, over the training deviation.

    Attributes:
        encoder: That makes the vectors.
        cache_dir: Where they are kept.
        mean: Of each number over the training part.
        std: The same; 1 where training has one value only.
    """

    encoder: Encoder
    cache_dir: Path
    mean: Floats
    std: Floats

    @classmethod
    def data(cls, parts: Mapping[str, Texts], encoder: Encoder, cache_dir: Path) -> tuple[Data, Features]:
        """Return the three splits as vectors, encoding what is not kept yet, and how they were made."""
        columns = [column for part in parts.values() for column in part.columns]
        which, distinct = pd.factorize(np.array([*chain.from_iterable(columns)], object))  # by first appearance
        vectors = embed(distinct.tolist(), encoder, cache_dir)
        of_column = iter(np.split(which, np.cumsum([len(column) for column in columns])[:-1]))
        raw = {name: of_vectors([vectors[next(of_column)] for _ in part.columns]) for name, part in parts.items()}
        mean, std = raw["train"].mean(0, dtype=np.float64), raw["train"].std(0, dtype=np.float64)
        made = cls(encoder, cache_dir, mean.astype(np.float32), np.where(std > 0, std, 1).astype(np.float32))
        train, val, test = (
            ArraySplit((raw[name] - made.mean) / made.std, parts[name].targets) for name in ("train", "val", "test")
        )
        return Data(train, val, test, backbone_kwargs={"in_features": raw["train"].shape[1]}, kind="vectors"), made

    def of_new(self, columns: Sequence[Sequence[str]]) -> Floats:
        """Return the inputs of new texts, shape ``(n, features)``; their vectors are not kept."""
        encode = self.encoder.start()
        inputs: Floats = (of_vectors([encode(column) for column in columns]) - self.mean) / self.std
        return inputs


@dataclass(frozen=True)
class Encoded:
    """What an encoder makes of a dataset's texts.

    Attributes:
        texts: Gives the three splits as texts, when they are wanted.
        encoder: Of `encoders`.
        frozen: Whether samples are its vectors; False: its word pieces, for `backbone=minilm`, which is tuned.
        cache_dir: Where vectors are kept.
    """

    texts: Callable[[], Mapping[str, Texts]]
    encoder: Encoder
    frozen: bool
    cache_dir: Path

    def __str__(self) -> str:
        return f"{'vectors' if self.frozen else 'word pieces'} of {self.stamp}"

    @property
    def stamp(self) -> str:
        """The encoder's package and version, a part of a fingerprint; UserError if it is not installed."""
        return f"{self.encoder.package} {self.encoder.version}"

    def require(self) -> None:
        """UserError if the encoder is not installed."""
        _ = self.stamp

    def data(self) -> Data:
        """Return the three splits; vectors that are not kept yet are encoded, which takes minutes once."""
        return self._vectors[0] if self.frozen else word_pieces(self.texts(), self.encoder)

    def of_new(self, columns: tuple[Sequence[str], ...]) -> ArraySplit | TextSplit:
        """Return new texts as a split whose targets are NaN."""
        unknown = np.full(len(columns[0]), np.nan, np.float32)
        if not self.frozen:
            return pieces_of(Texts(columns, unknown), self.encoder)
        return ArraySplit(self._vectors[1].of_new(columns), unknown)

    @cached_property
    def _vectors(self) -> tuple[Data, Features]:
        return Features.data(self.texts(), self.encoder, self.cache_dir)


def word_pieces(parts: Mapping[str, Texts], encoder: Encoder) -> Data:
    """Return the three splits as an encoder's word pieces, for a network that is tuned; UserError if it has none."""
    train, val, test = (pieces_of(part, encoder) for part in parts.values())
    kwargs = {"vocab_size": encoder.vocab_size, "texts": len(parts["train"].columns)}
    return Data(train, val, test, backbone_kwargs=kwargs, kind="word pieces")


def pieces_of(part: Texts, encoder: Encoder) -> TextSplit:
    """Return texts as an encoder's word pieces; UserError if it has none."""
    if encoder.cutter is None:
        raise UserError(
            f"dataset.source.frozen=false: {encoder.name} cannot be tuned; minilm can, with backbone=minilm"
        )
    cut = encoder.cutter()
    return TextSplit(tuple(Sentences.numbered(cut(column)) for column in part.columns), part.targets)


def of_vectors(vectors: Sequence[Floats]) -> Floats:
    """Return the features of texts: u of one, [u, v, |u − v|, u·v] of two (Conneau et al. 2017), one sample a row."""
    if len(vectors) == 1:
        return vectors[0]
    u, v = vectors
    return np.concatenate([u, v, np.abs(u - v), u * v], axis=1)


def embed(sentences: Sequence[str], encoder: Encoder, cache_dir: Path) -> Floats:
    """Return the vectors of sentences, from the cache if they are kept there.

    The name of a kept file is made of the sentences, the encoder and its version, so that it never holds those of
    others. One process encodes, others wait for it. A file that is damaged is made again.

    Args:
        sentences: n of them.
        encoder: That makes the vectors.
        cache_dir: Folder of kept vectors; where it cannot be written to, they are made each time.

    Returns:
        Shape ``(n, encoder.width)``.
    """
    key = hashlib.sha256(json.dumps([encoder.package, encoder.version, *sentences]).encode()).hexdigest()
    path = cache_dir / f"{encoder.name}-{key[:24]}.npz"
    shape = (len(sentences), encoder.width)
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_suffix(".lock")):
            if (kept := _kept(path, shape)) is not None:
                return kept
            made = _encode(sentences, encoder)
            write_npz(path, vectors=made)
            return made
    except OSError as error:
        log.warning("vectors of sentences are not kept for next time: %s", error)
    return _encode(sentences, encoder)


def _encode(sentences: Sequence[str], encoder: Encoder) -> Floats:
    log.info("%s: encoding %d sentences, once for all runs", encoder.name, len(sentences))
    start = time.monotonic()
    made = encoder.start()(sentences)
    if made.shape != (len(sentences), encoder.width) or not np.isfinite(made).all():
        raise UserError(f"{encoder.package} {encoder.version} gives vectors of another shape, or not finite: install "
                        "the version of constraints.txt")  # fmt: skip
    log.info("%s: %.0f sentences a second", encoder.name, len(sentences) / max(time.monotonic() - start, 1e-9))
    return made


def _kept(path: Path, shape: tuple[int, int]) -> Floats | None:
    """Return kept vectors; None if there are none, or none that can be used."""
    if not path.is_file():
        return None
    try:
        found: Floats = read_npz(path, {"vectors": Expect(shape=shape, finite=True)})["vectors"]
    except UserError as error:
        log.warning("kept vectors of sentences cannot be used and are made again: %s", error)
        return None
    return found
