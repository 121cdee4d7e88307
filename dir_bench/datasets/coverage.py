"""Whether a dataset's bins cover its targets: those beyond the edges all fall into an end bin, and look alike there."""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from dir_bench.labels import TargetBins

Targets = npt.NDArray[np.floating]

MANY = 0.01
"""The part of a split beyond the bins from which on they do not fit it; ages above 120 in IMDB-WIKI are fewer."""


def beyond(bins: TargetBins, targets: Targets) -> tuple[int, int]:
    """Return how many targets lie below the first edge and above the last."""
    values = np.asarray(targets).astype(bins.precision)
    first, last = (edge.astype(bins.precision) for edge in bins.edges[[0, -1]])
    return int((values < first).sum()), int((values > last).sum())


def faults(bins: TargetBins, splits: Mapping[str, Targets]) -> list[str]:
    """Return a sentence for each split of which many targets lie outside of the bins, with bins that would hold all.

    Args:
        bins: The dataset's.
        splits: Name of a split to its targets, label units, shape ``(n,)``.
    """
    found = []
    for name, targets in splits.items():
        below, above = beyond(bins, targets)
        if below + above > MANY * len(targets):
            sides = [f"{below} below {bins.edges[0]:g}"] * (below > 0) + [f"{above} above {bins.edges[-1]:g}"] * (
                above > 0
            )
            found.append(
                f"{below + above} of {len(targets)} targets of the split '{name}' lie outside of the bins "
                f"({', '.join(sides)}) and count as of the end bins: set {proposal(bins, splits)}"
            )
    return found


def proposal(bins: TargetBins, splits: Mapping[str, Targets]) -> str:
    """Return settings of about as many bins, of a round width, that hold all these targets."""
    low = min(float(targets.min()) for targets in splits.values() if len(targets))
    high = max(float(targets.max()) for targets in splits.values() if len(targets))
    wanted = max(high - low, 1e-6 * max(abs(low), abs(high)), 1e-6) / len(bins)
    power = 10.0 ** math.floor(math.log10(wanted))
    width = next(step * power for step in (1, 2, 5, 10) if step * power >= wanted * (1 - 1e-9))
    first, last = math.floor(low / width), max(math.ceil(high / width), math.floor(low / width) + 1)
    start, stop = (f"{edge * width:.12g}" for edge in (first, last))
    return (
        f"dataset.bins.start={start} dataset.bins.stop={stop} dataset.bins.width={width:.12g} "
        f"dataset.fds_last={last - first - 1}"
    )
