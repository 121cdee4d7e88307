"""Figures from run folders alone, as those of Yang et al., ICML 2021 (arXiv:2102.09554) and two more.

matplotlib is imported when a figure is drawn, so this module and its list of figures work without it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dir_bench.errors import UserError, nearest
from dir_bench.results.plots import features, labels, per_bin, ranks, training
from dir_bench.results.plots.runs import Group, Run, read_groups, readable
from dir_bench.results.plots.style import pixels, save, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """What some figures can be told.

    Attributes:
        reference: The runs that gains are over; none: those of VANILLA.
        anchors: Labels that features are compared with; none: the middle of the bin with most training samples.
        metric: What methods are ranked by.
        region: Of the test split, in which they are.
    """

    reference: Group | None = None
    anchors: tuple[float, ...] = ()
    metric: str = "mae"
    region: str = "all"


@dataclass(frozen=True)
class Plot:
    """A kind of figure: one line on what it shows, what of a `Run` it reads, and what draws it (within `styled`).

    `over_datasets`: it is of the runs of several datasets, where others are of those of one.
    `uses`: those of `Options` that it heeds.
    """

    shows: str
    reads: tuple[str, ...]
    draw: Callable[[Sequence[Group], Options], Figure]
    over_datasets: bool = False
    uses: tuple[str, ...] = ()


_TESTED = ("settings", "labels", "predictions")

PLOTS: dict[str, Plot] = {
    "labels": Plot(
        "training labels per bin, by region (figure 6)",
        ("settings", "labels"),
        lambda groups, options: labels.draw(groups),
    ),
    "density": Plot(
        "test error per bin below the empirical and the LDS density, with correlations (figures 2, 3)",
        _TESTED,
        lambda groups, options: per_bin.draw_density(groups),
    ),
    "gain": Plot(
        "absolute MAE gain per bin over --reference, regions shaded (figures 7, 9)",
        _TESTED,
        lambda groups, options: per_bin.draw_gain(groups, options.reference),
        uses=("reference",),
    ),
    "reliability": Plot(
        "mean and spread of the predictions for each bin, beside the diagonal",
        _TESTED,
        lambda groups, options: per_bin.draw_reliability(groups),
    ),
    "similarity": Plot(
        "cosine similarity of feature means and variances to those at --anchor (figures 4, 8a-b, 10)",
        (*_TESTED, "features"),
        lambda groups, options: features.draw(groups, options.anchors),
        uses=("anchors",),
    ),
    "fds": Plot(
        "distance between running and smoothed statistics of FDS over epochs (figure 8c)",
        ("settings", "history"),
        lambda groups, options: training.draw_fds(groups),
    ),
    "curves": Plot(
        "training loss, validation error by region and learning rate over epochs",
        ("settings", "history"),
        lambda groups, options: training.draw_curves(groups),
    ),
    "cd": Plot(
        "mean ranks over several datasets, methods that are not found to differ joined (critical difference)",
        ("settings",),
        lambda groups, options: ranks.draw(groups, options.metric, options.region),
        over_datasets=True,
        uses=("metric", "region"),
    ),
}
"""Name to figure, in the order of `dir-bench plot --help`."""


OF_A_RUN = ("labels", "reliability", "curves")
"""What a run draws of itself when it ends."""


def draw(name: str, groups: Sequence[Group], options: Options | None = None) -> Figure:
    """Draw one figure; a run that lacks what it shows is left out, which is logged.

    Raises:
        UserError: If there is no such figure, matplotlib is missing, or all runs lack what it shows.
    """
    if name not in PLOTS:
        raise UserError(f"no figure '{name}'{nearest(name, PLOTS)}: {', '.join(PLOTS)}")
    kind, options = PLOTS[name], options or Options()
    with styled():
        kept, reasons = readable(groups, kind.reads)
        over, unread = readable([options.reference] if options.reference else [], kind.reads)
        for reason in (*reasons, *unread):
            log.warning("Left out of the figure: %s", reason)
        if not kept or (options.reference and not over):
            raise (reasons if not kept else unread)[0]
        return kind.draw(kept, replace(options, reference=over[0] if over else None))


def plot(
    name: str,
    paths: Sequence[Path | str],
    *,
    reference: Path | None = None,
    anchors: Sequence[float] = (),
    metric: str = "mae",
    region: str = "all",
    out: Sequence[Path] = (),
) -> list[Path]:
    """Draw one figure of the finished runs under `paths`, write it, and return where.

    Args:
        name: One of `PLOTS`.
        paths: Run folders, or folders that hold some. Runs that differ by the seed alone become one line.
        reference: See `Options`; a run folder, or one that holds its seeds.
        anchors: See `Options`.
        metric: See `Options`.
        region: See `Options`.
        out: Files to write, .png, .svg or .pdf; none: plots/NAME.png in the folder that all these runs share.

    Raises:
        UserError: As `draw`; or there are no finished runs, a file's ending is none of the three, or the figure takes
            none of an option.
    """
    if name not in PLOTS:
        raise UserError(f"no figure '{name}'{nearest(name, PLOTS)}: {', '.join(PLOTS)}")
    given = {"reference": reference, "anchors": tuple(anchors), "metric": metric, "region": region}
    for option, value in given.items():
        if value != getattr(Options(), option) and option not in PLOTS[name].uses:
            takers = ", ".join(other for other, kind in PLOTS.items() if option in kind.uses)
            raise UserError(f"plot {name} takes no --{option.removesuffix('s')}: drop it, or draw {takers}")
    groups = read_groups(paths)
    over = None if reference is None else _one_group(reference)
    files = list(out) or [_shared_folder(groups) / "plots" / f"{name}.png"]
    figure = draw(name, groups, Options(over, tuple(anchors), metric, region))
    for file in files:
        save(figure, file)
    return files


def pictures(
    path: Path, metrics: Mapping[str, Any], predictions: Mapping[str, Any]
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Draw `OF_A_RUN` of one run: yield (name, RGB picture); nothing without matplotlib.

    A figure that cannot be drawn is logged: it must not cost the run.

    Args:
        path: The run's folder.
        metrics: As they will be in its metrics.json.
        predictions: As they will be in its predictions.npz.
    """
    if find_spec("matplotlib") is None:
        return
    group = Group(metrics["method"], (Run(path, metrics["method"], metrics, predictions),))
    for name in OF_A_RUN:
        try:
            picture = pixels(draw(name, [group]))
        except Exception as error:
            log.warning("The figure '%s' of this run could not be drawn: %s", name, error, exc_info=True)
        else:
            yield name, picture


def _one_group(path: Path) -> Group:
    groups = read_groups([path])
    if len(groups) > 1:
        names = ", ".join(group.label for group in groups)
        raise UserError(f"--reference {path} holds several methods ({names}): name the folder of one.")
    return groups[0]


def _shared_folder(groups: Sequence[Group]) -> Path:
    paths = [run.path for group in groups for run in group.runs]
    mixed = len({path.is_absolute() for path in paths}) > 1 or any(".." in path.parts for path in paths)
    return Path(os.path.commonpath([path.resolve() for path in paths] if mixed else paths))
