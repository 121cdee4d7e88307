"""One run, read like the method section of a paper: build, fit, evaluate, record."""

from __future__ import annotations

import json
import logging
import os
import re
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dir_bench import config as configs
from dir_bench import ranks
from dir_bench.assembly import (
    build_fabric,
    build_network,
    build_trainer,
    load_data,
    take_backbone,
    train_on,
)
from dir_bench.atomic import write_npz
from dir_bench.datasets.base import Dataset, file_hash, large_file_hash
from dir_bench.errors import RunFailed, UserError, last_line
from dir_bench.results.naming import (
    Toggles,
    flatten,
    identity,
    method_name,
    method_slug,
    names,
    without,
)
from dir_bench.results.store import RunFolder, run_environment
from dir_bench.schema import (
    BY_CONTENT,
    NUMBERLESS,
    Config,
    look_up,
    toggle_groups,
    unset,
)
from dir_bench.task import Task, label_record
from dir_bench.toggles.stages import Stages
from dir_bench.training import checkpoint
from dir_bench.training.features import feature_statistics
from dir_bench.training.recorder import Recorder

if TYPE_CHECKING:
    from lightning_fabric import Fabric

log = logging.getLogger("dir_bench")


@dataclass(frozen=True)
class Outcome:
    """What a finished run leaves: its folder, its metrics.json, and whether it was there before."""

    folder: Path
    metrics: dict[str, Any]
    skipped: bool


def run_folder(config: Config, hashes: dict[str, str] | None = None) -> RunFolder:
    """Return the folder of a config's run: outputs/<dataset>/<method>/<identity of what can change its numbers>."""
    configs.check_targets(config)
    name, _ = identities(config, hashes)
    return RunFolder.of(config.paths.outputs, names(config)[0], method_slug(toggles(config)), name)


def identities(config: Config, hashes: dict[str, str] | None = None) -> tuple[str, str]:
    """Return the identity of a config's run, and of its row: of all runs that differ from it by the seed alone.

    The data's fingerprint is part of both. UserError if the data are missing.

    Args:
        config: A checked config.
        hashes: Remembers what was hashed, for the many configs of a sweep; None: read the files.
    """
    known = {} if hashes is None else hashes

    def once(key: str, find: Callable[[], str]) -> str:
        if key not in known:
            known[key] = find()
        return known[key]

    def content(path: Path) -> str:
        return large_file_hash(path) if path.is_file() else str(path)

    dataset: Dataset = configs.build(config.dataset.source)
    plain = configs.to_dict(config) | {"data": once(repr(config.dataset.source), dataset.fingerprint)}
    for key in BY_CONTENT:
        if (named := look_up(plain, key)) is not None:
            *parents, last = key.split(".")
            look_up(plain, ".".join(parents))[last] = once(str(named), partial(content, Path(str(named))))
    if config.stages.from_run is not None:
        chosen = repr((config.stages.from_run, config.dataset.source, config.subset, config.backbone))
        plain["stages"]["from_run"] = once(chosen, lambda: file_hash(_given_stage_one(config).best_checkpoint))
    ignored = (*NUMBERLESS, *unset(plain))
    return identity(plain, ignored), identity(plain, (*ignored, "seed"))


def toggles(config: Config) -> Toggles:
    """Return what a method's name is derived from."""
    recipe = config.dataset.recipe
    return Toggles(
        reweight=config.reweight.name,
        lds=config.lds.name,
        lds_kernel_size=config.lds.kernel_size,
        lds_sigma=config.lds.sigma,
        fds=config.fds.name,
        fds_kernel_size=config.fds.kernel_size,
        fds_sigma=config.fds.sigma,
        loss=config.loss.name,
        head=config.head.name,
        decode=config.head.decode,
        mixup=config.mixup.name,
        stages=config.stages.name,
        resample=config.resample.name,
        parts=_part_names(config.parts),
        semantics=_semantics_name(config),
        default_loss=recipe.loss,
        default_focal=recipe.focal_loss,
        lds_reweight=recipe.lds_reweight,
    )


def _part_names(parts: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what parts are called in a method's name: their names in the config; of a head, its class."""
    heads = {name: str(node["_target_"]).rpartition(".")[2] for name, node in parts.items() if name == "head"}
    return tuple(heads.get(name, name) for name in parts)


def _semantics_name(config: Config) -> str:
    """Name the chosen semantics: by its one or two departures from the published one, else by its own name."""
    published = asdict(config.dataset.published)
    changed = {k: v for k, v in asdict(config.semantics).items() if k != "name" and v != published[k]}
    if not changed:
        return "published"
    return ",".join(f"{k}={v}" for k, v in changed.items()) if len(changed) <= 2 else config.semantics.name


def run(config: Config, command: tuple[str, ...] = (), *, wait: bool = False) -> Outcome:
    """Train, evaluate and record one run; skip it if it is done, go on with it if it was interrupted.

    Args:
        config: A checked config.
        command: The overrides that made it, kept so that tables can say how to repeat it.
        wait: If another process has the run, wait for it, and take its result if it ends well.

    Raises:
        UserError: Data or settings are wrong, or another process has the run.
        RunFailed: Training broke down; the folder says why and is never taken for a result.
        Interrupted: Ctrl-C or SIGTERM; the same command goes on.
    """
    folder = run_folder(config)
    if folder.state == "done":
        return Outcome(folder.path, recorded(folder.path), skipped=True)
    if _rank_outside() > 0:
        return Outcome(folder.path, _launch(config, folder, command, _stage_one(config, command)), skipped=False)
    with folder.lock(wait=wait):
        if wait and RunFolder(folder.path).state == "done":  # while this process waited
            return Outcome(folder.path, recorded(folder.path), skipped=True)
        environment = run_environment() | {"device": _device_name(config), "command": list(command)}
        folder.start(configs.to_dict(config), environment)
        try:
            metrics = _launch(config, folder, command, _stage_one(config, command))
        except UserError as error:
            folder.fail(str(error), "")
            raise
        except Exception as error:
            folder.fail(f"{type(error).__name__}: {error}", traceback.format_exc())
            raise
    return Outcome(folder.path, metrics, skipped=False)


def _stage_one(config: Config, command: tuple[str, ...]) -> Path | None:
    """Return the run that RRT or cRT takes its backbone from, training it first if there is none."""
    if config.stages.name == "none":
        return None
    if config.stages.from_run is not None:
        return _given_stage_one(config).path
    first = stage_one_config(config)
    log.info("stage one of two: %s", method_name(toggles(first)))
    return run(first, stage_one_command(config, command), wait=True).folder  # jobs of a sweep share it


def stage_one_command(config: Config, command: tuple[str, ...]) -> tuple[str, ...]:
    """Return the words that make the first of two stages, from those of the run; none if these are not known."""
    if not command:
        return ()
    changes = [f"++{key}={_word(value)}" for key, value in flatten(config.stages.first)]
    return (*command, "stages.name=none", *changes)


def _word(value: Any) -> str:
    """Write a plain value as a word of the command line has it."""
    plain_text = isinstance(value, str) and re.fullmatch(r"[\w.+/-]+", value)
    return str(value) if plain_text else json.dumps(value)


def _given_stage_one(config: Config) -> RunFolder:
    """Return the run that `stages.from_run` names; UserError if it is none, or one of other data or network."""
    folder = RunFolder(Path(str(config.stages.from_run)))
    if folder.state != "done":
        raise UserError(f"stages.from_run={folder.path} is {folder.state}, not a finished run: finish it or drop it")
    ours, theirs = (
        without(configs.to_dict(each), (*NUMBERLESS, *BY_CONTENT))
        for each in (config, configs.load(folder.config_path))
    )
    for part in ("dataset.name", "dataset.source", "subset", "backbone"):
        if look_up(ours, part) != look_up(theirs, part):
            raise UserError(
                f"stages.from_run={folder.path} differs in {part}: take a run of the same training data and backbone, "
                "or drop it, and stage one is trained"
            )
    return folder


def stage_one_config(config: Config) -> Config:
    """Return the config of the first of two stages: the same run, with what `stages.first` says."""
    return configs.changed(replace(config, stages=Stages()), config.stages.first)


def _limit_threads(config: Config) -> None:
    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)


def _rank_outside() -> int:
    """Return this process's rank if torchrun or Slurm started it beside others, else 0."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", 0)))


def _launch(
    config: Config, folder: RunFolder, command: tuple[str, ...], stage_one: Path | None = None
) -> dict[str, Any]:
    """Start the engine, with as many processes as asked for, and return the metrics."""
    outside = "RANK" in os.environ or "SLURM_PROCID" in os.environ
    if config.trainer.devices > 1 and not outside:
        return ranks.launch(config.trainer.devices, _launch, config, folder, command, stage_one)  # type: ignore[no-any-return]
    devices = int(os.environ.get("LOCAL_WORLD_SIZE", config.trainer.devices))
    fabric = build_fabric(config, "ddp" if outside else "auto", devices)
    fabric.launch()
    return _run(fabric, config, folder, command, stage_one)


def _device_name(config: Config) -> str:
    """Name the device that a run's accelerator comes to here, for its record."""
    if config.trainer.accelerator in ("auto", "cuda", "gpu") and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    if config.trainer.accelerator in ("auto", "mps") and torch.backends.mps.is_available():
        return "mps"
    return "cpu"


def _run(
    fabric: Fabric, config: Config, folder: RunFolder, command: tuple[str, ...], stage_one: Path | None
) -> dict[str, Any]:
    """Build the parts, fit, evaluate on the test split at the selected checkpoint, record."""
    _limit_threads(config)
    data = load_data(config)
    task = Task.of(config, data.train.label_counts)
    network = build_network(config, data)
    data = train_on(data, network, fabric.device)
    if stage_one is not None:
        take_backbone(network, stage_one)
    trainer = build_trainer(fabric, config, folder, data, task, network)
    if fabric.is_global_zero:
        write_npz(folder.labels_path, **label_record(config, task))
    with Recorder(folder, trainer, config, active=fabric.is_global_zero) as recorder:
        trainer.report = recorder.record
        trainer.tick = recorder.tick
        trainer.fit()
        best = checkpoint.load(folder.best_checkpoint)
        trainer.module.load_state_dict(best["network"])
        columns = trainer.columns(data.test)
        prediction = columns["prediction"]
        errors = task.errors(data.test.judged, prediction)
        metrics = describe(config, command) | {
            "monitor": {
                "name": config.dataset.monitor,
                "best": best["value"],
                "epoch": best["epoch"],
                "split": data.selected_on,
            },
            "test": errors,
        }
        if config.trainer.feature_statistics and config.backbone.get("features", True):
            statistics = feature_statistics(trainer, data.train if data.fds is None else data.fds, task.bins)
            if fabric.is_global_zero:
                write_npz(folder.features_path, **statistics)
        if fabric.is_global_zero:
            predictions = {
                "target": data.test.judged,
                "index": np.arange(len(prediction)),
                **columns,
            }
            recorder.finish(metrics, predictions)
            folder.finish(metrics, predictions)
    return metrics


def describe(config: Config, command: tuple[str, ...]) -> dict[str, Any]:
    """Return what metrics.json says of a run besides its numbers."""
    run_identity, row_id = identities(config)
    name, title = names(config)
    return {
        "dataset": name,
        "title": title,
        "method": method_name(toggles(config)),
        "slug": method_slug(toggles(config)),
        "seed": config.seed,
        "identity": run_identity,
        "row_id": row_id,
        "command": list(command),
        "table_metrics": config.dataset.table_metrics,
    }


def recorded(path: Path) -> dict[str, Any]:
    """Return the metrics.json of a finished run."""
    metrics: dict[str, Any] = json.loads(RunFolder(path).metrics_path.read_text(encoding="utf-8"))
    return metrics


def evaluate(path: Path, accelerator: str | None = None, data_dir: Path | None = None) -> dict[str, Any]:
    """Evaluate a run's selected checkpoint on its test split again, and return metrics as in metrics.json.

    Nothing is written. The checkpoint, config and data decide; the recorded metrics.json is not read.
    """
    config = configs.load(path / "config.yaml")
    if accelerator is not None:
        config.trainer.accelerator = accelerator
    if data_dir is not None and "data_dir" in config.dataset.source:
        config.dataset.source["data_dir"] = str(data_dir)
    config.backbone.pop("weights", None)  # where training began; the checkpoint has all
    config.stages.from_run = None
    _limit_threads(config)
    folder = RunFolder(path)
    fabric = build_fabric(config, "auto", 1)
    data = load_data(config)
    task = Task.of(config, data.train.label_counts)
    trainer = build_trainer(fabric, config, folder, data, task, build_network(config, data))
    best = checkpoint.load(folder.best_checkpoint)
    try:
        trainer.module.load_state_dict(best["network"])
    except RuntimeError as error:
        raise RunFailed(f"the checkpoint in {path} does not fit its config: {last_line(error)}") from error
    return describe(config, ()) | {"test": task.errors(data.test.judged, trainer.predict(data.test))}


def evaluate_official(config: Config, path: Path) -> dict[str, Any]:
    """Evaluate a checkpoint of the published code on the test split, and return metrics as in metrics.json.

    Nothing is written. The config gives data and network; FDS does nothing in evaluation, so none is built.

    Raises:
        UserError: If the file is no such checkpoint, or is one of another network.
    """
    backbone = {key: value for key, value in config.backbone.items() if key != "weights"}
    off = {key: type(group)() for key, group in vars(config).items() if group in toggle_groups(config)}
    off = {key: group for key, group in off.items() if not group.on}
    config = replace(config, backbone=backbone, parts={}, **off)
    configs.check_targets(config)
    state = checkpoint.load_official(path)
    data = load_data(config)
    task = Task.of(config, data.train.label_counts)
    network = build_network(config, data)
    rename = getattr(network.backbone, "from_official", None)
    if rename is None:
        raise UserError(f"{config.backbone['_target_']} has no published checkpoints: choose another backbone")
    backbone, regressor = rename(state)
    try:
        network.backbone.load_state_dict(backbone)
        network.regressor.load_state_dict(regressor)
    except RuntimeError as error:
        raise UserError(f"{path} is not a checkpoint of {config.backbone['_target_']}: {last_line(error)}") from error
    trainer = build_trainer(build_fabric(config, "auto", 1), config, RunFolder(path.parent), data, task, network)
    return describe(config, ()) | {"test": task.errors(data.test.judged, trainer.predict(data.test))}
