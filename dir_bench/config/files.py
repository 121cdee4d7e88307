"""The YAML files there are: groups, and the choices of each."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from textwrap import shorten
from typing import Any

import yaml

from dir_bench.errors import UserError
from dir_bench.files.values import read_yaml


def config_dir() -> Path:
    """Return the folder of YAML files: inside an installed wheel, else beside the package in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_configs", package.parent / "configs"):
        if (folder / "train.yaml").is_file():
            return folder
    raise UserError(f"no configs found beside {package}: the installation is incomplete, install dir-bench again")


def options(group: str, extra_dir: str | None = None) -> list[str]:
    """Return the choices of a config group, by the files that are there, and in a folder of one's own beside them."""
    folders = [config_dir(), *([Path(extra_dir)] if extra_dir else [])]
    return sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")})


def targets(group: str, extra_dir: str | None = None) -> dict[str, str]:
    """Return what each choice of a group is made from, the `source._target_` that its file itself states.

    Choices that take it over from another are left out.
    """
    own = _targets_in(Path(extra_dir) / group) if extra_dir else {}
    return _shipped_targets(group) | own


@cache
def _shipped_targets(group: str) -> dict[str, str]:
    return _targets_in(config_dir() / group)


def _targets_in(folder: Path) -> dict[str, str]:
    group, found = folder.name, {}
    for path in sorted(folder.glob("*.yaml")):
        held = read_yaml(path)
        for key in (group, "source"):
            held = held.get(key) if isinstance(held, Mapping) else None
        if isinstance(held, Mapping) and "_target_" in held:
            found[path.stem] = str(held["_target_"])
    return found


def groups() -> list[str]:
    """Return the names of all config groups."""
    return sorted(path.name for path in config_dir().iterdir() if path.is_dir())


def choice_of(group: str, settings: Mapping[str, Any]) -> str | None:
    """Return the choice of a group whose file gives these settings; None if there is none. Null is not set."""
    asked = {key: value for key, value in settings.items() if value is not None}
    return next((name for name, held in choices(group).items() if held == asked), None)


@cache
def choices(group: str) -> dict[str, dict[str, Any]]:
    """Return what the file of each choice of a group says, but for what is null."""
    held = {name: yaml.safe_load((config_dir() / group / f"{name}.yaml").read_text()) for name in options(group)}
    return {name: {k: v for k, v in node.items() if v is not None} for name, node in held.items()}


def described() -> str:
    """Return all groups with their choices, and what the first comment of each file says of it in half a line."""
    lines = []
    for group in groups():
        lines.append(f"{group}=")
        for name in options(group):
            text = (config_dir() / group / f"{name}.yaml").read_text(encoding="utf-8")
            comments = (line[2:] for line in text.splitlines() if line.startswith("# ") and line[2] != "@")
            lines.append(f"  {name:<21} {shorten(next(comments, ''), 90, placeholder=' …')}".rstrip())
    return "\n".join(lines)
