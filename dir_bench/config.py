"""From YAML files and the command line to a checked config, and from its nodes to objects.

The only module that knows Hydra. A config is composed from `configs/`, checked here before any data is read, and
handed on as plain dataclasses. Names of choices are compared with what exists, so a typo meets its nearest name.
"""

import inspect
import itertools
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from dir_bench.errors import UserError, nearest
from dir_bench.rules import check
from dir_bench.schema import Config, without_unused


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

    ConfigStore.instance().store(group="_schema", name="config", node=Config)


def compose(overrides: Sequence[str], extra_dir: str | None = None) -> Config:
    """Compose and check a config outside of a Hydra application; UserError in one sentence if it cannot be."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    register_schema()
    search = [f"hydra.searchpath=[file://{Path(extra_dir).resolve()}]"] if extra_dir else []
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(config_dir())):
            composed = hydra_compose("train", [*search, *overrides])
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error, overrides)) from error
    return typed(composed)


def typed(composed: DictConfig) -> Config:
    """Turn a composed config into dataclasses, and check every rule; UserError names the key and what to do."""
    schema = OmegaConf.structured(Config)
    known = list(_dotted(OmegaConf.to_container(schema)))
    for key in _dotted(OmegaConf.to_container(composed)):
        head = key.split(".")[0]
        if head not in schema:
            raise UserError(f"unknown config key '{head}'{nearest(head, [f.name for f in fields(Config)])}")
        if not _free_form(key) and key not in known:
            raise UserError(f"unknown config key '{key}'{nearest(key, known)}")
    try:
        config = OmegaConf.to_object(OmegaConf.merge(schema, composed))
    except OmegaConfBaseException as error:
        raise UserError(explain(error)) from error
    assert isinstance(config, Config)
    check(config)
    return without_unused(config)


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


def to_dict(config: Config) -> dict[str, Any]:
    """Return the config as nested plain values, as it is written to `config.yaml`."""
    plain = OmegaConf.to_container(OmegaConf.structured(config), resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


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
    """Bind the settings of dataset, backbone, optimiser and schedule to what they configure (imports torch)."""
    bind(config.dataset.source, "dataset.source")
    bind(config.backbone, "backbone")
    bind(config.optimizer, "optimizer", "params")
    if config.schedule.source:
        bind(config.schedule.source, "schedule.source", "optimizer")


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


def sweep_jobs(overrides: Sequence[str]) -> Iterator[list[str]]:
    """Expand the comma lists of a multirun into the overrides of each job, as Hydra's basic sweeper does."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Glob
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
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


def jobs_to_check(overrides: Sequence[str], multirun: bool) -> list[list[str]]:
    """Return overrides that between them show every mistake a sweep can hold, without composing all its jobs.

    Choices of groups interact (LDS needs weights), so all their combinations are checked; each value of a plain key
    is checked once.
    """
    if not multirun:
        return [list(overrides)]
    group_names = set(groups())
    seen: set[tuple[str, ...]] = set()
    chosen = []
    for job in sweep_jobs(overrides):
        combination = tuple(item for item in job if item.split("=")[0] in group_names)
        marks = {combination, *((item,) for item in job)}
        if not marks <= seen:
            seen |= marks
            chosen.append(job)
    return chosen


def hydra_main(job: Callable[[DictConfig], None], arguments: Sequence[str]) -> None:
    """Run `job` as an ordinary Hydra application with these command-line arguments."""
    import hydra

    register_schema()
    sys.argv = ["dir-bench train", *arguments]
    hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="train")(job)()


def job_overrides() -> tuple[str, ...]:
    """Return the overrides of the job that Hydra is running."""
    from hydra.core.hydra_config import HydraConfig

    return tuple(HydraConfig.get().overrides.task)


def job_name() -> str:
    """Return the running job's overrides as one string, to name it in a summary."""
    return " ".join(job_overrides()) or "(defaults)"


def _arguments(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a node's keyword arguments: all keys but the target and what the schema itself reads."""
    return {key: value for key, value in node.items() if key not in ("_target_", "features")}


def _free_form(key: str) -> bool:
    """Tell whether a dotted key lies in a node whose names are those of a `_target_`, not of the schema."""
    return key.split(".")[0] in ("backbone", "optimizer") or key.startswith(("dataset.source", "schedule.source"))


def _dotted(node: Any, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")
