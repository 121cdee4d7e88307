"""All that is used of Hydra's and OmegaConf's private modules, and what is expected of them.

Hydra has no public way to know its flags before it runs, to run a config that was composed before, or to compose the
thousand jobs of a sweep in seconds. `changed` compares what this module relies on with the Hydra that is installed.
"""

import inspect
import pickle
import pkgutil
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, ClassVar

import omegaconf._utils
from hydra import version
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository
from hydra._internal.defaults_list import create_defaults_list
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.object_type import ObjectType
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from yaml import __with_libyaml__ as with_libyaml

from dir_bench.config.hydra_nodes import check_hydra

USED: dict[str, tuple[str, ...]] = {
    "hydra._internal.utils.get_args_parser": (),
    "hydra._internal.utils.create_config_search_path": ("search_path_dir",),
    "hydra._internal.hydra.Hydra": ("task_name", "config_loader"),
    "hydra._internal.hydra.Hydra.run": (
        "self", "config_name", "task_function", "overrides", "with_log_configuration",
    ),
    "hydra._internal.hydra.Hydra.multirun": (
        "self", "config_name", "task_function", "overrides", "with_log_configuration",
    ),
    "hydra._internal.hydra.Hydra.compose_config": (
        "self", "config_name", "overrides", "run_mode", "with_log_configuration", "from_shell",
        "validate_sweep_overrides",
    ),
    "hydra._internal.config_loader_impl.ConfigLoaderImpl": ("config_search_path",),
    "hydra._internal.config_loader_impl.ConfigLoaderImpl._parse_overrides_and_create_caching_repo": (
        "self", "config_name", "overrides",
    ),
    "hydra._internal.config_loader_impl.ConfigLoaderImpl._compose_config_from_defaults_list": (
        "self", "defaults", "repo",
    ),
    "hydra._internal.config_loader_impl.ConfigLoaderImpl._apply_overrides_to_config": ("overrides", "cfg"),
    "hydra._internal.config_loader_impl.ConfigLoaderImpl.validate_sweep_overrides_legal": (
        "overrides", "run_mode", "from_shell",
    ),
    "hydra._internal.config_loader_impl.ConfigLoaderImpl.load_configuration": (
        "self", "config_name", "overrides", "run_mode", "from_shell", "validate_sweep_overrides",
    ),
    "hydra._internal.defaults_list.create_defaults_list": (
        "repo", "config_name", "overrides_list", "prepend_hydra", "skip_missing",
    ),
    "hydra._internal.defaults_list._create_interpolation_map": ("overrides", "defaults_list", "self_added"),
    "hydra._internal.config_repository.CachingConfigRepository": ("delegate",),
    "hydra._internal.config_repository.CachingConfigRepository.load_config": ("self", "config_path"),
    "hydra._internal.config_repository.CachingConfigRepository.group_exists": ("self", "config_path"),
    "hydra._internal.config_repository.ConfigRepository": ("config_search_path",),
    "hydra._internal.config_repository.ConfigRepository.load_config": ("self", "config_path"),
    "hydra._internal.config_repository.ConfigRepository._find_object_source": ("self", "config_path", "object_type"),
    "hydra.core.plugins.Plugins.instantiate_launcher": ("self", "hydra_context", "task_function", "config"),
    "hydra.core.plugins.Plugins.register": ("self", "clazz"),
    "hydra.core.utils.run_job": (
        "task_function", "config", "job_dir_key", "job_subdir_key", "hydra_context", "configure_logging",
    ),
    "hydra.core.utils.setup_globals": (),
    "omegaconf._utils.get_yaml_loader": (),
}  # fmt: skip
"""What this module and `sweeps.plugins` call that is not documented, and the parameters it is expected to have."""


def changed() -> list[str]:
    """Return one sentence for each part of Hydra that is not as this package expects it; none: all is well."""
    said = []
    for name, expected in USED.items():
        try:
            found = tuple(inspect.signature(pkgutil.resolve_name(name)).parameters)
        except (ImportError, AttributeError) as error:
            said.append(f"Hydra has no {name} any more ({error}): mend dir_bench/config/hydra_private.py")
            continue
        if found != expected:
            said.append(
                f"Hydra's {name} takes {', '.join(found) or 'nothing'} instead of {', '.join(expected) or 'nothing'}: "
                "mend dir_bench/config/hydra_private.py"
            )
    return said


def args_parser() -> ArgumentParser:
    """Return the parser of Hydra's own flags; what is left are `overrides`."""
    parser: ArgumentParser = get_args_parser()
    return parser


class _Loader(ConfigLoaderImpl):
    """Hydra's loader, whose every composition, for a run or for a job of a sweep, passes `check_hydra`."""

    def __init__(self, config_search_path: Any) -> None:
        super().__init__(config_search_path)
        self.repository = _Repository(config_search_path)

    def load_configuration(self, *args: Any, **kwargs: Any) -> DictConfig:
        composed: DictConfig = super().load_configuration(*args, **kwargs)
        check_hydra(composed.hydra)
        return composed


class _Repository(ConfigRepository):
    """Hydra's files, each parsed once in a process, as long as it stays the same; pickle then makes the copies.

    Hydra parses and copies them all for each composition, which is half of its work.
    """

    _parsed: ClassVar[dict[tuple[str, str], tuple[Any, bytes]]] = {}

    def load_config(self, config_path: str) -> Any:
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        if source is None:
            return super().load_config(config_path)
        place, state = (f"{source.scheme()}://{source.path}", config_path), None  # what no file holds never changes
        if source.scheme() == "file":
            found = (Path(source.path) / source._normalize_file_name(config_path)).stat()
            state = (found.st_mtime_ns, found.st_size, found.st_ino)
        if place not in self._parsed or self._parsed[place][0] != state:
            self._parsed[place] = state, pickle.dumps(super().load_config(config_path))
        return pickle.loads(self._parsed[place][1])


_plain_loader = omegaconf._utils.get_yaml_loader


@cache
def _fast_loader() -> Any:
    """Return OmegaConf's loader of YAML on libyaml, if it is there: the same values, eight times as fast."""
    theirs = _plain_loader()
    if not with_libyaml:
        return theirs
    from yaml.cyaml import CSafeLoader

    class Loader(CSafeLoader, theirs):  # type: ignore[misc, valid-type]
        """Parses as the first, builds values as the second."""

    return Loader


omegaconf._utils.get_yaml_loader = _fast_loader


_all_choices = defaults_list._create_interpolation_map


def _choices_if_asked(overrides: Any, defaults_list: list[Any], self_added: bool) -> DictConfig:
    """Return what a choice such as `${dataset}_${backbone}` is read from, where there is one.

    Hydra makes it for each file that it comes to, which is a fifth of a composition.
    """
    asked = any(part.is_interpolation() for part in defaults_list)
    return _all_choices(overrides, defaults_list, self_added) if asked else OmegaConf.create()


defaults_list._create_interpolation_map = _choices_if_asked


class Application:
    """A Hydra application on a folder of configs, and one of the user's own beside it.

    Folders never pass through the grammar of overrides, so their names may hold any letters.
    """

    def __init__(self, folder: Path, extra_dir: str | None = None) -> None:
        version.setbase("1.3")
        path = create_config_search_path(str(folder))
        if extra_dir is not None:  # as Hydra does with its --config-dir
            own = f"file://{Path(extra_dir).resolve()}"
            path.prepend(provider="command-line", path=own, anchor=SearchPathQuery(provider="schema"))
        self._loader: Any = _Loader(config_search_path=path)
        self._hydra: Any = Hydra(task_name="train", config_loader=self._loader)

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """Compose a run's config, with Hydra's own node; its errors are Hydra's and OmegaConf's."""
        composed: DictConfig = self._hydra.compose_config(
            config_name="train",
            overrides=list(overrides),
            run_mode=RunMode.RUN,
            with_log_configuration=False,
            from_shell=False,
        )
        return composed

    def run(self, composed: DictConfig, task: Any) -> None:
        """Run the task as Hydra does (job folder, logging, callbacks), on a config that `compose` made."""
        self._hydra.compose_config = lambda **asked: composed
        self._hydra.run(config_name="train", task_function=task, overrides=[])

    def multirun(self, overrides: Sequence[str], task: Any) -> None:
        """Let the sweeper that the overrides choose run the task."""
        self._hydra.multirun(config_name="train", task_function=task, overrides=list(overrides))


def copied(config: DictConfig) -> DictConfig:
    """Return a deep copy; OmegaConf's own way to one takes twice as long."""
    copy: DictConfig = pickle.loads(pickle.dumps(config))
    return copy


def without_hydra(composed: DictConfig) -> DictConfig:
    """Return a copy of a composed config without Hydra's own node."""
    ours = copied(composed)
    with open_dict(ours):
        del ours["hydra"]
    return ours


class Composer:
    """Composes many jobs: group choices once, without Hydra's own settings, which are more than half of the work."""

    def __init__(self, application: Application) -> None:
        self._loader = application._loader
        self._loader.repository = _ReadOnce(self._loader.repository)
        _, self._repository = self._loader._parse_overrides_and_create_caching_repo("train", [])
        self._composed = lru_cache(512)(self._compose)

    def check_no_sweep(self, parsed: Sequence[Any]) -> None:
        """Raise Hydra's error if an override asks for more than one value."""
        self._loader.validate_sweep_overrides_legal(list(parsed), RunMode.RUN, from_shell=False)

    def is_choice(self, override: Any) -> bool:
        """Tell whether a parsed override chooses files, so that it takes part in composing."""
        return override.package is not None or self._repository.group_exists(override.key_or_group)

    def compose(self, choices: Sequence[str]) -> DictConfig:
        """Compose group choices alone; those of late are kept, whatever their order."""
        keys = [choice.partition("=")[0] for choice in choices]
        ordered = sorted(choices) if len(set(keys)) == len(keys) else choices
        made: DictConfig = pickle.loads(self._composed(tuple(ordered)))
        return made

    def _compose(self, choices: Sequence[str]) -> bytes:
        """Return a composed config as bytes, of which copies are made in a third of the time."""
        parsed, repository = self._loader._parse_overrides_and_create_caching_repo("train", list(choices))
        listed = create_defaults_list(repository, "train", parsed, prepend_hydra=False, skip_missing=False)
        composed: DictConfig = self._loader._compose_config_from_defaults_list(listed.defaults, repository)
        OmegaConf.set_struct(composed, True)
        return pickle.dumps(composed)

    def set(self, config: DictConfig, values: Sequence[Any]) -> None:
        """Put parsed overrides that are no choices onto a composed config."""
        self._loader._apply_overrides_to_config(values, config)


class _ReadOnce(CachingConfigRepository):
    """A repository without Hydra's groups that reads each file once, for compositions that change copies."""

    def __init__(self, delegate: Any) -> None:
        super().__init__(delegate)
        self._read: dict[str, bytes] = {}

    def __deepcopy__(self, memo: Any) -> "_ReadOnce":
        return self

    def load_config(self, config_path: str) -> Any:
        if config_path not in self._read:
            found = super().load_config(config_path)
            if found is None:
                return None
            if "hydra" in found.config:
                del found.config["hydra"]
            ours = [
                part for part in found.defaults_list or () if not str(getattr(part, "group", "")).startswith("hydra/")
            ]
            self._read[config_path] = pickle.dumps(replace(found, defaults_list=ours))
        return pickle.loads(self._read[config_path])
