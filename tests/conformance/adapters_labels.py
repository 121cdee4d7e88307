"""Kinds A and B of the golden cases: weights, LDS, kernel windows."""

from typing import Any

import numpy as np
from harness import Case

from dir_bench.labels import TargetBins, bin_weights, kernel_window, lds_density

REWEIGHT = {"none": "none", "sqrt_inv": "sqrt_inv", "inverse": "inv"}


def _lds(case: Case, boundary: str) -> dict[str, Any] | None:
    settings = case.hyperparameters
    if not settings["lds"] or settings["reweight"] == "none":
        return None
    return {
        "kernel": settings["lds_kernel"],
        "kernel_size": settings["lds_ks"],
        "sigma": settings["lds_sigma"],
        "boundary": boundary,
    }


def _stages(frequency: np.ndarray, lds: dict[str, Any] | None) -> dict[str, np.ndarray]:
    """The values between counts and weights, which cases with LDS keep as intermediate arrays."""
    if lds is None:
        return {}
    window = kernel_window(lds["kernel"], lds["kernel_size"], lds["sigma"])
    smoothed = lds_density(frequency, **lds)
    return {
        "bin_counts_before_smoothing": frequency,
        "bin_counts_smoothed": smoothed,
        "kernel_window": window,
    }


def _sample_weights(case: Case, bins: TargetBins, clip: tuple[int, int] | None) -> dict[str, np.ndarray]:
    reweight, lds = REWEIGHT[case.hyperparameters["reweight"]], _lds(case, "constant")
    counts = bins.counts(case["labels"])
    if reweight == "sqrt_inv":
        frequency = np.sqrt(counts)
    else:
        frequency = counts if clip is None else np.clip(counts, *clip)
    table = bin_weights(counts, reweight, lds=lds, clip=clip)
    return {"weights": table[bins.index(case["labels"])], **_stages(frequency, lds)}


def weights_age(case: Case) -> dict[str, np.ndarray]:
    bins = TargetBins.regular(0, case.hyperparameters["max_target"], 1, rule="truncate")
    return _sample_weights(case, bins, clip=(5, 1000))


def weights_stsb(case: Case) -> dict[str, np.ndarray]:
    bins = TargetBins.regular(0, 5, 5 / case.hyperparameters["bucket_num"], precision="float32")
    return _sample_weights(case, bins, clip=None)


def weights_nyud2(case: Case) -> dict[str, np.ndarray]:
    settings, counts = case.hyperparameters, case["train_bucket_num"]
    first = settings["bucket_start"]
    bins = TargetBins.regular(0, settings["bucket_num"] / 10, 0.1, first=first, rule="truncate", precision="float32")
    reweight, lds = REWEIGHT[settings["reweight"]], _lds(case, "reflect")
    table = bin_weights(counts, reweight, lds=lds, first=first)
    used = counts[first:]
    stages = _stages(np.sqrt(used) if reweight == "sqrt_inv" else used, lds)
    return {"bucket_weights": table, "pixel_weights": table[bins.index(case["depth"])], **stages}


def lds_windows(case: Case) -> dict[str, np.ndarray]:
    return {
        f"window_{row['index']:02d}": kernel_window(row["kernel"], row["ks"], row["sigma"])
        for row in case.hyperparameters["windows"]
    }


def fds_windows(case: Case) -> dict[str, np.ndarray]:
    return {
        f"window_{row['index']:02d}": kernel_window(
            row["kernel"], row["ks"], row["sigma"], normalize="sum", dtype=np.float32
        )
        for row in case.hyperparameters["windows"]
    }


ADAPTERS = {
    "lds_weights_age": weights_age,
    "lds_weights_stsb": weights_stsb,
    "lds_weights_nyud2": weights_nyud2,
    "lds_kernel_window": lds_windows,
    "fds_kernel_window": fds_windows,
}
