"""What the labels of a dataset say, before any network: bins, regions, and how errors are reported."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dir_bench.errors import UserError
from dir_bench.evaluation.extra import extra_terms
from dir_bench.evaluation.further import further_metrics
from dir_bench.evaluation.metrics import region_metrics
from dir_bench.labels import Regions, TargetBins, label_density
from dir_bench.labels.extremes import Extremes
from dir_bench.schema import Config, DatasetConfig
from dir_bench.toggles.smoothing import LDS

Errors = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Task:
    """A dataset's labels under a config's choices.

    Attributes:
        bins: Bins of the target, label units.
        counts: Training samples per bin, shape ``(b,)``.
        regions: Region of each bin, from those counts.
        zero_error: Stands in for errors of exactly zero in GM.
        extra_terms: The dataset's own metrics, beside those of every regression; None if there are none.
        extremes: The relevance of labels for SERA; None: it is not told.
    """

    bins: TargetBins
    counts: npt.NDArray[np.int64]
    regions: Regions
    zero_error: float
    extra_terms: Callable[[Any, Any], dict[str, Any]] | None
    extremes: Extremes | None = None

    @classmethod
    def of(
        cls,
        config: Config,
        count: Callable[[TargetBins], npt.NDArray[np.int64]],
        targets: npt.ArrayLike | None = None,
    ) -> "Task":
        """Derive the task from the config and the training labels alone, which `count` counts by bin.

        Without `targets`, the training labels themselves, relevance is what the config has; and so it is for depth
        maps, whose labels are too many to be sorted.
        """
        bins = target_bins(config.dataset)
        counts = count(bins)
        regions = Regions.from_counts(
            counts, **asdict(config.dataset.regions), zero_is_few=config.semantics.zero_is_few
        )
        extremes = None
        if config.dataset.relevance is not None:
            extremes = Extremes(tuple((float(label), float(phi)) for label, phi in config.dataset.relevance))
        elif targets is not None and not config.dataset.dense:
            extremes = Extremes.of(targets)
        own = extra_terms(config.dataset.extra_errors)
        return cls(bins, counts, regions, config.semantics.zero_error, own, extremes)

    def errors(self, target: npt.NDArray[Any], prediction: npt.NDArray[Any]) -> Errors:
        """Return the errors by region in label units, from all predictions at once."""
        return region_metrics(
            prediction,
            np.asarray(target, np.float64),
            bins=self.bins,
            regions=self.regions,
            zero_error=self.zero_error,
            terms=self.extra_terms,
        )

    def report(
        self, target: npt.NDArray[Any], columns: Mapping[str, npt.NDArray[Any]], family: str | None = None
    ) -> Errors:
        """Return all errors by region of what is reported: `errors`, and those of `evaluation.further`.

        Args:
            target: Label units.
            columns: What the network says of each, see `training.prediction.predict`.
            family: Of the head's predictive distribution; None: it gives none.
        """
        errors = self.errors(target, columns["prediction"])
        further = further_metrics(
            columns,
            np.asarray(target, np.float64),
            bins=self.bins,
            regions=self.regions,
            extremes=self.extremes,
            family=family,
        )
        return {region: values | further[region] for region, values in errors.items()}


def target_bins(dataset: DatasetConfig) -> TargetBins:
    """Return the dataset's bins; UserError if they are none, or still to be chosen from its targets (`chosen`)."""
    if not dataset.bins.settled:
        raise UserError(f"the bins of {dataset.title} are chosen from its targets: settle the config with them first")
    try:
        return TargetBins.of_settings(asdict(dataset.bins))
    except ValueError as error:
        raise UserError(f"dataset.bins: {error}") from error


def label_record(config: Config, task: Task) -> dict[str, npt.NDArray[Any]]:
    """Return what figures need to know of a run's training labels, so that they need no data; see `labels.npz`.

    Returns:
        edges of the bins (label units, shape ``(b + 1,)``), the first bin in use, and of each bin its training
        counts, its region (codes of `labels.regions`) and its LDS density: counts smoothed by the run's kernel, by a
        Gaussian of 5 bins and sigma 2 where LDS is off.
    """
    smoothing = (config.lds if config.lds.on else LDS("gaussian")).settings(config.semantics)
    return {
        "edges": task.bins.edges,
        "first": np.asarray(task.bins.first),
        "counts": task.counts,
        "region": task.regions.codes.astype(np.int8),
        "density": label_density(task.counts, task.bins.first, smoothing),
    }
