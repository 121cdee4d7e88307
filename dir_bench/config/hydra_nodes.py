"""What Hydra itself would build from its own node of a config, checked before it does.

A folder given as --config-dir may come from somebody else, with a report that says how to repeat a sweep. Launchers
and sweepers Hydra takes from `hydra_plugins` only; callbacks and logging handlers it takes from anywhere.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import OmegaConf

from dir_bench.config.build import resolve_target
from dir_bench.errors import UserError

_HANDLER = re.compile(r"logging\.(StreamHandler|NullHandler|FileHandler)$")
_LOG_FILE = "${hydra.runtime.output_dir}/${hydra.job.name}.log"
"""Hydra's own choice, and the only file that a log may be written to."""
_FORMATTERS = ("colorlog.ColoredFormatter",)


def check_hydra(hydra: Any) -> None:
    """Refuse callbacks that are no `hydra.experimental.callback.Callback`, and logging that calls what is none of it.

    Args:
        hydra: The `hydra` node of a composed config.
    """
    for group in ("launcher", "sweeper"):  # Hydra builds what lies in them too
        node: Any = OmegaConf.to_container(hydra[group])
        settings = [value for key, value in (node or {}).items() if key != "_target_"]
        if any(key == "_target_" for key, _ in _leaves(settings)):
            raise UserError(f"hydra.{group} has a `_target_` among its settings: give plain values")
    if hydra.job.get("env_set"):
        raise UserError("hydra.job.env_set sets variables for all that is started: set them in your shell instead")
    callbacks: Any = OmegaConf.to_container(hydra.callbacks)
    for name, node in (callbacks or {}).items():
        if isinstance(node, Mapping):
            _check_callback(f"hydra.callbacks.{name}", node)
    for group in ("job_logging", "hydra_logging"):
        for key, value in _leaves(OmegaConf.to_container(hydra[group])):
            if not _is_of_logging(key, str(value)):
                raise UserError(f"hydra.{group} names {value}, which is no part of `logging`: drop it")


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
