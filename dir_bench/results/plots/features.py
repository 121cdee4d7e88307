"""How alike the features of different labels are: figures 4, 8a-b and 10 of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dir_bench.errors import UserError
from dir_bench.results.plots.runs import Floats, Group, Run, of_one_kind, over_seeds
from dir_bench.results.plots.style import foot, head, new_figure, plot_line, seeds_note, shade

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_MOST_ANCHORS = 4


def similarity(run: Run, anchor: int) -> tuple[Floats, Floats]:
    """Return cosine similarities of each bin's feature mean, and of its variance, to those of one bin.

    Args:
        run: Its training split's statistics at the selected checkpoint are used.
        anchor: Place among the bins in use.

    Returns:
        Two arrays of shape ``(r,)``; NaN for bins without training samples, and for variances of one sample.

    Source:
        Yang et al. 2021 (arXiv:2102.09554), section 3.2, figure 4.
    """
    held = run.features
    mean = np.where(held["count"][:, None] > 0, held["mean"].astype(np.float64), 0.0)
    variance = np.where(held["count"][:, None] > 1, held["variance"].astype(np.float64), 0.0)
    return _cosines(mean, anchor), _cosines(variance, anchor)


def _cosines(table: Floats, anchor: int) -> Floats:
    norm = np.linalg.norm(table, axis=1)
    product: Floats = table @ table[anchor]
    scale = norm * norm[anchor]
    return np.where(scale > 0, product / np.where(scale > 0, scale, 1.0), np.nan)


def draw(groups: Sequence[Group], anchors: Sequence[float] = ()) -> Figure:
    """Draw similarities of means above and of variances below, a column for each anchor, a line for each method."""
    run = of_one_kind(groups)
    labels = run.labels
    places = _places(run, groups, anchors)
    figure = new_figure(min(6.4, 3.4 * len(places) + 1.6) if len(places) < 3 else 2.9 * len(places), 4.8)
    panels = figure.subplots(2, len(places), squeeze=False, sharex=True, sharey="row")
    lines: list[Line2D] = []
    for column, place in enumerate(places):
        values = [[similarity(each, place) for each in group.runs] for group in groups]
        for row, name in enumerate(("mean", "variance")):
            axes = panels[row, column]
            grounds = shade(axes, labels)
            mark = axes.axvline(labels.centers[place], color="black", linewidth=0.9, linestyle=(0, (2, 2)), zorder=2.5,
                                label="anchor")  # fmt: skip
            lines = []
            for number, (group, of_seeds) in enumerate(zip(groups, values, strict=True)):
                mean, spread = over_seeds([pair[row] for pair in of_seeds])
                lines.append(plot_line(axes, labels.centers, mean, spread, group.name, number, len(groups)))
            axes.set_title(f"feature {name}, anchor {labels.edges[place]:g}")
        panels[1, column].set_xlabel(run.axis)
    for axes in panels[:, 0]:
        axes.set_ylabel("cosine similarity")
    head(figure, f"{run.title}: features of each bin compared with the anchor's", [*grounds, mark])
    foot(figure, lines, seeds_note(groups))
    return figure


def _places(run: Run, groups: Sequence[Group], anchors: Sequence[float]) -> list[int]:
    """Return the anchors' places; by default that of the bin with most training samples."""
    labels = run.labels
    counts: NDArray[np.int64] = np.min([each.features["count"] for group in groups for each in group.runs], axis=0)
    if not anchors:
        return [int(np.argmax(counts))]
    if len(anchors) > _MOST_ANCHORS:
        raise UserError(f"--anchor: a figure holds {_MOST_ANCHORS} anchors, not {len(anchors)}")
    low, high = labels.edges[0], labels.edges[-1]
    places = []
    for anchor in anchors:
        if not low <= anchor <= high:
            raise UserError(f"--anchor {anchor:g} lies outside the labels of {run.title}, {low:g} to {high:g}")
        place = int(labels.place([anchor])[0])
        if counts[place] == 0:
            filled = np.flatnonzero(counts)
            closest = labels.edges[filled[np.argmin(np.abs(filled - place))]]
            raise UserError(f"--anchor {anchor:g} has no training samples in {run.title}; the nearest is {closest:g}")
        places.append(place)
    return places
