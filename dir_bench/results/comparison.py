"""Which differences between the rows of a table are more than chance: over seeds, or over the samples of the test.

A method's claim is that another training of it would win again, so by default the unit is the seed: for each seed
that two rows share, the difference of their metrics; a paired t-test over these. The test over samples (`significance`)
holds the trained networks fixed, and finds differences between seeds of one and the same method too. Either way Holm's
correction is over all cells of the table, for a table is read as a whole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dir_bench.errors import UserError, nearest
from dir_bench.evaluation.extra import NEUTRAL
from dir_bench.results.records import Problem
from dir_bench.results.rows import Column, PairedTest, Row, Table

LEAST_SEEDS = 5
"""With fewer differences their spread is too uncertain to claim anything by."""

Over = Literal["seeds", "samples"]


class Evidence(Protocol):
    """What rows are tested by."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What has to be known of all tests."""

    @property
    def unread(self) -> tuple[Problem, ...]:
        """Runs whose files do not give what the test needs."""

    def p_values(self, reference: str, column: Column, rows: Sequence[str]) -> dict[str, float]:
        """Return two-sided p of each row against the reference; a row that cannot be tested is left out."""


@dataclass(frozen=True)
class Seeds:
    """A paired t-test over the seeds that two rows share.

    Attributes:
        values: Row → column → seed → the run's metric, label units.
    """

    values: Mapping[str, Mapping[Column, Mapping[int, float]]]
    notes: tuple[str, ...] = ()
    unread: tuple[Problem, ...] = ()

    def p_values(self, reference: str, column: Column, rows: Sequence[str]) -> dict[str, float]:
        theirs = self.values[reference].get(column, {})
        found = {}
        for row in rows:
            ours = self.values[row].get(column, {}) if row != reference else {}
            shared = sorted(ours.keys() & theirs.keys())
            if len(shared) >= LEAST_SEEDS:
                found[row] = paired_t_p(np.array([ours[seed] - theirs[seed] for seed in shared]))
        return found


def seeds_of(records: pd.DataFrame) -> Seeds:
    """Return the numbers of all runs of one dataset (see `records.collect`) by row, column and seed."""
    values: dict[str, dict[Column, dict[int, float]]] = {str(label): {} for label in records["label"].unique()}
    there = records.dropna(subset="value")
    names = ("label", "metric", "region", "seed", "value")
    for label, metric, region, seed, value in zip(*(there[name].tolist() for name in names), strict=True):
        values[label].setdefault((metric, region), {})[seed] = value
    return Seeds(values)


def paired_t_p(differences: NDArray[np.float64]) -> float:
    """Return the two-sided p of a mean difference of 0, shape ``(n,)``, n > 1 (Student's t); 1 where all are 0."""
    from scipy.special import stdtr

    mean, spread = float(differences.mean()), float(differences.std(ddof=1))
    if mean == 0:
        return 1.0
    n = len(differences)
    return 2 * float(stdtr(n - 1, -abs(mean) / (spread / np.sqrt(n)))) if spread else 0.0


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p-values corrected for their number (Holm, "A simple sequentially rejective multiple test", 1979)."""
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected


@dataclass(frozen=True)
class Choice:
    """The label of the row to compare with; None and a sentence where a table has none, or `several`."""

    label: str | None
    why: str = "The row to compare with is not in this table."
    several: bool = False


def chosen(tables: Sequence[Table], name: str) -> list[Choice]:
    """Return for each table the label of the row of this name (a label or a method, in any case), or why there is none.

    Raises:
        UserError: If no table has one such row.
    """
    found = [_choice(table, name) for table in tables]
    if all(choice.label is None for choice in found):
        if several := next((choice.why for choice in found if choice.several), None):
            raise UserError(several)
        labels = list(dict.fromkeys(row.label for table in tables for row in table.rows if row.seeds))
        raise UserError(f"No row '{name}' to compare with{nearest(name, labels)}: there are {'; '.join(labels)}.")
    return found


def _choice(table: Table, name: str) -> Choice:
    rows = [row for row in table.rows if row.seeds]
    exact = [row.label for row in rows if row.label.casefold() == name.casefold()]
    named = exact or [row.label for row in rows if row.method.casefold() == name.casefold()]
    if len(named) > 1:
        there = "; ".join(named)
        return Choice(None, f"Several rows of {table.title} are '{name}': name one of {there}.", several=True)
    return Choice(named[0]) if named else Choice(None)


def evidence(records: pd.DataFrame, columns: Sequence[Column], over: Over) -> Evidence:
    """Return what rows of these records can be tested by."""
    if over == "seeds":
        return seeds_of(records)
    from dir_bench.results.significance import read_samples

    return read_samples(records, columns)


def compared(table: Table, choice: Choice, held: Evidence, over: Over) -> Table:
    """Test every row against the reference, and against the best of each column.

    Rows that depart from the dataset's recipe in other ways than the reference are not tested against it.
    """
    reference = choice.label
    if reference is None:
        return replace(table, notes=(*table.notes, f"Not tested. {choice.why}"))
    rows = [row for row in table.rows if row.seeds]
    base = next(row for row in rows if row.label == reference)
    like = [row.label for row in rows if row.departures == base.departures]
    # No row can be better in a number that has no better side, and each test asked for weakens the others.
    judged = [c for c in table.columns if c[0] not in NEUTRAL]
    if not judged:
        return replace(table, notes=(*table.notes, "Not tested: no row can be better in any of these numbers."))
    tests = _corrected({c: held.p_values(reference, c, like) for c in judged})
    against_best = _corrected(
        {
            c: {
                row: p
                for way, best in table.best_by_recipe(c).items()
                for row, p in held.p_values(min(best), c, [r.label for r in rows if r.departures == way]).items()
            }
            for c in judged
        }
    )
    near = {
        c: frozenset(label for label, test in found.items() if not test.significant and label not in table.best(c))
        for c, found in against_best.items()
    }
    tested = tuple(
        replace(row, tests={c: found[row.label] for c, found in tests.items() if row.label in found})
        for row in table.rows
    )
    notes = (*table.notes, *held.notes, *_untested([row for row in tested if row.cells], base, over))
    return replace(table, rows=tested, near=near, compared=reference, compared_over=over, notes=notes)


def _corrected(p: Mapping[Column, Mapping[str, float]]) -> dict[Column, dict[str, PairedTest]]:
    cells = [(column, row) for column, found in p.items() for row in found]
    corrected = holm(np.array([p[column][row] for column, row in cells], np.float64))
    tests: dict[Column, dict[str, PairedTest]] = {column: {} for column in p}
    for (column, row), value in zip(cells, corrected, strict=True):
        tests[column][row] = PairedTest(p[column][row], float(value))
    return tests


def _untested(rows: Sequence[Row], base: Row, over: Over) -> list[str]:
    """Return why rows have no test."""
    notes = []
    others = [row for row in rows if row is not base and row.label != base.label and not row.tests]
    unlike = [row.label for row in others if row.departures != base.departures]
    if unlike:
        ways = f"they depart from the dataset's recipe in other ways than {base.label}"
        notes.append(f"Not tested, as {ways}: {', '.join(unlike)}.")
    shared = {row.label: len({*row.seeds} & {*base.seeds}) for row in others if row.label not in unlike}
    apart = [label for label, number in shared.items() if not number]
    if apart:
        notes.append(f"Not tested, as they share no seed with {base.label}: {', '.join(apart)}.")
    few = [f"{label} ({number})" for label, number in shared.items() if number]
    if few and over == "seeds":
        notes.append(
            f"Not tested: a claim about a method needs {LEAST_SEEDS} seeds or more that it shares with {base.label}, "
            f"for fewer do not tell how far another seed would be off; these share fewer: {', '.join(few)}."
        )
    return notes


def without(records: pd.DataFrame, problems: Sequence[Problem]) -> pd.DataFrame:
    """Return the records less those of these runs."""
    out = {str(Path(problem.path)) for problem in problems}
    return records[~records["path"].isin(out)]
