"""`dir-bench train` as an ordinary Hydra application: one run, composed once, or what Hydra's flags ask for."""

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig

from dir_bench.config import hydra_private
from dir_bench.config.compose import depends_on_choices, errors_explained, register_schema, start, typed
from dir_bench.config.explain import explain
from dir_bench.config.files import config_dir
from dir_bench.errors import UserError
from dir_bench.schema import Config


@dataclass(frozen=True)
class Job:
    """One run as Hydra has it: its checked config, and the composed one with Hydra's own node."""

    config: Config
    composed: DictConfig
    application: hydra_private.Application

    def run(self, task: Callable[[Any], Any]) -> None:
        """Call the task as Hydra would; it finds out about the job by `job_command`."""
        self.application.run(self.composed, task)


def compose_job(overrides: Sequence[str], extra_dir: str | None = None) -> Job:
    """Compose and check one run for Hydra to run; UserError in one sentence if it cannot be."""
    with errors_explained(overrides, extra_dir):
        application = start(extra_dir, overrides)
        composed = application.compose(overrides)
        if composed.hydra.mode is not None and composed.hydra.mode.name == "MULTIRUN":
            raise UserError("hydra.mode=MULTIRUN is many runs: add -m instead")
        return Job(typed(hydra_private.without_hydra(composed)), composed, application)


def multirun(overrides: Sequence[str], extra_dir: str | None, task: Callable[[Any], Any]) -> None:
    """Let Hydra's launcher run the jobs that the task brings; their own settings went into their configs."""
    with errors_explained(overrides, extra_dir):
        application = start(extra_dir)
    try:
        application.multirun([text for text in overrides if not depends_on_choices(text)], task)
    except HydraException as error:
        raise UserError(explain(error)) from error


def check_flags(asked: Namespace) -> None:
    """Refuse flags that Hydra's parser takes and that cannot be done, alone or together.

    Raises:
        UserError: It says which, and what to do.
    """
    given = {f"--{flag.replace('_', '-')}": value for flag, value in vars(asked).items() if value}
    for flag, instead in _REFUSED.items():
        if flag in given:
            raise UserError(f"{flag} is not for here: {instead}")
    named = [flag for flag in _SHOWING if flag in given]
    if len(named) > 1:
        raise UserError(f"{' and '.join(named)} show different things: give one of them")
    if named and (asked.multirun or asked.run):
        raise UserError(f"{named[0]} shows something and trains nothing: drop {'-m' if asked.multirun else '-r'}")
    alone = [flag for flag in ("--package", "--resolve") if flag in given and not asked.cfg]
    if alone:
        raise UserError(f"{alone[0]} says how a config is shown: add --cfg job")


_SHOWING = ("--cfg", "--info", "--shell-completion", "--hydra-help")
_REFUSED = {
    "--config-name": "every run's config is configs/train.yaml; choices are GROUP=NAME",
    "--config-path": "a folder of configs of your own is --config-dir DIR",
    "--experimental-rerun": "a report says which command repeats each run",
}


def hydra_main(arguments: Sequence[str]) -> None:
    """Let Hydra do what its flags ask for beside running: --help, --cfg, --info, completion of the shell."""
    import hydra

    register_schema()
    sys.argv = ["dir-bench train", *arguments]
    shown = StringIO()  # Hydra answers output that takes nothing, as of a full disk, with a traceback
    try:
        with redirect_stdout(shown):
            hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="train")(_nothing)()
    finally:
        print(shown.getvalue(), end="")


def _nothing(composed: DictConfig) -> None:
    raise UserError("these flags of Hydra are for showing a config: drop them to train")


def job_command() -> tuple[str, ...]:
    """Return the words behind `dir-bench train` that make the job that Hydra is running."""
    hydra = HydraConfig.get()
    folders = [Path(source.path) for source in hydra.runtime.config_sources if source.provider == "command-line"]
    here = Path.cwd()
    shown = (folder.relative_to(here) if folder.is_relative_to(here) else folder for folder in folders)
    return (*(f"--config-dir={folder}" for folder in shown), *hydra.overrides.task)


def job_log() -> Path:
    """Return the file for what the running job of a sweep prints."""
    hydra = HydraConfig.get()
    return Path(hydra.runtime.output_dir) / f"{hydra.job.num}.log"
