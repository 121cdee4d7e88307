"""Balanced MSE, RankSim, ConR and Rank-N-Contrast: losses and gradients."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from harness import Adapter, Case
from torch import Tensor

from dir_bench.labels import TargetBins, lds_density
from dir_bench.methods import balanced_mse
from dir_bench.methods.conr import conr, conr_of_maps
from dir_bench.methods.rank_n_contrast import rank_n_contrast
from dir_bench.methods.ranksim import ranksim

TYPES = {"f32": torch.float32, "f64": torch.float64}


def balanced(case: Case, loss: Callable[..., Tensor], *names: str, flat: bool = False) -> dict[str, np.ndarray]:
    computed = {}
    for ending, dtype in TYPES.items():
        prediction = torch.tensor(case["pred"], dtype=dtype, requires_grad=True)
        sigma = torch.tensor(case.hyperparameters["init_noise_sigma"], dtype=dtype, requires_grad=True)
        # The published mixture stays in float64, whatever the predictions are.
        given = [torch.tensor(case[name]).flatten() if flat else torch.tensor(case[name]).to(dtype) for name in names]
        mean = loss(prediction, torch.tensor(case["target"], dtype=dtype), sigma, *given).mean()
        mean.backward()
        computed |= {
            f"loss_{ending}": mean.detach().numpy(),
            f"grad_pred_{ending}": prediction.grad.numpy(),
            f"grad_noise_sigma_{ending}": sigma.grad.numpy(),
        }
    return computed


def run_bmc(case: Case) -> dict[str, np.ndarray]:
    return balanced(case, balanced_mse.bmc)


def run_gai(case: Case) -> dict[str, np.ndarray]:
    return balanced(case, balanced_mse.gai, "gmm_means", "gmm_variances", "gmm_weights", flat=True)


def run_gai_of_vectors(case: Case) -> dict[str, np.ndarray]:
    return balanced(case, balanced_mse.gai_of_vectors, "gmm_means", "gmm_variances", "gmm_weights")


def run_bni(case: Case) -> dict[str, np.ndarray]:
    return balanced(case, balanced_mse.bni, "bucket_centers", "bucket_weights", flat=True)


def smoothed(counts: np.ndarray, given: dict[str, Any], boundary: str) -> np.ndarray:
    if not given["lds"]:
        return counts
    window = {"kernel": given["lds_kernel"], "kernel_size": given["lds_ks"], "sigma": given["lds_sigma"]}
    return lds_density(counts, **window, boundary=boundary)


def run_age_histogram(case: Case) -> dict[str, np.ndarray]:
    given = case.hyperparameters
    bins = TargetBins.regular(0, given["max_target"], 1, rule="truncate")
    labels = case["labels"]
    counts = bins.counts(labels[labels < given["max_target"]])
    centers, weights = balanced_mse.histogram(
        balanced_mse.bin_values(bins, "edge"), smoothed(counts, given, "constant")
    )
    return {"bucket_centers": centers.astype(np.int64), "bucket_weights": weights}


def run_depth_histogram(case: Case) -> dict[str, np.ndarray]:
    given, counts, first = case.hyperparameters, case["train_bucket_num"], case.hyperparameters["bucket_start"]
    held = np.sqrt(counts[first:]) if given["reweight"] == "sqrt_inv" else counts[first:]
    held = smoothed(held, given, "reflect")
    centers, weights = balanced_mse.histogram(
        balanced_mse.bin_values(TargetBins.regular(0, 10, 0.1), "center"), [*[held[0]] * first, *held]
    )
    return {"bucket_centers": centers, "bucket_weights": weights}


def run_ranksim(case: Case) -> dict[str, np.ndarray]:
    features = torch.tensor(case["features"], requires_grad=True)
    drawn = "sampled_indices"
    chosen = torch.tensor(case[drawn]) if drawn in case.entry["arrays"] else torch.arange(len(features))
    labels = torch.tensor(case["targets"]).flatten()
    loss = ranksim(features[chosen], labels[chosen], case.hyperparameters["interpolation_lambda"])
    loss.backward()
    return {"loss": loss.detach().numpy(), "grad_features": features.grad.numpy()}


def gradients(case: Case, name: str, loss: Callable[[Tensor, torch.dtype], Tensor]) -> dict[str, np.ndarray]:
    computed = {}
    for ending, dtype in TYPES.items():
        features = torch.tensor(case[name], dtype=dtype, requires_grad=True)
        value = loss(features, dtype)
        value.backward()
        computed |= {f"loss_{ending}": value.detach().numpy(), f"grad_{name}_{ending}": features.grad.numpy()}
    return computed


def run_conr(case: Case) -> dict[str, np.ndarray]:
    given = case.hyperparameters
    temperature = 0.07 if given["variant"] == "agedb-dir" else given.get("t", 0.07)  # there, whatever is passed
    chosen = {"window": given.get("w", 1), "temperature": temperature, "e": given.get("e", 0.01)}
    weights = case["weights"] if "weights" in case.entry["arrays"] else None

    def loss(features: Tensor, dtype: torch.dtype) -> Tensor:
        flat = [
            None if a is None else torch.tensor(a, dtype=dtype).flatten()
            for a in (case["targets"], case["preds"], weights)
        ]
        return conr(features, *flat, **chosen)

    return gradients(case, "features", loss)


def run_conr_of_maps(case: Case) -> dict[str, np.ndarray]:
    given = case.hyperparameters
    chosen = {"window": given["w"], "temperature": given.get("t", 0.07), "e": given["e"]}

    def loss(features: Tensor, dtype: torch.dtype) -> Tensor:
        maps = [torch.tensor(case[name], dtype=dtype) for name in ("depth", "output", "weights")]
        return conr_of_maps(features, *maps, **chosen)

    return gradients(case, "feature", loss)


def run_rnc(case: Case) -> dict[str, np.ndarray]:
    def loss(features: Tensor, dtype: torch.dtype) -> Tensor:
        views = features.transpose(0, 1).flatten(0, 1)  # first views, then second ones
        labels = torch.tensor(case["labels"], dtype=dtype).repeat(2, 1)
        return rank_n_contrast(views, labels, case.hyperparameters["temperature"]).mean()

    return gradients(case, "features", loss)


ADAPTERS: dict[str, Adapter] = {
    "balanced_mse_bmc": run_bmc,
    "balanced_mse_bmc_md": run_bmc,
    "balanced_mse_gai": run_gai,
    "balanced_mse_gai_md": run_gai_of_vectors,
    "balanced_mse_bni": run_bni,
    "bni_bucket_info_age": run_age_histogram,
    "bni_bucket_info_nyud2": run_depth_histogram,
    "ranksim": run_ranksim,
    "conr": run_conr,
    "conr_nyud2": run_conr_of_maps,
    "rnc": run_rnc,
}
