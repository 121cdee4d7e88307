"""Bins and region thresholds for labels that come without: chosen from the training targets alone, by stated rules."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dir_bench.labels.bins import TargetBins

FEWEST_BINS, MOST_BINS = 10, 200
"""Bounds on the number of bins that the rule of Freedman and Diaconis comes to."""
MOST_ASKED = 1_000_000
"""Bins that a width which is asked for may come to."""
MOST_STEPS = 100
"""Targets that lie on a grid have a bin for each of its places if these are no more than this …"""
LEAST_PER_STEP = 10
"""… and hold this many training samples on average."""
MOST_WIDTHS = 1000
"""Places of a grid from which on targets are taken to be continuous."""
SPIKE = 0.1
"""The part of the training samples that have one and the same target from which on it has a bin of its own."""
TAIL = 0.005
"""Where the rule would want more than `MOST_BINS`, the part of the targets at each end that lies beyond the bins."""
QUANTILES = 20
"""Bins that hold equally many samples, where no number is asked for."""
PAPER_MEAN, PAPER_MANY, PAPER_FEW = 120.0, 100.0, 20.0
"""AgeDB-DIR: training samples of a bin on average, and the thresholds of many- and few-shot bins (Yang et al. 2021)."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class BinChoice:
    """Bins, and how they came about.

    Attributes:
        edges: Increasing edges, label units, shape ``(b + 1,)``.
        width: Of every bin, label units; None: they differ in width.
        why: The rule in a sentence, to be printed.
    """

    edges: Floats
    width: float | None
    why: str


def choose_bins(
    targets: ArrayLike,
    *,
    by: str = "width",
    number: int | None = None,
    width: float | None = None,
    start: float | None = None,
    stop: float | None = None,
) -> BinChoice:
    """Choose bins from training targets; what is given is kept, the rest follows from the targets.

    1. Targets on a grid (whole numbers, halves, tenths …) of at most 100 places that hold 10 samples each on average:
       a bin for each place. The edges lie between the places, at whole numbers where the places are whole.
    2. Else bins of a round width (1, 2 or 5 times a power of ten, or of the grid's step), the one nearest to that of
       Freedman and Diaconis, 2 IQR n^(-1/3), which is taken as if it gave 10 to 200 bins. Where it would give more,
       the range is that of the targets but for half a percent at each end, which belong to the end bins.
    3. A target that a tenth of the samples have, as the zero of zero-inflated targets, has a bin of its own.

    Args:
        targets: Training targets, label units, shape ``(n,)``.
        by: "width", as above, or "quantiles": bins that hold equally many samples.
        number: Of bins; None: by the rule (of quantiles 20). Equal widths then reach from the least to the greatest
            target.
        width: Of each bin, label units; edges are multiples of it.
        start: First edge; None: by the rule.
        stop: Last edge; None: by the rule.

    Raises:
        ValueError: If a target is no finite number, all are equal, or what is given does not fit together.

    Source:
        Freedman and Diaconis, "On the histogram as a density estimator: L2 theory", 1981, for the width.
    """
    values = np.asarray(targets, np.float32).astype(np.float64).ravel()  # as splits hold them
    if not np.isfinite(values).all():
        raise ValueError("a target is no finite number")
    if not len(values) or values.min() == values.max():
        raise ValueError(f"all {len(values)} training targets are equal, so there is nothing to tell apart")
    if number is not None and number < 1:
        raise ValueError(f"{number} bins are too few: ask for 1 or more")
    if by == "quantiles":
        return _quantiles(values, number or QUANTILES)
    if number is not None:
        if width is not None:
            raise ValueError(f"the number of bins, {number}, and their width, {width:g}, are two ways to say one thing")
        low, high = float(values.min()) if start is None else start, float(values.max()) if stop is None else stop
        return _regular(low, high, (high - low) / number, f"{number} bins of equal width, as asked for")
    return _of_width(values, width, start, stop)


def _of_width(values: Floats, width: float | None, start: float | None, stop: float | None) -> BinChoice:
    """Return bins by rules 1 to 3."""
    asked, step = width is not None, _grid(values)
    low, high = float(values.min()), float(values.max())
    spikes = _spikes(values)
    if width is None:
        places = math.inf if step is None else round((high - low) / step) + 1
        if step is not None and places <= MOST_STEPS and len(values) >= LEAST_PER_STEP * places:
            width, why = step, f"a bin for each of the {places} places of targets {step:.12g} apart"
        else:
            wanted, low, high, why = _freedman_diaconis(values[~np.isin(values, spikes)], low, high)
            width = _round_width(wanted, step)
    else:
        why = f"bins of width {width:g}, as asked for"
    if not width > 0 or not (high - low) / width <= MOST_ASKED:
        raise ValueError(f"bins of width {width:g} over {low:g} to {high:g} are none, or more than {MOST_ASKED:,}")
    if start is not None and stop is not None and not asked:
        width = (stop - start) / max(1, round((stop - start) / width))  # a whole number of them
    # Places of a fine grid that lie on edges would fall to either side as they happen to be rounded.
    shift = 0.0 if step is None or float(width).is_integer() else step / 2
    origin = shift if start is None else -start
    if start is not None:
        first = start
    elif stop is None:
        first = -origin + width * math.floor((low + origin) / width + 1e-9)
    elif stop > low:  # from the end that is given
        first = stop - width * math.ceil((stop - low) / width - 1e-9)
    else:
        raise ValueError(f"all targets, from {low:g}, lie at stop={stop:g} or above")
    last = first + width * (math.floor((high - first) / width + 1e-9) + 1) if stop is None else stop
    choice = _regular(_clean(first), _clean(last), width, why)
    held = [] if step is not None and step == width and not asked else spikes
    return _with_own_bins(choice, values, [v for v in held if choice.edges[0] <= v <= choice.edges[-1]])


def choose_regions(counts: ArrayLike) -> tuple[float, float, str]:
    """Choose thresholds of many- and few-shot bins: the paper's, made smaller for a small training set.

    Where a bin holds 120 training samples on average (as in AgeDB-DIR) or more, "many" is over 100 and "few" under 20;
    where it holds fewer, both are in proportion, rounded up. The average is over the bins from the first to the last
    that hold any.

    Args:
        counts: Training samples per bin, shape ``(b,)``.

    Returns:
        `many_over`, `few_under`, and the rule in a sentence.
    """
    held = np.asarray(counts)
    filled = np.flatnonzero(held)
    mean = float(held.sum()) / (filled[-1] - filled[0] + 1) if len(filled) else 0.0
    share = min(1.0, mean / PAPER_MEAN)
    if share == 1:
        return PAPER_MANY, PAPER_FEW, f"many over 100, few under 20, as published: a bin holds {mean:.0f} on average"
    few = max(2, math.ceil(PAPER_FEW * share))
    many = max(few, math.ceil(PAPER_MANY * share))
    why = f"many over {many}, few under {few}: the published 100 and 20 times {mean:.1f} / 120, as a bin holds "
    return float(many), float(few), f"{why}{mean:.1f} on average and not 120"


def choose_class_value(targets: ArrayLike, bins: TargetBins) -> tuple[str, str]:
    """Choose the label that a class stands for: its bin's "edge" if all targets lie on lower edges, else its "center".

    Args:
        targets: Training targets, label units, shape ``(n,)``.
        bins: The classes.

    Returns:
        The word, and the rule in a sentence.
    """
    distinct = np.unique(np.asarray(targets, np.float32).astype(np.float64))
    index = bins.index(distinct)
    off = np.abs(distinct - bins.edges[index])
    if (off <= 1e-6 * np.diff(bins.edges)[index] + 1e-7 * np.abs(distinct)).all():  # float32 has seven digits
        return "edge", "a class stands for the lower edge of its bin: all training targets lie on them"
    return "center", "a class stands for the center of its bin: not all training targets lie on lower edges"


def _regular(start: float, stop: float, width: float, why: str) -> BinChoice:
    edges = TargetBins.regular(start, stop, width).edges
    return BinChoice(edges, float(f"{width:.12g}"), f"{why}: {len(edges) - 1} of {width:.6g}, {start:g} to {stop:g}")


def _quantiles(values: Floats, number: int) -> BinChoice:
    edges = np.unique(np.quantile(values, np.linspace(0, 1, number + 1)))
    fewer = "" if len(edges) == number + 1 else f" ({number} asked for, but many targets are equal)"
    why = f"{len(edges) - 1} bins that hold about equally many training samples, {edges[0]:g} to {edges[-1]:g}{fewer}"
    return BinChoice(edges, None, why)


def _grid(values: Floats) -> float | None:
    """Return the step of a decimal grid that all targets lie on; None if there is none that is worth the name."""
    distinct = np.unique(values)
    for digits in range(7):
        scaled = distinct * 10.0**digits
        whole = np.rint(scaled)
        if np.abs(scaled).max() > 1e6:
            return None  # float32 has seven digits: all would look like a grid
        if (np.abs(scaled - whole) <= 1e-6 * np.abs(scaled) + 1e-9).all():
            step = float(np.gcd.reduce(np.diff(whole).astype(np.int64)) / 10.0**digits)
            return step if distinct[-1] - distinct[0] <= MOST_WIDTHS * step else None
    return None


def _spikes(values: Floats) -> list[float]:
    """Return targets that so many samples have that they want a bin of their own."""
    distinct, counts = np.unique(values, return_counts=True)
    return [float(v) for v in distinct[counts >= SPIKE * len(values)]] if len(distinct) > 1 / SPIKE else []


def _freedman_diaconis(values: Floats, low: float, high: float) -> tuple[float, float, float, str]:
    """Return the wanted width, the range it is for, and the rule in words."""
    rule = "a round width by Freedman and Diaconis"
    if len(values) < 2 or not (iqr := float(np.subtract(*np.quantile(values, [0.75, 0.25])))):
        return (high - low) / 50, low, high, "a round width that gives about 50 bins"
    wanted = 2 * iqr * len(values) ** (-1 / 3)
    if (high - low) / wanted > MOST_BINS:
        low, high = (float(edge) for edge in np.quantile(values, [TAIL, 1 - TAIL]))
        rule += f", with the {TAIL:.1%} of the targets at each end, far from the others, in the end bins"
    number = min(max((high - low) / wanted, FEWEST_BINS), MOST_BINS)
    return (high - low) / number, low, high, rule


def _round_width(wanted: float, step: float | None) -> float:
    """Return the round number that is nearest to `wanted` by its ratio, a multiple of the grid's step if it has one."""
    unit = 10.0 ** math.floor(math.log10(wanted)) if step is None else step
    while unit * 10 < wanted:
        unit *= 10
    return _clean(min((times * unit for times in (1, 2, 5, 10)), key=lambda width: abs(math.log(width / wanted))))


def _with_own_bins(choice: BinChoice, values: Floats, spikes: list[float]) -> BinChoice:
    """Return bins where each of these targets has one that no other training target falls into."""
    edges, distinct = choice.edges, np.unique(values)
    for spike in spikes:
        above = distinct[distinct > spike]
        beyond = float((spike + above[0]) / 2) if len(above) else max(float(edges[-1]), math.nextafter(spike, math.inf))
        edges = np.unique([*edges[(edges < spike) | (edges > beyond)], spike, beyond])
    if not spikes:
        return choice
    shown = ", ".join(f"{spike:g}" for spike in spikes)
    return BinChoice(
        edges, None, f"{choice.why}; and one for {shown} alone, which {SPIKE:.0%} of the samples or more have"
    )


def _clean(number: float) -> float:
    return float(f"{number:.12g}")
