"""Methods over several datasets: the critical-difference figure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dir_bench.errors import UserError, nearest
from dir_bench.evaluation.extra import NEUTRAL, merit
from dir_bench.results.plots.runs import Group, Run, of_one_recipe
from dir_bench.results.plots.style import new_figure
from dir_bench.results.ranking import Ranking, rank
from dir_bench.results.render import heading

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROW, _BAR = 0.26, 0.12
"""Inches between two labels, and between two bars."""
_LETTERS, _LINE = 105, 0.15
"""Of a line of notes, and its height in inches."""


def draw(groups: Sequence[Group], metric: str, region: str) -> Figure:
    """Draw the mean rank of each method, and join those that are not found to differ.

    Args:
        groups: Of several datasets; of methods that not all of them have, nothing is drawn.
        metric: What methods are ranked by.
        region: Of the test split.

    Raises:
        UserError: See `over_datasets` and `ranking.rank`.
    """
    if metric in NEUTRAL:
        raise UserError(f"--metric {metric}: of it no value is better, so methods have no ranks; choose another")
    names, values, titles, left = over_datasets(groups, metric, region)
    merits = np.array([[merit(metric, value) for value in of_dataset] for of_dataset in values]).reshape(values.shape)
    found = rank(names, -merits)
    what = f"{heading(metric)} of {region} samples, mean over shared seeds, on {', '.join(titles)}"
    lines = [line for note in (what, *_notes(found, left)) for line in textwrap.wrap(note, _LETTERS)]
    figure = _diagram(found, _LINE * len(lines))
    figure.legend(handles=[], title="\n".join(lines), title_fontsize=8, loc="outside lower left")
    return figure


def over_datasets(
    groups: Sequence[Group], metric: str, region: str
) -> tuple[tuple[str, ...], np.ndarray[tuple[int, int], np.dtype[np.float64]], list[str], list[str]]:
    """Return the methods that all datasets have, their means, the datasets' titles, and the methods left out.

    Means are over the seeds that all these methods have on a dataset, shape ``(datasets, methods)``.

    Raises:
        UserError: A run lacks the metric, methods share no seed, or depart from a dataset's recipe in different ways.
    """
    by_title: dict[str, dict[str, Group]] = {}
    for group in groups:
        by_title.setdefault(group.first.title, {})[group.label] = group
    labels = dict.fromkeys(group.label for group in groups)
    names = tuple(label for label in labels if all(label in found for found in by_title.values()))
    means = [_means(title, {name: found[name] for name in names}, metric, region) for title, found in by_title.items()]
    values = np.array(means, np.float64).reshape(len(by_title), len(names))
    return names, values, [*by_title], [label for label in labels if label not in names]


def _means(title: str, groups: Mapping[str, Group], metric: str, region: str) -> list[float]:
    of_one_recipe([*groups.values()], "ranks")
    errors = {name: {run.metrics["seed"]: _value(run, metric, region) for run in g.runs} for name, g in groups.items()}
    shared = sorted(set.intersection(*(set(each) for each in errors.values()))) if errors else []
    if errors and not shared:
        raise UserError(f"the methods of {title} share no seed, so their means are not of the same draws")
    return [float(np.mean([each[seed] for seed in shared])) for each in errors.values()]


def _value(run: Run, metric: str, region: str) -> float:
    test = run.metrics["test"]
    if region not in test or metric not in test[region]:
        known = test if region not in test else test[region]
        name = region if region not in test else metric
        raise UserError(f"{run.path} has no '{name}'{nearest(name, known)}: {', '.join(known)}")
    if test[region][metric] is None:
        raise UserError(f"{run.path} has no {metric} of {region}")
    return float(test[region][metric])


def _notes(found: Ranking, left: Sequence[str]) -> list[str]:
    tested = f"Friedman's test over {found.blocks} datasets: p = {found.friedman:.2g}. "
    notes = [tested + "A bar joins methods of which no pair is found to differ (Wilcoxon, Holm)."]
    if not found.can_differ:
        notes.append(f"{found.blocks} datasets are too few for any pair of {len(found.names)} methods to differ.")
    if left:
        notes.append(f"Left out, as not all datasets have them: {', '.join(left)}.")
    return notes


def _diagram(found: Ranking, below: float) -> Figure:
    """Draw an axis of ranks, the best at the left, a label for each method below it, and the cliques' bars between.

    `below`: inches that are left for notes.
    """
    size, bars = len(found.names), len(found.cliques)
    left = (size + 1) // 2
    depth = _BAR * (bars + 1) + _ROW * left
    figure = new_figure(7.2, depth + 0.95 + below)
    axes = figure.add_subplot()
    axes.set(xlim=(0.2, size + 0.8), ylim=(-depth, 0), xticks=range(1, size + 1), yticks=[])
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("mean rank over datasets, 1 is best")
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.spines["top"].set(visible=True, bounds=(1, size))
    for place, (name, at) in enumerate(zip(found.names, found.ranks, strict=True)):
        ahead = place < left
        height = -_BAR * (bars + 1) - _ROW * (place if ahead else size - 1 - place)
        end = 0.85 if ahead else size + 0.15
        axes.plot([at, at, end], [0, height, height], color="black", linewidth=0.8, clip_on=False)
        text = f"{name}  {at:.2f}" if ahead else f"{at:.2f}  {name}"
        axes.text(end + (-0.08 if ahead else 0.08), height, text, ha="right" if ahead else "left", va="center")
    for place, (first, last) in enumerate(found.cliques):
        x = [found.ranks[first] - 0.04, found.ranks[last] + 0.04]
        axes.plot(x, [-_BAR * (place + 1)] * 2, color="#b34700", linewidth=3.5, solid_capstyle="butt")
    return figure
