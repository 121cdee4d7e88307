"""SMOTER and SMOGN: fewer common samples, more rare ones, as a plan made from targets and distances alone.

The label range is divided where rare bins meet common ones; each run of bins is a partition. Common partitions are
thinned out, rare ones filled up with synthetic samples. SMOTER (Torgo et al., "SMOTE for Regression", EPIA 2013) takes
each between a rare sample and one of its k nearest neighbours in the partition. SMOGN (Branco et al., "SMOGN: a
Pre-processing Approach for Imbalanced Regression", LIDTA 2017) does so only where that neighbour is closer than half
the median distance, and else puts Gaussian noise on the sample.

Yang et al. 2021 (App. C.1) compare with both under a "manually defined relevance", which they do not print: ours is
`labels.relevance`. With LDS the smoothed density divides the range, as there. The noise has one perturbation wherever
it is put. The number of neighbours that they took for faces is not printed either, and is 5 here.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dir_bench.errors import UserError
from dir_bench.labels import TargetBins
from dir_bench.tensors import wide_dtype

IntArray = npt.NDArray[np.int64]
BLOCK_BYTES = 2**28
"""What the distances of one block of samples may take; not a setting, for it could change a distance's last digit."""
SHORT = 64
"""Numbers of the longest vectors that are compared in double precision: there, sorting takes longer than products."""


@dataclass(frozen=True)
class Settings:
    """How a training set is resampled.

    Attributes:
        noise: Whether far neighbours are replaced by noise (SMOGN), or never (SMOTER).
        threshold: Bins of at least this relevance are rare.
        neighbours: Nearest neighbours in the partition that one is drawn from.
        perturbation: Standard deviation of the noise, in standard deviations.
        over: Synthetic samples per rare one; None: as many as bring the partition to an equal part of all.
        under: Share of common samples kept; None: as many as leave the partition an equal part of all.
    """

    noise: bool
    threshold: float = 0.8
    neighbours: int = 5
    perturbation: float = 0.1
    over: float | None = None
    under: float | None = None


@dataclass(frozen=True)
class Plan:
    """A new training set of ``m`` samples, each made of the old one's: kept, interpolated, or with noise.

    Attributes:
        base: The old sample that each is made from, shape ``(m,)``.
        neighbour: The old sample on the other side; the base itself where there is none.
        share: Of the neighbour, 0 to 1; 0 where there is none. float32.
        noisy: Which have noise on their inputs.
        keys: What the noise is a function of, int64, 0 to 2^32 − 1.
        targets: In label units, float32.
    """

    base: IntArray
    neighbour: IntArray
    share: npt.NDArray[np.float32]
    noisy: npt.NDArray[np.bool_]
    keys: IntArray
    targets: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.base)

    def summary(self) -> str:
        """Say how many samples are of which kind."""
        kept = len(np.unique(self.base))  # all rare ones are kept, and others have no offspring
        between, noisy = int((self.neighbour != self.base).sum()), int(self.noisy.sum())
        kinds = {
            "kept": kept,
            "interpolated": between,
            "with noise": noisy,
            "copied": len(self) - kept - between - noisy,
        }
        return ", ".join(f"{number} {kind}" for kind, number in kinds.items() if number)


def make_plan(
    targets: npt.NDArray[np.floating],
    bins: TargetBins,
    rarity: npt.NDArray[np.float64],
    vectors: Callable[[IntArray], Tensor],
    settings: Settings,
    rng: np.random.Generator,
) -> Plan:
    """Plan the resampled training set; it is a function of the arguments.

    Args:
        targets: Of the training samples, label units, shape ``(n,)``.
        bins: Of the target.
        rarity: Relevance of each bin, see `labels.relevance`.
        vectors: Gives vectors of samples between which Euclidean distances are taken, float ``(k, d)`` on any device.
            Asked for one rare partition at a time.
        settings: See there.
        rng: Draws everything that is random.

    Raises:
        UserError: If the threshold divides nothing: all bins with samples are rare, or none is.
    """
    index = bins.index(targets)
    rare = rarity >= settings.threshold
    if rare[index].all() or not rare[index].any():
        raise UserError(
            f"resample.threshold={settings.threshold:g} makes {'every' if rare[index].any() else 'no'} bin rare, so "
            f"there is nothing to balance: the relevance of bins goes from {rarity[index].min():.2f} to "
            f"{rarity[index].max():.2f}; set it in between, or resample=none"
        )
    partitions = _partitions(index, rare)
    even = len(targets) / len(partitions)
    parts: list[Plan] = []
    for members in partitions:
        if not rare[index[members[0]]]:
            wanted = even if settings.under is None else settings.under * len(members)
            size = min(len(members), max(1, round(wanted)))
            parts.append(_kept(np.sort(rng.choice(members, size, replace=False)), targets))
            continue
        parts.append(_kept(members, targets))
        missing = even - len(members) if settings.over is None else settings.over * len(members)
        if round(missing) > 0:
            parts.append(_synthetic(members, round(missing), targets, vectors, settings, rng))
    return Plan(*(np.concatenate([getattr(part, name) for part in parts]) for name in Plan.__dataclass_fields__))


def _partitions(index: IntArray, rare: npt.NDArray[np.bool_]) -> list[IntArray]:
    """Return the samples of each run of bins that are all rare or all common; bins without samples do not count."""
    order = np.argsort(index, kind="stable")
    ends = np.flatnonzero(np.diff(rare[index[order]].astype(np.int8))) + 1
    return [np.sort(part) for part in np.split(order, ends)]


def _kept(members: IntArray, targets: npt.NDArray[np.floating]) -> Plan:
    zero = np.zeros(len(members), np.int64)
    return Plan(members, members, zero.astype(np.float32), zero.astype(bool), zero, targets[members].astype(np.float32))


def _synthetic(
    members: IntArray,
    size: int,
    targets: npt.NDArray[np.floating],
    vectors: Callable[[IntArray], Tensor],
    settings: Settings,
    rng: np.random.Generator,
) -> Plan:
    """Make `size` samples from those of a rare partition: from each the same number, give or take one.

    A partition of one sample has no neighbours: it is copied, with noise in SMOGN.
    """
    n = len(members)
    base = np.concatenate([np.repeat(np.arange(n), size // n), rng.choice(n, size % n, replace=False)])
    neighbour, share, noisy = base, np.zeros(size), np.full(size, settings.noise)
    if n > 1:
        k = min(settings.neighbours, n - 1)
        near = nearest_neighbours(vectors(members), k, with_median=settings.noise)
        pick = rng.integers(k, size=size)
        noisy = near.distances[base, pick] >= near.median[base] / 2 if settings.noise else np.zeros(size, bool)
        neighbour = np.where(noisy, base, near.indices[base, pick])
        share = np.where(noisy, 0.0, rng.random(size))
    share = share.astype(np.float32).astype(np.float64)  # as inputs are blended
    own = targets[members].astype(np.float64)
    # SMOTER weighs both targets by the distance to the other sample; on the segment, this is interpolation.
    made = own[base] + share * (own[neighbour] - own[base])
    spread = own.std(ddof=1) if n > 1 else 0.0
    made += np.where(noisy, settings.perturbation * spread * rng.standard_normal(size), 0.0)
    made = made.clip(targets.min(), targets.max())  # there are no labels beyond
    keys = rng.integers(2**32, size=size)
    return Plan(members[base], members[neighbour], share.astype(np.float32), noisy, keys, made.astype(np.float32))


@dataclass(frozen=True)
class Neighbours:
    """The k nearest others of each of n vectors, nearest first.

    Attributes:
        indices: Shape ``(n, k)``.
        distances: Euclidean, shape ``(n, k)``.
        median: Of the distances to all others (the lower one of two), shape ``(n,)``; empty if not asked for.
    """

    indices: IntArray
    distances: npt.NDArray[np.float32]
    median: npt.NDArray[np.float32]


@torch.no_grad()
def nearest_neighbours(
    vectors: Tensor, k: int, *, with_median: bool = False, block_bytes: int = BLOCK_BYTES
) -> Neighbours:
    """Find the nearest neighbours of vectors among themselves, by comparing all, on the device where they lie.

    Distances come from one matrix product per block of rows: n² · d multiplications in all, and memory for a centred
    copy of the vectors and one block, whatever n. Products cannot tell near vectors apart where others lie far away:
    those of short vectors, such as rows of tables, are in double precision, and the distances that are returned are
    taken again, from differences.

    Args:
        vectors: Shape ``(n, d)``, n above k.
        k: Neighbours of each, at least 1.
        with_median: Whether to find the median too, which takes as long again where d is small.
        block_bytes: Bound of one block of distances.
    """
    n, d = vectors.shape
    wide = wide_dtype(vectors.device) if d <= SHORT else torch.float32
    vectors = vectors.to(wide)
    vectors = vectors - vectors.mean(0)  # smaller numbers, smaller rounding errors
    squares = vectors.square().sum(1)
    rows = max(1, block_bytes // (vectors.element_size() * max(n, k * d)))
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for start in range(0, n, rows):
        block = vectors[start : start + rows]
        squared = torch.addmm(squares, block, vectors.T, alpha=-2)
        squared += squares[start : start + rows, None]
        itself = torch.arange(len(block), device=vectors.device)
        squared[itself, itself + start] = torch.inf
        indices = squared.topk(k, dim=1, largest=False).indices
        distances = (vectors[indices] - block[:, None]).norm(dim=2)
        # Itself is the farthest, so this is the middle of the n − 1 others.
        median = _smallest(squared, n // 2) if with_median else squared[:0, 0]
        found.append((indices, distances.float(), median.clamp(min=0).sqrt().float()))
    return Neighbours(*(torch.cat(parts).cpu().numpy() for parts in zip(*found, strict=True)))


def _smallest(values: Tensor, rank: int) -> Tensor:
    """Return the `rank`-th smallest number of each row, counted from 1; on a CPU, rows are put into another order."""
    if values.is_cpu:  # NumPy's selection is three times as fast, and needs no copy
        values.numpy().partition(rank - 1, axis=1)
        return values[:, rank - 1].clone()
    return values.kthvalue(rank, dim=1).values
