"""Text in, numbers out: tokens, a vocabulary as published, and word vectors from a local GloVe file."""

from dir_bench.datasets.text.glove import read_glove
from dir_bench.datasets.text.split import TextSplit
from dir_bench.datasets.text.tokens import holds_several, tokenize
from dir_bench.datasets.text.vocabulary import PADDING, UNKNOWN, Sentences, build_vocabulary

__all__ = [
    "PADDING",
    "UNKNOWN",
    "Sentences",
    "TextSplit",
    "build_vocabulary",
    "holds_several",
    "read_glove",
    "tokenize",
]
