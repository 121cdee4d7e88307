"""From YAML files and the command line to a checked config, and from its nodes to objects.

The only package that knows Hydra, but for `sweeps.plugins`. A config is composed from `configs/`, checked here before
any data is read, and handed on as plain dataclasses. Names of choices are compared with what exists, so a typo meets
its nearest name.

    files            the YAML files there are
    words            the command line: folders are taken as typed
    compose          files and overrides → a checked config
    grids            a sweep's axes → the overrides of its jobs
    stored           a run folder's config, which may be somebody else's
    build            nodes → objects, of the kinds that a config may build
    application      Hydra's own way to run, and what its jobs know of themselves
    explain          errors as one sentence
    hydra_nodes      what Hydra would build for itself
    hydra_private    all that is used of Hydra's private modules
"""

from dir_bench.config.application import Job, check_flags, compose_job, hydra_main, job_command, job_log, multirun
from dir_bench.config.build import bind, build, check_dataset, check_targets, require, resolve_target
from dir_bench.config.compose import changed, check_folder_name, compose, compose_all, register_schema, to_dict, typed
from dir_bench.config.explain import explain
from dir_bench.config.files import choice_of, choices, config_dir, described, groups, options, targets
from dir_bench.config.grids import Sweep, sweep_jobs, sweep_of
from dir_bench.config.hydra_private import args_parser
from dir_bench.config.stored import load, read
from dir_bench.config.words import as_typed

__all__ = [
    "Job",
    "Sweep",
    "args_parser",
    "as_typed",
    "bind",
    "build",
    "changed",
    "check_dataset",
    "check_flags",
    "check_folder_name",
    "check_targets",
    "choice_of",
    "choices",
    "compose",
    "compose_all",
    "compose_job",
    "config_dir",
    "described",
    "explain",
    "groups",
    "hydra_main",
    "job_command",
    "job_log",
    "load",
    "multirun",
    "options",
    "read",
    "register_schema",
    "require",
    "resolve_target",
    "sweep_jobs",
    "sweep_of",
    "targets",
    "to_dict",
    "typed",
]
