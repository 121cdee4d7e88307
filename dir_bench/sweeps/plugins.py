"""What Hydra is told of sweeps: `hydra/sweeper=grids` (the default here) and `hydra/launcher=local`.

Hydra takes plugins from the package `hydra_plugins` only, which an editable install of this package cannot ship. So
this module goes by a second name there, from the moment it is imported. That suits launchers that pickle Hydra's state
(submitit, Ray) too: the config they send names a class of this module, which their workers then import.
"""

import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from hydra import version
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from dir_bench.config import hydra_private, to_dict
from dir_bench.config.words import literal
from dir_bench.errors import UserError
from dir_bench.schema import Config

MODULE = "hydra_plugins.dir_bench"


@dataclass
class GridSweeperConf:
    """`params`: axes of all jobs, as in Hydra's basic sweeper. `grids`: each a product of axes of its own.

    `stand_ins`: see `config.Sweep`.
    """

    _target_: str = f"{MODULE}.GridSweeper"
    params: dict[str, Any] | None = None
    grids: list[dict[str, Any]] | None = None
    stand_ins: dict[str, int] | None = None


@dataclass
class LocalLauncherConf:
    """`n_jobs`: null for one a GPU, or as many as the cores allow. `threads`: of each job."""

    _target_: str = f"{MODULE}.LocalLauncher"
    n_jobs: int | None = None
    threads: int = 1
    gpus_per_job: int = 1


class GridSweeper(Sweeper):
    """Launches the jobs that the task brings: they were expanded, checked and compared with the disk before."""

    __module__ = MODULE

    def __init__(self, params: Any = None, grids: Any = None, stand_ins: Any = None) -> None:
        pass

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.task: Any = task_function
        make = Plugins.instance().instantiate_launcher
        self.launcher: Launcher = make(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> Any:
        try:
            returned = self.launcher.launch(self.task.jobs, initial_job_idx=0) if self.task.jobs else []
            self.task.results = [job.return_value for job in returned]
        except Exception as error:  # a launcher raises where a job of its died; the disk knows what came of the others
            self.task.launch_error = error


class LocalLauncher(Launcher):
    """Processes on this machine; see `workers.run_all`."""

    __module__ = MODULE

    @staticmethod
    def check(settings: Mapping[str, Any]) -> None:
        """Raise UserError if a number of jobs, threads or GPUs is below 1."""
        for key, value in settings.items():
            if isinstance(value, int) and value < 1:
                raise UserError(f"hydra.launcher.{key}={value} has to be 1 or more")

    def __init__(self, n_jobs: int | None, threads: int, gpus_per_job: int) -> None:
        self.n_jobs, self.threads, self.gpus_per_job = n_jobs, threads, gpus_per_job

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config
        self.task_function: Any = task_function

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from dir_bench import workers
        from dir_bench.sweeps import local

        setup_globals()
        sweep_dir = str(self.config.hydra.sweep.dir)  # its name holds the time, which each process would tell anew
        gpus = local.visible_gpus()
        slots = local.environments(self.n_jobs, self.threads, self.gpus_per_job, gpus)
        checked = enumerate(zip(job_overrides, self.task_function.checked, strict=True), initial_job_idx)
        jobs = (self._composed(number, *job, sweep_dir) for number, job in checked)
        results = dict(workers.run_all(HydraJob(self.hydra_context, self.task_function), jobs, slots))
        return [_returned(results[i]) for i in range(len(job_overrides))]

    def _composed(self, number: int, overrides: Sequence[str], settings: Config, sweep_dir: str) -> DictConfig:
        """Return what Hydra would compose for a job: the checked config, which is there, beside the sweep's `hydra`.

        Composing it once more takes longer than many an epoch of a table, and the worker waits for it.
        """
        hydra = hydra_private.copied(self.config).hydra
        with open_dict(hydra):
            hydra.job.id = hydra.job.num = number
            hydra.sweep.dir = sweep_dir
            hydra.overrides.task = list(overrides)
            hydra.job.override_dirname = ",".join(sorted(overrides))
        composed: DictConfig = OmegaConf.create(literal(to_dict(settings)))
        composed.hydra = hydra
        return composed


@dataclass
class HydraJob:
    """One job in a worker; picklable."""

    hydra_context: HydraContext
    task_function: TaskFunction

    def __call__(self, config: DictConfig) -> JobReturn:
        version.setbase("1.3")
        setup_globals()
        return run_job(
            hydra_context=self.hydra_context,
            task_function=self.task_function,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )


def _returned(result: JobReturn | Exception) -> JobReturn:
    """Return a dead worker's job as one that returned the error: raising it would hide the others' results."""
    if isinstance(result, JobReturn):
        return result
    dead = JobReturn()
    dead.return_value, dead.status = result, JobStatus.COMPLETED
    return dead


def _take_second_name() -> None:
    try:
        package = importlib.import_module("hydra_plugins")
    except ImportError:  # no other plugin is installed
        package = sys.modules["hydra_plugins"] = ModuleType("hydra_plugins")
        package.__path__ = []
    package.dir_bench = sys.modules[MODULE] = sys.modules[__name__]  # type: ignore[attr-defined]


_take_second_name()


def register() -> None:
    """Make both known to Hydra; doing it twice does no harm."""
    store = ConfigStore.instance()
    store.store(group="hydra/sweeper", name="grids", node=GridSweeperConf, provider="dir_bench")
    store.store(group="hydra/launcher", name="local", node=LocalLauncherConf, provider="dir_bench")
    for plugin in (GridSweeper, LocalLauncher):
        Plugins.instance().register(plugin)
