"""The YAML files there are: groups, and the choices of each."""

from pathlib import Path

from dir_bench.errors import UserError


def config_dir() -> Path:
    """Return the folder of YAML files: inside an installed wheel, else beside the package in a checkout."""
    package = Path(__file__).resolve().parents[1]
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
