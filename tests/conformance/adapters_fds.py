"""FDS replayed call by call, and its calibration alone."""

from typing import Any

import numpy as np
import torch
from harness import Adapter, Case

from dir_bench.labels.bins import TargetBins
from dir_bench.methods.fds import FDS
from dir_bench.methods.fds_calibration import calibrate_mean_var

BUFFERS = (
    "running_mean", "running_var", "running_mean_last_epoch", "running_var_last_epoch",
    "smoothed_mean_last_epoch", "smoothed_var_last_epoch", "num_samples_tracked", "epoch",
)  # fmt: skip

# What each published variant does, in the words of the library.
VARIANTS: dict[str, dict[str, Any]] = {
    "fds_age": {
        "edges": "absorb_if_present", "empty": "initial", "lag": "alias", "guard": "nonzero_columns",
        "groups": "labels", "clip": (0.1, 10.0),
    },
    "fds_stsb": {
        "edges": "clamp", "empty": "neighbours", "lag": "alias", "guard": "valid_columns", "clip": (0.5, 2.0),
    },
    "fds_nyud2": {
        "edges": "clamp", "empty": "initial", "lag": "snapshot", "guard": "valid_rows", "clip": (0.2, 5.0),
    },
}  # fmt: skip
# The guard of the published STS-B and NYUD2 code goes by the version of torch: names of the other answer.
OTHER_GUARD = {"torch_ge_1_2": "valid_rows", "integer_masks": "valid_columns"}


def target_bins(kind: str, bucket_num: int) -> TargetBins | None:
    if kind == "fds_stsb":
        return TargetBins.regular(0, 5, 5 / bucket_num, precision="float32")
    if kind == "fds_nyud2":  # of 0.1 m, however many are used
        return TargetBins.regular(0, bucket_num / 10, 0.1, rule="truncate", precision="float32")
    return None


def make_fds(case: Case, **changed: Any) -> FDS:
    settings = case.hyperparameters
    return FDS(
        settings["feature_dim"],
        first=settings["bucket_start"],
        last=settings["bucket_num"] - 1,
        bins=target_bins(case.kind, settings["bucket_num"]),
        kernel=settings["kernel"],
        kernel_size=settings["ks"],
        sigma=settings["sigma"],
        momentum=settings["momentum"],
        start_update=settings["start_update"],
        start_smooth=settings["start_smooth"],
        **{**VARIANTS[case.kind], "tails": "folded", "new_bins": "blend", **changed},
    )


def replay(case: Case, fds: FDS) -> dict[str, np.ndarray]:
    """Make every call of the case; also give what each buffer is after each update."""
    computed = {f"init_{name}": buffer(fds, name) for name in BUFFERS}
    computed["kernel_window"] = fds.kernel_window.numpy()
    for op in case.entry["ops"]:
        prefix = f"op{op['index']:02d}"
        if op["op"] == "smooth":
            computed |= {f"{prefix}_{name}": array for name, array in smooth(case, fds, op, prefix).items()}
            continue
        if op["op"] == "reset":
            fds.reset()
        elif op["op"] == "update_last_epoch_stats":
            fds.update_last_epoch_stats(op["epoch"])
        elif op["op"] == "update_running_stats":
            features, labels = tensor(case, f"{prefix}_features"), tensor(case, f"{prefix}_labels")
            fds.update_running_stats(features, labels, op["epoch"])
        else:
            raise ValueError(f"{case.name}: unknown operation {op['op']!r}")
        computed |= {f"{prefix}_after_{name}": buffer(fds, name) for name in BUFFERS}
    return computed


def smooth(case: Case, fds: FDS, op: dict[str, Any], prefix: str) -> dict[str, np.ndarray]:
    features = tensor(case, f"{prefix}_features").requires_grad_()
    smoothed = fds.smooth(features, tensor(case, f"{prefix}_labels"), op["epoch"])
    np.testing.assert_array_equal(features.detach(), case[f"{prefix}_features"], "smooth changed its input")
    if f"{prefix}_grad_coef" not in case:
        return {"out": smoothed.detach().numpy()}
    (grad,) = torch.autograd.grad((smoothed * tensor(case, f"{prefix}_grad_coef")).sum(), features)
    return {"out": smoothed.detach().numpy(), "grad": grad.numpy()}


def run_fds(case: Case) -> dict[str, np.ndarray]:
    computed = replay(case, make_fds(case))
    check_unlisted_buffers(case, computed)
    for ending, guard in OTHER_GUARD.items():
        if any(name.endswith(ending) for name in case.arrays):
            other = replay(case, make_fds(case, guard=guard))
            computed |= {f"{name}_{ending}": array for name, array in other.items()}
    return computed


def check_unlisted_buffers(case: Case, computed: dict[str, np.ndarray]) -> None:
    """A buffer without an array after an operation has to be what it was at the last one that lists it."""
    for name in BUFFERS:
        last = f"init_{name}"
        for op in case.entry["ops"]:
            now = f"op{op['index']:02d}_after_{name}"
            if now in case:
                last = now
            elif now in computed and last in case:
                np.testing.assert_allclose(
                    computed[now], case[last], **case.tolerance(last), err_msg=f"{case.name}: {now}"
                )


def run_calibrate(case: Case) -> dict[str, np.ndarray]:
    settings = case.hyperparameters
    clip = (settings["clip_min"], settings["clip_max"])
    module = case.entry["source"]["module"]
    guard = next(
        (g for part, g in (("sts-b", "valid_columns"), ("nyud2", "valid_rows")) if module.startswith(part)),
        "nonzero_columns",
    )
    computed = {}
    for row in settings["cases"]:
        name = f"case{row['index']}"
        args = [tensor(case, f"{name}_{part}") for part in ("matrix", "m1", "v1", "m2", "v2")]
        for ending, used in {"out": guard, **{f"out_{e}": g for e, g in OTHER_GUARD.items()}}.items():
            computed[f"{name}_{ending}"] = calibrate_mean_var(*args, clip=clip, guard=used).numpy()
    return computed


def buffer(fds: FDS, name: str) -> np.ndarray:
    return getattr(fds, name).clone().numpy()


def tensor(case: Case, name: str) -> torch.Tensor:
    return torch.from_numpy(case[name])


ADAPTERS: dict[str, Adapter] = {**dict.fromkeys(VARIANTS, run_fds), "calibrate_mean_var": run_calibrate}
