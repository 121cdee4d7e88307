"""Errors and predictions per bin, beside what training had there: figures 2, 3, 7 and 9 of the paper, reliability."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dir_bench.errors import UserError
from dir_bench.results.plots.labels import bars
from dir_bench.results.plots.runs import Floats, Group, Run, of_one_kind, of_one_recipe, over_seeds, per_bin
from dir_bench.results.plots.style import alone, foot, head, new_figure, plot_line, seeds_note, shade
from dir_bench.results.rows import REFERENCE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUANTILES = (0.1, 0.9)
"""Between these quantiles lies the band of `draw_reliability`."""


def density_correlations(run: Run) -> tuple[float, float]:
    """Return Pearson's correlation of the test MAE per bin with the empirical and with the LDS density.

    Over the bins in use that have test samples, each counting once, bins without training samples included. Errors are
    in label units and densities are counts: a correlation does not depend on how either is scaled, so nothing is
    normalised. NaN where either side is constant.

    Source:
        Yang et al. 2021 (arXiv:2102.09554), section 3.1, figures 2 and 3, whose normalisation is not published.
    """
    errors, labels = per_bin(run), run.labels
    tested = errors["count"] > 0
    mae = errors["mae"][tested]
    return _pearson(labels.counts[tested], mae), _pearson(labels.density[tested], mae)


def _pearson(first: NDArray[np.generic], second: NDArray[np.generic]) -> float:
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(np.corrcoef(first.astype(np.float64), second.astype(np.float64))[0, 1])


def draw_density(groups: Sequence[Group]) -> Figure:
    """Draw densities above and test errors below, with their correlations."""
    run = of_one_kind(groups)
    labels = run.labels
    figure = new_figure(6.4, 5.2)
    top, bottom = figure.subplots(2, 1, sharex=True)
    shade(top, labels)
    grounds = shade(bottom, labels)
    empirical = labels.counts / (labels.counts.sum() or 1)
    smoothed = labels.density / (labels.density.sum() or 1)
    drawn = top.stairs(empirical, labels.edges, fill=True, color="#8a8a8a", linewidth=0, zorder=2, label="empirical")
    (line,) = top.step(np.append(labels.edges[:-1], labels.edges[-1]), np.append(smoothed, smoothed[-1]), where="post",
                       color="black", zorder=3, label="LDS")  # fmt: skip
    top.set(title="training", ylabel="share of labels per bin")
    lines = []
    for number, group in enumerate(groups):
        mean, spread = over_seeds([per_bin(each)["mae"] for each in group.runs])
        r = over_seeds([density_correlations(each) for each in group.runs])[0]
        label = f"{group.name}: r = {_signed(r[0])} with empirical, {_signed(r[1])} with LDS density"
        lines.append(plot_line(bottom, labels.centers, mean, spread, label, number, len(groups)))
    bottom.set(title="test", xlabel=run.axis, ylabel="MAE per bin")
    bottom.set_ylim(bottom=0)
    head(figure, f"{run.title}: label density and error", [*grounds, drawn, line])
    foot(figure, lines, seeds_note(groups), columns=1)
    return figure


def draw_gain(groups: Sequence[Group], reference: Group | None) -> Figure:
    """Draw by how much each method's MAE per bin is below that of the reference runs (their mean over seeds)."""
    if reference is None:
        reference = next((group for group in groups if group.label == REFERENCE), None)
    if reference is None:
        several = "; ".join(group.label for group in groups if group.first.metrics["method"] == REFERENCE)
        if several:
            raise UserError(f"Several rows are {REFERENCE} ({several}): say which by --reference RUN.")
        raise UserError(f"A gain needs runs to be over, and none of these is {REFERENCE}: add --reference RUN.")
    of_one_kind([reference, *groups], most=8)
    gaining = [group for group in groups if group.runs[0].path not in {run.path for run in reference.runs}]
    if not gaining:
        raise UserError(f"These runs are the reference ({reference.label}) itself: add the runs that gain over it.")
    of_one_recipe([reference, *gaining], "gains")
    run = reference.first
    labels = run.labels
    panels = len(gaining) + 1
    figure = new_figure(6.4, 1.0 + 1.6 * panels)
    top, *below = figure.subplots(panels, 1, sharex=True)
    grounds = shade(top, labels)
    bars(top, labels)
    top.set(title="training labels", ylabel="per bin")
    base, _ = over_seeds([per_bin(each)["mae"] for each in reference.runs])
    for axes, group in zip(below, gaining, strict=True):
        shade(axes, labels)
        gain, spread = over_seeds([base - per_bin(each)["mae"] for each in group.runs])
        better, worse = (np.where(kind, gain, np.nan) for kind in (gain >= 0, gain < 0))
        axes.stairs(better, labels.edges, fill=True, color="#174a7c", linewidth=0, zorder=2)
        axes.stairs(worse, labels.edges, fill=True, facecolor="#e8873a", edgecolor="black", linewidth=0.4, zorder=2)
        if spread is not None:
            axes.errorbar(labels.centers, gain, spread, fmt="none", ecolor="black", elinewidth=0.5, zorder=3)
        axes.axhline(0, color="black", linewidth=0.8, zorder=4)
        axes.set(title=f"{group.name}: {_region_gains(reference, group)}", ylabel="MAE gain")
    below[0].sharey(below[-1])
    for axes in below[1:-1]:
        axes.sharey(below[-1])
    below[-1].set_xlabel(run.axis)
    head(figure, f"{run.title}: MAE of {reference.name} less that of each method (above 0: better)", grounds)
    if note := seeds_note(gaining, "Strokes"):
        figure.supxlabel(note, fontsize=8)
    return figure


def draw_reliability(groups: Sequence[Group]) -> Figure:
    """Draw the predictions for each bin, pooled over seeds: mean, and the band of the middle 80 %."""
    run = of_one_kind(groups)
    labels = run.labels
    columns = 2 if len(groups) in (2, 4) else min(len(groups), 3)
    rows = -(-len(groups) // columns)
    figure = new_figure(max(2.7 * columns + 0.4, 5.0), 2.6 * rows + 1.0)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    shown = []
    for axes, group in zip(panels.flat, groups, strict=False):
        grounds = shade(axes, labels)
        mean, _ = over_seeds([per_bin(each)["prediction"] for each in group.runs])
        low, high = _quantiles(group)
        band = axes.fill_between(labels.centers, low, high, color="#1f5f99", alpha=0.35, linewidth=0, zorder=2,
                                 label="middle 80 % of predictions")  # fmt: skip
        (ideal,) = axes.plot(labels.edges[[0, -1]], labels.edges[[0, -1]], color="black", linewidth=0.9,
                             linestyle=(0, (4, 2)), zorder=3, label="prediction = label")  # fmt: skip
        (line,) = axes.plot(
            labels.centers,
            mean,
            color="black",
            linewidth=1.4,
            zorder=4,
            label="mean prediction",
            marker=".",
            markevery=alone(mean).tolist(),
        )
        axes.set(title=group.name)
        shown = [line, band, ideal]
    for axes in panels.flat[len(groups) :]:
        axes.set_axis_off()
    for axes in panels[:, 0]:
        axes.set_ylabel("prediction")
    for axes in panels.flat[: len(groups)][-columns:]:  # the lowest of each column
        axes.set_xlabel(run.axis)
        axes.tick_params(labelbottom=True)
    head(figure, f"{run.title}: predictions for the labels of each bin", grounds)
    foot(figure, shown)
    return figure


def _quantiles(group: Group) -> tuple[Floats, Floats]:
    """Return the two `QUANTILES` of all seeds' predictions for each bin, shape ``(r,)``; NaN where there are none."""
    target, prediction = (np.concatenate(parts) for parts in zip(*(r.predictions for r in group.runs), strict=True))
    labels = group.first.labels
    place = labels.place(target)
    ordered = prediction[np.lexsort((prediction, place))]
    count = np.bincount(place, minlength=len(labels.counts))
    start = np.cumsum(count) - count
    found = []
    for quantile in QUANTILES:  # interpolated as numpy.quantile does
        at = start + quantile * np.maximum(count - 1, 0)
        below = np.minimum(np.floor(at).astype(np.int64), len(ordered) - 1)
        above = np.minimum(np.ceil(at).astype(np.int64), len(ordered) - 1)
        value = ordered[below] + (ordered[above] - ordered[below]) * (at - below)
        found.append(np.where(count > 0, value, np.nan))
    return found[0], found[1]


def _region_gains(reference: Group, group: Group) -> str:
    """Return the gain in each region's MAE, from the runs' own metrics, as text."""
    parts = []
    for region in ("all", "many", "medium", "few", "zero"):
        ours, theirs = (
            [run.metrics["test"].get(region, {}).get("mae") for run in each.runs] for each in (group, reference)
        )
        if None not in ours and None not in theirs:
            parts.append(f"{region} {_signed(float(np.mean(theirs) - np.mean(ours)))}")
    return ", ".join(parts)


def _signed(value: float) -> str:
    """Return three significant digits with a sign, a true minus."""
    if not np.isfinite(value):
        return "undefined"
    digits = 2 if abs(value) < 10 else 1
    return f"{value:+.{digits}f}".replace("-", "−")
