"""Curated training sets, and test sets with the training distribution: other splits from the same samples.

A subset chooses, bin by bin, how many training samples stay (label ranges removed, a mixture of skewed Gaussians, a
thinner copy of the density) and draws them; nothing is read, decoded or cached again. Bins left empty are zero-shot.
Yang et al. 2021 (arXiv:2102.09554) study such sets: Tables 6 and 18 with Figs. 7 and 9 (gaps, one to four peaks),
Table 19 (a test set with the training distribution), Fig. 2 and Table 20 (a thinner IMDB-WIKI-DIR).

The choice of samples is a function of `subset.seed`, the bin, and the order of the dataset's own list: changing what
happens to one bin leaves the others' samples as they are, and keeping more of a bin keeps those that were kept before.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr

from dir_bench.datasets.base import Data, IntArray, ScalarTargets, Split, Stored
from dir_bench.errors import UserError
from dir_bench.labels import TargetBins
from dir_bench.schema import Peak, Subset

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SubsetSplit(Stored, ScalarTargets):
    """Some samples of a split, in that order; everything else is the split's own."""

    split: Split
    rows: IntArray

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def targets(self) -> npt.NDArray[Any]:
        """Their targets, label units, shape ``(n,)``."""
        return np.asarray(self.split.targets[self.rows])

    @cached_property
    def lengths(self) -> IntArray | None:
        """Their lengths, if samples differ in length."""
        lengths = self.split.lengths
        return None if lengths is None else lengths[self.rows]

    @property
    def stored(self) -> bool:  # type: ignore[override]
        """Whether the split's own inputs are."""
        return isinstance(self.split, Stored) and self.split.stored

    def read(self, indices: IntArray) -> Any:
        """Return what the split reads of these samples."""
        assert isinstance(self.split, Stored)
        return self.split.read(self.rows[indices])

    def beside(self, inputs: Any, indices: IntArray, rng: np.random.Generator | None) -> Any:
        """Return what the split sets beside them."""
        assert isinstance(self.split, Stored)
        return self.split.beside(inputs, self.rows[indices], rng)

    def fetch(self, indices: IntArray, rng: np.random.Generator | None) -> Any:
        """Return what the split gives for these samples."""
        return self.split.fetch(self.rows[indices], rng)

    def prepare(self, inputs: Any, targets: Any) -> tuple[Any, Any]:
        """Return what the split makes of them."""
        return self.split.prepare(inputs, targets)


def curate(data: Data, bins: TargetBins, subset: Subset) -> Data:
    """Return the data with the splits that a subset makes of them; as they are if it is none.

    FDS then takes its statistics from the curated training split. With `test_share`, training gives up the samples
    that become the test split, and the balanced test split is not used.

    Raises:
        UserError: If targets are dense, or a split would be empty.
    """
    if subset.name == "none":
        return data
    if getattr(data.train.targets, "ndim", None) != 1:
        raise UserError(f"subset={subset.name} chooses samples by their label, and here every pixel has one: drop it")
    index = bins.index(data.train.targets)
    kept = kept_counts(np.bincount(index, minlength=len(bins)), bins, subset)
    held_out = held_out_counts(kept, subset)
    members = _shuffled(index, len(bins), subset.seed)
    train = _rows(members, np.zeros_like(kept), kept - held_out)
    val, test = data.val, data.test
    if subset.everywhere:
        val, test = _within(val, "val", bins, subset), _within(test, "test", bins, subset)
    if subset.test_share is not None:
        test = SubsetSplit(data.train, _rows(members, kept - held_out, kept))
    return replace(data, train=SubsetSplit(data.train, train), val=val, test=test, fds=None)


def train_counts(counts: IntArray, bins: TargetBins, subset: Subset) -> IntArray:
    """Return how many training samples of each bin a subset leaves in training, shape ``(b,)``.

    Args:
        counts: Training samples per bin, shape ``(b,)``.
        bins: Bins of the target.
        subset: What to keep.

    Raises:
        UserError: If none would be left.
    """
    if subset.name == "none":
        return counts
    kept = kept_counts(counts, bins, subset)
    return kept - held_out_counts(kept, subset)


def kept_counts(counts: IntArray, bins: TargetBins, subset: Subset) -> IntArray:
    """Return how many samples of each bin stay, for training and a test set held out of it, shape ``(b,)``.

    A bin's count is the least of: what there is; what the peaks want; what its share of `fullest` is. The latter two
    are rounded up, so that a bin is empty by choice only.
    """
    kept = np.where(chosen_bins(bins, subset), counts, 0)
    if subset.peaks:
        kept = np.minimum(kept, np.ceil(mixture(bins, subset.peaks)).astype(np.int64))
    if subset.fullest is not None and kept.max() > subset.fullest:
        kept = -(-kept * subset.fullest // kept.max())
    if not kept.any():
        raise UserError(f"subset={subset.name} leaves no training sample: check its ranges, which are in label units")
    return kept.astype(np.int64)


def held_out_counts(kept: IntArray, subset: Subset) -> IntArray:
    """Return how many of the kept samples of each bin become the test split: those of one random draw from them all."""
    if subset.test_share is None:
        return np.zeros_like(kept)
    size, total = round(subset.test_share * int(kept.sum())), int(kept.sum())
    if not 0 < size < total:
        raise UserError(
            f"subset.test_share={subset.test_share} of {total} training samples leaves a split empty: choose another"
        )
    rng = np.random.default_rng([subset.seed, 0])
    drawn: IntArray = rng.multivariate_hypergeometric(kept, size, method="marginals")
    return drawn


def chosen_bins(bins: TargetBins, subset: Subset) -> Mask:
    """Tell of each bin whether its centre lies within `keep` and outside `remove`, both lists of [low, high)."""
    chosen = np.ones(len(bins), bool) if subset.keep is None else _inside(bins, subset.keep)
    return chosen & ~_inside(bins, subset.remove)


def mixture(bins: TargetBins, peaks: Sequence[Peak]) -> Floats:
    """Return how many samples a mixture of skewed Gaussians wants in each bin, shape ``(b,)``.

    Each peak is `height` · p / max p over the bins of its range, and 0 elsewhere, where p is Azzalini's skew normal
    density at the bin's centre x: p = φ(z) Φ(skewness · z), z = (x − location) / scale.

    Raises:
        UserError: If no bin lies in a range.

    Source:
        A. Azzalini, "A class of distributions which includes the normal ones", Scand. J. Statist. 12 (1985) 171–178.
    """
    wanted = np.zeros(len(bins))
    for peak in peaks:
        inside = _inside(bins, [peak.range])
        z = (bins.centers[inside] - peak.location) / peak.scale
        log_density = -(z**2) / 2 + log_ndtr(peak.skewness * z)
        wanted[inside] += peak.height * np.exp(log_density - log_density.max())
    return wanted


def runs_of(mask: Mask, bins: TargetBins) -> list[tuple[float, float]]:
    """Return the stretches of neighbouring bins that a mask holds, each as (low, high) in label units."""
    steps = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(float(bins.edges[low]), float(bins.edges[high])) for low, high in steps.reshape(-1, 2)]


def _inside(bins: TargetBins, ranges: Sequence[Sequence[float]]) -> Mask:
    inside = np.zeros(len(bins), bool)
    for low, high in ranges:
        here = (bins.centers >= low) & (bins.centers < high)
        if not here.any():
            raise UserError(
                f"subset: no bin lies from {low:g} to {high:g}; targets go from {bins.edges[0]:g} to "
                f"{bins.edges[-1]:g}, and ranges are in their unit"
            )
        inside |= here
    return inside


def _within(split: Split, name: str, bins: TargetBins, subset: Subset) -> Split:
    """Return what a validation or test split has within the subset's ranges."""
    rows = np.flatnonzero(chosen_bins(bins, subset)[bins.index(split.targets)])
    if not len(rows):
        raise UserError(f"subset={subset.name} leaves the split '{name}' without a sample: set subset.everywhere=false")
    return SubsetSplit(split, rows)


def _shuffled(index: IntArray, n_bins: int, seed: int) -> list[IntArray]:
    """Return the samples of each bin in random order, each bin's from a stream of its own."""
    ends = np.bincount(index, minlength=n_bins).cumsum()[:-1]
    members = np.split(np.argsort(index, kind="stable"), ends)
    return [np.random.default_rng([seed, 1, number]).permutation(rows) for number, rows in enumerate(members)]


def _rows(members: Sequence[IntArray], starts: IntArray, stops: IntArray) -> IntArray:
    """Return each bin's samples from number `start` to `stop`, all in the order of the list."""
    parts = [rows[start:stop] for rows, start, stop in zip(members, starts, stops, strict=True)]
    return np.sort(np.concatenate(parts))
