"""The jobs of a sweep: products of axes, from a file and from the command line."""

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import Glob, RangeSweep
from hydra.core.override_parser.types import Sweep as HydraSweep
from hydra.errors import HydraException
from omegaconf import OmegaConf

from dir_bench.config.compose import errors_explained, parse, start
from dir_bench.config.explain import explain
from dir_bench.config.files import options
from dir_bench.config.words import of_jobs
from dir_bench.errors import UserError

MOST_JOBS = 100_000
"""A sweep of more is taken for a slip: its plan alone would take hours and gigabytes."""


@dataclass(frozen=True)
class Sweep:
    """What a sweep file asks for, or the lack of one.

    Attributes:
        grids: The products whose jobs make the sweep; without a file one that has no axes.
        stand_ins: The size of each dataset's stand-in, which is written where its files would be and are not.
    """

    grids: list[dict[str, Any]]
    stand_ins: dict[str, int]


def sweep_of(overrides: Sequence[str], extra_dir: str | None = None) -> Sweep | None:
    """Return what a multirun's sweep file asks for; None if another sweeper than ours was chosen.

    Only that one would know its jobs.
    """
    ours = [text for text in overrides if not of_jobs(text)]
    with errors_explained(ours, extra_dir):
        composed = start(extra_dir).compose(ours)
        sweeper = composed.hydra.sweeper
        if not str(sweeper["_target_"]).endswith(".GridSweeper"):
            return None
        chosen = OmegaConf.to_container(sweeper)
    assert isinstance(chosen, dict)
    common = chosen["params"] or {}
    grids = [{**grid, **{k: v for k, v in common.items() if k not in grid}} for grid in chosen["grids"] or [{}]]
    return Sweep(grids, chosen["stand_ins"] or {})


def sweep_jobs(overrides: Sequence[str], grids: Sequence[Mapping[str, Any]] = ({},)) -> list[list[str]]:
    """Expand comma lists into the overrides of each job.

    Args:
        overrides: Those of the command line. They win over a grid's axis of the same key, and add to all grids.
        grids: Each a product of axes, key to comma list (or any other sweep of Hydra's, such as `range(3)`).

    Raises:
        UserError: An override cannot be read, has no countable values, or there are more than `MOST_JOBS` jobs.
    """
    given = [text for text in overrides if of_jobs(text)]
    keys = {text.split("=")[0].lstrip("+") for text in given}
    products = []
    for grid in grids:
        own = [f"{k}={_text(v)}" for k, v in grid.items() if k.lstrip("+") not in keys]
        products.append(_axes([*own, *given]))
    count = sum(math.prod(len(axis) for axis in axes) for axes in products)
    if count > MOST_JOBS:
        raise UserError(f"this sweep has {count:,} jobs, and {MOST_JOBS:,} are the most: give fewer values")
    jobs = itertools.chain.from_iterable(itertools.product(*(axis.texts() for axis in axes)) for axes in products)
    return list(map(list, dict.fromkeys(jobs)))


def _text(value: Any) -> str:
    """Write a YAML value as Hydra's overrides have it; text stays as it is."""
    return value if isinstance(value, str) else json.dumps(value)


@dataclass(frozen=True)
class _Axis:
    """One override, counted before it is expanded."""

    text: str
    override: Any

    def __len__(self) -> int:
        value: Any = self.override.value()
        if isinstance(value, Glob):
            return len(self._files(value))
        if isinstance(value, RangeSweep):
            start, stop, step = (float(number or 0) for number in (value.start, value.stop, value.step))
            steps = (stop - start) / step if step else math.inf
            if not math.isfinite(steps):
                raise UserError(f"{self.text} has no end: range(START,STOP,STEP) needs finite numbers and a step")
            return max(0, math.ceil(steps))
        if self.override.is_sweep_override():
            return len(value.list)
        return 1

    def texts(self) -> Iterator[str]:
        value = self.override.value()
        if not self.override.is_sweep_override():
            return iter([self.text])
        values = self._files(value) if isinstance(value, Glob) else self.override.sweep_string_iterator()
        return (f"{self.override.get_key_element()}={value}" for value in values)

    def _files(self, value: Any) -> list[str]:
        found: list[str] = value.filter(options(self.override.key_or_group))
        return found


def _axes(overrides: Sequence[str]) -> list[_Axis]:
    try:
        parsed = parse(overrides)
    except HydraException as error:
        raise UserError(explain(error)) from error
    for override, text in zip(parsed, overrides, strict=True):
        if override.is_interval_sweep():
            raise UserError(f"{text} is a range to draw from, and a sweep here runs given values: list them as a,b,c")
        if any(isinstance(each, HydraSweep) for each in getattr(override.value(), "list", None) or ()):
            raise UserError(f"{text} has a function among its values, and is one or the other: list them all as a,b,c")
    axes = [_Axis(text, override) for override, text in zip(parsed, overrides, strict=True)]
    for axis in axes:
        if len(axis) == 0:
            raise UserError(f"{axis.text} has no values, so the sweep would have no jobs")
    return axes
