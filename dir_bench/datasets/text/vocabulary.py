"""Words to numbers: a vocabulary as published, and batches of padded sentences."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

PADDING, UNKNOWN = "@@PADDING@@", "@@UNKNOWN@@"


def build_vocabulary(corpus: Iterable[Sequence[str]], max_words: int) -> dict[str, int]:
    """Number words by decreasing frequency, ties by first appearance; 0 is padding, 1 an unknown word.

    Args:
        corpus: Tokenised sentences in the order that decides ties.
        max_words: Words kept, the two special ones not counted.

    Source: YyzHarry/imbalanced-regression, sts-b-dir/preprocess.py, `get_words` and `get_vocab` (behaviour).
    """
    counts = Counter(word for sentence in corpus for word in sentence)
    for special in (PADDING, UNKNOWN):
        del counts[special]
    words = [PADDING, UNKNOWN, *(word for word, _ in counts.most_common(max_words))]
    return {word: number for number, word in enumerate(words)}


@dataclass(frozen=True)
class Sentences:
    """Tokenised sentences as one flat array, so that a padded batch is made without a loop.

    Attributes:
        flat: Word numbers of all sentences, one after the other, int32.
        starts: Where each sentence begins in `flat`, shape ``(n + 1,)``.
    """

    flat: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, sentences: Sequence[Sequence[str]], vocabulary: Mapping[str, int]) -> "Sentences":
        """Number the words of tokenised sentences; a word outside the vocabulary becomes the unknown one."""
        unknown = vocabulary[UNKNOWN]
        return cls.numbered([[vocabulary.get(word, unknown) for word in sentence] for sentence in sentences])

    @classmethod
    def numbered(cls, sentences: Sequence[Sequence[int]]) -> "Sentences":
        """Take sentences whose words have numbers already; 0 is none."""
        flat = np.array([number for sentence in sentences for number in sentence], np.int32)
        return cls(flat, np.cumsum([0, *map(len, sentences)], dtype=np.int64))

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Words per sentence, shape ``(n,)``."""
        return np.diff(self.starts)

    def batch(self, indices: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return word numbers padded with 0 to the longest of the batch, shape ``(b, t)``, and lengths ``(b,)``."""
        lengths = self.lengths[indices]
        position = np.arange(lengths.max(initial=1))
        inside = position < lengths[:, None]
        place = np.where(inside, self.starts[indices][:, None] + position, 0)
        return np.where(inside, self.flat[place], 0).astype(np.int64), lengths
