"""The rules across a config's fields: what cannot go together, in sentences that say what to do."""

import math
from dataclasses import is_dataclass
from typing import Any

from dir_bench.errors import UserError, nearest
from dir_bench.evaluation.extra import check_name
from dir_bench.schema import Config, Subset

CHOICES: dict[str, tuple[str, ...]] = {
    "dataset.bins.rule": ("edges", "truncate"),
    "dataset.bins.precision": ("float32", "float64"),
    "dataset.monitor": ("mae", "mse", "rmse", "gm"),
    "reweight.name": ("none", "inv", "sqrt_inv", "class_balanced"),
    "lds.name": ("none", "gaussian", "triang", "laplace"),
    "fds.name": ("none", "gaussian", "triang", "laplace"),
    "fds.statistics": ("pass", "stream"),
    "loss.name": ("l1", "mse", "huber", "focal_l1", "focal_mse"),
    "loss.activate": ("sigmoid", "tanh"),
    "head.name": ("regression", "classification"),
    "head.decode": ("argmax", "expected"),
    "head.value": ("center", "edge"),
    "mixup.name": ("none", "input", "manifold"),
    "stages.name": ("none", "rrt", "crt"),
    "resample.name": ("none", "smoter", "smogn"),
    "schedule.interval": ("epoch", "step"),
    "trainer.eval_unit": ("epoch", "step"),
    "trainer.accelerator": ("auto", "cpu", "cuda", "gpu", "mps"),
    "trainer.cache": ("none", "disk", "ram"),
    "trainer.precision": ("32-true", "bf16-mixed", "16-mixed"),
    "semantics.lds_integers": ("truncate", "exact"),
    "semantics.lds_boundary": ("constant", "reflect"),
    "semantics.kernel_tails": ("folded", "sampled"),
    "semantics.fds_edges": ("absorb_if_present", "clamp"),
    "semantics.fds_empty": ("initial", "neighbours", "exclude"),
    "semantics.fds_lag": ("alias", "snapshot", "none"),
    "semantics.fds_guard": ("nonzero_columns", "valid_columns", "valid_rows"),
    "semantics.fds_new_bins": ("blend", "overwrite"),
}
"""Every key whose value is one of a few words, with those words."""


def check(config: Config) -> None:
    """Check values and the rules across fields, in an order that names the most basic mistake first."""
    for key, choices in CHOICES.items():
        value = _get(config, key)
        if value not in choices:
            raise UserError(f"{key}={value} is not a choice{nearest(str(value), choices)}: {', '.join(choices)}")
    check_name(config.dataset.extra_errors)
    _check_numbers(config)
    reweight, lds, fds = config.reweight.name, config.lds.name, config.fds.name
    _check_resample(config)
    if lds != "none" and reweight == "none" and config.resample.name == "none":
        raise UserError(
            f"lds={lds} smooths the density that re-weighting inverts, and reweight=none uses none: add "
            f"reweight={config.dataset.recipe.lds_reweight} (the paper's VANILLA + LDS on {config.dataset.title}) "
            f"or drop lds"
        )
    if fds != "none" and not config.backbone.get("features", True):
        raise UserError(
            f"fds={fds} calibrates learned features, and the backbone {config.backbone.get('_target_')} offers none: "
            f"choose another backbone or fds=none"
        )
    rows = config.dataset.fds_last - config.dataset.fds_first + 1
    if fds != "none" and config.fds.kernel_size // 2 >= rows:
        raise UserError(f"fds.kernel_size={config.fds.kernel_size} is too wide for the {rows} bins that FDS smooths")
    _check_bins(config)
    if config.stages.name != "none" and reweight == "none":
        re_trained, weights = {
            "rrt": ("regressor with inverse", "inv"),
            "crt": ("classifier with class-balanced", "class_balanced"),
        }[config.stages.name]
        raise UserError(
            f"stages={config.stages.name} re-trains the {re_trained} weights: add reweight={weights} "
            f"(method={config.stages.name} does)"
        )
    _check_head(config)
    _check_mixup(config)
    _check_subset(config)
    if config.trainer.epochs is None and config.trainer.max_steps is None:
        raise UserError("the run would never end: set trainer.epochs or trainer.max_steps")


def _check_resample(config: Config) -> None:
    settings, dataset = config.resample, config.dataset
    if settings.name == "none":
        return
    for key in ("reweight", "stages"):
        if (name := getattr(config, key).name) != "none":
            raise UserError(
                f"resample={settings.name} makes rare labels frequent, and {key}={name} weights them as if they were "
                f"still rare: both would count the imbalance twice; drop one of them (lds alone shapes the resampling)"
            )
    if dataset.no_resampling is not None:
        raise UserError(f"resample={settings.name} is not for {dataset.title}: {dataset.no_resampling}")
    if not 0 < settings.threshold < 1:
        raise UserError(f"resample.threshold={settings.threshold} must lie between 0 and 1 (the relevance of a bin)")
    if settings.neighbours < 1 or settings.size < 1:
        raise UserError(
            f"resample.neighbours={settings.neighbours} and resample.size={settings.size} must be at least 1"
        )
    if not settings.perturbation > 0:
        raise UserError(f"resample.perturbation={settings.perturbation} must be above 0 (standard deviations)")
    if settings.over is not None and not settings.over >= 0:
        raise UserError(f"resample.over={settings.over} must not be negative (synthetic samples per rare one)")
    if settings.under is not None and not 0 < settings.under <= 1:
        raise UserError(
            f"resample.under={settings.under} must be above 0, and 1 at most (share of common samples kept)"
        )


def _check_bins(config: Config) -> None:
    dataset = config.dataset
    if not (dataset.bins.width > 0 and dataset.bins.stop > dataset.bins.start):
        raise UserError(
            f"dataset.bins: stop={dataset.bins.stop} must lie above start={dataset.bins.start}, and width above 0"
        )
    count = round((dataset.bins.stop - dataset.bins.start) / dataset.bins.width)
    if config.fds.name != "none" and not 0 <= dataset.fds_first < dataset.fds_last < count:
        raise UserError(
            f"dataset.fds_first={dataset.fds_first} and dataset.fds_last={dataset.fds_last} must be two of the {count} "
            f"bins, 0 to {count - 1}, in this order"
        )
    for name in ("many", "medium", "few"):
        beyond = [b for b in getattr(dataset.regions, name) or [] if not 0 <= b < count]
        if beyond:
            raise UserError(f"dataset.regions.{name} names bin {beyond[0]}, and there are bins 0 to {count - 1} only")


def _check_head(config: Config) -> None:
    classes, stages, loss = config.head.name == "classification", config.stages.name, config.loss.name
    if stages == ("rrt" if classes else "crt"):
        raise UserError(
            f"stages={stages} re-trains a {'regressor' if classes else 'classifier'}, and head={config.head.name} "
            f"has none: choose stages={'crt' if classes else 'rrt'} or the other head"
        )
    if classes and loss != config.dataset.recipe.loss:
        raise UserError(
            f"loss={loss} measures how far a number is off, and head=classification learns by cross-entropy: "
            "drop one of them"
        )
    if classes and config.mixup.name != "none":
        raise UserError(
            f"mixup={config.mixup.name} mixes targets as numbers, and the mean of two labels lies in a class of "
            "neither: drop it or head=classification"
        )


def _check_mixup(config: Config) -> None:
    mixup = config.mixup
    if not mixup.alpha > 0:
        raise UserError(f"mixup.alpha={mixup.alpha} must be above 0 (mixup=none: no mixing)")
    if not mixup.layers or min(mixup.layers) < 0 or len(set(mixup.layers)) < len(mixup.layers):
        raise UserError(f"mixup.layers={mixup.layers} must name at least one layer, from 0, and none twice")
    if mixup.name != "none" and config.fds.name != "none" and config.fds.statistics == "stream":
        raise UserError(
            "fds.statistics=stream would gather the statistics of mixed features under mixed targets: take "
            "fds.statistics=pass, which passes over the samples as they are, or mixup=none"
        )
    if mixup.name == "manifold" and config.trainer.compile:
        raise UserError("mixup=manifold reaches into the backbone at each step: set trainer.compile=false")


def _check_subset(config: Config) -> None:
    subset, dataset = config.subset, config.dataset
    if subset.name == "none":
        if subset != Subset():
            raise UserError("the subset.… settings have no effect with subset=none: add subset=gaps, or drop them")
        return
    if dataset.dense:
        raise UserError(
            f"subset={subset.name} chooses samples by their label, and in {dataset.title} every pixel has one: drop it"
        )
    if not (subset.keep or subset.remove or subset.peaks or subset.fullest or subset.test_share):
        raise UserError(f"subset={subset.name} changes nothing: add, say, subset.remove=[[20,30],[45,60]]")
    for key in ("keep", "remove"):
        ranges = getattr(subset, key)
        if ranges is not None and not (isinstance(ranges, list) and all(_is_range(pair) for pair in ranges)):
            raise UserError(f"subset.{key}={ranges} must list ranges [low, high], low < high, as in [[20,30],[45,60]]")
    for peak in subset.peaks:
        if not (peak.scale > 0 and peak.height > 0 and _is_range(peak.range)):
            raise UserError(
                f"subset.peaks: scale and height must be above 0, and range such as [15,45], not scale={peak.scale}, "
                f"height={peak.height}, range={peak.range}"
            )
    if subset.fullest is not None and subset.fullest < 1:
        raise UserError(f"subset.fullest={subset.fullest} must be at least 1")
    if subset.test_share is not None and not 0 < subset.test_share < 1:
        raise UserError(f"subset.test_share={subset.test_share} must lie between 0 and 1")
    if subset.seed < 0:
        raise UserError(f"subset.seed={subset.seed} must not be negative")


def _is_range(pair: Any) -> bool:
    numbers = isinstance(pair, list) and len(pair) == 2 and all(isinstance(end, (int, float)) for end in pair)
    return numbers and pair[0] < pair[1]


def _check_clip(key: str, clip: Any) -> None:
    pair = isinstance(clip, list) and len(clip) == 2 and all(isinstance(end, (int, float)) for end in clip)
    if clip is not None and not (pair and 0 < clip[0] <= clip[1]):
        raise UserError(f"{key}={clip} must be null or two numbers [low, high] with 0 < low <= high")


def _check_numbers(config: Config) -> None:
    trainer = config.trainer
    _check_clip("semantics.inv_clip", config.semantics.inv_clip)
    _check_clip("semantics.fds_clip", config.semantics.fds_clip)
    lr = config.optimizer.get("lr")
    if isinstance(lr, bool) or not isinstance(lr, (int, float)) or not 0 < lr < math.inf:
        raise UserError(f"optimizer.lr={lr} must be a number above 0")
    loss = config.loss
    if loss.name not in ("l1", "mse") and not 0 < loss.beta < math.inf:
        raise UserError(f"loss.beta={loss.beta} must be a number above 0")
    if loss.name.startswith("focal_") and not 0 <= loss.gamma < math.inf:
        raise UserError(f"loss.gamma={loss.gamma} must be 0 or a number above it")
    if config.schedule.source and config.schedule.source.get("T_max", 1) is None:
        raise UserError(
            "schedule.source.T_max is null, because trainer.epochs is: set it to a number of epochs, or to "
            "trainer.max_steps with schedule.interval=step"
        )
    for stage_key in ("epochs", "max_steps"):
        value = getattr(config.stages, stage_key)
        if value is not None and value < 1:
            raise UserError(f"stages.{stage_key}={value} must be at least 1")
    for key in ("lds", "fds"):
        kernel = getattr(config, key)
        if kernel.kernel_size < 1:
            raise UserError(f"{key}.kernel_size={kernel.kernel_size} must be an odd number of bins, such as 5")
        if kernel.kernel_size % 2 == 0:
            raise UserError(
                f"{key}.kernel_size={kernel.kernel_size} has no centre: take an odd number, "
                f"such as {kernel.kernel_size - 1} or {kernel.kernel_size + 1}"
            )
        if not 0 < kernel.sigma < math.inf:
            raise UserError(f"{key}.sigma={kernel.sigma} must be above 0 (it is measured in bins)")
    if not 0 <= config.reweight.beta <= 1:
        raise UserError(f"reweight.beta={config.reweight.beta} must lie in [0, 1]")
    if config.fds.momentum is not None and not 0 <= config.fds.momentum <= 1:
        raise UserError(f"fds.momentum={config.fds.momentum} must lie in [0, 1], or be null for a running average")
    if config.fds.start_smooth < 0 or config.fds.start_update < 0:
        raise UserError("fds.start_update and fds.start_smooth count epochs from 0 and cannot be negative")
    if trainer.workers < 0:
        raise UserError(f"trainer.workers={trainer.workers} must not be negative (0: fetch batches when asked)")
    if config.seed < 0:
        raise UserError(f"seed={config.seed} must not be negative")
    for name in (
        "epochs",
        "max_steps",
        "batch_size",
        "eval_batch_size",
        "devices",
        "eval_every",
        "patience",
        "threads",
    ):
        value = getattr(trainer, name)
        if value is not None and value < 1:
            raise UserError(f"trainer.{name}={value} must be at least 1")
    if trainer.clip_norm is not None and not trainer.clip_norm > 0:
        raise UserError(f"trainer.clip_norm={trainer.clip_norm} must be above 0 (null: no clipping)")
    if not config.dataset.target_scale > 0:
        raise UserError(f"dataset.target_scale={config.dataset.target_scale} must be above 0")


def _get(node: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        node = getattr(node, part) if is_dataclass(node) else node[part]
    return node
