"""What Hydra itself would build from its own node of a config, checked before it does.

A folder given as --config-dir may come from somebody else, with a report that says how to repeat a sweep. Launchers
and sweepers Hydra takes from `hydra_plugins` only; callbacks and logging handlers it takes from anywhere.
"""

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import OmegaConf

from dir_bench.config.build import resolve_target
from dir_bench.errors import UserError, nearest

_HANDLER = re.compile(r"logging\.(StreamHandler|NullHandler|FileHandler)$")
_LOG_FILE = "${hydra.runtime.output_dir}/${hydra.job.name}.log"
"""Hydra's own choice, and the only file that a log may be written to."""
_PLUGINS = ("hydra_plugins.", "hydra._internal.core_plugins.")
_FORMATTERS = ("colorlog.ColoredFormatter",)


def check_hydra(hydra: Any) -> None:
    """Refuse callbacks that are no `hydra.experimental.callback.Callback`, and logging that calls what is none of it.

    Args:
        hydra: The `hydra` node of a composed config.
    """
    for group in ("launcher", "sweeper"):  # Hydra builds what lies in them too
        if hydra[group] is None:
            raise UserError(f"hydra.{group}=null: choose one by hydra/{group}=NAME")
        node: Any = OmegaConf.to_container(hydra[group])
        settings = [value for key, value in (node or {}).items() if key != "_target_"]
        if any(key == "_target_" for key, _ in _leaves(settings)):
            raise UserError(f"hydra.{group} has a `_target_` among its settings: give plain values")
    if hydra.job.get("env_set"):
        raise UserError("hydra.job.env_set sets variables for all that is started: set them in your shell instead")
    if hydra.job.get("chdir"):
        raise UserError("hydra.job.chdir=true would move all relative paths: leave it out, each run has its own folder")
    _check_launcher(hydra.launcher)
    callbacks: Any = OmegaConf.to_container(hydra.callbacks)
    for name, node in (callbacks or {}).items():
        if isinstance(node, Mapping):
            _check_callback(f"hydra.callbacks.{name}", node)
    for group in ("job_logging", "hydra_logging"):
        for key, value in _leaves(OmegaConf.to_container(hydra[group])):
            if not _is_of_logging(key, str(value)):
                raise UserError(f"hydra.{group} names {value}, which is no part of `logging`: drop it")


def _check_launcher(node: Any) -> None:
    """Refuse settings that the launcher does not have, before a sweep is planned with it."""
    plain: Any = OmegaConf.to_container(node)
    settings = {key: value for key, value in plain.items() if key not in ("_target_", "_recursive_", "_convert_")}
    if not str(plain.get("_target_")).startswith(_PLUGINS):
        return  # Hydra takes launchers from nowhere else, and says so; nothing else is to be imported
    launcher = resolve_target(plain)
    try:
        known = inspect.signature(launcher).parameters
    except (TypeError, ValueError):  # not a class of Python's own, which says nothing of itself
        return
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        for key in settings:
            if key not in known:
                there = ", ".join(known) or "none"
                raise UserError(f"the launcher has no setting '{key}'{nearest(key, known)}; there are: {there}")
    if (check := getattr(launcher, "check", None)) is not None:  # ours
        check(settings)


def _check_callback(where: str, node: Mapping[Any, Any]) -> None:
    settings = {key: value for key, value in node.items() if key != "_target_"}
    if any(key == "_target_" for key, _ in _leaves(settings)):
        raise UserError(f"{where} has a `_target_` among its settings: give plain values")
    found = resolve_target(node)
    if not (isinstance(found, type) and issubclass(found, Callback)):
        raise UserError(f"{where} has to be a hydra.experimental.callback.Callback, and `{node['_target_']}` is none")


def _is_of_logging(key: str, value: str) -> bool:
    if key == "filename":
        return value == _LOG_FILE
    if key == "class":
        return _HANDLER.match(value) is not None
    if key == "()":
        return value in _FORMATTERS
    return not value.startswith("ext://") or value in ("ext://sys.stdout", "ext://sys.stderr")


def _leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (last key, value) of all plain values of a nested node."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _leaves(value, str(name))
    elif isinstance(node, list):
        for value in node:
            yield from _leaves(value, key)
    else:
        yield key, node
