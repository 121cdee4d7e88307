"""A dataset's own errors, which its module brings, found by the name that `dataset.extra_errors` gives.

A word names a room of `dir_bench.datasets` with a module `metrics`; a dotted name is a module of a dataset that lives
elsewhere. Such a module has

    terms(prediction, target) -> {"name": a number an element, whose mean is the error}
    HIGHER = ("name", ...)                those of which more is better, if there are any

It is plain NumPy, so that tables, which ask for the direction, need no torch.
"""

import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from numpy.typing import NDArray

from dir_bench.errors import UserError, nearest

ExtraTerms = Callable[[NDArray[Any], NDArray[Any]], dict[str, NDArray[Any]]]

NONE = "none"
HIGHER = ("pearson", "spearman", "ccc")
"""Errors of every regression of which more is better."""
FURTHER = ("bmae", "bins", "bias", "slope", "ccc", "w1", "sera")
"""What `evaluation.further` adds to them."""
UNCERTAINTY = ("nll", "crps", "coverage", "width", "uce", "uce_std", "ause")
"""What `evaluation.uncertainty` adds where a head says how sure it is."""
IDEAL = {"bias": 0.0, "slope": 1.0, "coverage": 0.9}
"""Those that are best at a value, and worse on both sides of it."""
NEUTRAL = ("bins",)
"""Numbers that say how others were made: none is better."""
_HOME = "dir_bench.datasets"


@cache
def names() -> tuple[str, ...]:
    """Return the words that `dataset.extra_errors` takes, found by listing the rooms."""
    # By the files: looking for `room.metrics` would import the room, and with some of them torch.
    return (NONE, *sorted(found.parent.name for found in (Path(__file__).parents[1] / "datasets").glob("*/metrics.py")))


def check_name(name: str) -> None:
    """Raise UserError if `dataset.extra_errors` is a word and none of `names`; dotted ones are seen to when used."""
    if "." not in name and name not in names():
        raise UserError(
            f"dataset.extra_errors={name} is not a choice{nearest(name, names())}: {', '.join(names())}, or the dotted "
            "name of the dataset's own module"
        )


def extra_terms(name: str) -> ExtraTerms | None:
    """Return what a dataset adds to the errors of every regression; None for "none".

    A module outside of dir_bench is taken only if it is loaded, as it is once its dataset was built: a name in a run
    folder that somebody sent must not be enough to run code.

    Raises:
        UserError: If there is no such module, or it brings no `terms`.
    """
    check_name(name)
    if name == NONE:
        return None
    module = _module(name)
    terms = getattr(module, "terms", None)
    if not callable(terms):
        why = "is not loaded: name the module of the dataset's class" if module is None else "has no function `terms`"
        raise UserError(f"dataset.extra_errors={name} {why}")
    found: ExtraTerms = terms
    return found


def more_is_better(metric: str) -> bool:
    """Tell of any metric that a table may show whether more of it is better."""
    return metric in HIGHER or metric.endswith("_score") or metric in _higher_here() or metric in _higher_elsewhere


def merit(metric: str, value: float) -> float:
    """Return how good a value of a metric is, in the metric's unit: more is better, whatever the metric is."""
    if metric in IDEAL:
        return -abs(value - IDEAL[metric])
    return 0.0 if metric in NEUTRAL else value if more_is_better(metric) else -value


def arrow(metric: str) -> str:
    """Return a sign of where a metric is best: "↑", "↓", or "→ 0"; "" for one that is never better."""
    if metric in IDEAL:
        return f"→ {IDEAL[metric]:g}"
    return "" if metric in NEUTRAL else "↑" if more_is_better(metric) else "↓"


@cache
def _higher_here() -> frozenset[str]:
    rooms = [f"{_HOME}.{name}.metrics" for name in names() if name != NONE]
    return frozenset(metric for room in rooms for metric in import_module(room).HIGHER)


_higher_elsewhere: set[str] = set()
"""Of datasets outside of dir_bench, as they are met."""


def _module(name: str) -> ModuleType | None:
    if "." not in name:
        return import_module(f"{_HOME}.{name}.metrics")
    module = sys.modules.get(name)
    _higher_elsewhere.update(getattr(module, "HIGHER", ()))
    return module
