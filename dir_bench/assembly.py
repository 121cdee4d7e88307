"""From a config to built parts: data, network, loss, trainer; each function reads one part of the config."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from dir_bench import config as configs
from dir_bench.datasets.base import Data, Dataset
from dir_bench.datasets.coverage import faults
from dir_bench.datasets.subsets import curate
from dir_bench.errors import UserError, last_line
from dir_bench.methods.part import Facts, Head, Part
from dir_bench.results.store import RunFolder
from dir_bench.schema import Config
from dir_bench.streams import stream_seed
from dir_bench.task import Task, target_bins
from dir_bench.toggles import Toggle
from dir_bench.training import checkpoint
from dir_bench.training.network import Network, synchronise_batch_norm
from dir_bench.training.trainer import Trainer

if TYPE_CHECKING:
    from lightning_fabric import Fabric

log = logging.getLogger("dir_bench")


def load_data(config: Config, dataset: Dataset | None = None) -> Data:
    """Return the splits, curated if a subset is chosen; `dataset` is that of the config, where it is built already."""
    data: Data = (dataset or configs.build(config.dataset.source)).load()
    bins = target_bins(config.dataset)
    if not config.dataset.dense:
        for fault in faults(bins, {"train": data.train.targets, "val": data.val.targets, "test": data.test.targets}):
            log.warning("%s", fault)
    return curate(data, bins, config.subset)


def build_fabric(config: Config, strategy: str, devices: int) -> Fabric:
    """Return the engine; UserError if there is no such accelerator."""
    from lightning_fabric import Fabric  # a second, which a sweep's plan does not need

    settings = config.trainer
    accelerator = "cuda" if settings.accelerator == "gpu" else settings.accelerator
    try:
        return Fabric(accelerator=accelerator, devices=devices, strategy=strategy, precision=settings.precision)  # type: ignore[arg-type]
    except (RuntimeError, ValueError) as error:
        raise UserError(f"trainer.accelerator={settings.accelerator} cannot be used here: {error}") from error


def build_network(config: Config, data: Data) -> Network:
    """Build backbone, parts and regressor; initial weights depend on the seed alone, not on what came before."""
    configs.bind({**config.backbone, **data.backbone_kwargs}, f"the backbone for {config.dataset.name}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(config.seed, "init", 0))
        backbone: nn.Module = configs.build(config.backbone, **data.backbone_kwargs)
        torch.manual_seed(stream_seed(config.seed, "init", 2))
        parts = build_parts(config, data, backbone)
        torch.manual_seed(stream_seed(config.seed, "init", 1))
        feature_dim = int(backbone.feature_dim)  # type: ignore[arg-type]
        # A backbone with dense features brings the last layer of its design.
        make: Callable[[int], nn.Module] = getattr(backbone, "make_regressor", partial(nn.Linear, feature_dim))
        head = parts["head"]
        assert isinstance(head, Head)  # `build_parts` saw to it
        regressor = make(head.outputs)
        head.initialise(regressor)
    if not head.trains_regressor:
        regressor.requires_grad_(False)
    network = Network(backbone, regressor, parts)
    if config.trainer.channels_last:
        network.to(memory_format=torch.channels_last)
    if config.trainer.compile:
        backbone.compile()
    return network


def build_parts(config: Config, data: Data, backbone: nn.Module) -> dict[str, Part]:
    """Build what the method is made of, by name: the groups' own parts, then those of `parts`, in their order."""
    bins = target_bins(config.dataset)
    facts = Facts(
        bins=bins,
        counts=data.train.label_counts(bins),
        targets=data.train.targets,
        target_scale=config.dataset.target_scale,
        feature_dim=int(backbone.feature_dim),  # type: ignore[arg-type]
        backbone=backbone,
        statistics_split=data.fds,
    )
    own = {name: toggle.part(config, facts) for name, toggle in vars(config).items() if isinstance(toggle, Toggle)}
    parts = {name: part for name, part in own.items() if part is not None}
    parts |= {name: configs.build(node, facts=facts) for name, node in config.parts.items()}
    if not isinstance(parts["head"], Head):
        raise UserError(f"parts.head must be a head (`methods.part.Head`), not {type(parts['head']).__name__}")
    return parts


def train_on(data: Data, network: Network, device: torch.device) -> Data:
    """Return the data with the training split that the parts make of it; the network is as initialised."""
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
    if fabric.world_size > 1:
        synchronise_batch_norm(network)
    optimizer = configs.build(optimizer_node, parameter_groups(network))
    scheduler = configs.build(schedule, optimizer) if schedule else None
    wrapped, optimizer = fabric.setup(network, optimizer)
    return Trainer(
        fabric=fabric,
        settings=settings,
        network=wrapped,
        optimizer=optimizer,
        scheduler=scheduler,
        schedule_interval=config.schedule.interval,
        train=data.train,
        val=data.val,
        evaluate=partial(task.errors, data.val.judged),
        monitor=config.dataset.monitor,
        seed=config.seed,
        checkpoints=folder.checkpoints,
    )


def parameter_groups(network: Network) -> list[dict[str, Any]]:
    """Return what is trained as an optimiser takes it: the network, and each part that has settings of its own."""
    apart = [part for part in network.parts if part.settings]
    own = {id(parameter) for part in apart for parameter in part.parameters()}
    shared = [p for p in network.parameters() if p.requires_grad and id(p) not in own]
    return [{"params": shared}, *({"params": list(part.parameters()), **part.settings} for part in apart)]


def refitted(backbone: nn.Module) -> dict[str, nn.Module]:
    """Return what a second stage trains anew beside the last layer, by name: what the backbone lists as `refit`."""
    return {name: backbone.get_submodule(name) for name in getattr(backbone, "refit", ())}


def _least(*bounds: int | None) -> int | None:
    return min((bound for bound in bounds if bound is not None), default=None)


def take_backbone(network: Network, run: Path) -> None:
    """Load the backbone that a finished run selected; UserError if its shapes differ."""
    state = checkpoint.load_best(RunFolder(run).best_checkpoint)["network"]
    backbone = {k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")}
    anew = tuple(f"{name}." for name in refitted(network.backbone))
    own = {k: v for k, v in network.backbone.state_dict().items() if k.startswith(anew)}
    try:
        network.backbone.load_state_dict(backbone | own)
    except RuntimeError as error:
        raise UserError(f"the backbone of {run} does not fit this config: {last_line(error)}") from error
