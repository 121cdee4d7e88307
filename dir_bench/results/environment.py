"""What else than its config can change a run's numbers, for environment.json."""

import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from dir_bench import __version__

_PACKAGES = (
    *("torch", "torchvision", "lightning-fabric", "hydra-core", "omegaconf"),
    *("numpy", "pandas", "scipy", "tensorboard", "nltk"),
)


def run_environment() -> dict[str, Any]:
    """Return what else can change a run's numbers: Python, platform, package versions, this code's commit.

    Packages are looked up, not imported. Nothing names the machine. `git` is None outside of a checkout.
    """
    return {
        "dir_bench": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "packages": _versions(),
        "git": _git(),
    }


@cache
def _versions() -> dict[str, str]:
    """Return the versions of what is installed; looked up once, as what this process imported stays what it is."""
    return {name: version for name in _PACKAGES if (version := _version(name))}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git() -> dict[str, Any] | None:
    """Return commit and whether tracked files differ from it, if the package lies in its own checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None

    def ask(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout.strip()

    try:
        return {
            "commit": ask("rev-parse", "HEAD"),
            "dirty": bool(ask("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):  # no git here, or it does not trust this folder
        return None
