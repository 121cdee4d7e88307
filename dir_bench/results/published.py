"""The numbers that papers printed, from `published_results.csv` beside this module.

Values are as printed: label units, and PEARSON and SPEARMAN in per cent. Metric names are ours (`mae`, `gm`,
…).
"""

import csv
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from statistics import median_low

from dir_bench.errors import UserError, nearest
from dir_bench.evaluation.extra import NEUTRAL
from dir_bench.results.naming import slug

PER_CENT = ("pearson", "spearman")
"""Metrics that are printed times 100."""

_OWN_SCALE = ("slope", "ccc", "nll", "coverage", "ause", *PER_CENT)
"""Metrics that are no smaller where targets are."""
_DIGITS, _MOST_DECIMALS = 3, 12
_DEFAULT = re.compile(r"KERNEL=GAUSSIAN|KS=5;SIGMA=2\b")  # defaults of every dataset: they need no saying


@dataclass(frozen=True)
class Published:
    """One printed number."""

    paper: str
    year: int
    title: str
    method: str
    metric: str
    region: str
    printed: str
    source: str
    secondary: bool
    """Whether it was read elsewhere than in the paper's own table: in a later paper, a review, an excerpt."""

    @property
    def value(self) -> float:
        return float(self.printed)


@cache
def load() -> tuple[Published, ...]:
    """Return all printed numbers, in the order of the file: that of the papers' tables."""
    text = resources.files("dir_bench.results").joinpath("published_results.csv").read_text(encoding="utf-8")
    return tuple(
        Published(
            paper=row["paper"],
            year=int(row["year"]),
            title=row["dataset"],
            method=row["method"],
            metric=row["metric"].lower(),
            region=row["region"],
            printed=row["value"],
            source=row["source"],
            secondary=row["mark"] == "secondary",
        )
        for row in csv.DictReader(text.splitlines())
    )


@cache
def papers() -> dict[str, str]:
    """Return {short name: name} of all papers: "paper" is the one of 2021, "repo" its authors' re-runs.

    The other short names are the first words of the names: "ranksim", "balanced_mse", "balanced_mse_zoo".
    """
    known = {"paper": "Delving into", "repo": "YyzHarry/imbalanced-regression"}
    found = dict.fromkeys(known, "")
    for name in sorted({row.paper for row in load()}):
        short = next((key for key, head in known.items() if name.startswith(head)), slug(name.split(" (")[0]))
        found[f"{short}_zoo" if found.get(short) else short] = name
    return found


def find(
    title: str,
    method: str | None = None,
    metric: str | None = None,
    region: str | None = None,
    *,
    paper: str = "paper",
) -> list[Published]:
    """Return the printed numbers of one dataset, by its title ("STS-B-DIR", in any case), narrowed as asked.

    Raises:
        UserError: If `paper` is neither one of `papers`, nor the head of exactly one paper's name.
    """
    asked = ((method, "method"), (metric, "metric"), (region, "region"))
    return [
        row
        for row in _of_dataset(title.casefold(), paper)
        if all(value is None or getattr(row, name) == value for value, name in asked)
    ]


def numbers(title: str, method: str, *, paper: str = "paper") -> dict[tuple[str, str], float]:
    """Return {(metric, region): printed value} of one printed row; empty if there is none."""
    found: dict[tuple[str, str], float] = {}
    for row in find(title, method, paper=paper):
        found.setdefault((row.metric, row.region), row.value)
    return found


def methods(title: str, *, paper: str = "paper") -> list[str]:
    """Return the printed rows of a dataset, in the paper's order."""
    return list(dict.fromkeys(row.method for row in _of_dataset(title.casefold(), paper)))


def published_row(title: str, method: str, *, paper: str = "paper") -> str | None:
    """Return the printed row that a derived method name stands for, or None.

    "SQINV + LDS" is printed as "VANILLA + LDS" where only that is printed (the subsets of IMDB-WIKI-DIR, all
    kernel ablations on faces), and so is "INV + LDS" on datasets whose LDS weights are inverse (NYUD2-DIR,
    STS-B-DIR).
    """
    printed = methods(title, paper=paper)
    if method in printed:
        return method
    weighted = f"{lds_weights(title)} + LDS"
    alias = "VANILLA + LDS" + method.removeprefix(weighted) if method.startswith(weighted) else None
    return alias if alias in printed else None


@cache
def lds_weights(title: str) -> str:
    """Return the weights in the paper's "VANILLA + LDS" on this dataset: "SQINV" or "INV".

    They are those whose "+ LDS" row is printed with the very same numbers. Where neither is printed
    (NYUD2-DIR), the published code's default is inverse. A subset, "TITLE [SUBSET]", is weighted like its
    parent.
    """
    parent = title.split(" [")[0]
    vanilla = numbers(parent, "VANILLA + LDS")
    for weights in ("SQINV", "INV"):
        row = numbers(parent, f"{weights} + LDS")
        shared = row.keys() & vanilla.keys()
        if shared and all(row[key] == vanilla[key] for key in shared):
            return weights
    return "INV"


@cache
def decimals(title: str, metric: str) -> int:
    """Return how many decimals the paper prints of a metric; where it prints none, 3 (1 for per cent)."""
    printed = [row.printed for row in find(title, metric=metric)]
    return max((len(p.partition(".")[2]) for p in printed), default=1 if metric in PER_CENT else 3)


def decimals_for(title: str, metric: str, values: Iterable[float]) -> int:
    """Return how many decimals a column has: as many as the paper gives the metric.

    Of a dataset that the paper has not, the middle one of the values given has three digits, for its targets may be
    small. A bias may be near 0 whatever they are, so that there the greatest has.
    """
    if metric in NEUTRAL:
        return 0
    usual = decimals(title, metric)
    sizes = [abs(value) for value in values if value and math.isfinite(value)]
    if not sizes or metric in _OWN_SCALE or find(title):
        return usual
    size = max(sizes) if metric == "bias" else median_low(sizes)
    return max(usual, min(_DIGITS - 1 - math.floor(math.log10(size)), _MOST_DECIMALS))


def sources(title: str, method: str, *, paper: str = "paper") -> list[str]:
    """Return where the numbers of a printed row stand, such as "arXiv 2102.09554v2 PDF Table 2"."""
    return list(dict.fromkeys(part for row in find(title, method, paper=paper) for part in row.source.split("; ")))


def is_secondary(title: str, method: str, *, paper: str = "paper") -> bool:
    """Tell whether a printed row has a number that was not read in the paper's own table."""
    return any(row.secondary for row in find(title, method, paper=paper))


def derived_name(title: str, printed: str) -> str:
    """Return the derived name of a printed row's method: the inverse of `published_row`.

    "VANILLA + LDS" becomes "SQINV + LDS" or "INV + LDS"; settings that are the dataset's defaults go: a Gaussian
    kernel of 5 bins and sigma 2, and the loss whose rows are printed with the plain row's numbers.
    """
    method, _, settings = printed.partition(" [")
    kept = [
        setting
        for setting in _DEFAULT.sub("", settings.rstrip("]")).split(";")
        if setting and not (setting.startswith("LOSS=") and _is_default(title, method, setting))
    ]
    if method.startswith("VANILLA + LDS"):
        method = f"{lds_weights(title)} + LDS" + method.removeprefix("VANILLA + LDS")
    return method + (f" [{';'.join(kept)}]" if kept else "")


@cache
def _is_default(title: str, method: str, setting: str) -> bool:
    """Tell whether a printed row equals the one without the setting, in all numbers that both have."""
    plain, varied = numbers(title, method), numbers(title, f"{method} [{setting}]")
    shared = plain.keys() & varied.keys()
    return bool(shared) and all(plain[key] == varied[key] for key in shared)


@cache
def full_name(paper: str) -> str:
    """Return a paper's whole name from its short name or the head of its name; UserError if there is not one."""
    names = papers()
    if paper in names:
        return names[paper]
    found = [name for name in names.values() if name.casefold().startswith(paper.casefold())]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"'{paper}' is the head of several papers' names: {'; '.join(found)}. Write more of one.")
    raise UserError(
        f"No published numbers of '{paper}'{nearest(paper, [*names, *names.values()])}: choose one of "
        f"{', '.join(names)}, or the head of one of: {'; '.join(sorted(names.values()))}."
    )


@cache
def _of_dataset(title: str, paper: str) -> Sequence[Published]:
    name = full_name(paper)
    return [row for row in load() if row.title.casefold() == title and row.paper == name]
