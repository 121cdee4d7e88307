"""How figures look: colours that differ in grey too, shaded regions, and the same bytes from the same numbers."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dir_bench.atomic import write_named
from dir_bench.errors import UserError
from dir_bench.results.plots.runs import Floats, Group, Labels

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

FORMATS = ("png", "svg", "pdf")
INSTALL = "Figures need matplotlib, which is not installed: pip install 'dir-bench[plots]'"

# Light grounds whose lightness falls from many to few, and white with strokes for zero: told apart in grey too.
REGIONS: dict[str, dict[str, Any]] = {
    "many": {"facecolor": "#f4f8fc"},
    "medium": {"facecolor": "#f5e3b5"},
    "few": {"facecolor": "#e3b5ac"},
    "zero": {"facecolor": "#ffffff", "hatch": "////", "edgecolor": "#8c8c8c"},
}

# Dark colours of Okabe and Ito, told apart by dashes and markers where there is no colour.
LINES: tuple[dict[str, Any], ...] = (
    {"color": "#000000", "linestyle": "-", "marker": "o"},
    {"color": "#0072b2", "linestyle": (0, (5, 1.5)), "marker": "s"},
    {"color": "#b34700", "linestyle": (0, (5, 1.5, 1, 1.5)), "marker": "^"},
    {"color": "#00674c", "linestyle": (0, (1.5, 1)), "marker": "D"},
    {"color": "#8a3d6d", "linestyle": (0, (8, 1.5, 1, 1.5, 1, 1.5)), "marker": "v"},
    {"color": "#4d4d4d", "linestyle": (0, (3, 3)), "marker": "X"},
)

_RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.0,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
    "savefig.dpi": 150,
    "text.parse_math": False,  # a "$" in a method's name is one
    "pdf.fonttype": 42,  # embed TrueType, which publishers ask for
    "svg.fonttype": "path",
    "svg.hashsalt": "dir_bench",
}

_METADATA: dict[str, dict[str, str | None]] = {  # without dates and versions
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw and save in our style, whatever the user's own matplotlibrc says; it is left as it was.

    Raises:
        UserError: If matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise UserError(INSTALL) from error
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        for name, value in _RC.items():
            matplotlib.rcParams[name] = value  # type: ignore[index]  # typed as a list of literals
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, size in inches, that lays out itself and belongs to no window system."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: Path) -> None:
    """Write a figure as its name's ending says; the same figure gives the same bytes.

    Raises:
        UserError: If the ending is none of `FORMATS`, or the file cannot be written.
    """
    kind = path.suffix.lstrip(".").lower()
    if kind not in FORMATS:
        raise UserError(f"--out {path}: a figure's name ends in .png, .svg or .pdf")
    try:
        drawn = io.BytesIO()
        with styled():
            figure.savefig(drawn, format=kind, metadata=_METADATA[kind])
        write_named(path, drawn.getvalue())
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}; give --out another path") from error


def svg(figure: Figure) -> bytes:
    """Return a figure as the content of an SVG file; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with styled():
        figure.savefig(buffer, format="svg", metadata=_METADATA["svg"])
    return buffer.getvalue()


def pixels(figure: Figure) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a figure as an RGB picture, shape ``(h, w, 3)``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with styled():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # type: ignore[no-untyped-call]
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]


def shade(axes: Axes, labels: Labels) -> list[Artist]:
    """Lay each region's ground under the axes, and return what a legend shows of them."""
    from matplotlib.collections import PolyCollection
    from matplotlib.patches import Patch

    start = 0
    spans = dict[str, list[Floats]]()
    for region, stretch in groupby(labels.regions):
        end = start + len(list(stretch))
        left, right = labels.edges[start], labels.edges[end]
        spans.setdefault(region, []).append(np.array([[left, 0], [left, 1], [right, 1], [right, 0]]))
        start = end
    met = [region for region in REGIONS if region in spans]
    for region in met:  # one artist a region: a page of many datasets has thousands of stretches
        ground = PolyCollection(spans[region], transform=axes.get_xaxis_transform(), zorder=0, linewidth=0,
                                **REGIONS[region])  # fmt: skip
        axes.add_collection(ground, autolim=False)
    axes.set_xlim(labels.edges[0], labels.edges[-1])
    frame: dict[str, Any] = {"edgecolor": "#8c8c8c", "linewidth": 0.6}
    return [Patch(**(frame | REGIONS[region]), label=region) for region in met]


def plot_line(
    axes: Axes, x: Floats, mean: Floats, spread: Floats | None, label: str, number: int, of: int = 1
) -> Line2D:
    """Draw one method's line in its own style, with a band of ± the standard deviation over seeds.

    Args:
        axes: Where.
        x: Places, shape ``(n,)``.
        mean: Heights, NaN where there are none.
        spread: Standard deviation over seeds, or None.
        label: For the legend.
        number: Which of the methods it is, from 0.
        of: How many there are: their markers take turns.
    """
    style = LINES[number % len(LINES)]
    there = np.flatnonzero(np.isfinite(mean))
    each = max(1, len(there) // 12)
    marked = np.union1d(there[(number * each) // max(of, 1) :: each], alone(mean))
    if spread is not None:
        axes.fill_between(x, mean - spread, mean + spread, color=style["color"], alpha=0.22, linewidth=0, zorder=2)
    (line,) = axes.plot(x, mean, label=label, markevery=marked.tolist(), zorder=3, markeredgecolor="white",
                        markeredgewidth=0.4, **style)  # fmt: skip
    return line


def alone(values: Floats) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the places of values between two NaNs, to which no line would lead: they need a marker."""
    there = np.flatnonzero(np.isfinite(values))
    return there[~np.isin(there - 1, there) & ~np.isin(there + 1, there)]


def head(figure: Figure, title: str, grounds: Sequence[Artist]) -> None:
    """Put a title above the axes, and below it what the grounds mean."""
    figure.legend(
        handles=list(grounds), title=title, title_fontsize=9.5, loc="outside upper center", ncols=len(grounds)
    )


def foot(figure: Figure, handles: Sequence[Artist], note: str = "", columns: int = 3) -> None:
    """Put what the lines mean below the axes, and a note above it."""
    figure.legend(
        handles=list(handles),
        title=note or None,
        title_fontsize=8,
        loc="outside lower center",
        ncols=max(1, min(columns, len(handles))),
    )


def seeds_note(groups: Sequence[Group], what: str = "Bands") -> str:
    """Return what bands (or strokes) mean, or "" if there are none."""
    return f"{what}: ± standard deviation over seeds." if any(len(group.runs) > 1 for group in groups) else ""
