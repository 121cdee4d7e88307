"""From YAML files and overrides to a checked config: plain dataclasses, checked before any data is read."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from functools import cache
from pathlib import Path, PurePath
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dir_bench.config import hydra_private
from dir_bench.config.explain import explain, free_form
from dir_bench.config.files import config_dir, groups, options
from dir_bench.config.words import as_typed, literal, of_jobs
from dir_bench.errors import UserError, nearest
from dir_bench.rules import check
from dir_bench.schema import Config, without_unused

_LONGEST = 255
"""Bytes of a name that file systems take."""


@cache
def register_schema() -> None:
    """Make the schema known to Hydra as the root of `configs/train.yaml`; once, for it never changes."""
    from dir_bench.sweeps import plugins

    ConfigStore.instance().store(group="_schema", name="config", node=_schema()[0])
    plugins.register()
    # Names of own data: of the file that holds them, and of its column.
    OmegaConf.register_new_resolver("stem", lambda path: PurePath(str(path)).stem, replace=True)
    OmegaConf.register_new_resolver("text", str, replace=True)
    OmegaConf.register_new_resolver("half", lambda precision: precision in ("bf16-mixed", "16-mixed"), replace=True)


def start(extra_dir: str | None = None, overrides: Sequence[str] = ()) -> hydra_private.Application:
    """Return the application on `configs/` that composes, having checked the choices among the overrides."""
    register_schema()
    _check_choices(parse(overrides))
    return hydra_private.Application(config_dir(), extra_dir)


def compose(
    overrides: Sequence[str], extra_dir: str | None = None, values: Mapping[str, str | None] | None = None
) -> Config:
    """Compose and check a config outside of a Hydra application; UserError in one sentence if it cannot be.

    Args:
        overrides: As on the command line.
        extra_dir: A folder of configs of one's own.
        values: Dotted keys with text that is taken as it is, past Hydra's grammar; None: left as composed.
    """
    overrides = as_typed(overrides)
    with errors_explained(overrides, extra_dir):
        parsed = parse(overrides)
        _check_choices(parsed)
        composer = _composer(extra_dir)
        composer.check_no_sweep(parsed)
        own = [override for override in parsed if of_jobs(override.input_line)]
        composed = composer.compose([override.input_line for override in own if composer.is_choice(override)])
        composer.set(composed, [override for override in own if not composer.is_choice(override)])
        for key, value in (values or {}).items():
            if value is not None:
                OmegaConf.update(composed, key, literal(value))
    return typed(composed)


def compose_all(jobs: Sequence[Sequence[str]], extra_dir: str | None = None) -> list[Config]:
    """Compose and check the configs of many jobs, as `compose` does.

    Hydra takes a tenth of a second to compose a set of group choices, so each set is composed once; the other
    overrides come last in Hydra too, and are put onto copies. Jobs that differ by a seed that nothing else refers to
    share one copy.
    """
    composed: dict[tuple[str, ...], tuple[DictConfig, bool]] = {}
    made: dict[tuple[str, ...], DictConfig] = {}
    places = []
    with errors_explained(jobs[0] if jobs else (), extra_dir):
        composer = _composer(extra_dir)
        texts = list(dict.fromkeys(text for job in jobs for text in job))
        parsed = dict(zip(texts, parse(texts), strict=True))
        _check_choices(parsed.values())
        chooses = {text: composer.is_choice(override) for text, override in parsed.items()}
    for job in jobs:
        choices = tuple(text for text in job if chooses[text])
        seed = next((text for text in job if re.fullmatch(r"seed=\d+", text)), None)
        with errors_explained(job, extra_dir):
            if choices not in composed:
                made_of = composer.compose(choices)
                composed[choices] = made_of, "seed}" in str(made_of)
            config, tells_seed = composed[choices]
            alone = seed is not None and not tells_seed and "seed}" not in "".join(job)
            rest = tuple(text for text in job if not (alone and text == seed))
            if rest not in made:
                made[rest] = hydra_private.copied(config)
                composer.set(made[rest], [parsed[text] for text in rest if not chooses[text]])
        places.append((rest, int(str(seed)[5:]) if alone else None))
    checked = {rest: typed(config) for rest, config in made.items()}
    return [checked[rest] if seed is None else replace(checked[rest], seed=seed) for rest, seed in places]


def _composer(extra_dir: str | None) -> hydra_private.Composer:
    """Return what composes without Hydra's own settings; of `configs/` alone it is kept, with the files it has read."""
    return hydra_private.Composer(start(extra_dir)) if extra_dir else _shipped()


@cache
def _shipped() -> hydra_private.Composer:
    return hydra_private.Composer(start())


def parse(overrides: Sequence[str]) -> list[Any]:
    """Return Hydra's objects of overrides; they raise its errors."""
    return list(OverridesParser.create().parse_overrides(list(overrides)))


def _check_choices(parsed: Iterable[Any]) -> None:
    """Refuse what is no name of a file where a group's choice is asked for: lds=null, fds=false, trainer=3."""
    for override in parsed:
        key, value = override.key_or_group, override.value()
        if key in groups() and not override.is_delete() and not isinstance(value, str):
            shown = override.input_line.partition("=")[2]
            raise UserError(f"{key}={shown} is not a choice; {key} can be: {', '.join(options(key))}")


@contextmanager
def errors_explained(overrides: Sequence[str] = (), extra_dir: str | None = None) -> Iterator[None]:
    """Turn Hydra's errors into a UserError; `overrides` choose the groups whose keys may have been meant."""

    def keys() -> list[str]:
        chosen = [text for text in overrides if _is_group(text.partition("=")[0].lstrip("+"), extra_dir)]
        if chosen == list(overrides):  # then one of them is what is wrong, and would be again
            chosen = []
        return list(_dotted(to_dict(compose(chosen, extra_dir))))

    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error, keys)) from error


def _is_group(key: str, extra_dir: str | None) -> bool:
    own = extra_dir is not None and re.fullmatch(r"\w+", key) is not None and (Path(extra_dir) / key).is_dir()
    return own or key in groups()


def typed(composed: DictConfig) -> Config:
    """Turn a composed config into dataclasses, and check every rule; UserError names the key and what to do."""
    schema, known = _schema()
    for key in _dotted(OmegaConf.to_container(composed)):
        head = key.split(".")[0]
        if head not in schema:
            raise UserError(f"unknown config key '{head}'{nearest(head, [f.name for f in fields(Config)])}")
        if free_form(key) is None and key not in known:
            raise UserError(f"unknown config key '{key}'{nearest(key, known)}")
    try:
        ours = OmegaConf.get_type(composed) is Config  # Hydra's are; one read from a file is not
        config = OmegaConf.to_object(composed if ours else OmegaConf.merge(schema, composed))
    except OmegaConfBaseException as error:
        raise UserError(explain(error)) from error
    assert isinstance(config, Config)
    check_folder_name("dataset.name", config.dataset.name)
    check(config)
    return without_unused(config)


def check_folder_name(key: str, name: str) -> None:
    """Refuse a name that cannot be a folder's, or would be one elsewhere."""
    why = None
    if not name.strip():
        why = "is empty"
    elif ".." in name or name.startswith("."):
        why = "may not begin with a dot or hold two in a row"
    elif any(letter in "/\\" or ord(letter) < 32 or ord(letter) == 127 for letter in name):
        why = "may not hold /, \\ or control characters"
    elif len(name.encode(errors="surrogateescape")) > _LONGEST:
        why = f"is longer than the {_LONGEST} bytes of a folder's name"
    if why is not None:
        shown = name if len(name) <= 40 else f"{name[:40]}…"
        raise UserError(f"{key}={shown!r} names a folder of the results, and {why}")


@cache
def _schema() -> tuple[DictConfig, dict[str, None]]:
    """Return the schema and its dotted keys, in order."""
    schema = OmegaConf.structured(Config)
    return schema, dict.fromkeys(_dotted(OmegaConf.to_container(schema)))


def changed(config: Config, changes: Mapping[str, Any]) -> Config:
    """Return a config with some settings changed, checked as any other; null takes a part away."""
    try:
        merged = OmegaConf.merge(literal(to_dict(config)), literal(dict(changes)))
    except OmegaConfBaseException as error:
        raise UserError(explain(error)) from error
    assert isinstance(merged, DictConfig)
    return typed(merged)


def to_dict(config: Config) -> dict[str, Any]:
    """Return the config as nested plain values, as it is written to `config.yaml`."""
    return asdict(config)


def depends_on_choices(override: str) -> bool:
    """Tell an override whose key there may be with some choices of a sweep alone, such as parts.head.sigma=1.

    Hydra composes a sweep's settings without the choices that are swept over, and would refuse it.
    """
    key = override.lstrip("+~").partition("=")[0].partition("@")[0]
    return key not in groups() and free_form(key) is not None


def _dotted(node: Any, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")
