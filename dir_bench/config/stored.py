"""The config of a run folder, which may be somebody else's: read as plain data, and built from with care."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dir_bench.config.build import check_foreign
from dir_bench.config.compose import typed
from dir_bench.config.words import literal
from dir_bench.errors import UserError
from dir_bench.files.plain import NotThere
from dir_bench.files.values import read_yaml
from dir_bench.schema import Config


def read(path: Path) -> Config:
    """Read the resolved config of a run folder, to look at: nothing that it names was checked for building.

    Raises:
        UserError: It is missing, damaged, or no config of a run.
    """
    return _read(path)[0]


def load(path: Path, trust: Iterable[str] = ()) -> Config:
    """Read the resolved config of a run folder, to build from: what it names is in allowed or trusted modules.

    Raises:
        UserError: As `read`, and if the config names anything else.
    """
    config, plain = _read(path)
    try:
        check_foreign(config, plain, trust)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return config


def _read(path: Path) -> tuple[Config, Any]:
    """Return a run's config, and the plain values that its file holds."""
    plain = _plain(path)
    if not isinstance(plain, dict) or "dataset" not in plain:
        raise UserError(f"{path} is not the config of a run")
    try:
        node = OmegaConf.create(literal(plain))
    except (OmegaConfBaseException, ValueError) as error:
        raise UserError(f"{path} is not the config of a run: {_first_line(error)}") from error
    try:
        return typed(node), plain
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _plain(path: Path) -> Any:
    """Return a run's config.yaml as plain values, through the one door for YAML."""
    try:
        return read_yaml(path)
    except NotThere as error:
        raise UserError(f"no run here: {path} does not exist") from error


def _first_line(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error).splitlines()[0] if str(error) else type(error).__name__)
