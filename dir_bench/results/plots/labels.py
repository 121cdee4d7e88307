"""How many training labels each bin has: figure 6 of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dir_bench.errors import UserError
from dir_bench.results.plots.runs import Group, Labels, Run
from dir_bench.results.plots.style import REGIONS, head, new_figure, shade

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST = 12


def draw(groups: Sequence[Group]) -> Figure:
    """Draw the counts of each distinct set of training labels, one panel each."""
    runs = _distinct([group.first for group in groups])
    if len(runs) > _MOST:
        raise UserError(f"These runs have {len(runs)} different label distributions, and a figure holds {_MOST}.")
    columns = min(len(runs), 2)
    rows = -(-len(runs) // columns)
    figure = new_figure(3.6 * columns + 1.4, 2.6 * rows + 0.4)
    panels = figure.subplots(rows, columns, squeeze=False).flat
    grounds: dict[object, Artist] = {}
    for axes, run in zip(panels, runs, strict=False):
        held = run.labels
        grounds |= {patch.get_label(): patch for patch in shade(axes, held)}
        bars(axes, held)
        axes.set(xlabel=run.axis, ylabel="training labels per bin")
        axes.set_title(f"{run.title}: {_summary(held)}", fontsize=8)
    for axes in panels:
        axes.set_axis_off()
    head(figure, "Training labels", [grounds[region] for region in REGIONS if region in grounds])
    return figure


def bars(axes: Axes, labels: Labels) -> None:
    """Draw the training counts as bars on the axes."""
    axes.stairs(labels.counts, labels.edges, fill=True, color="#3d3d3d", linewidth=0, zorder=2)


def _summary(labels: Labels) -> str:
    regions = np.array(labels.regions)
    parts = []
    for region in REGIONS:
        here = regions == region
        if here.any():
            parts.append(
                f"{here.sum()} bins empty" if region == "zero" else f"{region} {_short(labels.counts[here].sum())}"
            )
    return ", ".join(parts)


def _short(number: int) -> str:
    return f"{number:,}" if number < 10**6 else f"{number / 10**6:,.3g} M"


def _distinct(runs: Sequence[Run]) -> list[Run]:
    """Keep the first run of each title and counts."""
    seen: dict[tuple[str, bytes], Run] = {}
    for run in runs:
        seen.setdefault((run.title, run.labels.counts.tobytes()), run)
    return list(seen.values())
