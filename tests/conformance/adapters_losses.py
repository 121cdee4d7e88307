"""Weighted losses and their gradients, in float32 and float64."""

from typing import Any

import numpy as np
import torch
from harness import Adapter, Case

from dir_bench.methods import losses

# Defaults of the published functions; ours are those for ages.
DEFAULTS: dict[str, dict[str, dict[str, float]]] = {
    "agedb": {"focal_l1": {"beta": 0.2}, "focal_mse": {"beta": 0.2}, "huber": {"beta": 1.0}},
    "sts-b": {"focal_l1": {"beta": 20.0}, "focal_mse": {"beta": 20.0}, "huber": {"beta": 0.5}},
}
TYPES = {"f32": torch.float32, "f64": torch.float64}


def loss_and_grad(
    loss: str, prediction: np.ndarray, target: np.ndarray, weight: np.ndarray | None, kwargs: dict[str, Any]
) -> dict[str, np.ndarray]:
    computed = {}
    for ending, dtype in TYPES.items():
        predictions = torch.tensor(prediction, dtype=dtype, requires_grad=True)
        weights = None if weight is None else torch.tensor(weight, dtype=dtype)
        elementwise = getattr(losses, loss)(predictions, torch.tensor(target, dtype=dtype), **kwargs)
        mean = losses.weighted_mean(elementwise, weights)
        mean.backward()
        computed |= {f"loss_{ending}": mean.detach().numpy(), f"grad_{ending}": predictions.grad.numpy()}
    return computed


def run_weighted(case: Case) -> dict[str, np.ndarray]:
    variant = "sts-b" if case.entry["source"]["module"].startswith("sts-b") else "agedb"
    computed = {}
    for row in case.hyperparameters["losses"]:
        kwargs = {**DEFAULTS[variant].get(row["loss"], {}), **row["kwargs"]}
        weight = case["weights"] if row["uses_weights"] else None
        got = loss_and_grad(row["loss"], case["inputs"], case["targets"], weight, kwargs)
        for name, array in got.items():
            quantity, ending = name.split("_")
            computed[f"{quantity}_{row['index']:02d}_{ending}"] = array
    return computed


def run_dense(case: Case) -> dict[str, np.ndarray]:
    return loss_and_grad("mse", case["output"], case["depth"], case["weight"], {})


ADAPTERS: dict[str, Adapter] = {"weighted_loss": run_weighted, "weighted_loss_dense": run_dense}
