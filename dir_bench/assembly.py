"""From a config to built parts: data, network, loss, trainer; each function reads one part of the config."""

from __future__ import annotations

import inspect
import logging
import math
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from dir_bench import config as configs
from dir_bench.datasets.base import Data
from dir_bench.datasets.coverage import faults
from dir_bench.datasets.resampled import resampled
from dir_bench.datasets.subsets import curate
from dir_bench.errors import UserError, last_line
from dir_bench.methods import losses
from dir_bench.methods.fds import FDS
from dir_bench.methods.heads import Classification, Head, Regression, class_values
from dir_bench.methods.mixup import Mix, Mixing, unmixed
from dir_bench.methods.resample import Settings
from dir_bench.results.store import RunFolder
from dir_bench.schema import Config
from dir_bench.task import Task, relevance_of_bins, target_bins
from dir_bench.training import checkpoint
from dir_bench.training.network import Network, synchronise_batch_norm
from dir_bench.training.streams import stream, stream_seed
from dir_bench.training.trainer import Trainer, freeze

if TYPE_CHECKING:
    from lightning_fabric import Fabric

log = logging.getLogger("dir_bench")


def load_data(config: Config) -> Data:
    """Return the splits, curated if a subset is chosen."""
    data: Data = configs.build(config.dataset.source).load()
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
    """Build backbone, FDS and regressor; initial weights depend on the seed alone, not on what came before."""
    configs.bind({**config.backbone, **data.backbone_kwargs}, f"the backbone for {config.dataset.name}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(config.seed, "init", 0))
        backbone: nn.Module = configs.build(config.backbone, **data.backbone_kwargs)
        torch.manual_seed(stream_seed(config.seed, "init", 1))
        feature_dim = int(backbone.feature_dim)  # type: ignore[arg-type]
        # A backbone with dense features brings the last layer of its design.
        make: Callable[[int], nn.Module] = getattr(backbone, "make_regressor", partial(nn.Linear, feature_dim))
        regressor = make(build_head(config).outputs)
    network = Network(backbone, regressor, build_fds(config, feature_dim))
    if config.trainer.channels_last:
        network.to(memory_format=torch.channels_last)
    if config.trainer.compile:
        backbone.compile()
    return network


def build_fds(config: Config, feature_dim: int) -> FDS | None:
    """Build the FDS layer with the chosen semantics, or None."""
    if config.fds.name == "none":
        return None
    semantics, settings = config.semantics, config.fds
    choices: dict[str, Any] = {
        "kernel": settings.name,
        "tails": semantics.kernel_tails,
        **{key: getattr(semantics, f"fds_{key}") for key in ("edges", "empty", "lag", "guard", "new_bins")},
    }
    return FDS(
        feature_dim,
        first=config.dataset.fds_first,
        last=config.dataset.fds_last,
        # Absorbing goes by exact labels, and so has no use for bins.
        bins=None if semantics.fds_edges == "absorb_if_present" else target_bins(config.dataset),
        kernel_size=settings.kernel_size,
        sigma=settings.sigma,
        momentum=settings.momentum,
        start_update=settings.start_update,
        start_smooth=settings.start_smooth,
        clip=(semantics.fds_clip[0], semantics.fds_clip[1]) if semantics.fds_clip else (sys.float_info.min, math.inf),
        feedback=semantics.fds_feedback,
        **choices,
    )


def resample(config: Config, data: Data, task: Task, network: Network, device: torch.device) -> Data:
    """Return the data with the training split resampled, if that is asked for; the network is as initialised.

    Regions, counts and FDS's bins stay those of the original split, and validation and test are untouched.
    """
    chosen = config.resample
    if chosen.name == "none":
        return data
    train = resampled(
        data.train,
        task.bins,
        relevance_of_bins(config, task),
        Settings(
            chosen.name == "smogn",
            chosen.threshold,
            chosen.neighbours,
            chosen.perturbation,
            chosen.over,
            chosen.under,
        ),
        stream(config.seed, "resample"),
        backbone=network.backbone,
        device=device,
        size=chosen.size,
    )
    return replace(data, train=train)


def build_loss(config: Config) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return the elementwise loss with its settings."""
    settings = config.loss
    function = getattr(losses, settings.name)
    taken = inspect.signature(function).parameters.keys()
    return partial(function, **{key: value for key, value in asdict(settings).items() if key in taken})


def build_head(config: Config, device: torch.device | str = "cpu") -> Head:
    """Return what the last layer's outputs mean, with its tensors on a device."""
    settings, dataset = config.head, config.dataset
    if settings.name == "regression":
        return Regression(build_loss(config), dataset.target_scale)
    bins = target_bins(dataset)
    values = torch.from_numpy(class_values(bins, settings.value)).to(device)
    return Classification(bins, values, expected=settings.decode == "expected")


def build_mix(config: Config, backbone: nn.Module, rank: int) -> Mix:
    """Return what mixes training batches; UserError if the backbone lacks a layer that is asked for."""
    settings = config.mixup
    if settings.name == "none":
        return unmixed
    layers = tuple(settings.layers) if settings.name == "manifold" else (0,)
    return Mixing(backbone, settings.alpha, layers, partial(stream, config.seed), rank)


def build_trainer(
    fabric: Fabric, config: Config, folder: RunFolder, data: Data, task: Task, network: Network
) -> Trainer:
    settings, stages = config.trainer, config.stages
    optimizer_node = dict(config.optimizer)
    schedule = config.schedule.source
    if stages.name != "none":
        # Stage two has a length of its own, within the run's, and a constant learning rate.
        freeze(network.backbone)
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
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = configs.build(optimizer_node, trained)
    scheduler = configs.build(schedule, optimizer) if schedule else None
    wrapped, optimizer = fabric.setup(network, optimizer)
    weights = None if task.weights is None else fabric.to_device(torch.from_numpy(task.weights))
    return Trainer(
        fabric=fabric,
        settings=settings,
        network=wrapped,
        optimizer=optimizer,
        scheduler=scheduler,
        schedule_interval=config.schedule.interval,
        head=build_head(config, fabric.device),
        bin_weights=weights,
        bins=task.bins,
        train=data.train,
        val=data.val,
        evaluate=partial(task.errors, data.val.judged),
        monitor=config.dataset.monitor,
        seed=config.seed,
        checkpoints=folder.checkpoints,
        fds_statistics=config.fds.statistics,
        fds_split=data.fds,
        mix=build_mix(config, network.backbone, fabric.global_rank),
    )


def refitted(backbone: nn.Module) -> dict[str, nn.Module]:
    """Return what a second stage trains anew beside the last layer, by name: what the backbone lists as `refit`."""
    return {name: backbone.get_submodule(name) for name in getattr(backbone, "refit", ())}


def _least(*bounds: int | None) -> int | None:
    return min((bound for bound in bounds if bound is not None), default=None)


def take_backbone(network: Network, run: Path) -> None:
    """Load the backbone that a finished run selected; UserError if its shapes differ."""
    state = checkpoint.load(RunFolder(run).best_checkpoint)["network"]
    backbone = {k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")}
    anew = tuple(f"{name}." for name in refitted(network.backbone))
    own = {k: v for k, v in network.backbone.state_dict().items() if k.startswith(anew)}
    try:
        network.backbone.load_state_dict(backbone | own)
    except RuntimeError as error:
        raise UserError(f"the backbone of {run} does not fit this config: {last_line(error)}") from error
