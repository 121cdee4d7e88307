"""The rules across a config's fields: what cannot go together, in sentences that say what to do."""

import math
from dataclasses import fields
from itertools import pairwise
from typing import Any

from dir_bench.errors import UserError, nearest
from dir_bench.evaluation.extra import check_name
from dir_bench.schema import Bins, Config, DatasetConfig, Protocol, Subset, look_up, toggle_groups

CHOICES: dict[str, tuple[str, ...]] = {
    "dataset.bins.rule": ("edges", "truncate"),
    "dataset.bins.precision": ("float32", "float64"),
    "dataset.bins.choose": ("none", "width", "quantiles"),
    "dataset.monitor": ("mae", "mse", "rmse", "gm"),
    "schedule.interval": ("epoch", "step"),
    "trainer.eval_unit": ("epoch", "step"),
    "trainer.accelerator": ("auto", "cpu", "cuda", "gpu", "mps"),
    "trainer.cache": ("none", "disk", "ram"),
    "trainer.samples_on": ("auto", "host", "device"),
    "trainer.select": ("best", "last"),
    "semantics.stop_rule": ("newest_is_largest", "no_progress"),
    "trainer.tf32": ("convolutions", "all", "none"),
    "trainer.compile_mode": ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"),
    "trainer.precision": ("32-true", "64-true", "bf16-mixed", "16-mixed"),
}
"""Every key whose value is one of a few words, with those words."""
MEANT = {"trainer.cache=device": "trainer.samples_on=device"}
"""What some write who look for another key."""


MOST_BINS = 1_000_000
MOST_THREADS = 1024


def check(config: Config) -> None:
    """Check values and the rules across fields, in an order that names the most basic mistake first."""
    groups = toggle_groups(config)
    for key, choices in [*CHOICES.items(), *(item for group in groups for item in group.choices.items())]:
        value = look_up(config, key)
        if value not in choices:
            meant = MEANT.get(f"{key}={value}")
            said = f"{', '.join(choices)}{f'; did you mean {meant}?' if meant else ''}"
            raise UserError(f"{key}={value} is not a choice{nearest(str(value), choices)}: {said}")
    check_name(config.dataset.extra_errors)
    _check_numbers(config)
    _check_bins(config)
    for group in groups:
        group.check(config)
    _check_parts(config)
    _check_subset(config)
    if config.trainer.epochs is None and config.trainer.max_steps is None:
        raise UserError("the run would never end: set trainer.epochs or trainer.max_steps")


def _check_parts(config: Config) -> None:
    """A part has a name to be called by, and says what it is."""
    taken = {f.name for f in fields(config)} - {"head"} | {"backbone", "regressor"}
    for name, node in config.parts.items():
        if not name.isidentifier() or name in taken:
            why = "is taken" if name in taken else "must be a word, such as my_part"
            raise UserError(f"parts.{name}: the name {why}; choose another (or `head`, to take that one's place)")
        if node is not None and not (isinstance(node, dict) and isinstance(node.get("_target_"), str)):
            raise UserError(f"parts.{name}={node} must be settings with a `_target_`, the dotted name of a class")
    if (node := config.parts.get("head")) is None or config.stages.on:  # a first stage may learn otherwise
        return
    own = f"has no effect beside parts.head ({node['_target_']})"
    if config.head.on:
        raise UserError(f"head={config.head.name} {own}: drop one of them")
    selects = config.loss.monitor(config) != config.dataset.monitor  # the epoch, if nothing else
    if config.loss.name != config.dataset.recipe.loss and not selects:
        raise UserError(f"loss={config.loss.name} {own}, which has a loss of its own: drop one of them")


def _check_bins(config: Config) -> None:
    dataset = config.dataset
    _check_widths(dataset.bins)
    count = dataset.bins.count if dataset.bins.settled else MOST_BINS
    for name in ("many", "medium", "few"):
        beyond = [b for b in getattr(dataset.regions, name) or [] if not 0 <= b < count]
        if beyond:
            raise UserError(f"dataset.regions.{name} names bin {beyond[0]}, and there are bins 0 to {count - 1} only")
    left = _chosen_regions(dataset)
    if dataset.dense and (left or not dataset.bins.settled):
        raise UserError(f"{(left or ['dataset.bins'])[0]} cannot be chosen from depth maps, of too many pixels: set it")
    if dataset.relevance is not None and (fault := _relevance_fault(dataset.relevance)):
        raise UserError(f"dataset.relevance={dataset.relevance} {fault}, as in [[10,1],[30,0],[70,1]]")


def _chosen_regions(dataset: DatasetConfig) -> list[str]:
    """Return the thresholds that are left to the data."""
    return [f"dataset.regions.{key}" for key in ("many_over", "few_under") if getattr(dataset.regions, key) is None]


def _check_widths(bins: Bins) -> None:
    """Bins that are there have edges that increase; those to be chosen are asked for in one way."""
    if bins.edges is not None:
        edges = bins.edges if isinstance(bins.edges, list) else []
        if len(edges) < 2 or not all(map(_is_number, edges)) or any(a >= b for a, b in pairwise(edges)):
            raise UserError(f"dataset.bins.edges={bins.edges} must list two or more numbers that increase, as [0,5,20]")
        return
    given = [key for key in ("start", "stop", "width") if getattr(bins, key) is not None]
    if bins.choose == "none" and (bins.number is not None or len(given) < 3):
        key = "number" if bins.number is not None else next(k for k in ("start", "stop", "width") if k not in given)
        raise UserError(
            f"dataset.bins.{key}={getattr(bins, key)} is for bins that are chosen from the targets: add "
            "dataset.bins.choose=width, and null for what is to be chosen of start, stop and width"
        )
    if bins.choose == "quantiles" and given:
        raise UserError(
            f"dataset.bins.{given[0]}={getattr(bins, given[0])} has no effect with dataset.bins.choose=quantiles: set "
            "it to null"
        )
    if bins.number is not None and not (1 <= bins.number <= MOST_BINS and "width" not in given):
        raise UserError(
            f"dataset.bins.number={bins.number} must be from 1 to {MOST_BINS:,}, and takes the place of "
            "dataset.bins.width: give one of them"
        )
    start, stop, width = bins.start, bins.stop, bins.width
    for key, value in (("start", start), ("stop", stop), ("width", width)):
        if value is not None and not math.isfinite(value):
            raise UserError(f"dataset.bins.{key}={value} must be a finite number")
    wrong = (width is not None and not width > 0) or (start is not None and stop is not None and not stop > start)
    if wrong:
        raise UserError(f"dataset.bins: stop={stop} must lie above start={start}, and width={width} above 0")
    if start is None or stop is None or width is None:
        return
    if not (stop - start) / width <= MOST_BINS:
        raise UserError(
            f"dataset.bins: from start={start} to stop={stop} in steps of width={width} are more than {MOST_BINS:,} "
            "bins: take wider ones"
        )


def _relevance_fault(points: Any) -> str:
    """Return what is wrong with control points of relevance, or ""."""
    pairs = points if isinstance(points, list) else []
    if len(pairs) < 2 or not all(map(_is_pair, pairs)):
        return "must list two or more control points [label, relevance]"
    if any(low >= high for (low, _), (high, _) in pairwise(pairs)):
        return "must list labels in ascending order"
    return (
        ""
        if all(0 <= phi <= 1 for _, phi in pairs) and any(phi for _, phi in pairs)
        else ("must have relevances from 0 to 1, not all of them 0")
    )


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


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
    if left := _chosen_regions(dataset):
        raise UserError(
            f"subset={subset.name} changes how many samples there are, and {left[0]}=null is chosen from those before "
            "it: set dataset.regions.many_over and dataset.regions.few_under"
        )
    if subset.protocol != Protocol():
        _check_protocol(subset)
        return
    if subset.replace:
        raise UserError(f"subset.replace has no effect with subset={subset.name}: drop it, or choose a protocol")
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


def _check_protocol(subset: Subset) -> None:
    protocol = subset.protocol
    pairs = isinstance(protocol.omega, list) and protocol.omega and all(map(_is_pair, protocol.omega))
    if not pairs or any(rate < 0 for _, rate in protocol.omega):
        raise UserError(
            f"subset.protocol.omega={protocol.omega} must list [centre, rate], no rate below 0, as in [[50,0.01]]"
        )
    for key in ("within", "range"):
        if (pair := getattr(protocol, key)) is not None and not _is_range(pair):
            raise UserError(f"subset.protocol.{key}={pair} must be [low, high], low < high, as in [0,100]")
    if not isinstance(protocol.blind, list) or not all(map(_is_range, protocol.blind)):
        raise UserError(f"subset.protocol.blind={protocol.blind} must list ranges [low, high], as in [[47,54]]")
    if protocol.per_bin < 1 or subset.seed < 0:
        raise UserError(
            f"subset.protocol.per_bin={protocol.per_bin} must be at least 1, and subset.seed={subset.seed} not negative"
        )
    plain = Subset(subset.name, subset.title, protocol=protocol, replace=subset.replace, seed=subset.seed)
    if subset != plain:
        other = next(f.name for f in fields(subset) if getattr(subset, f.name) != getattr(plain, f.name))
        raise UserError(f"subset.{other} has no effect with subset={subset.name}, which is a protocol: drop it")


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(map(_is_number, pair))


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
    if config.schedule.source and config.schedule.source.get("T_max", 1) is None:
        raise UserError(
            "schedule.source.T_max is null, because trainer.epochs is: set it to a number of epochs, or to "
            "trainer.max_steps with schedule.interval=step"
        )
    if config.schedule.source and config.schedule.source.get("T_max", 1) == 0:
        raise UserError("schedule.source.T_max=0 must be at least 1")
    if not 0 <= config.semantics.zero_error < math.inf:
        raise UserError(f"semantics.zero_error={config.semantics.zero_error} must be 0 or a number above it")
    if trainer.workers < 0:
        raise UserError(f"trainer.workers={trainer.workers} must not be negative (0: fetch batches when asked)")
    if trainer.threads is not None and trainer.threads > MOST_THREADS:
        raise UserError(f"trainer.threads={trainer.threads} must be {MOST_THREADS} at most")
    if not 0 <= config.seed < 2**63:
        raise UserError(f"seed={config.seed} must be 0 or more, and less than 2**63")
    for name in (
        "epochs",
        "max_steps",
        "batch_size",
        "eval_batch_size",
        "devices",
        "batch_norm_groups",
        "eval_every",
        "patience",
        "threads",
    ):
        value = getattr(trainer, name)
        if value is not None and value < 1:
            raise UserError(f"trainer.{name}={value} must be at least 1")
    if trainer.batch_norm_groups > 1 and trainer.devices > 1:
        raise UserError(
            f"trainer.batch_norm_groups={trainer.batch_norm_groups} parts the batch of one process, and with "
            f"trainer.devices={trainer.devices} batch norm is over all of them: set one of the two to 1"
        )
    if trainer.clip_norm is not None and not trainer.clip_norm > 0:
        raise UserError(f"trainer.clip_norm={trainer.clip_norm} must be above 0 (null: no clipping)")
    if trainer.clip_norm is not None and trainer.precision == "16-mixed" and config.optimizer.get("fused"):
        raise UserError(
            "a fused optimizer scales 16-bit gradients itself, too late to clip them: set optimizer.fused=null, "
            "trainer.clip_norm=null or trainer.precision=bf16-mixed"
        )
    if config.dataset.standardize and config.dataset.dense:
        raise UserError(
            f"dataset.standardize=true is for one target a sample, and {config.dataset.title} has maps of them"
        )
    if not config.dataset.target_scale > 0:
        raise UserError(f"dataset.target_scale={config.dataset.target_scale} must be above 0")
