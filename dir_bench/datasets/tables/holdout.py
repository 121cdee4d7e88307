"""Validation and test rows drawn from a table that has no splits: nearly balanced over the target, by a seed."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dir_bench.errors import UserError
from dir_bench.labels import TargetBins
from dir_bench.labels.choice import choose_bins

HELD_OUT = 0.2
"""Part of the rows that is drawn at most for validation, or for test, where nothing else is said."""


def hold_out(
    targets: npt.NDArray[np.floating],
    keys: npt.NDArray[np.integer],
    parts: Sequence[str],
    *,
    share: float,
    bounded: bool = False,
    seed: int,
    bins: TargetBins | None = None,
) -> npt.NDArray[np.str_]:
    """Draw held-out rows as the published benchmarks do: equally many of each bin, where there are enough.

    From each bin, a third at most goes to each part, and no more than a cap: the
    greatest that leaves a part no more than `share` of the rows. So common targets are as frequent as rare ones in
    what is held out, as far as rows go, and training keeps the tail. Rows with one key go together, and thirds and caps
    count keys.

    Args:
        targets: Of all rows, label units, shape ``(n,)``.
        keys: Rows that are one and the same thing have one number, shape ``(n,)``.
        parts: Names of what is drawn, such as val and test.
        share: Of the keys, in each part at most.
        bounded: Whether it is the most of the rows too, as where keys have many: the cap is lowered then until it
            holds, and a key with more rows than that is for training.
        seed: Of the draw.
        bins: Those that are drawn from; None: `choose_bins`, over all targets.

    Returns:
        "train" or a part of each row, shape ``(n,)``.

    Raises:
        UserError: If a part would be empty.
    """
    few = (
        f"{len(targets)} rows are too few to draw {' and '.join(parts)} from, a third of each bin at most: give files "
        "of your own by dataset.source.val and dataset.source.test, or a split column"
    )
    try:
        bins = bins or TargetBins(choose_bins(targets).edges)
    except ValueError as error:
        raise UserError(f"no splits can be drawn: {error}") from error
    _, first, group, sizes = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    index = bins.index(np.asarray(targets, np.float32)[first])  # of each key, by its first row
    most = max(share * len(targets), 1) if bounded else np.inf
    fits = sizes <= most
    counts = np.bincount(index, minlength=len(bins))
    thirds = np.minimum(counts // 3, np.bincount(index[fits], minlength=len(bins)) // len(parts))
    shuffled = np.random.default_rng(seed).permutation(len(index))
    order = shuffled[np.lexsort((~fits[shuffled], index[shuffled]))]
    starts, rows = counts.cumsum() - counts, np.concatenate([[0], sizes[order].cumsum()])
    caps = np.arange(thirds.max() + 1)
    taken = np.minimum(thirds, caps[:, None]).sum(axis=1)
    held = np.minimum(thirds, caps[taken <= max(share * len(index), 1)][-1])
    while any((rows[starts + at * held + held] - rows[starts + at * held]).sum() > most for at in range(len(parts))):
        held = np.minimum(held, held.max() - 1)
    if not held.any():
        raise UserError(few)
    rank = np.empty(len(index), np.int64)
    rank[order] = np.arange(len(index)) - np.repeat(starts, counts)
    drawn = np.full(len(index), "train", dtype="<U5")
    for place, name in enumerate(parts):
        drawn[(rank >= place * held[index]) & (rank < (place + 1) * held[index])] = name
    return drawn[group]
