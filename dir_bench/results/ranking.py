"""Which methods are ahead of which over several datasets: ranks, Friedman's test, Wilcoxon's for each pair.

The unit is the dataset: a method's claim is that it would be ahead on another one too. Ranks are compared, so datasets
in years and in metres count alike.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from dir_bench.errors import UserError
from dir_bench.results.comparison import holm
from dir_bench.results.rows import LEVEL

Floats = NDArray[np.float64]

LEAST_ROWS, LEAST_BLOCKS = 3, 2
"""Friedman's test is of three methods or more, and nothing is a rank over datasets with one of them."""


@dataclass(frozen=True)
class Ranking:
    """Methods in the order of their mean ranks, the best first.

    Attributes:
        names: Of the methods, k of them.
        ranks: Mean rank over datasets of each, 1 is best, shape ``(k,)``.
        friedman: p of the hypothesis that all methods are alike.
        pairs: p of each pair after Holm's correction over all pairs, shape ``(k, k)``; 1 on the diagonal.
        cliques: (first, last) place of each largest run of methods of which no two are found to differ.
        blocks: How many datasets there were.
    """

    names: tuple[str, ...]
    ranks: Floats
    friedman: float
    pairs: Floats
    cliques: tuple[tuple[int, int], ...]
    blocks: int

    @property
    def can_differ(self) -> bool:
        """Whether there are datasets enough for one pair to differ, however far ahead a method is on all of them."""
        return 2.0 ** (1 - self.blocks) * len(self.names) * (len(self.names) - 1) / 2 < LEVEL


def rank(names: tuple[str, ...], values: Floats) -> Ranking:
    """Rank methods over datasets.

    Where Friedman's test finds no difference (p ≥ 0.05), no pair is said to differ.

    Args:
        names: Of the methods.
        values: Of each dataset (row) and method (column), lower is better, shape ``(n, k)``.

    Raises:
        UserError: There are fewer than three methods, or than two datasets.

    Source:
        Demšar, "Statistical comparisons of classifiers over multiple data sets", JMLR 2006, for ranks and the figure;
        Benavoli et al., "Should we really use post-hoc tests based on mean-ranks?", JMLR 2016, for Wilcoxon's test.
    """
    blocks, size = values.shape
    if size < LEAST_ROWS or blocks < LEAST_BLOCKS:
        raise UserError(
            f"ranks over datasets need {LEAST_ROWS} methods and {LEAST_BLOCKS} datasets that have them all, or more; "
            f"here are {size} and {blocks}"
        )
    from scipy import stats

    ranks = stats.rankdata(values, axis=1).mean(axis=0)
    order = np.argsort(ranks, kind="stable")
    values, ranks = values[:, order], ranks[order]
    alike = bool((values == values[:, :1]).all())  # of which SciPy would make a NaN
    friedman = 1.0 if alike else float(stats.friedmanchisquare(*values.T).pvalue)
    places = [*combinations(range(size), 2)]
    p = np.array([_wilcoxon(values[:, i] - values[:, j]) for i, j in places])
    pairs = np.ones((size, size))
    for (i, j), corrected in zip(places, holm(p), strict=True):
        pairs[i, j] = pairs[j, i] = corrected
    cliques = _cliques(pairs >= LEVEL) if friedman < LEVEL else ((0, size - 1),)
    return Ranking(tuple(names[i] for i in order), ranks, friedman, pairs, cliques, blocks)


def _wilcoxon(differences: Floats) -> float:
    from scipy import stats

    return float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0


def _cliques(near: NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    """Return (first, last) of each longest run of two places or more, all pairs of which are near."""
    size, found = len(near), list[tuple[int, int]]()
    for first in range(size):
        last = max(end for end in range(first, size) if near[first : end + 1, first : end + 1].all())
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return tuple(found)
