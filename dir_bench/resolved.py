"""What a config comes to before anything is trained: the dataset, the run's identity, its names and its folder.

Made once, and handed on: from the command to the run, its processes and its record. Nothing here needs torch before
the data are known to be there, so that what is missing is said at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from dir_bench import config as configs
from dir_bench.chosen import settle
from dir_bench.datasets.base import Dataset, file_hash, large_file_hash
from dir_bench.errors import UserError
from dir_bench.results.naming import Toggles, identity, method_name, method_slug, names, without
from dir_bench.results.store import RunFolder
from dir_bench.schema import BY_CONTENT, NUMBERLESS, Config, left_out, look_up

PUBLIC = ("dir_bench", "torch", "torchvision")
"""Packages whose code is known by their versions, which a run records; other code counts by its source."""


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A run before it starts.

    Attributes:
        config: The checked config, whose nodes fit what they configure, with all that it left to its data.
        identity: A hash of what can change the run's numbers; the data's fingerprint is part of it.
        row_id: The same of all runs that differ by the seed alone.
        name: Of the dataset or its subset, as a folder name.
        title: The same, printed.
        method: The method as the paper's tables name it.
        slug: The same, as a folder name.
        said: What was chosen from the data, in sentences.
        dataset: Built, not loaded. Another process that is sent the run builds its own.
        hashes: What was hashed of files, so that runs on the same data need not do it again.
    """

    config: Config
    identity: str
    row_id: str
    name: str
    title: str
    method: str
    slug: str
    said: tuple[str, ...] = ()
    dataset: Dataset = field(repr=False, compare=False)
    hashes: dict[str, str] = field(repr=False, compare=False)

    @property
    def folder(self) -> RunFolder:
        """The folder of the run: outputs/<dataset>/<method>/<identity>."""
        return RunFolder.of(self.config.paths.outputs, self.name, self.slug, self.identity)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "dataset"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, dataset=configs.build(state["config"].dataset.source))


def resolve(config: Config, hashes: dict[str, str] | None = None) -> Resolved:
    """Find out what a config comes to.

    Args:
        config: A checked config.
        hashes: Remembers what was hashed, for the many configs of a sweep; None: read the files.

    Raises:
        UserError: The data are missing, a node does not fit what it configures, or a name is no folder's.
    """
    hashes = {} if hashes is None else hashes
    (name, title), named = names(config), toggles(config)
    slug = method_slug(named)
    configs.check_folder_name("the dataset's name", name)
    configs.check_folder_name("the method's name", slug)
    configs.check_dataset(config)
    dataset: Dataset = configs.build(config.dataset.source)
    if _of_data(config) not in hashes:
        hashes[_of_data(config)] = dataset.fingerprint()  # missing data, before torch is imported
    config, said = settle(config, dataset, hashes)
    configs.check_targets(config)
    run_id, row_id = _identities(config, hashes)
    return Resolved(
        config=config,
        identity=run_id,
        row_id=row_id,
        name=name,
        title=title,
        method=method_name(named),
        slug=slug,
        said=said,
        dataset=dataset,
        hashes=hashes,
    )


def _of_data(config: Config) -> str:
    return repr(config.dataset.source)


def identities(config: Config) -> tuple[str, str]:
    """Return the identity of a config's run, and of its row; see `Resolved`."""
    resolved = resolve(config)
    return resolved.identity, resolved.row_id


def _identities(config: Config, hashes: dict[str, str]) -> tuple[str, str]:
    def once(key: str, find: Callable[[], str]) -> str:
        if key not in hashes:
            hashes[key] = find()
        return hashes[key]

    def content(path: Path) -> str:
        return large_file_hash(path) if path.is_file() else str(path)

    config = replace(config, trainer=replace(config.trainer, devices=_processes(config)))
    plain = configs.to_dict(config) | {"data": hashes[_of_data(config)]}
    for key in BY_CONTENT:
        if (named := look_up(plain, key)) is not None:
            *parents, last = key.split(".")
            look_up(plain, ".".join(parents))[last] = once(str(named), partial(content, Path(str(named))))
    if config.stages.from_run is not None:
        chosen = repr((config.stages.from_run, config.dataset.source, config.subset, config.backbone))
        plain["stages"]["from_run"] = once(chosen, lambda: file_hash(given_stage_one(config).best_checkpoint))
    if code := {target: once(target, partial(_source_of, target)) for target in _own_targets(plain)}:
        plain["code"] = code
    ignored = left_out(config)
    return identity(plain, ignored), identity(plain, (*ignored, "seed"))


def _processes(config: Config) -> int:
    """Return over how many processes a run trains: those that torchrun or Slurm started, else those asked for."""
    if "WORLD_SIZE" in os.environ:
        return int(os.environ["WORLD_SIZE"])
    return int(os.environ.get("SLURM_NTASKS", 1)) if "SLURM_PROCID" in os.environ else config.trainer.devices


def _own_targets(node: Any) -> Iterator[str]:
    """Yield each `_target_` of nested plain values that lies in code of the user's own."""
    if isinstance(node, Mapping):
        target = node.get("_target_")
        if isinstance(target, str) and target.split(".")[0] not in PUBLIC:
            yield target
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from _own_targets(value)


def _source_of(target: str) -> str:
    """Return the hash of the file that defines what a `_target_` names; its name where there is no such file."""
    module = sys.modules.get(getattr(configs.resolve_target({"_target_": target}), "__module__", ""))
    path = Path(str(getattr(module, "__file__", None)))
    return file_hash(path) if path.is_file() else target


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
    """Name the chosen semantics: by its own name, or the published one by its one or two departures."""
    published, chosen = asdict(config.dataset.published), config.semantics.name
    changed = {k: v for k, v in asdict(config.semantics).items() if k != "name" and v != published[k]}
    if not changed:
        return "published"
    return ",".join(f"{k}={v}" for k, v in changed.items()) if chosen == "published" and len(changed) <= 2 else chosen


def given_stage_one(config: Config) -> RunFolder:
    """Return the run that `stages.from_run` names; UserError if it is none, or one of other data or network."""
    folder = RunFolder(Path(str(config.stages.from_run)))
    if folder.state != "done":
        raise UserError(f"stages.from_run={folder.path} is {folder.state}, not a finished run: finish it or drop it")
    ours, theirs = (
        without(configs.to_dict(each), (*NUMBERLESS, *BY_CONTENT))
        for each in (config, configs.read(folder.config_path))
    )
    for part in ("dataset.name", "dataset.source", "subset", "backbone"):
        if look_up(ours, part) != look_up(theirs, part):
            raise UserError(
                f"stages.from_run={folder.path} differs in {part}: take a run of the same training data and backbone, "
                "or drop it, and stage one is trained"
            )
    return folder
