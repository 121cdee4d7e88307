"""What a table is: one dataset's methods, each with the mean and spread of its runs over seeds, in label units."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from dir_bench.evaluation.extra import NEUTRAL, merit
from dir_bench.results.records import Problem

REFERENCE = "VANILLA"
"""The method that gains are over, as in the last lines of the paper's tables."""

LEVEL = 0.05
"""Of significance."""

SPREADS = {
    "interval": "the half of its 95 % interval over seeds (Student's t)",
    "std": "sample standard deviation over seeds",
}
"""What can stand behind the ± of a mean."""

Column = tuple[str, str]
"""(metric, region)"""


@dataclass(frozen=True)
class Cell:
    """Mean over `n` seeds in label units, and the sample standard deviation (n − 1), None below two seeds."""

    mean: float
    std: float | None
    n: int

    @property
    def half(self) -> float | None:
        """Half the width of the mean's 95 % interval over seeds (Student's t), None below two seeds."""
        return None if self.std is None else student(self.n - 1) * self.std / math.sqrt(self.n)

    def spread(self, kind: str) -> float | None:
        """Return what stands behind the ±: "interval" or "std"."""
        return self.half if kind == "interval" else self.std


@cache
def student(dof: int) -> float:
    """Return the 97.5 % quantile of Student's t with a whole number of degrees of freedom, 1 or more.

    Its distribution is a finite sum then. SciPy's takes half a second to import: a third of a small table's time.

    Source:
        Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.7.3 and 26.7.4, solved by bisection.
    """
    odd = dof % 2
    low, high = 0.0, math.pi / 2  # of the angle whose tangent is t / sqrt(dof)
    while low < (angle := (low + high) / 2) < high:
        term = math.sin(angle) * (math.cos(angle) if odd else 1.0)
        total = term if dof > 1 else 0.0
        for k in range(2 + odd, dof - 1, 2):
            term *= math.cos(angle) ** 2 * (k - 1) / k
            total += term
        within = 2 / math.pi * (angle + total) if odd else total
        low, high = (angle, high) if within < 0.95 else (low, angle)
    return math.tan(angle) * math.sqrt(dof)


@dataclass(frozen=True)
class PairedTest:
    """A row against another in one column: two-sided p, and p after Holm's correction over all cells of the table."""

    p: float
    p_holm: float

    @property
    def significant(self) -> bool:
        return self.p_holm < LEVEL


@dataclass(frozen=True)
class Row:
    """One method of one dataset. A column without a number is not in `cells`; a hole has no seeds and no cells."""

    label: str
    method: str
    seeds: tuple[int, ...]
    missing: tuple[int, ...]
    """Seeds that another row of the table has and this one lacks."""
    fill: str
    """The command that runs the missing seeds; "" if none are missing, or nobody knows how it is started."""
    cells: Mapping[Column, Cell]
    printed: Mapping[str, Mapping[Column, float]]
    """For each paper that was asked for and prints this method, its numbers in label units."""
    printed_as: Mapping[str, str]
    """The name of its printed row in each of these papers."""
    gains: Mapping[Column, float] = field(default_factory=dict)
    """Gain over `REFERENCE` in label units, more is better; empty if gains were not asked for."""
    tests: Mapping[Column, PairedTest] = field(default_factory=dict)
    """Paired tests against the row that was chosen; empty for that row, or if none was."""
    legend: str = ""
    """What a short label stands for: the settings that tell this row from others of its method."""
    departures: tuple[str, ...] | None = None
    """In what its runs depart from the dataset's published recipe; None if they do not record it."""


@dataclass(frozen=True)
class Table:
    """One dataset's rows in the paper's order."""

    dataset: str
    title: str
    against: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    counts: Mapping[str, int]
    """Test samples per region."""
    notes: tuple[str, ...]
    compared: str | None = None
    """The label of the row that all others were tested against."""
    compared_over: str = "seeds"
    """What it was tested over: "seeds" or "samples"."""
    left_out: tuple[Problem, ...] = ()
    """Runs whose files did not give what the tests need."""
    top_gains: Mapping[Column, float] = field(default_factory=dict)
    """The gains of the best row with LDS or FDS, as the paper's "OURS (BEST) VS. VANILLA"."""
    near: Mapping[Column, frozenset[str]] | None = None
    """Rows whose difference to the best is not significant; None if nothing was tested."""
    spread: str = "interval"
    """What stands behind the ±, one of `SPREADS`."""

    def best(self, column: Column) -> frozenset[str]:
        """Return the labels of the rows with the best mean among those that depart from the recipe as they do.

        Rows of different recipes are not held against each other; a row that is alone with its own is not the best.
        """
        return frozenset().union(*self.best_by_recipe(column).values())

    def best_by_recipe(self, column: Column) -> dict[tuple[str, ...] | None, frozenset[str]]:
        """Return the labels of the best rows for each way of departing from the recipe that two rows or more have."""
        ways: dict[tuple[str, ...] | None, dict[str, float]] = {}
        for row in self.rows if column[0] not in NEUTRAL else ():
            if column in row.cells:
                ways.setdefault(row.departures, {})[row.label] = merit(column[0], row.cells[column].mean)
        most = {way: max(merits.values()) for way, merits in ways.items() if len(merits) > 1}
        return {way: frozenset(label for label, own in ways[way].items() if own == best) for way, best in most.items()}

    def within_noise(self, column: Column) -> frozenset[str]:
        """Return the labels of the rows that are not the best, but cannot be told from it.

        With paired tests: those whose Holm-corrected p against the best is 0.05 or more. Without: those whose
        mean ± `spread` overlaps the best's, where both have one. Either way the best is that of their own recipe.
        """
        if self.near is not None:
            return self.near.get(column, frozenset())
        bests = self.best_by_recipe(column)
        cells = {row.label: row.cells[column] for row in self.rows if column in row.cells}
        return frozenset(
            row.label
            for row in self.rows
            if row.label in cells and row.label not in (best := bests.get(row.departures, frozenset()))
            if any(_overlap(cells[row.label], cells[other], self.spread) for other in best)
        )


def _overlap(a: Cell, b: Cell, kind: str) -> bool:
    ours, theirs = a.spread(kind), b.spread(kind)
    return ours is not None and theirs is not None and abs(a.mean - b.mean) <= ours + theirs
