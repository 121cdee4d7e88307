"""From a config's nodes to objects: what a `_target_` may be, and whether its settings fit.

A `_target_` is a name that gets imported and called, so it is checked twice. Whatever the config, only what makes a
dataset, a network, an optimiser or a schedule is called. Of a config that lies in a run folder, which may be somebody
else's, only what this package, torch and torchvision define is imported, unless the user trusts more.
"""

import inspect
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from dir_bench.config import annotations
from dir_bench.errors import UserError, nearest
from dir_bench.schema import Config

ALLOWED = ("dir_bench", "torch.optim", "torchvision.models")
"""Modules whose classes a run folder's config may name, with all below them (`torch.optim.lr_scheduler`)."""

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


@dataclass(frozen=True)
class Kind:
    """What a node has to make: a name for errors, and the test that its class passes."""

    name: str
    fits: Callable[[type], bool]


def _is_dataset(found: type) -> bool:
    # A Protocol with a property cannot be asked for subclasses; these are its methods.
    return all(callable(getattr(found, method, None)) for method in ("fingerprint", "load", "check", "sample"))


def _is_module(found: type) -> bool:
    from torch import nn

    return issubclass(found, nn.Module)


def _is_part(found: type) -> bool:
    from dir_bench.methods.part import Part

    return issubclass(found, Part)


def _is_optimizer(found: type) -> bool:
    from torch.optim import Optimizer

    return issubclass(found, Optimizer)


def _is_schedule(found: type) -> bool:
    from torch.optim.lr_scheduler import LRScheduler

    return issubclass(found, LRScheduler)


DATASET = Kind("a dataset (dir_bench.datasets.base.Dataset)", _is_dataset)
MODULE = Kind("a torch.nn.Module", _is_module)
PART = Kind("a part, a class made from `dir_bench.Part`", _is_part)
OPTIMIZER = Kind("a torch.optim.Optimizer", _is_optimizer)
SCHEDULE = Kind("a torch.optim.lr_scheduler.LRScheduler", _is_schedule)


@dataclass(frozen=True)
class Node:
    """A node that something is built from: its place in the config, what it has to make, and what callers add."""

    where: str
    settings: Mapping[str, Any]
    kind: Kind
    supplied: tuple[str, ...] = ()


def nodes(config: Config) -> Iterator[Node]:
    """Yield the nodes of a config that something is built from, the cheapest to check first."""
    yield Node("dataset.source", config.dataset.source, DATASET)
    yield Node("backbone", config.backbone, MODULE)
    yield Node("optimizer", config.optimizer, OPTIMIZER, ("params",))
    if config.schedule.source:
        yield Node("schedule.source", config.schedule.source, SCHEDULE, ("optimizer",))
    for name, settings in config.parts.items():
        yield Node(f"parts.{name}", settings, PART, ("facts",))


def check_dataset(config: Config) -> None:
    """Do of `check_targets` what needs no torch: the dataset's part."""
    source = next(nodes(config))
    require(source.settings, source.where, source.kind)
    bind(source.settings, source.where)


def check_targets(config: Config) -> None:
    """Check that each node makes what it has to, and takes the settings that it has (imports torch)."""
    for node in nodes(config):
        require(node.settings, node.where, node.kind)
        bind(node.settings, node.where, *node.supplied)
        if node.kind is PART:
            _check_part(config, node)


def _check_part(config: Config, node: Node) -> None:
    from torch import nn

    name, part = node.where.partition(".")[2], resolve_target(node.settings)
    if hasattr(nn.Module, name) or name in ("training", "part_names", "parts"):
        raise UserError(f"{node.where}: the name is taken by what every network has: choose another")
    if not isinstance(part, type):
        raise UserError(f"{node.where} has to be {PART.name}, and `{node.settings['_target_']}` is a function")
    from dir_bench.methods.part import Head

    if issubclass(part, Head) and name != "head":
        raise UserError(f"{node.where} is a head, of which there is one: name it parts.head")
    if part.of_features and not config.backbone.get("features", True):  # type: ignore[attr-defined]
        raise UserError(
            f"{node.where}: {part.__name__} works on learned features, and the backbone "
            f"{config.backbone.get('_target_')} offers none: choose another backbone"
        )
    part.check(config)  # type: ignore[attr-defined]


def check_foreign(config: Config, plain: Mapping[str, Any], trust: Iterable[str] = ()) -> None:
    """Refuse a config of a run folder that names what is not to be imported, before anything of it is.

    Args:
        config: The config.
        plain: The same as nested plain values: a `_target_` counts wherever it lies.
        trust: Modules that the user allows beside `ALLOWED`, with all below them.

    Raises:
        UserError: A `_target_` lies elsewhere, is only borrowed by an allowed module, or is of another kind.
    """
    allowed = (*ALLOWED, *trust)
    for where, target in _targets(plain):
        if not _lies_in(target, allowed):
            raise UserError(
                f"{where} of this run is `{target}`, and a run folder may name what lies in {', '.join(ALLOWED)} only: "
                f"if you know and trust that code, add --trust {target.rpartition('.')[0] or target}"
            )
    for node in nodes(config):
        found = resolve_target(node.settings)
        home = str(getattr(found, "__module__", None))
        if not _lies_in(f"{home}.", allowed):
            raise UserError(
                f"{node.where} of this run is `{node.settings['_target_']}`, which is defined in {home}: if you know "
                f"and trust that code, add --trust {home}"
            )
        require(node.settings, node.where, node.kind)


def _targets(node: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Yield the place and the value of each `_target_` in nested plain values."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield where, str(node["_target_"])
        for key, value in node.items():
            yield from _targets(value, f"{where}.{key}" if where else str(key))
    elif isinstance(node, (list, tuple)):
        for place, value in enumerate(node):
            yield from _targets(value, f"{where}[{place}]")


def _lies_in(target: str, modules: Iterable[str]) -> bool:
    return any(target.startswith(f"{module}.") for module in modules)


def resolve_target(node: Mapping[str, Any]) -> Any:
    """Return the class or function that a node's `_target_` names as `module.Name`; UserError if there is none."""
    target = str(node.get("_target_", ""))
    if not _NAME.fullmatch(target):
        raise UserError(f"`_target_: {target}` is no name such as package.module.Class: check it in its YAML")
    module, _, name = target.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except Exception as error:  # somebody's module can raise anything while it is imported
        named = isinstance(error, (ModuleNotFoundError, AttributeError))
        said = str(error) if named or isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        how = "check the name in its YAML" if named else "the module is there, and this ends its import"
        if isinstance(error, ModuleNotFoundError) and error.name == target.split(".")[0]:
            how += ", or if it is your own, put its folder on the import path: PYTHONPATH=FOLDER dir-bench …"
        raise UserError(f"`_target_: {target}` cannot be imported ({said}): {how}") from error


def require(node: Mapping[str, Any], where: str, kind: Kind) -> None:
    """Raise UserError unless a node's `_target_` makes what it has to; nothing is called."""
    if not _makes(resolve_target(node), [kind]):
        raise UserError(f"{where} has to be {kind.name}, and `{node['_target_']}` makes none")


def _makes(found: Any, kinds: Iterable[Kind]) -> bool:
    """Tell whether a class is of one of these kinds, or a function says that it returns one."""
    if inspect.isfunction(found):
        if found.__module__.split(".")[0] == "torch":  # some of its functions run text
            return False
        try:
            found = typing.get_type_hints(found).get("return")
        except Exception:  # names that exist for type checkers only
            return False
    return isinstance(found, type) and any(kind.fits(found) for kind in kinds)


def build(node: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
    """Call a node's `_target_` with the node's other keys, and `kwargs` for what only the caller knows.

    Raises:
        UserError: If the target makes nothing that a config may build, or refuses its arguments.
    """
    target = resolve_target(node)
    if not _makes(target, (DATASET, MODULE, OPTIMIZER, SCHEDULE)):
        raise UserError(
            f"`{node['_target_']}` makes neither a dataset nor a network, an optimiser or a schedule: "
            "a config builds nothing else"
        )
    try:
        return target(*args, **_arguments(node), **kwargs)
    except (TypeError, ValueError) as error:
        shown = ", ".join(f"{key}={value}" for key, value in _arguments(node).items())
        raise UserError(f"`{node['_target_']}` does not take its settings ({shown}): {error}") from error


def bind(node: Mapping[str, Any], where: str, *supplied: str) -> None:
    """Check a node's keys against the signature of its `_target_`; `supplied` are names the caller will add."""
    target = resolve_target(node)
    signature, hints = inspect.signature(target), annotations.hints(target)
    for name, value in _arguments(node).items():
        if name in hints and (parameter := signature.parameters.get(name)) is not None:
            if wanted := annotations.misfit(value, hints[name], parameter.default):
                raise UserError(f"{where}.{name}={'null' if value is None else value} must be {wanted}")
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values()):
        return
    for name in _arguments(node):
        if name not in signature.parameters:
            names = [p for p in signature.parameters if p not in supplied]
            raise UserError(
                f"{where} has no setting '{name}'{nearest(name, names)}; `{node['_target_']}` takes: {', '.join(names)}"
            )


def _arguments(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a node's keyword arguments: all keys but the target and what the schema itself reads."""
    return {key: value for key, value in node.items() if key not in ("_target_", "features")}
