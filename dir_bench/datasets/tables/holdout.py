"""Validation and test rows drawn from a table that has no splits: nearly balanced over the target, by a seed."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dir_bench.errors import UserError
from dir_bench.labels import TargetBins
from dir_bench.labels.choice import choose_bins


def hold_out(
    targets: npt.NDArray[np.floating],
    keys: npt.NDArray[np.integer],
    parts: Sequence[str],
    *,
    share: float,
    seed: int,
    bins: TargetBins | None = None,
) -> npt.NDArray[np.str_]:
    """Draw held-out rows as the published benchmarks do: equally many of each bin, where there are enough.

    From each bin, a third at most goes to each part, and no more than a cap: the
    greatest that leaves a part no more than `share` of the rows. So common targets are as frequent as rare ones in
    what is held out, as far as rows go, and training keeps the tail. Rows with one key go together.

    Args:
        targets: Of all rows, label units, shape ``(n,)``.
        keys: Rows that are one and the same thing have one number, shape ``(n,)``.
        parts: Names of what is drawn, such as val and test.
        share: Of the rows, in each part at most.
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
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    index = bins.index(np.asarray(targets, np.float32)[first])  # of each key, by its first row
    thirds = np.bincount(index, minlength=len(bins)) // 3
    caps = np.arange(thirds.max() + 1)
    taken = np.minimum(thirds, caps[:, None]).sum(axis=1)
    allowed = caps[taken <= max(share * len(index), 1)]
    held = np.minimum(thirds, allowed[-1])
    if not held.any():
        raise UserError(few)
    shuffled = np.random.default_rng(seed).permutation(len(index))
    order = shuffled[np.argsort(index[shuffled], kind="stable")]
    counts = np.bincount(index, minlength=len(bins))
    rank = np.empty(len(index), np.int64)
    rank[order] = np.arange(len(index)) - np.repeat(counts.cumsum() - counts, counts)
    drawn = np.full(len(index), "train", dtype="<U5")
    for place, name in enumerate(parts):
        drawn[(rank >= place * held[index]) & (rank < (place + 1) * held[index])] = name
    return drawn[group]
