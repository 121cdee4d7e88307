"""Protocols that draw training and test anew from all samples of a dataset, so that what is asked of a method is known.

Balanced extrapolation trains on the middle of the label's range and tests beyond it too; bimodal interpolation trains
on two peaks and tests between them; blind spot leaves a stretch out of training alone. Tests are even.

Source:
    Puetz et al., "Deconstructing Deep Imbalanced Regression", 2026; code: `data/create_protocols.py` (MIT). There all
    is drawn with replacement, so a third of the training rows are copies (`subset.replace=true` does so). Here, by
    default, each bin gives as many samples as that has distinct ones on average, and test samples are distinct too. No
    sample is in two splits either way; one person's pictures can be.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from dir_bench.datasets.base import Data, IntArray, ScalarTargets, Split, Stored
from dir_bench.datasets.subsets import SubsetSplit
from dir_bench.errors import UserError
from dir_bench.labels import TargetBins
from dir_bench.schema import Protocol, Subset

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
AMPLE = 4
"""Times all samples that are asked for, as published: bins where enough is asked for give all that they have."""

log = logging.getLogger("dir_bench")


@dataclass(frozen=True)
class Joined(Stored, ScalarTargets):
    """Splits of one dataset as one, the samples of the first before those of the second."""

    parts: tuple[Split, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @cached_property
    def targets(self) -> npt.NDArray[Any]:
        """All targets, label units, shape ``(n,)``."""
        return np.concatenate([np.asarray(part.targets) for part in self.parts])

    @cached_property
    def lengths(self) -> IntArray | None:
        """All lengths, if samples differ in length."""
        lengths = [part.lengths for part in self.parts]
        return None if any(each is None for each in lengths) else np.concatenate([np.asarray(each) for each in lengths])

    @property
    def stored(self) -> bool:  # type: ignore[override]
        """Whether the inputs of all splits are."""
        return all(isinstance(part, Stored) and part.stored for part in self.parts)

    def fetch(self, indices: IntArray, rng: np.random.Generator | None) -> Any:
        """Return a batch put together from what each split gives; shorter samples have zeros at their ends."""
        return self._of_parts(indices, lambda part, own, there: part.fetch(own, rng))

    def read(self, indices: IntArray) -> Any:
        """Return what the splits read, put together."""
        return self._of_parts(indices, lambda part, own, there: part.read(own))

    def beside(self, inputs: Any, indices: IntArray, rng: np.random.Generator | None) -> Any:
        """Return what each split sets beside its own, put together."""
        return self._of_parts(indices, lambda part, own, there: part.beside(inputs[there], own, rng))

    def _of_parts(self, indices: IntArray, give: Callable[[Any, IntArray, IntArray], Any]) -> Any:
        """Put together what `give` says of each split, of its own samples, and of their places in the batch."""
        ends = np.cumsum([len(part) for part in self.parts])
        of = np.searchsorted(ends, indices, side="right")
        places = [np.flatnonzero(of == number) for number in range(len(self.parts))]
        given = [
            (there, give(part, indices[there] - (end - len(part)), there))
            for there, part, end in zip(places, self.parts, ends, strict=True)
            if len(there)
        ]
        return given[0][1] if len(given) == 1 else _merged([there for there, _ in given], [batch for _, batch in given])

    def prepare(self, inputs: Any, targets: Any) -> tuple[Any, Any]:
        """Return what the first split makes of them: all are of one dataset."""
        return self.parts[0].prepare(inputs, targets)


def _merged(places: Sequence[IntArray], batches: Sequence[Any]) -> Any:
    """Return one batch from several of the same structure, whose samples go to these places."""
    first = batches[0]
    if isinstance(first, dict):
        return {key: _merged(places, [batch[key] for batch in batches]) for key in first}
    if isinstance(first, tuple | list):
        return tuple(_merged(places, each) for each in zip(*batches, strict=True))
    shape = (sum(map(len, places)), *np.max([batch.shape[1:] for batch in batches], axis=0).astype(int).tolist())
    whole = np.zeros(shape, first.dtype) if isinstance(first, np.ndarray) else first.new_zeros(shape)
    for there, batch in zip(places, batches, strict=True):
        corner: tuple[Any, ...] = (there, *(slice(size) for size in batch.shape[1:]))
        whole[corner] = batch
    return whole


@dataclass(frozen=True)
class Drawn:
    """The samples of each split, as numbers in the list of all samples; a number may come twice."""

    train: IntArray
    val: IntArray
    test: IntArray

    @property
    def sizes(self) -> dict[str, dict[str, int]]:
        """How many samples each split has, and how many distinct ones: for metrics.json."""
        return {name: {"rows": len(rows), "distinct": len(np.unique(rows))} for name, rows in vars(self).items()}

    def __str__(self) -> str:
        return "; ".join(
            f"{name} {size['rows']:,}"
            + (f" ({size['distinct']:,} distinct)" if size["distinct"] < size["rows"] else "")
            for name, size in self.sizes.items()
        )


def redraw(data: Data, bins: TargetBins, subset: Subset) -> Data:
    """Return the data with splits drawn from all its samples by the protocol of a subset; see `draw`."""
    everything = Joined((data.train, data.val, data.test))
    drawn = draw(everything.targets, bins, subset)
    log.info("%s: %s", subset.name, drawn)
    train, val, test = (SubsetSplit(everything, rows) for rows in (drawn.train, drawn.val, drawn.test))
    return replace(data, train=train, val=val, test=test, fds=None, selected_on="validation", drawn=drawn.sizes)


def draw(targets: npt.ArrayLike, bins: TargetBins, subset: Subset) -> Drawn:
    """Draw splits from samples with these targets, label units, shape ``(n,)``.

    A bin's training samples are the least of: what it has, and ⌊4 n ω / Σ ω⌋. What is not drawn is for testing, at most
    `per_bin` of a bin; if `even_test`, bins that have fewer are not tested. Training may be cut to the tested range.
    A tenth of training validates.

    Raises:
        UserError: If a split would be empty.
    """
    protocol, rng = subset.protocol, np.random.default_rng([subset.seed, 2])
    index = bins.index(targets)
    weights, inside = densities(bins, protocol)
    held = np.where(inside, np.bincount(index, minlength=len(bins)), 0)
    shares = np.where(held > 0, weights, 0)
    if not shares.any():
        raise UserError(
            f"subset={subset.name} finds no sample to train on: check subset.protocol.range, in label units"
        )
    asked = np.minimum(held, np.floor(AMPLE * held.sum() * shares / shares.sum()).astype(np.int64))
    pool = _drawn(index, held, asked, subset.replace, rng)
    left = np.ones(len(index), bool)
    left[pool] = False
    spare = np.where(inside, np.bincount(index[left], minlength=len(bins)), 0)
    tested = np.minimum(spare, protocol.per_bin)
    if protocol.even_test:
        tested[spare < protocol.per_bin] = 0
    rest = np.flatnonzero(left)
    test = rest[_drawn(index[rest], spare, tested, subset.replace, rng, exactly=True)]
    if protocol.train_within_test and len(test):
        pool = pool[(index[pool] >= index[test].min()) & (index[pool] <= index[test].max())]
    val = rng.choice(pool, round(len(pool) / 10), replace=False)
    found = Drawn(np.sort(pool[~np.isin(pool, val)]), np.sort(val), np.sort(test))
    for name, rows in vars(found).items():
        if not len(rows):
            raise UserError(
                f"subset={subset.name} leaves the split '{name}' without a sample, for the dataset has {len(index)} "
                f"and a tested bin needs {protocol.per_bin}: lower subset.protocol.per_bin, or widen dataset.bins"
            )
    return found


def densities(bins: TargetBins, protocol: Protocol) -> tuple[Floats, Mask]:
    """Return ω of each bin, and which bins take part at all, both of shape ``(b,)``.

    The protocol is written for ages from 0 to 100. A label's place is how many hundredths of `range` it lies above the
    lower end, so that ages are their own places; a bin's label is its lower edge, as whole years have it. `range` None:
    that of the bins.
    """
    low, high = protocol.range or (bins.edges[0], bins.edges[-1])
    place = 100 * (bins.edges[:-1] - low) / (high - low)
    at = np.round(place, 6)  # else a bin on an end of a stretch lies on either side of it, as it happens to be rounded
    weights = np.zeros(len(bins))
    for centre, rate in protocol.omega:
        weights += np.exp(-rate * (place - centre) ** 2)
    for first, last in protocol.blind:
        weights[(at >= first) & (at < last)] = 0
    inside = np.ones(len(bins), bool)
    if protocol.within is not None:
        inside = (at >= protocol.within[0]) & (at < protocol.within[1])
    return np.where(inside, weights, 0), inside


def _drawn(
    index: IntArray, held: IntArray, asked: IntArray, again: bool, rng: np.random.Generator, *, exactly: bool = False
) -> IntArray:
    """Return samples drawn from each bin, `asked` of the `held` ones.

    Args:
        index: Bin of each sample.
        held: Samples of each bin that may be drawn, all or none.
        asked: How many to draw.
        again: With replacement. Without, a bin gives as many as the distinct ones would be on average, or
        exactly: as many as were asked for.
    """
    by_bin = np.lexsort((rng.random(len(index)), index))  # each bin's samples in random order
    starts = np.cumsum(np.bincount(index, minlength=len(held))) - np.bincount(index, minlength=len(held))
    if not again and not exactly:
        share = 1 - (1 - 1 / np.maximum(held, 1)) ** asked
        asked = np.rint(held * share).astype(np.int64)
    bin_of = np.repeat(np.arange(len(held)), asked)
    if again:
        place = np.floor(rng.random(len(bin_of)) * held[bin_of]).astype(np.int64)
    else:
        place = np.arange(len(bin_of)) - np.repeat(np.cumsum(asked) - asked, asked)
    rows: IntArray = by_bin[starts[bin_of] + place]
    return rows
