"""Paired tests over the samples of the test split that all rows of a table were tested on.

They need few seeds, for a test split has hundreds of samples or more. The unit is the test sample: the difference of
two rows on a sample, averaged over the seeds that both have, may under the null hypothesis as well have the other sign.
The p-value says whether another test set, drawn like this one, would show the difference of *these trained networks*;
it does not speak of other seeds, and two halves of one method's seeds differ by it more often than not.

The flips are one product of matrices here, for 20 rows of 1,024 units take 4.0 s with `scipy.stats.permutation_test`,
which copies the units for every flip, and 0.08 s so; p differs by up to 0.023, by the draw alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dir_bench.errors import UserError
from dir_bench.files.values import Damaged
from dir_bench.results.records import Problem
from dir_bench.results.samples import Predictions, contributions, metric_of, read_predictions

FLIPS = 10_000
"""Sign flips drawn; where all of them are fewer, all are taken and p is exact."""
UNITS = 1024
"""Units of a region at most: with more samples, runs of neighbours are flipped together, which bounds memory."""
DENSE, DENSE_UNITS = 20_000, 128
"""Above so many elements they are taken for pixels, whose errors depend on their neighbours', and units are coarse."""

Floats = NDArray[np.float64]
Column = tuple[str, str]
Label = str


@dataclass(frozen=True)
class Samples:
    """Per-unit means of all runs of a table, and why what is missing is missing."""

    units: Mapping[Label, Mapping[int, Mapping[Column, Floats]]]
    notes: tuple[str, ...]
    unread: tuple[Problem, ...]

    def p_values(self, reference: Label, column: Column, rows: Sequence[Label]) -> dict[Label, float]:
        """Test rows against the reference in one column; a row without a number or a shared seed is left out."""
        found = {row: self._difference(row, reference, column) for row in rows if row != reference}
        differences = {row: difference for row, difference in found.items() if difference is not None}
        if not differences:
            return {}
        p = sign_flip_p(np.stack(list(differences.values())))
        return dict(zip(differences, p.tolist(), strict=True))

    def _difference(self, row: Label, reference: Label, column: Column) -> Floats | None:
        """Return the mean over shared seeds of row - reference on each unit, shape ``(units,)``."""
        ours, theirs = self.units.get(row, {}), self.units.get(reference, {})
        shared = [seed for seed in ours.keys() & theirs.keys() if column in ours[seed].keys() & theirs[seed].keys()]
        if not shared:
            return None
        return np.asarray(np.mean([ours[seed][column] - theirs[seed][column] for seed in sorted(shared)], axis=0))


def read_samples(records: pd.DataFrame, columns: Sequence[Column]) -> Samples:
    """Read the predictions of all runs of a table, one run at a time.

    Args:
        records: Of one dataset, see `records.collect`.
        columns: What will be tested.

    Raises:
        UserError: If two runs were tested on different samples, or predictions do not give the recorded errors.
    """
    units: dict[Label, dict[int, dict[Column, Floats]]] = {}
    values: Any = records.dropna(subset="value").set_index(["path", "metric", "region"])["value"].to_dict()
    first: tuple[Path, bytes] | None = None
    untested: set[str] = set()
    unread = []
    runs = records.drop_duplicates("path")
    for path, label, seed in zip(runs["path"], runs["label"], runs["seed"], strict=True):
        try:
            held = read_predictions(path)
            sums, reasons = _of_run(held, columns, values)
        except Damaged as error:
            unread.append(Problem(Path(path), "broken", error.reason))
            continue
        first = first or (held.path, _split(held))
        if _split(held) != first[1]:
            raise UserError(
                f"{held.path} and {first[0]} were tested on different samples (target or index differ), so their rows "
                "cannot be paired: name the runs of one test split, or leave out --test samples."
            )
        units.setdefault(label, {})[int(seed)] = sums
        untested |= reasons
    notes = [f"Not tested: {reason}." for reason in sorted(untested)]
    if first is not None and len(held.target) > UNITS:
        notes.append(f"The test flips neighbouring samples together, in at most {_limit(held)} groups a region.")
    return Samples(units, tuple(notes), tuple(unread))


def _of_run(
    held: Predictions, columns: Sequence[Column], values: Mapping[tuple[str, str, str], float]
) -> tuple[dict[Column, Floats], set[str]]:
    """Return a run's per-unit means in each column, and why some columns have none."""
    masks = held.masks()
    found: dict[Column, Floats] = {}
    untested = set()
    for column in columns:
        metric, region = column
        recorded = values.get((str(held.path), metric, region))
        if recorded is None:
            continue
        if region not in masks:
            untested.add(f"{region}, for some runs have no labels.npz, which says what is in this region")
            continue
        sums = _units(held, column, masks[region], recorded)
        if sums is None:
            untested.add(f"{metric}, which is not made of errors of single samples")
        elif not np.isfinite(sums).all():
            untested.add(f"{metric} of {region}, where {held.path} has an exact hit, whose logarithm is infinite")
        else:
            found[column] = sums
    return found, untested


def _limit(held: Predictions) -> int:
    """Return how many units a region has at most."""
    return UNITS if len(held.target) <= DENSE else DENSE_UNITS


def _split(held: Predictions) -> bytes:
    """Return what two runs have in common if they were tested on the same samples in the same order."""
    return b"".join(sha256(array.tobytes()).digest() for array in (held.target, held.index))


def sign_flip_p(differences: Floats) -> Floats:
    """Return two-sided p-values of the hypothesis that each unit's difference may as well have the other sign.

    The statistic is the sum over units. p is (1 + flips at least as far from 0) / (1 + flips) over `FLIPS` random
    flips, the same ones for all rows and every call, or the exact share where there are not more than that many.

    Args:
        differences: Shape ``(k, units)``: k tests.

    Returns:
        Shape ``(k,)``.

    Source:
        Fisher's randomisation test for paired differences; Phipson & Smyth, "Permutation p-values should never be
        zero", 2010, for the 1 +.
    """
    size = differences.shape[1]
    observed = np.abs(differences.sum(1)) * (1 - 1e-12)  # sums in another order must not miss a tie
    if exact := size <= np.log2(FLIPS):
        number = 2**size
        signs = 1.0 - 2.0 * (np.arange(number)[:, None] >> np.arange(size) & 1)
        parts = [signs]
    else:
        number = FLIPS
        rng = np.random.default_rng(0)
        parts = (1.0 - 2.0 * rng.integers(0, 2, (part, size), np.int8) for part in [1000] * (FLIPS // 1000))  # type: ignore[assignment]
    reached = sum((np.abs(signs @ differences.T) >= observed).sum(0) for signs in parts)
    return np.asarray(reached / number if exact else (1 + reached) / (1 + number), np.float64)


def _units(held: Predictions, column: Column, mask: NDArray[np.bool_], recorded: float) -> Floats | None:
    """Return the contribution of each unit of a region, shape ``(units,)``, summing to the region's mean."""
    metric, region = column
    values = contributions(
        metric, held.prediction[mask], held.target[mask], zero_error=held.zero_error, terms=held.terms
    )
    if values is None:
        return None
    mean = metric_of(metric, float(values.mean())) if len(values) else np.nan
    if not np.isclose(mean, recorded, rtol=1e-6, atol=1e-9):
        raise Damaged(
            held.path / "predictions.npz",
            f"gives {mean!r} for {metric} of region {region}, and metrics.json says {recorded!r}: evaluate it again "
            "(`dir-bench evaluate`), and train it anew if they still differ",
        )
    size = min(len(values), _limit(held))
    starts = np.arange(size) * len(values) // size
    return np.add.reduceat(values, starts) / len(values)
