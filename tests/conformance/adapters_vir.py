"""VIR: evidence, heads, windows, the moments of features, and how variances are judged."""

import re
from collections.abc import Callable

import numpy as np
import torch
from adapters_fds import check_unlisted_buffers, replay
from harness import Adapter, Case
from torch import Tensor
from torch.nn.functional import conv2d, linear, softplus

from dir_bench.evaluation.uncertainty import uncertainty_errors
from dir_bench.labels import kernel_window
from dir_bench.methods import vir_evidence as evidence
from dir_bench.methods.vir_evidence import NIG
from dir_bench.methods.vir_prm import PRM, prm_table, repeated_window

TYPES = {"f32": torch.float32, "f64": torch.float64}


def both(compute: Callable[[Callable[[str], Tensor]], dict[str, Tensor]], case: Case) -> dict[str, np.ndarray]:
    """Compute in both types; names get the type's ending."""
    computed = {}
    for ending, dtype in TYPES.items():
        arrays = compute(lambda name, dtype=dtype: torch.tensor(case[name], dtype=dtype))
        computed |= {f"{name}_{ending}": array.detach().numpy() for name, array in arrays.items()}
    return computed


def nig_kl(one: NIG, other: NIG) -> Tensor:
    """Return the divergence of `one` from `other`, as published, and in no loss of ours: with alpha − 1 for alpha."""
    return (
        0.5 * (one.alpha - 1) / one.beta * other.v * (other.gamma - one.gamma).square()
        + 0.5 * (other.v / one.v - (other.v / one.v).log() - 1)
        + other.alpha * (one.beta / other.beta).log()
        - torch.lgamma(one.alpha)
        + torch.lgamma(other.alpha)
        + (one.alpha - other.alpha) * torch.digamma(one.alpha)
        - (one.beta - other.beta) * one.alpha / one.beta
    )


def as_nig(output: Tensor) -> NIG:
    """Return the distribution that four channels stand for directly; no head of ours goes without observations."""
    gamma, v, alpha, beta = output.chunk(4, dim=1)
    return NIG(gamma, softplus(v, beta=0.01), softplus(alpha, beta=0.01) + 1, softplus(beta, beta=0.01))


def run_nig(case: Case) -> dict[str, np.ndarray]:
    number = r"\s*([-+]?\s*[\d.]+)\s*"
    terms = re.findall(number + r"(?:v|alpha|beta)" + number, case.hyperparameters["second_NIG_of_kl"])
    other = [tuple(float(part.replace(" ", "")) for part in term) for term in terms]
    assert len(other) == 3
    # In float32 whatever the type of the rest, as the case has it.
    singles = [torch.tensor(case[name]) for name in ("v", "alpha", "beta")]
    others = [a * single + b for (a, b), single in zip(other, singles, strict=True)]
    coefficients = {m[1] for name in case.arrays if (m := re.search(r"_coeff([\d.]+)_f", name))}

    def compute(given: Callable[[str], Tensor]) -> dict[str, Tensor]:
        targets, parameters = given("targets"), [given(name) for name in ("gamma", "v", "alpha", "beta")]
        nig = NIG(*parameters)
        second = NIG(targets, *(array.to(targets.dtype) for array in others))
        nll, regulariser = evidence.nig_nll(targets, nig), evidence.nig_regulariser(targets, nig)
        found = {
            "nig_nll": nll,
            "nig_reg": regulariser,
            "kl_nig": nig_kl(nig, second),
            "predictive_variance": nig.epistemic,
        }
        for coefficient in coefficients:
            joined = torch.cat(parameters, 1).requires_grad_()
            losses = evidence.evidential(targets, NIG(*joined.chunk(4, 1)), float(coefficient))
            weighted = (losses * given("weights")).mean()
            means = torch.stack([losses.mean(), nll.mean(), regulariser.mean()]).double()
            found |= {
                f"evidential_regression_coeff{coefficient}": means,
                f"weighted_edl_coeff{coefficient}": weighted,
                f"weighted_edl_coeff{coefficient}_grad": torch.autograd.grad(weighted, joined)[0],
            }
        return found

    return both(compute, case)


def run_cdm(case: Case) -> dict[str, np.ndarray]:
    given_prior = case.hyperparameters["prior"]
    assert given_prior["gamma"] == given_prior["beta"] == 0
    prior = {"prior_v": given_prior["v"], "prior_alpha": given_prior["alpha"]}

    def compute(given: Callable[[str], Tensor]) -> dict[str, Tensor]:
        found = {}
        for mode, weights in (("train", given("weights")), ("eval", 1.0)):
            inputs = given("inputs").requires_grad_()
            nig = evidence.posterior(*inputs.chunk(3, 1), weights, **prior)
            loss = evidence.evidential(given("targets"), nig, case.hyperparameters["coeff"]).mean()
            found |= {
                f"loss_{mode}": loss,
                f"grad_inputs_{mode}": torch.autograd.grad(loss, inputs)[0],
                f"normal_output_{mode}": torch.cat(nig, 1),
            }
        return found

    return both(compute, case)


def run_heads(case: Case) -> dict[str, np.ndarray]:
    def compute(given: Callable[[str], Tensor]) -> dict[str, Tensor]:
        def output(name: str) -> Tensor:
            return linear(given("features"), given(f"{name}_weight"), given(f"{name}_bias"))

        divergence = evidence.kl_from_standard_normal(given("kl_mu"), given("kl_log_var")).mean()
        maps = conv2d(given("Conv2DNormal_in"), given("Conv2DNormal_weight"))
        return {
            "ConjugatePrior_out": torch.cat(evidence.as_observations(output("ConjugatePrior")), 1),
            "LinearNormalGamma_out": torch.cat(as_nig(output("LinearNormalGamma")), 1),
            "LinearNormal_out": torch.cat(evidence.as_normal(output("LinearNormal")), 1),
            "Conv2DNormal_out": torch.cat(evidence.as_normal(maps), 1),
            "kl_div": case.hyperparameters["kl_coeff"] * divergence,
        }

    return both(compute, case)


def run_windows(case: Case) -> dict[str, np.ndarray]:
    computed = {}
    for row in case.hyperparameters["windows"]:
        settings = (row["kernel"], row["ks"], row["sigma"])
        summed = kernel_window(*settings, normalize="sum", dtype=np.float32)
        number = f"{row['index']:02d}"
        computed[f"window_{number}"] = repeated_window(kernel_window(*settings), row["bins"])
        computed[f"prm_window_{number}"] = repeated_window(summed, row["bins"])
    return computed


def run_prm(case: Case) -> dict[str, np.ndarray]:
    given = case.hyperparameters
    prm = PRM(
        2 * given["feature_dim"],
        first=given["bucket_start"],
        last=given["bucket_num"] - 1,
        kernel=given["kernel"],
        kernel_size=given["ks"],
        sigma=given["sigma"],
        repeat=given.get("bins", 1),
        momentum=given["momentum"],
        start_update=given.get("start_update", 0),
        start_smooth=given.get("start_smooth", 1),
        zero_variance="end_batch",
        edges="absorb_if_present",
        empty="initial",
        lag="alias",
        groups="labels",
        new_bins="blend",
    )
    computed = replay(case, prm)
    check_unlisted_buffers(case, computed)
    return computed


def run_calibrate(case: Case) -> dict[str, np.ndarray]:
    clip = (case.hyperparameters["clip_min"], case.hyperparameters["clip_max"])
    computed = {}
    for row in case.hyperparameters["cases"]:
        name = f"case{row['index']}"
        matrix, *moments = (torch.tensor(case[f"{name}_{part}"]) for part in ("matrix", "m1", "v1", "m2", "v2"))
        scale, shift = prm_table(*moments, clip)
        kept = moments[1].chunk(2)[0] != 0
        if not kept.any():  # there, all columns stay as they are; some, and the published code leaves them out
            kept = ~kept
        computed[f"{name}_out"] = (matrix * scale + shift)[:, kept.repeat(2)].numpy()
    return computed


def run_uncertainty(case: Case) -> dict[str, np.ndarray]:
    std = np.sqrt(case["y_var"].astype(np.float64))
    found = uncertainty_errors(case["y_pred"], case["y_true"], "normal", std)
    return {f"{name}_{kind}": np.array(found[name]) for name in ("nll", "ause") for kind in ("l1", "l2")}


ADAPTERS: dict[str, Adapter] = {
    "vir_nig": run_nig,
    "vir_cdm_loss": run_cdm,
    "vir_heads": run_heads,
    "vir_kernel_windows": run_windows,
    "vir_prm": run_prm,
    "vir_calibrate": run_calibrate,
    "vir_uncertainty": run_uncertainty,
}
