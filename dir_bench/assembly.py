"""From a config to built parts: data, network, loss, trainer; each function reads one part of the config."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from dir_bench import config as configs
from dir_bench.backbones.base import Backbone, as_backbone
from dir_bench.datasets.base import Data, Dataset, Split
from dir_bench.datasets.coverage import faults
from dir_bench.datasets.protocols import redraw
from dir_bench.datasets.subsets import curate
from dir_bench.errors import UserError, last_line
from dir_bench.methods.part import Facts, Head, Part
from dir_bench.results.store import RunFolder
from dir_bench.schema import Config, TrainerConfig
from dir_bench.streams import stream_seed
from dir_bench.task import Task, target_bins
from dir_bench.toggles import Toggle
from dir_bench.training import checkpoint
from dir_bench.training.batch_norm import group_batch_norm, synchronise_batch_norm
from dir_bench.training.compiled import Compiled, keep_compiled
from dir_bench.training.kept import keep
from dir_bench.training.memory import keep_freed_memory
from dir_bench.training.network import Network
from dir_bench.training.precision import choose_tf32, forget_nvml, say_tf32, spare_hints
from dir_bench.training.stopping import stops
from dir_bench.training.trainer import Trainer

if TYPE_CHECKING:
    from lightning_fabric import Fabric

log = logging.getLogger("dir_bench")


def load_data(config: Config, dataset: Dataset | None = None) -> Data:
    """Return the splits, curated if a subset is chosen; `dataset` is that of the config, where it is built already.

    UserError if a split is empty, or its targets are not a finite number for each sample.
    """
    data: Data = (dataset or configs.build(config.dataset.source)).load()
    for name, split in {"train": data.train, "val": data.val, "test": data.test}.items():
        _check_split(config, name, split)
    bins = target_bins(config.dataset)
    if not config.dataset.dense:
        for fault in faults(bins, {"train": data.train.targets, "val": data.val.targets, "test": data.test.targets}):
            log.warning("%s", fault)
    return (redraw if config.subset.protocol.omega else curate)(data, bins, config.subset)


def _check_split(config: Config, name: str, split: Split) -> None:
    where = f"{config.dataset.title} gives a {name} split"
    if not len(split):
        raise UserError(f"{where} without a sample")
    if config.dataset.dense:
        return
    targets = np.asarray(split.targets)
    if targets.shape != (len(split),):
        raise UserError(f"{where} of {len(split)} samples whose targets have shape {targets.shape}: one each is wanted")
    if (lost := ~np.isfinite(targets)).any():
        place = int(lost.argmax())
        raise UserError(f"{where} whose target {place} is {targets[place]} ({int(lost.sum())} such): leave it out")


def build_fabric(config: Config, strategy: str, devices: int, trains: bool = True) -> Fabric:
    """Return the engine; UserError if there is no such accelerator.

    What was trained in float16 is evaluated in bfloat16 on a CPU, which has no other half precision, but not trained.
    """
    from lightning_fabric import Fabric  # a second, which a sweep's plan does not need

    settings = config.trainer
    accelerator = "cuda" if settings.accelerator == "gpu" else settings.accelerator
    spare_hints()
    choose_tf32(settings.tf32)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*fp16 is not supported on CPU")  # see below
            fabric = Fabric(accelerator=accelerator, devices=devices, strategy=strategy, precision=settings.precision)  # type: ignore[arg-type]
    except (RuntimeError, ValueError) as error:
        raise UserError(f"trainer.accelerator={settings.accelerator} cannot be used here: {error}") from error
    if fabric.device.type == "cpu":
        keep_freed_memory()
        forget_nvml()
    if trains and settings.precision == "16-mixed" and fabric.device.type == "cpu":
        raise UserError("trainer.precision=16-mixed needs a GPU: on a CPU set trainer.precision=bf16-mixed or 32-true")
    if settings.precision == "32-true" and fabric.is_global_zero:
        say_tf32(settings.tf32, fabric.device)
    return fabric


def build_network(config: Config, data: Data) -> Network:
    """Build backbone, parts and regressor; initial weights depend on the seed alone, not on what came before."""
    check_backbone(config, data)
    with torch.random.fork_rng(devices=[]), _of_width(config.trainer.precision):
        torch.manual_seed(stream_seed(config.seed, "init", 0))
        backbone = as_backbone(configs.build(config.backbone, **data.backbone_kwargs))
        torch.manual_seed(stream_seed(config.seed, "init", 2))
        parts = build_parts(config, data, backbone)
        torch.manual_seed(stream_seed(config.seed, "init", 1))
        head = parts["head"]
        assert isinstance(head, Head)  # `build_parts` saw to it
        regressor = head.make_regressor(backbone)
        head.initialise(regressor)
    if not head.trains_regressor:
        regressor.requires_grad_(False)
    network = Network(backbone, regressor, parts)
    if head.fitted:
        network.requires_grad_(False)
    if config.trainer.channels_last:
        _to_channels_last(network)
    if config.trainer.compile:
        keep_compiled(Path(config.paths.data) / ".cache" / "compiled")
        network.compiled = Compiled(backbone, config.trainer.compile_mode)
    return network


@contextmanager
def _of_width(precision: str) -> Iterator[None]:
    """Draw initial weights in double precision if all is: in single, processors differ in their last bit."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64 if precision == "64-true" else before)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def check_backbone(config: Config, data: Data) -> None:
    """Raise UserError if a backbone is one for other data: by what it says that it takes, or by what it can be told."""
    target = configs.resolve_target(config.backbone)
    taken = _taken(config.backbone)
    if data.kind and taken and data.kind not in taken:
        fitting = [name for name, node in configs.choices("backbone").items() if data.kind in _taken(node)]
        raise UserError(
            f"the backbone {target.__name__} takes {' or '.join(taken)}, and the samples of {config.dataset.name} are "
            f"{data.kind}: choose backbone={' or '.join(fitting)}"
        )
    takes = inspect.signature(target).parameters
    alien = [key for key in data.backbone_kwargs if key not in takes]
    if alien and not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in takes.values()):
        raise UserError(
            f"the backbone {config.backbone['_target_']} is not for {config.dataset.title}, whose own take "
            f"{', '.join(alien)}: choose another, or where a method chose it for plain inputs, that method on learned "
            "features (method=vanilla_knn in place of knn)"
        )


def _taken(node: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what the backbone of a node says that it takes; () if it says nothing."""
    return tuple(getattr(configs.resolve_target(node), "takes", ()))


def _to_channels_last(network: nn.Module) -> None:
    """Lay the weights of 2-D and 3-D convolutions out with channels last; `Module.to` knows only one of the two."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.dim() in formats:
            tensor.data = tensor.data.contiguous(memory_format=formats[tensor.dim()])


def build_parts(config: Config, data: Data, backbone: Backbone) -> dict[str, Part]:
    """Build what the method is made of, by name: the groups' own parts, then those of `parts`, in their order."""
    bins = target_bins(config.dataset)
    shift, scale = target_units(config, data)
    facts = Facts(
        bins=bins,
        counts=data.train.label_counts(bins),
        targets=data.train.targets,
        target_scale=scale,
        target_shift=shift,
        feature_dim=backbone.feature_dim,
        backbone=backbone,
        statistics_split=data.fds,
        dense=config.dataset.dense,
    )
    own = {name: toggle.part(config, facts) for name, toggle in vars(config).items() if isinstance(toggle, Toggle)}
    parts = {name: part for name, part in own.items() if part is not None}
    parts |= {name: configs.build(node, facts=facts) for name, node in config.parts.items()}
    if not isinstance(parts["head"], Head):
        raise UserError(f"parts.head must be a head (`methods.part.Head`), not {type(parts['head']).__name__}")
    return parts


def target_units(config: Config, data: Data) -> tuple[float, float]:
    """Return the label that is 0 in network units, and how many label units one of them is.

    Published datasets have theirs in the config. With `dataset.standardize`, the training targets have mean 0 and
    standard deviation 1: the network begins where they lie, whatever their unit is.
    """
    if not config.dataset.standardize:
        return 0.0, config.dataset.target_scale
    targets = np.asarray(data.train.targets, np.float64)
    return float(targets.mean()), float(targets.std()) or 1.0


def train_on(data: Data, network: Network, device: torch.device, samples_on: str = "host") -> Data:
    """Return the data where they are to lie, with the training split that the parts make of it.

    The network is as initialised.
    """
    data = keep(data, device, samples_on)
    train = data.train
    for part in network.parts:
        train = part.samples(train, device)
    return data if train is data.train else replace(data, train=train)


def build_trainer(
    fabric: Fabric, config: Config, folder: RunFolder, data: Data, task: Task, network: Network
) -> Trainer:
    settings, stages = config.trainer, config.stages
    optimizer_node = dict(config.optimizer)
    schedule = config.schedule.source
    if stages.name != "none":
        # Stage two has a length of its own, within the run's, and a constant learning rate. What is frozen stays in
        # training mode, as in the published RRT.
        if stages.freeze:
            network.backbone.requires_grad_(False)
            for module in refitted(network.backbone).values():
                module.requires_grad_(True)
        optimizer_node["lr"] = stages.lr if stages.lr is not None else optimizer_node["lr"]
        settings = replace(
            settings,
            epochs=_least(settings.epochs, stages.epochs),
            max_steps=_least(settings.max_steps, stages.max_steps),
        )
        schedule = None
    if fabric.world_size > 1 and network.head.fitted:
        raise UserError(f"{type(network.head).__name__} is fitted by one process: start no more of them")
    if fabric.world_size > 1:
        synchronise_batch_norm(network)
    elif settings.batch_norm_groups > 1:
        group_batch_norm(network, settings.batch_norm_groups)
    if "fused" in optimizer_node and optimizer_node["fused"] is None:
        optimizer_node["fused"] = steps_in_one_pass(settings, fabric.device)
    optimizer = configs.build(optimizer_node, parameter_groups(network, optimizer_node["lr"]))
    scheduler = configs.build(schedule, optimizer) if schedule else None
    wrapped, optimizer = fabric.setup(network, optimizer)
    trainer = Trainer(
        fabric=fabric,
        settings=settings,
        network=wrapped,
        optimizer=optimizer,
        scheduler=scheduler,
        schedule_interval=config.schedule.interval,
        train=data.train,
        val=data.val,
        evaluate=partial(task.errors, data.val.judged),
        monitor=config.loss.monitor(config),
        seed=config.seed,
        checkpoints=folder.checkpoints,
        stop=partial(stops, patience=settings.patience, rule=config.semantics.stop_rule),  # type: ignore[arg-type]
    )
    if fabric.is_global_zero and trainer.loader.joins:
        log.info("the last batch of an epoch has one sample, which batch norm cannot take: it joins the one before it")
    return trainer


def steps_in_one_pass(settings: TrainerConfig, device: torch.device) -> bool | None:
    """Return what `optimizer.fused=null` comes to: one pass where torch has it, but for clipped gradients in float16.

    Those are unscaled by the pass itself, too late to clip them. None: torch takes its own next best way.
    """
    clipped_late = settings.precision == "16-mixed" and settings.clip_norm is not None
    return True if device.type in ("cpu", "cuda") and not clipped_late else None


def parameter_groups(network: Network, lr: float) -> list[dict[str, Any]]:
    """Return what is trained as an optimiser takes it.

    The network, each part that has settings of its own, and each module that has an `lr_factor`.
    """
    apart: list[tuple[nn.Module, Mapping[str, Any]]] = [
        (part, part.settings) for part in network.parts if part.settings
    ]
    factors = ((module, vars(module).get("lr_factor")) for module in network.modules())
    apart += [(module, {"lr": lr * factor}) for module, factor in factors if factor is not None]
    own = {id(parameter) for module, _ in apart for parameter in module.parameters()}
    shared = [p for p in network.parameters() if p.requires_grad and id(p) not in own]
    return [{"params": shared}, *({"params": _trained(module), **settings} for module, settings in apart)]


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def refitted(backbone: Backbone) -> dict[str, nn.Module]:
    """Return what a second stage trains anew beside the last layer, by name: what the backbone lists as `refit`."""
    return {name: backbone.get_submodule(name) for name in backbone.refit}


def _least(*bounds: int | None) -> int | None:
    return min((bound for bound in bounds if bound is not None), default=None)


def take_stage_one(network: Network, run: Path) -> None:
    """Load the backbone that a finished run selected, and tell each part its state; UserError if shapes differ."""
    state = checkpoint.load_best(RunFolder(run).best_checkpoint)["network"]
    anew = tuple(f"{name}." for name in refitted(network.backbone))
    own = {k: v for k, v in network.backbone.state_dict().items() if k.startswith(anew)}
    try:
        backbone = {k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")}
        network.backbone.load_state_dict(backbone | own)
        for name, part in zip(network.part_names, network.parts, strict=True):
            head = f"{name}."
            part.begin_second_stage({k.removeprefix(head): v for k, v in state.items() if k.startswith(head)})
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"the network of {run} does not fit this config: {last_line(error)}") from error
