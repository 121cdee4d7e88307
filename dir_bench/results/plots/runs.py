"""What figures read of finished runs: labels, predictions, history and feature statistics, grouped over seeds."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from dir_bench.errors import UserError
from dir_bench.files.values import Damaged, visible
from dir_bench.labels import TargetBins
from dir_bench.labels.regions import FEW, MANY, MEDIUM
from dir_bench.results.records import collect
from dir_bench.results.store import RunFolder
from dir_bench.schema import look_up

Floats = NDArray[np.float64]
Arrays = Mapping[str, NDArray[Any]]

_LONGEST = 100
"""Characters of a text in a figure."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Labels:
    """The training labels of a run, by bin; only bins in use, so that `counts[0]` is of the first of these.

    Attributes:
        bins: All bins, label units.
        counts: Training samples (or pixels), shape ``(r,)``.
        density: The same smoothed by LDS, shape ``(r,)``.
        codes: Regions, codes of `labels.regions`, shape ``(r,)``.
    """

    bins: TargetBins
    counts: NDArray[np.int64]
    density: Floats
    codes: NDArray[np.int8]

    @property
    def edges(self) -> Floats:
        """Edges of the bins in use, label units, shape ``(r + 1,)``."""
        return self.bins.edges[self.bins.first :]

    @property
    def centers(self) -> Floats:
        """Their middles, shape ``(r,)``."""
        return self.bins.centers[self.bins.first :]

    @cached_property
    def regions(self) -> list[str]:
        """The region of each bin: many, medium or few, but zero where training has no sample."""
        names = {MANY: "many", MEDIUM: "medium", FEW: "few"}
        return [
            names.get(int(code), "zero") if count else "zero"
            for code, count in zip(self.codes, self.counts, strict=True)
        ]

    def place(self, targets: ArrayLike) -> NDArray[np.int64]:
        """Return the place of each target among the bins in use; what lies below them joins the first."""
        return np.maximum(self.bins.index(targets) - self.bins.first, 0)


@dataclass(eq=False)
class Run:
    """One run's folder. What is not given is read when it is first asked for; UserError if it is not there."""

    path: Path
    label: str
    metrics: Mapping[str, Any]
    given_predictions: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.path)

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """The run's config, nested plain values; it has what figures read."""
        settings = self.folder.read_config()
        for key in ("dataset.title", "dataset.monitor", "dataset.bins", "backbone", "trainer"):
            if look_up(settings, key) is None:
                raise Damaged(self.folder.config_path, f"lacks '{key}'")
        return settings

    @property
    def dataset(self) -> Mapping[str, Any]:
        """The part of the config that is about the dataset."""
        dataset: Mapping[str, Any] = self.settings["dataset"]
        return dataset

    @property
    def title(self) -> str:
        return shown(str(self.metrics.get("title") or self.dataset["title"]))

    @property
    def axis(self) -> str:
        """The target's name and unit."""
        return shown(str(self.dataset.get("label") or "label"))

    @cached_property
    def bins(self) -> TargetBins:
        """All bins of the target, label units."""
        return self.folder.read_bins(self.settings)

    @cached_property
    def labels(self) -> Labels:
        held = self.folder.read_labels(len(self.bins))
        if held is None:
            raise self._lacks(self.folder.labels_path, "label counts")
        if "density" not in held:
            raise Damaged(self.folder.labels_path, "lacks 'density'")
        used = slice(self.bins.first, None)
        return Labels(self.bins, held["counts"][used], held["density"][used].astype(float), held["region"][used])

    @cached_property
    def predictions(self) -> tuple[Floats, Floats]:
        """Targets and predictions of the test split, label units, shape ``(n,)`` each."""
        held = self.given_predictions or self.folder.read_predictions()
        return np.asarray(held["target"], np.float64), np.asarray(held["prediction"], np.float64)

    @cached_property
    def features(self) -> Arrays:
        """Feature statistics of the training split, see `training.features`."""
        if not self.settings["backbone"].get("features", True):
            raise UserError(f"{self.path} has no feature statistics: its backbone has no learned features.")
        if not self.settings["trainer"].get("feature_statistics", True):
            raise UserError(f"{self.path} has no feature statistics: it was trained with feature_statistics=false.")
        held = self.folder.read_features(len(self.bins) - self.bins.first)
        if held is None:
            raise self._lacks(self.folder.features_path, "feature statistics")
        return held

    @cached_property
    def history(self) -> pd.DataFrame:
        """A line for each evaluation, as in history.csv."""
        return self.folder.read_history()

    def _lacks(self, path: Path, what: str) -> UserError:
        return UserError(
            f"{self.path} keeps no {what} ({path.name}), as runs of older versions do not: remove its DONE and "
            f"repeat its `dir-bench train`, which then only evaluates again."
        )


@dataclass(frozen=True)
class Group:
    """Runs that differ by the seed alone: one row of a table, one line of a figure."""

    label: str
    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        """The label as a figure shows it."""
        return shown(self.label)

    @property
    def first(self) -> Run:
        return self.runs[0]


def read_groups(paths: Sequence[Path | str]) -> list[Group]:
    """Read the finished runs under these paths, VANILLA first; those left out are logged.

    Raises:
        UserError: If there is none.
    """
    records, problems = collect(paths)
    for problem in problems:
        log.warning("Left out: %s", problem)
    if records.empty:
        where = ", ".join(map(str, paths))
        raise UserError(f"There is no finished run under {where}: `dir-bench train` makes one.")
    return group_records(records)


def group_records(records: pd.DataFrame) -> list[Group]:
    """Return the runs of these records (see `records.collect`), VANILLA first."""
    groups = []
    for _, part in records.drop_duplicates("path").groupby(["dataset", "row_id"], sort=False):
        runs = [_run(line["path"], line["label"]) for line in part.to_dict("records")]
        groups.append(Group(runs[0].label, tuple(runs)))
    return sorted(groups, key=lambda group: not group.label.startswith("VANILLA"))


def shown(text: str) -> str:
    """Return a run's own text, such as its method's name, as a figure can hold it: one line, not too long.

    A legend would leave out what begins with "_".
    """
    text = visible(text)
    return (" " if text.startswith("_") else "") + (text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")


def readable(groups: Sequence[Group], reads: Sequence[str]) -> tuple[list[Group], list[UserError]]:
    """Return the groups without the runs that lack what a figure reads, and why each of these is left out.

    Args:
        groups: Runs of a figure.
        reads: Names of attributes of `Run`, which are read here.
    """
    kept, reasons = [], []
    for group in groups:
        runs = []
        for run in group.runs:
            try:
                for name in reads:
                    getattr(run, name)
                runs.append(run)
            except UserError as error:
                reasons.append(error)
        if runs:
            kept.append(Group(group.label, tuple(runs)))
    return kept, reasons


def _run(path: str, label: str) -> Run:
    return Run(Path(path), label, RunFolder(path).read_metrics())


def of_one_dataset(groups: Sequence[Group], most: int = 6) -> Run:
    """Return the first run, after checking that all are of one dataset and no more than `most` groups.

    Raises:
        UserError: If they are not.
    """
    titles = list(dict.fromkeys(group.first.title for group in groups))
    if len(titles) > 1:
        folders = dict.fromkeys(str(group.first.path.parent.parent) for group in groups)
        raise UserError(
            f"These runs are of {len(titles)} datasets ({', '.join(titles)}), and this figure is of one: name its "
            f"folder, such as {next(iter(folders))}; `dir-bench plot cd` is of several."
        )
    if len(groups) > most:
        raise UserError(f"These are {len(groups)} methods, and a figure holds {most}: name fewer runs.")
    return groups[0].first


def of_one_kind(groups: Sequence[Group], most: int = 6) -> Run:
    """Return the run whose labels stand for all, after checking that one figure by label can hold them.

    Raises:
        UserError: As `of_one_dataset`; or bins, regions or test targets differ.
    """
    first = of_one_dataset(groups, most)
    for run in (run for group in groups for run in group.runs):
        same = np.array_equal(run.labels.edges, first.labels.edges) and run.labels.regions == first.labels.regions
        if not same or not np.array_equal(run.predictions[0], first.predictions[0]):
            raise UserError(
                f"{run.path} and {first.path} were not trained and tested on the same labels: they share no figure."
            )
    return first


def of_one_recipe(groups: Sequence[Group], what: str) -> None:
    """Raise UserError, which says that there are none of `what`, where runs depart from the recipe in other ways."""
    ways = {group.label: tuple(group.first.metrics.get("departures") or ()) for group in groups}
    other = next((label for label in ways if ways[label] != ways[groups[0].label]), None)
    if other is not None:
        raise UserError(
            f"{groups[0].label} and {other} of {groups[0].first.title} depart from its recipe in different ways: "
            f"there are no {what}"
        )


def per_bin(run: Run) -> dict[str, Floats]:
    """Return test samples (count), mean absolute error (mae) and mean prediction of each bin in use, shape ``(r,)``.

    NaN where the test has no sample.
    """
    target, prediction = run.predictions
    place, size = run.labels.place(target), len(run.labels.counts)
    count = np.bincount(place, minlength=size).astype(np.float64)
    divisor = np.where(count > 0, count, math.nan)
    sums = {"mae": np.abs(prediction - target), "prediction": prediction}
    return {"count": count} | {name: np.bincount(place, v, minlength=size) / divisor for name, v in sums.items()}


def over_seeds(values: ArrayLike) -> tuple[Floats, Floats | None]:
    """Return mean and sample standard deviation over the first axis; NaN is no value. None for one seed alone."""
    stacked = np.asarray(values, dtype=np.float64)
    valid = np.isfinite(stacked)
    n = valid.sum(axis=0)
    filled = np.where(valid, stacked, 0.0)
    mean = filled.sum(axis=0) / np.where(n > 0, n, math.nan)
    if len(stacked) == 1:
        return mean, None
    squares = np.where(valid, (filled - mean) ** 2, 0.0).sum(axis=0)
    return mean, np.sqrt(squares / np.where(n > 1, n - 1, math.nan))
