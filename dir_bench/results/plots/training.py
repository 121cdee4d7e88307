"""What changes over epochs: losses, errors by region, and how far FDS still has to smooth (figure 8c)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dir_bench.errors import UserError
from dir_bench.results.plots.runs import Floats, Group, of_one_dataset, over_seeds, shown
from dir_bench.results.plots.style import LINES, foot, new_figure, plot_line, seeds_note

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_DISTANCES = {"fds/mean_distance": "feature means", "fds/variance_distance": "feature variances"}


def over_epochs(group: Group, column: str) -> tuple[Floats, Floats, Floats | None]:
    """Return the epochs (or steps, where epochs hold several evaluations), and a column's mean and spread over seeds.

    Seeds that stopped early are left out of what comes later. NaN where nothing was recorded.
    """
    clock = clock_of([group])
    series = [run.history.set_index(clock)[column] for run in group.runs if column in run.history]
    if not series:
        x = group.first.history[clock].to_numpy(np.float64)
        return x, np.full(len(x), np.nan), None
    table = pd.concat(series, axis=1).sort_index()
    mean, spread = over_seeds(table.to_numpy(np.float64).T)
    return table.index.to_numpy(np.float64), mean, spread


def clock_of(groups: Sequence[Group]) -> str:
    """Return "epoch" if no run was evaluated twice in an epoch, else "step"."""
    runs = [run for group in groups for run in group.runs]
    return "epoch" if all(run.history["epoch"].is_unique for run in runs) else "step"


def draw_fds(groups: Sequence[Group]) -> Figure:
    """Draw the mean L1 distance between running and smoothed statistics, of means and of variances."""
    of_one_dataset(groups)
    having = [group for group in groups if any("fds/mean_distance" in run.history for run in group.runs)]
    if not having:
        raise UserError("None of these runs kept FDS distances: name runs with FDS of two epochs or more.")
    figure = new_figure(6.4, 3.2)
    lines: list[Line2D] = []
    for axes, (column, title) in zip(figure.subplots(1, 2), _DISTANCES.items(), strict=True):
        lines = _lines(axes, having, column)
        axes.set(title=title, ylabel="mean |running − smoothed|")
        axes.set_ylim(bottom=0)
    figure.suptitle(f"{having[0].first.title}: running statistics of FDS against themselves smoothed", fontsize=9.5)
    foot(figure, lines, seeds_note(having))
    return figure


def draw_curves(groups: Sequence[Group]) -> Figure:
    """Draw training loss, validation error by region, and learning rate."""
    run = of_one_dataset(groups)
    monitor = str(run.dataset["monitor"])
    figure = new_figure(8.0, 4.8)
    panels = {
        "training loss": "loss",
        **{f"validation {shown(monitor.upper())}, {r}": f"val/{r}/{monitor}" for r in ("all", "many", "medium", "few")},
        "learning rate": "lr",
    }
    lines: list[Line2D] = []
    for axes, (title, column) in zip(figure.subplots(2, 3).flat, panels.items(), strict=True):
        lines = _lines(axes, groups, column)
        axes.set_title(title)
        if not any(np.isfinite(line.get_ydata()).any() for line in lines):
            why = "no step was taken" if column == "loss" else "no labels there"
            axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", va="center")
            axes.set_yticks([])
        if column == f"val/all/{monitor}":
            _mark_selected(axes, groups, column)
    figure.suptitle(f"{run.title}: training", fontsize=9.5)
    foot(figure, lines, seeds_note(groups) or "Dotted upright: where the checkpoint was selected.")
    return figure


def _lines(axes: Axes, groups: Sequence[Group], column: str) -> list[Line2D]:
    from matplotlib.ticker import MaxNLocator

    lines = []
    for number, group in enumerate(groups):
        lines.append(plot_line(axes, *over_epochs(group, column), group.name, number, len(groups)))
    axes.set_xlabel(clock_of(groups))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    return lines


def _mark_selected(axes: Axes, groups: Sequence[Group], column: str) -> None:
    """Mark each method's selected epoch, where it is one: with several seeds it is one for each."""
    if any(len(group.runs) > 1 for group in groups):
        return
    for number, group in enumerate(groups):
        history = group.first.history
        if column in history and history[column].notna().any():
            best = history[clock_of(groups)].to_numpy()[int(np.nanargmin(history[column]))]
            axes.axvline(float(best), color=LINES[number]["color"], linestyle=":", linewidth=1.0, zorder=1)
