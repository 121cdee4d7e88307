"""From YAML files and the command line to a checked config, and from its nodes to objects.

The only module that knows Hydra. A config is composed from `configs/`, checked here before any data is read, and
handed on as plain dataclasses. Names of choices are compared with what exists, so a typo meets its nearest name.
"""

import copy
import inspect
import itertools
import json
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from dir_bench.errors import UserError, nearest
from dir_bench.rules import check
from dir_bench.schema import Config, without_unused

EXTRAS = {"slurm": "submitit", "ray": "ray"}
"""Extras of this package, each with what its launchers are called."""


def config_dir() -> Path:
    """Return the folder of YAML files: inside an installed wheel, else beside the package in a checkout."""
    package = Path(__file__).resolve().parent
    for folder in (package / "_configs", package.parent / "configs"):
        if (folder / "train.yaml").is_file():
            return folder
    raise UserError(f"no configs found beside {package}: the installation is incomplete, install dir-bench again")


def options(group: str) -> list[str]:
    """Return the choices of a config group, by the files that are there."""
    return sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))


def groups() -> list[str]:
    """Return the names of all config groups."""
    return sorted(path.name for path in config_dir().iterdir() if path.is_dir())


def register_schema() -> None:
    """Make the dataclasses above known to Hydra as the root of `configs/train.yaml`."""
    from hydra.core.config_store import ConfigStore

    from dir_bench.sweeps import plugins

    ConfigStore.instance().store(group="_schema", name="config", node=Config)
    plugins.register()


def compose(overrides: Sequence[str], extra_dir: str | None = None) -> Config:
    """Compose and check a config outside of a Hydra application; UserError in one sentence if it cannot be."""
    from hydra import compose as hydra_compose

    with _hydra(extra_dir, overrides) as (_, search):
        _check_choices(_parsed(overrides))
        composed = hydra_compose("train", [*search, *overrides])
    return typed(composed)


def compose_all(jobs: Sequence[Sequence[str]], extra_dir: str | None = None) -> list[Config]:
    """Compose and check the configs of many jobs, as `compose` does.

    Hydra takes a tenth of a second to compose a set of group choices, so each set is composed once; the other
    overrides come last in Hydra too, and are put onto copies. Jobs that differ by a seed that nothing else refers to
    share one copy.
    """
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    composed: dict[tuple[str, ...], DictConfig] = {}
    made: dict[tuple[str, ...], DictConfig] = {}
    places = []
    with _hydra(extra_dir, jobs[0] if jobs else ()) as (loader, search):
        loader.repository = _read_once(loader.repository)
        _, repository = loader._parse_overrides_and_create_caching_repo("train", search)
        texts = list(dict.fromkeys(text for job in jobs for text in job))
        parsed = dict(zip(texts, _parsed(texts), strict=True))
        _check_choices(parsed.values())
        chooses = {
            text: override.package is not None or repository.group_exists(override.key_or_group)
            for text, override in parsed.items()
        }
        for job in jobs:
            choices = tuple(text for text in job if chooses[text])
            if choices not in composed:
                composed[choices] = _compose_choices(loader, [*search, *choices])
            config = composed[choices]
            seed = next((text for text in job if re.fullmatch(r"seed=\d+", text)), None)
            alone = seed is not None and "seed}" not in str(config) + "".join(job)
            rest = tuple(text for text in job if not (alone and text == seed))
            if rest not in made:
                made[rest] = copy.deepcopy(config)
                values = [parsed[text] for text in rest if not chooses[text]]
                ConfigLoaderImpl._apply_overrides_to_config(values, made[rest])
            places.append((rest, int(str(seed)[5:]) if alone else None))
    checked = {rest: typed(config) for rest, config in made.items()}
    return [checked[rest] if seed is None else replace(checked[rest], seed=seed) for rest, seed in places]


def _parsed(overrides: Sequence[str]) -> list[Any]:
    """Return Hydra's objects of overrides; they raise its errors."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return list(OverridesParser.create().parse_overrides(list(overrides)))


def _check_choices(parsed: Iterable[Any]) -> None:
    """Refuse what is no name of a file where a group's choice is asked for: lds=null, fds=false, trainer=3."""
    for override in parsed:
        key, value = override.key_or_group, override.value()
        if key in groups() and not override.is_delete() and not isinstance(value, str):
            shown = override.input_line.partition("=")[2]
            raise UserError(f"{key}={shown} is not a choice; {key} can be: {', '.join(options(key))}")


def _compose_choices(loader: Any, overrides: Sequence[str]) -> DictConfig:
    """Compose group choices alone: without Hydra's own settings, which are more than half of the work."""
    from hydra._internal.defaults_list import create_defaults_list

    parsed, repository = loader._parse_overrides_and_create_caching_repo("train", overrides)
    listed = create_defaults_list(repository, "train", parsed, prepend_hydra=False, skip_missing=False)
    composed: DictConfig = loader._compose_config_from_defaults_list(listed.defaults, repository)
    OmegaConf.set_struct(composed, True)
    return composed


def _read_once(repository: Any) -> Any:
    """Return a repository without Hydra's groups that reads each file once, for compositions that change copies."""
    from hydra._internal.config_repository import CachingConfigRepository

    class Files(CachingConfigRepository):
        def __deepcopy__(self, memo: Any) -> "Files":
            return self

        def load_config(self, config_path: str) -> Any:
            found = super().load_config(config_path)
            if found is None:
                return None
            config = copy.deepcopy(found.config)
            if "hydra" in config:
                del config["hydra"]
            ours = [part for part in found.defaults_list or () if not _is_of_hydra(part)]
            return replace(found, config=config, defaults_list=ours)

    return Files(repository)


def _is_of_hydra(default: Any) -> bool:
    return str(getattr(default, "group", "")).startswith("hydra/")


@contextmanager
def _hydra(extra_dir: str | None, overrides: Sequence[str] = ()) -> Iterator[tuple[Any, list[str]]]:
    """Give Hydra's config loader and the override that makes it search `extra_dir`.

    Its errors become a UserError; `overrides` say which keys there are to be meant.
    """
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    register_schema()
    search = [f"hydra.searchpath=[file://{Path(extra_dir).resolve()}]"] if extra_dir else []
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(config_dir())):
            yield GlobalHydra.instance().config_loader(), search
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error, overrides)) from error


def typed(composed: DictConfig) -> Config:
    """Turn a composed config into dataclasses, and check every rule; UserError names the key and what to do."""
    schema, known = _schema()
    for key in _dotted(OmegaConf.to_container(composed)):
        head = key.split(".")[0]
        if head not in schema:
            raise UserError(f"unknown config key '{head}'{nearest(head, [f.name for f in fields(Config)])}")
        if not _free_form(key) and key not in known:
            raise UserError(f"unknown config key '{key}'{nearest(key, known)}")
    try:
        ours = OmegaConf.get_type(composed) is Config  # Hydra's are; one read from a file is not
        config = OmegaConf.to_object(composed if ours else OmegaConf.merge(schema, composed))
    except OmegaConfBaseException as error:
        raise UserError(explain(error)) from error
    assert isinstance(config, Config)
    check(config)
    return without_unused(config)


@cache
def _schema() -> tuple[DictConfig, list[str]]:
    """Return the schema and its dotted keys."""
    schema = OmegaConf.structured(Config)
    return schema, list(_dotted(OmegaConf.to_container(schema)))


def load(path: Path) -> Config:
    """Read the resolved config of a run folder."""
    try:
        node = OmegaConf.create(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"no run here: {path} does not exist") from error
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise UserError(f"{path} cannot be read as a run's config: {str(error).splitlines()[0]}") from error
    if not isinstance(node, DictConfig) or "dataset" not in node:
        raise UserError(f"{path} is not the config of a run")
    return typed(node)


def changed(config: Config, changes: Mapping[str, Any]) -> Config:
    """Return a config with some settings changed, checked as any other; null takes a part away."""
    try:
        merged = OmegaConf.merge(OmegaConf.structured(config), dict(changes))
    except OmegaConfBaseException as error:
        raise UserError(explain(error)) from error
    assert isinstance(merged, DictConfig)
    return typed(merged)


def to_dict(config: Config) -> dict[str, Any]:
    """Return the config as nested plain values, as it is written to `config.yaml`."""
    return asdict(config)


def resolve_target(node: Mapping[str, Any]) -> Any:
    """Return the class or function that a node's `_target_` names; UserError if there is none."""
    target = str(node.get("_target_", ""))
    try:
        return pkgutil.resolve_name(target)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"`_target_: {target}` cannot be imported ({error}): check the name in its YAML") from error


def build(node: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
    """Call a node's `_target_` with the node's other keys, and `kwargs` for what only the caller knows.

    Raises:
        UserError: If the target refuses its arguments.
    """
    target = resolve_target(node)
    try:
        return target(*args, **_arguments(node), **kwargs)
    except (TypeError, ValueError) as error:
        shown = ", ".join(f"{key}={value}" for key, value in _arguments(node).items())
        raise UserError(f"`{node['_target_']}` does not take its settings ({shown}): {error}") from error


def bind(node: Mapping[str, Any], where: str, *supplied: str) -> None:
    """Check a node's keys against the signature of its `_target_`; `supplied` are names the caller will add."""
    signature = inspect.signature(resolve_target(node))
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values()):
        return
    for name in _arguments(node):
        if name not in signature.parameters:
            names = [p for p in signature.parameters if p not in supplied]
            raise UserError(
                f"{where} has no setting '{name}'{nearest(name, names)}; `{node['_target_']}` takes: {', '.join(names)}"
            )


def check_targets(config: Config) -> None:
    """Bind the settings of dataset, backbone, optimiser, schedule and parts to what they configure (imports torch)."""
    from dir_bench.methods.part import Part

    bind(config.dataset.source, "dataset.source")
    bind(config.backbone, "backbone")
    bind(config.optimizer, "optimizer", "params")
    if config.schedule.source:
        bind(config.schedule.source, "schedule.source", "optimizer")
    for name, node in config.parts.items():
        bind(node, f"parts.{name}", "facts")
        part = resolve_target(node)
        if not (isinstance(part, type) and issubclass(part, Part)):
            raise UserError(f"parts.{name}: `{node['_target_']}` is not a part: a class made from `dir_bench.Part`")
        part.check(config)


def explain(error: Exception, overrides: Sequence[str] = ()) -> str:
    """Put a Hydra or OmegaConf error into one sentence that names the nearest valid key or choice.

    Args:
        error: What composing raised.
        overrides: What was composed; its choices of groups say which keys there are.
    """
    text = str(error)
    missing = re.search(r"Could not find '([^']+)'", text)
    if missing and "/" in missing[1]:
        group, _, name = missing[1].rpartition("/")
        if group == "hydra/launcher":
            from hydra.core.config_store import ConfigStore

            there = sorted(path.removesuffix(".yaml") for path in ConfigStore.instance().list(group))
            extra = next((f"; pip install 'dir-bench[{e}]' adds it" for e, n in EXTRAS.items() if n in name), "")
            return f"{group}={name} is not installed{nearest(name, there)}{extra}; there are: {', '.join(there)}"
        there = options(group)
        return f"{group}={name} does not exist{nearest(name, there)}; {group} can be: {', '.join(there)}"
    key = re.search(r"Could not override '([^']+)'", text) or re.search(r"full_key: (\S+)", text)
    if key and ("not in struct" in text or "Could not override" in text):
        chosen = [override for override in overrides if override.partition("=")[0] in groups()]
        known = [*groups(), *_dotted(to_dict(compose(chosen)))]
        within = re.search(r"Key '([^']+)' not in", str(error.__cause__))
        if key[1] in known and within:  # in an item of a list
            return f"unknown key '{within[1]}' in {key[1]}: `dir-bench train --cfg job` prints those that there are"
        return f"unknown config key '{key[1]}'{nearest(key[1], known)}; `dir-bench train --cfg job` prints all keys"
    if "sweep" in text.lower() and "," in text:
        return f"{text.splitlines()[0].rstrip('.')}: a list of values is a sweep, add -m (or quote it as '[a,b]')"
    if text.startswith("Error merging override") and error.__cause__ is not None:
        text = f"{text.splitlines()[0]}: {error.__cause__}"
    first = " ".join(line.strip() for line in text.splitlines()[:2] if line.strip() and "full_key" not in line)
    return f"{key[1]}: {first}" if key else first


@dataclass(frozen=True)
class Sweep:
    """What a sweep file asks for, or the lack of one.

    Attributes:
        grids: The products whose jobs make the sweep; without a file one that has no axes.
        stand_ins: The size of each dataset's stand-in, which is written where its files would be and are not.
    """

    grids: list[dict[str, Any]]
    stand_ins: dict[str, int]


def sweep_of(overrides: Sequence[str], extra_dir: str | None = None) -> Sweep | None:
    """Return what a multirun's sweep file asks for; None if another sweeper than ours was chosen.

    Only that one would know its jobs.
    """
    from hydra import compose as hydra_compose

    with _hydra(extra_dir) as (_, search):
        ours = [text for text in overrides if not _of_jobs(text)]
        sweeper = hydra_compose("train", [*search, *ours], return_hydra_config=True).hydra.sweeper
    if not sweeper["_target_"].endswith(".GridSweeper"):
        return None
    chosen = OmegaConf.to_container(sweeper)
    assert isinstance(chosen, dict)
    common = chosen["params"] or {}
    grids = [{**grid, **{k: v for k, v in common.items() if k not in grid}} for grid in chosen["grids"] or [{}]]
    return Sweep(grids, chosen["stand_ins"] or {})


def _of_jobs(override: str) -> bool:
    """Tell an override that jobs take from one that says how they are swept over and launched."""
    return not override.lstrip("+~").startswith(("hydra.", "hydra/", "sweep="))


def sweep_jobs(overrides: Sequence[str], grids: Sequence[Mapping[str, Any]] = ({},)) -> list[list[str]]:
    """Expand comma lists into the overrides of each job.

    Args:
        overrides: Those of the command line. They win over a grid's axis of the same key, and add to all grids.
        grids: Each a product of axes, key to comma list (or any other sweep of Hydra's, such as `range(3)`).
    """
    given = [text for text in overrides if _of_jobs(text)]
    keys = {text.split("=")[0].lstrip("+") for text in given}
    jobs: list[list[str]] = []
    for grid in grids:
        own = [f"{k}={_text(v)}" for k, v in grid.items() if k.lstrip("+") not in keys]
        jobs += _product([*own, *given])
    return list(map(list, dict.fromkeys(map(tuple, jobs))))


def _text(value: Any) -> str:
    """Write a YAML value as Hydra's overrides have it; text stays as it is."""
    return value if isinstance(value, str) else json.dumps(value)


def _product(overrides: Sequence[str]) -> Iterator[list[str]]:
    from hydra.core.override_parser.types import Glob
    from hydra.errors import HydraException

    try:
        parsed = _parsed(overrides)
    except HydraException as error:
        raise UserError(explain(error)) from error
    axes = []
    for override, text in zip(parsed, overrides, strict=True):
        value = override.value()
        if isinstance(value, Glob):
            values = value.filter(options(override.key_or_group))
        elif override.is_sweep_override():
            values = list(override.sweep_string_iterator())
        else:
            axes.append([text])
            continue
        axes.append([f"{override.get_key_element()}={value}" for value in values])
    return (list(job) for job in itertools.product(*axes))


def hydra_main(job: Callable[[DictConfig], None], arguments: Sequence[str]) -> None:
    """Run `job` as an ordinary Hydra application with these command-line arguments."""
    import hydra

    register_schema()
    sys.argv = ["dir-bench train", *arguments]
    hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="train")(job)()


def job_command() -> tuple[str, ...]:
    """Return the words behind `dir-bench train` that make the job that Hydra is running."""
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()
    folders = [Path(source.path) for source in hydra.runtime.config_sources if source.provider == "command-line"]
    here = Path.cwd()
    shown = (folder.relative_to(here) if folder.is_relative_to(here) else folder for folder in folders)
    return (*(f"--config-dir={folder}" for folder in shown), *hydra.overrides.task)


def job_log() -> Path:
    """Return the file for what the running job of a sweep prints."""
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()
    return Path(hydra.runtime.output_dir) / f"{hydra.job.num}.log"


def _arguments(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a node's keyword arguments: all keys but the target and what the schema itself reads."""
    return {key: value for key, value in node.items() if key not in ("_target_", "features")}


def _free_form(key: str) -> bool:
    """Tell whether a dotted key lies in a node whose names are those of a `_target_`, not of the schema."""
    free = ("dataset.source", "schedule.source", "stages.first")
    return key.split(".")[0] in ("backbone", "optimizer", "parts") or key.startswith(free)


def _dotted(node: Any, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")
