"""Kind E of the golden cases: errors per region, of ages, sentence pairs and depth maps."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from harness import Case

from dir_bench.datasets.depth.metrics import depth_errors
from dir_bench.datasets.depth.metrics import terms as depth_terms
from dir_bench.evaluation import balanced_errors, region_metrics
from dir_bench.labels import Regions, TargetBins

STSB_BINS = TargetBins.regular(0, 5, 0.1, precision="float32")
STSB_MANY = [0, *range(10, 49, 2), 49]
STSB_MEDIUM = [2, 4, 6, 8, 27, 35, 37]
NYUD2_BINS = TargetBins.regular(0, 10, 0.1, first=7, rule="truncate", precision="float32")
NYUD2_MANY = [*range(9, 46), 47, 49]
NYUD2_MEDIUM = [7, 8, 46, 48, *range(50, 57), 58, 60, 61, 63]
DEPTH_NAMES = {
    "MSE": "mse",
    "RMSE": "rmse",
    "ABS_REL": "abs_rel",
    "LG10": "log10",
    "MAE": "mae",
    "DELTA1": "delta1",
    "DELTA2": "delta2",
    "DELTA3": "delta3",
    "NUM": "count",
}


def _published_regions(n_bins: int, many: list[int], medium: list[int]) -> Regions:
    few = sorted(set(range(n_bins)) - set(many) - set(medium))
    return Regions.from_counts(np.ones(n_bins), many=many, medium=medium, few=few)


def _bins_of(regions: Regions, *names: str) -> dict[str, np.ndarray]:
    masks = regions.masks(np.arange(len(regions)))
    return {f"bins_{name}": np.flatnonzero(masks[name]) for name in names}


def _values(errors: Mapping[str, Any], names: list[str], missing: float) -> np.ndarray:
    return np.array([missing if errors[name] is None else errors[name] for name in names], dtype=float)


def shot_metrics_age(case: Case) -> dict[str, np.ndarray]:
    predictions, labels = case["preds"], case["labels"]
    train = case["train_labels"].astype(np.int64)  # int(age), as published
    # The published rule counts the training labels *equal* to a test label: every distinct label is a bin.
    values = np.union1d(labels.astype(np.float64), train)
    bins = TargetBins(np.append(values, values[-1] + 1))
    regions = Regions.from_counts(
        bins.counts(train),
        many_over=case.hyperparameters["many_shot_thr"],
        few_under=case.hyperparameters["low_shot_thr"],
    )
    errors = region_metrics(predictions, labels, bins=bins, regions=regions)
    index = bins.index(labels)
    masks = regions.masks(index)
    computed = {"n_test_per_region": np.array([errors[name]["count"] for name in ("many", "medium", "few")])}
    for name, region in (("overall", "all"), ("many", "many"), ("median", "medium"), ("low", "few")):
        inside = masks[region]
        balanced = balanced_errors(predictions[inside], labels[inside], index[inside])
        both = _values(balanced, ["mse", "mae"], np.nan)
        gm = _values(errors[region], ["gm"], np.nan)
        computed[name] = _values(errors[region], ["mse", "mae", "gm"], np.nan)
        computed[f"balanced_{name}"] = both if region == "all" else np.append(both, gm)
    return computed


def shot_metrics_stsb(case: Case) -> dict[str, np.ndarray]:
    predictions = case["preds"].astype(np.float64) * 5  # widened before it is brought to label units
    labels = case["labels"]
    regions = _published_regions(50, STSB_MANY, STSB_MEDIUM)
    metrics = region_metrics(predictions, labels, bins=STSB_BINS, regions=regions, zero_error=1e-10)
    computed = {"label_bin": STSB_BINS.index(labels), **_bins_of(regions, "many", "medium", "few")}
    names = ["mse", "mae", "gm", "pearson", "spearman", "count"]
    for name, region in (("overall", "all"), ("many", "many"), ("medium", "medium"), ("few", "few")):
        errors = metrics[region]
        # As published: 0 for an empty region and for correlations of one sample, NaN for a constant one.
        computed[name] = _values(errors, names, 0.0 if errors["count"] < 2 else np.nan)
    return computed


def _depth(case: Case, errors: Mapping[str, Any]) -> np.ndarray:
    return _values(errors, [DEPTH_NAMES[name] for name in case.hyperparameters["metric_order"]], 0.0)


def _balanced_depth(
    case: Case, output: np.ndarray, depth: np.ndarray, index: np.ndarray, bins: np.ndarray, n_filled: int
) -> np.ndarray:
    """Balanced MSE's metrics: those of every bin, summed and divided by a number of bins (NUM: summed)."""
    inside = [index == number for number in bins]
    per_bin = np.array([_depth(case, depth_errors(output[mask], depth[mask])) for mask in inside])
    is_count = np.array([name == "NUM" for name in case.hyperparameters["metric_order"]])
    return per_bin.sum(axis=0) / np.where(is_count, 1, max(n_filled, 1))


def shot_metrics_nyud2(case: Case) -> dict[str, np.ndarray]:
    output, depth = case["output"], case["depth"]
    index = NYUD2_BINS.index(depth)
    regions = _published_regions(100, NYUD2_MANY, NYUD2_MEDIUM)
    metrics = region_metrics(output, depth, bins=NYUD2_BINS, regions=regions, terms=depth_terms)
    lists = _bins_of(regions, "many", "medium", "few")
    computed = {"depth_bin": index, **lists}
    # Balanced MSE drops the bins below 0.7 m from its few list, and from what "overall" sums, not from what
    # it divides by: the number of bins, of all 100, that hold a pixel.
    others = {name: bins[bins >= NYUD2_BINS.first] for name, bins in lists.items()}
    filled = np.unique(index)
    computed["balancedmse_overall"] = _depth(case, metrics["all"])
    computed["balancedmse_balanced_overall"] = _balanced_depth(
        case, output, depth, index, np.arange(NYUD2_BINS.first, 100), len(filled)
    )
    for name, region in (("overall", "all"), ("many", "many"), ("medium", "medium"), ("few", "few")):
        computed[name] = _depth(case, metrics[region])
        if region == "all":
            continue
        bins = others[f"bins_{region}"]
        inside = np.isin(index, bins)
        computed[f"balancedmse_bins_{region}"] = bins
        computed[f"balancedmse_{region}"] = _depth(case, depth_errors(output[inside], depth[inside]))
        computed[f"balancedmse_balanced_{region}"] = _balanced_depth(
            case, output, depth, index, bins, len(np.intersect1d(bins, filled))
        )
    return computed


def depth_metrics(case: Case) -> dict[str, np.ndarray]:
    return {
        name: _depth(case, depth_errors(case[f"{name}_output"], case[f"{name}_depth"]))
        for name in case.hyperparameters["sets"]
    }


ADAPTERS = {
    "shot_metrics_age": shot_metrics_age,
    "shot_metrics_stsb": shot_metrics_stsb,
    "shot_metrics_nyud2": shot_metrics_nyud2,
    "depth_metrics": depth_metrics,
}
