"""A split of tokenised texts, one or several a sample."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dir_bench.datasets.base import IntArray, ScalarTargets
from dir_bench.datasets.text.vocabulary import Sentences
from dir_bench.lazy import Lazy

if TYPE_CHECKING:
    import torch
else:
    torch = Lazy("torch")


@dataclass(frozen=True)
class TextSplit(ScalarTargets):
    """One split, tokenised: `fetch` pads to the longest sentence of the batch and no further.

    Attributes:
        columns: The first text of each sample, the second, …
        targets: Label units, shape ``(n,)``.
    """

    columns: tuple[Sentences, ...]
    targets: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.targets)

    @cached_property
    def lengths(self) -> IntArray:
        """The longest of a sample's texts, in words."""
        longest: IntArray = np.max([column.lengths for column in self.columns], axis=0)
        return longest

    def fetch(self, indices: IntArray, rng: np.random.Generator | None) -> tuple[torch.Tensor | IntArray, ...]:
        """Return (tokens1, lengths1, tokens2, …), lengths for the host; there is no augmentation."""
        batches = (column.batch(indices) for column in self.columns)
        return tuple(part for tokens, lengths in batches for part in (torch.from_numpy(tokens), lengths))
