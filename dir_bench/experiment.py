"""One run, read like the method section of a paper: build, fit, evaluate, record."""

from __future__ import annotations

import inspect
import json
import logging
import os
import re
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dir_bench import config as configs
from dir_bench import ranks
from dir_bench.assembly import build_fabric, build_network, build_trainer, load_data, take_stage_one, train_on
from dir_bench.atomic import write_npz
from dir_bench.datasets.base import Data, Predictable
from dir_bench.departures import departures, missing_starts
from dir_bench.errors import RunFailed, UserError, last_line
from dir_bench.methods.part import Head
from dir_bench.resolved import Resolved, given_stage_one, resolve
from dir_bench.results.environment import run_environment
from dir_bench.results.naming import flatten
from dir_bench.results.plots import pictures
from dir_bench.results.store import RunFolder
from dir_bench.schema import Config, toggle_groups
from dir_bench.task import Task, label_record
from dir_bench.toggles.stages import Stages
from dir_bench.training import checkpoint
from dir_bench.training.batch_norm import enough_samples
from dir_bench.training.features import feature_statistics
from dir_bench.training.network import Network
from dir_bench.training.recorder import Recorder
from dir_bench.training.trainer import Trainer
from dir_bench.workers import rank_outside

if TYPE_CHECKING:
    import pandas as pd
    from lightning_fabric import Fabric

log = logging.getLogger("dir_bench")


@dataclass(frozen=True)
class Outcome:
    """What a finished run leaves: its folder, its metrics.json, and whether it was there before."""

    folder: Path
    metrics: dict[str, Any]
    skipped: bool


def run_folder(config: Config) -> RunFolder:
    """Return the folder of a config's run."""
    return resolve(config).folder


def run(config: Config, command: tuple[str, ...] = (), *, wait: bool = False) -> Outcome:
    """Resolve a config, and run it: see `run_resolved`."""
    return run_resolved(resolve(config), command, wait=wait)


def run_resolved(resolved: Resolved, command: tuple[str, ...] = (), *, wait: bool = False) -> Outcome:
    """Train, evaluate and record one run; skip it if it is done, go on with it if it was interrupted.

    Args:
        resolved: The run.
        command: The overrides that made it, kept so that tables can say how to repeat it.
        wait: If another process has the run, wait for it, and take its result if it ends well.

    Raises:
        UserError: Data or settings are wrong, or another process has the run.
        RunFailed: Training broke down; the folder says why and is never taken for a result.
        Interrupted: Ctrl-C or SIGTERM; the same command goes on.
    """
    config, folder = resolved.config, resolved.folder
    if folder.state == "done":
        return Outcome(folder.path, recorded(folder.path), skipped=True)
    if rank_outside() > 0:
        return Outcome(folder.path, _launch(resolved, command, _stage_one(resolved, command)), skipped=False)
    with folder.lock(wait=wait):
        if wait and RunFolder(folder.path).state == "done":  # while this process waited
            return Outcome(folder.path, recorded(folder.path), skipped=True)
        for sentence in resolved.said:
            log.info("%s", sentence)
        for start in missing_starts(config):
            log.info("%s: set %s to begin where published runs do", start.without, start.key)
        environment = run_environment() | {"device": _device_name(config), "command": list(command)}
        folder.start(configs.to_dict(config), environment)
        try:
            metrics = _launch(resolved, command, _stage_one(resolved, command))
        except UserError as error:
            _record_failure(folder, str(error))
            raise
        except Exception as error:
            _record_failure(folder, f"{type(error).__name__}: {error}", traceback.format_exc())
            raise
    return Outcome(folder.path, metrics, skipped=False)


def _record_failure(folder: RunFolder, why: str, details: str = "") -> None:
    """Write down why a run failed; where that fails too, as on a full disk, it must not hide what came first."""
    try:
        folder.fail(why, details)
    except (OSError, UserError) as error:
        log.warning("Why the run failed could not be written into its folder: %s", error)


def _stage_one(resolved: Resolved, command: tuple[str, ...]) -> Path | None:
    """Return the run that RRT or cRT takes its backbone from, training it first if there is none."""
    config = resolved.config
    if config.stages.name == "none":
        return None
    if config.stages.from_run is not None:
        return given_stage_one(config).path
    first = resolve(stage_one_config(config), resolved.hashes)
    log.info("stage one of two: %s", first.method)
    command = stage_one_command(config, command)
    return run_resolved(first, command, wait=True).folder  # jobs of a sweep share it


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


def stage_one_config(config: Config) -> Config:
    """Return the config of the first of two stages: the same run, with what `stages.first` says."""
    return configs.changed(replace(config, stages=Stages()), config.stages.first)


def _limit_threads(config: Config) -> None:
    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)


def _launch(resolved: Resolved, command: tuple[str, ...], stage_one: Path | None = None) -> dict[str, Any]:
    """Start the engine, with as many processes as asked for, and return the metrics."""
    settings = resolved.config.trainer
    outside = "RANK" in os.environ or "SLURM_PROCID" in os.environ
    if settings.devices > 1 and not outside:
        return ranks.launch(settings.devices, _launch, resolved, command, stage_one)  # type: ignore[no-any-return]
    devices = int(os.environ.get("LOCAL_WORLD_SIZE", settings.devices))
    fabric = build_fabric(resolved.config, "ddp" if outside else "auto", devices)
    fabric.launch()
    return _run(fabric, resolved, command, stage_one)


def _device_name(config: Config) -> str:
    """Name the device that a run's accelerator comes to here, for its record."""
    if config.trainer.accelerator in ("auto", "cuda", "gpu") and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    if config.trainer.accelerator in ("auto", "mps") and torch.backends.mps.is_available():
        return "mps"
    return "cpu"


def _run(fabric: Fabric, resolved: Resolved, command: tuple[str, ...], stage_one: Path | None) -> dict[str, Any]:
    """Build the parts, fit, evaluate on the test split at the selected checkpoint, record."""
    config, folder = resolved.config, resolved.folder
    _limit_threads(config)
    data, task, network = _built(resolved)
    data = train_on(data, network, fabric.device, config.trainer.samples_on)
    if stage_one is not None:
        take_stage_one(network, stage_one)
    trainer = build_trainer(fabric, config, folder, data, task, network)
    if fabric.is_global_zero:
        write_npz(folder.labels_path, **label_record(config, task))
    with Recorder(folder, trainer, config, active=fabric.is_global_zero) as recorder:
        with enough_samples():
            trainer.fit()
        recorder.settle()
        best = checkpoint.load_best(folder.best_checkpoint, checkpoint.anew(folder.best_checkpoint))
        with checkpoint.fitting(folder.best_checkpoint):
            trainer.module.load_state_dict(best["network"])
        columns = trainer.columns(data.test)
        if (lost := ~np.isfinite(columns["prediction"])).any():
            raise RunFailed(
                f"the network's prediction of test sample {int(lost.argmax())} is {columns['prediction'][lost][0]} "
                f"({int(lost.sum())} such): is its input a number?"
            )
        metrics = describe(resolved, command) | {
            "monitor": {
                "name": config.loss.monitor(config),
                "best": best["value"],
                "epoch": best["epoch"],
                "split": data.selected_on,
            },
            **judgement(task, trainer.head),
            **({"drawn": data.drawn} if data.drawn else {}),
            "test": task.report(data.test.judged, columns, trainer.head.family),
        }
        if config.trainer.feature_statistics and config.backbone.get("features", True):
            statistics = feature_statistics(trainer, data.train if data.fds is None else data.fds, task.bins)
            if fabric.is_global_zero:
                write_npz(folder.features_path, **statistics)
        if fabric.is_global_zero:
            predictions = {
                "target": data.test.judged,
                "index": np.arange(len(columns["prediction"])),
                **columns,
            }
            drawn = pictures(folder.path, metrics, predictions) if config.trainer.figures else ()
            recorder.finish(metrics, drawn)
            folder.finish(metrics, predictions)
    return metrics


def _built(resolved: Resolved) -> tuple[Data, Task, Network]:
    """Return data, task and network of a run, as they are before anything is trained or loaded."""
    data = load_data(resolved.config, resolved.dataset)
    task = Task.of(resolved.config, data.train.label_counts, data.train.targets)
    return data, task, build_network(resolved.config, data)


def _judged(resolved: Resolved, trainer: Trainer, data: Data, task: Task) -> dict[str, Any]:
    """Return what metrics.json says of the test split, as the trainer's network has it."""
    test = task.report(data.test.judged, trainer.columns(data.test), trainer.head.family)
    return describe(resolved, ()) | judgement(task, trainer.head) | {"test": test}


def judgement(task: Task, head: Head) -> dict[str, Any]:
    """Return what metrics.json says of how its numbers were made.

    relevance: SERA's control points. family: Of the head's distribution. target_units: The label that is 0 in network
    units, and how many label units one of them is; where targets are standardised, nothing else says it.
    """
    points = task.extremes and [list(point) for point in task.extremes.points]
    said = {"relevance": points, "family": head.family, "target_units": [head.target_shift, head.target_scale]}
    return {key: value for key, value in said.items() if value is not None}


def describe(resolved: Resolved, command: tuple[str, ...]) -> dict[str, Any]:
    """Return what metrics.json says of a run besides its numbers."""
    return {
        "dataset": resolved.name,
        "title": resolved.title,
        "method": resolved.method,
        "slug": resolved.slug,
        "seed": resolved.config.seed,
        "identity": resolved.identity,
        "row_id": resolved.row_id,
        "command": list(command),
        "departures": departures(resolved.config, resolved.dataset),
        "table_metrics": resolved.config.dataset.table_metrics,
        "note": resolved.config.dataset.note,
    }


def recorded(path: Path) -> dict[str, Any]:
    """Return the metrics.json of a finished run."""
    return RunFolder(path).read_metrics()


def evaluate(
    path: Path, accelerator: str | None = None, data_dir: Path | None = None, trust: Sequence[str] = ()
) -> dict[str, Any]:
    """Evaluate a run's selected checkpoint on its test split again, and return metrics as in metrics.json.

    Nothing is written, but for what a dataset remembers of its files' contents beside them. The checkpoint, config and
    data decide; the recorded metrics.json is not read. The folder may be somebody else's: of its config only what
    `configs.load` allows is built.

    Args:
        path: The run's folder.
        accelerator: Another one than the run's.
        data_dir: The dataset's folder, if it is not where it was.
        trust: Modules whose classes the config may name too.
    """
    with _of_folder(path, trust) as config:
        resolved, data, task, trainer = _restored(config, path, accelerator, data_dir)
        return _judged(resolved, trainer, data, task)


def predict(
    path: Path,
    files: Sequence[Path],
    accelerator: str | None = None,
    data_dir: Path | None = None,
    trust: Sequence[str] = (),
) -> pd.DataFrame:
    """Return what a run's selected checkpoint says of samples that it never saw, and nobody has labelled.

    The run's data have to be there: they hold what the network was built for, as the vocabulary.

    Args:
        path: The run's folder.
        files: The samples, as its dataset takes them (`datasets.base.Predictable`): pictures, or a csv.
        accelerator: As of `evaluate`, like all that follow.
        data_dir: See there.
        trust: See there.

    Returns:
        A row a sample: what the files say of it, `prediction` in label units, and what else the head says.
    """
    with _of_folder(path, trust) as config:
        resolved, _, _, trainer = _restored(config, path, accelerator, data_dir)
        if not isinstance(resolved.dataset, Predictable):
            raise UserError(
                f"{config.dataset.name} has no way to read new samples: pictures, tables, arrays and pairs have"
            )
        table, split = resolved.dataset.new_samples(files)
        columns = trainer.columns(split)
        if taken := [name for name in columns if name in table]:
            raise UserError(f"{files[0]} has a column '{taken[0]}' already: rename it")
        return table.assign(**columns)


@contextmanager
def _of_folder(path: Path, trust: Sequence[str]) -> Iterator[Config]:
    """Give the config of a run folder, which may be somebody else's, and say in a sentence what comes of it."""
    config = configs.load(path / "config.yaml", trust)
    try:
        yield config
    except (UserError, RunFailed, OSError):
        raise
    except Exception as error:  # settings that fit, and come to nothing: any of what they build may say so
        said = f"{type(error).__name__}: {last_line(error)}"
        raise RunFailed(f"{path} cannot be evaluated with what its config.yaml says ({said})") from error


def _restored(
    config: Config, path: Path, accelerator: str | None, data_dir: Path | None
) -> tuple[Resolved, Data, Task, Trainer]:
    """Build a run again, at the checkpoint that it selected."""
    if accelerator is not None:
        config.trainer.accelerator = accelerator
    source = config.dataset.source
    if data_dir is not None and "data_dir" in source:
        source["data_dir"] = str(data_dir)
    # Caches are written, and where they lie would be for the folder to say.
    takes = inspect.signature(configs.resolve_target(source)).parameters
    source |= {key: value for key, value in {"cache": "none", "cache_dir": None}.items() if key in takes}
    source.pop("cache_limit_gb", None)
    # Where training began: the checkpoint has all, and a name such as DEFAULT would be downloaded.
    began = ("weights", "pretrained")
    config.backbone = {key: value for key, value in config.backbone.items() if not key.startswith(began)}
    takes = inspect.signature(configs.resolve_target(config.backbone)).parameters
    config.backbone |= {
        key: None for key, p in takes.items() if key.startswith(began) and p.default not in (None, p.empty)
    }
    config.stages.from_run = None
    resolved = resolve(config)
    config = resolved.config
    _limit_threads(config)
    folder = RunFolder(path)
    fabric = build_fabric(config, "auto", 1, trains=False)
    data, task, network = _built(resolved)
    trainer = build_trainer(fabric, config, folder, data, task, network)
    best = checkpoint.load_best(folder.best_checkpoint)
    with checkpoint.fitting(folder.best_checkpoint):
        trainer.module.load_state_dict(best["network"])
    return resolved, data, task, trainer


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
    resolved = resolve(config)
    config = resolved.config
    state = checkpoint.load_official(path)
    data, task, network = _built(resolved)
    backbone, regressor = network.backbone.from_official(state)
    try:
        network.backbone.load_state_dict(backbone)
        network.regressor.load_state_dict(regressor)
    except RuntimeError as error:
        raise UserError(f"{path} is not a checkpoint of {config.backbone['_target_']}: {last_line(error)}") from error
    if bad := [name for name, weight in network.named_parameters() if not weight.isfinite().all()]:
        raise UserError(f"{path} has weights that are no numbers ({bad[0]}): fetch or train it again")
    fabric = build_fabric(config, "auto", 1, trains=False)
    trainer = build_trainer(fabric, config, RunFolder(path.parent), data, task, network)
    return _judged(resolved, trainer, data, task)
