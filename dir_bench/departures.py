"""In what a run departs from its dataset's recipe, which has to be said beside its numbers.

The recipe is what the dataset's own YAML composes to with nothing else chosen: network, length, start, batches,
selection, and data. What a method chooses is no departure, nor is a learning rate, which is tuned.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from dir_bench import config as configs
from dir_bench.datasets.base import Dataset, Standing
from dir_bench.schema import NUMBERLESS, Config, Start, TrainerConfig, look_up

_SOURCE = "dataset.source."


def missing_starts(config: Config) -> list[Start]:
    """Return what runs of this benchmark begin with as published, and this one does not."""
    return [start for start in config.dataset.start if look_up(config, start.key) is None]


def departures(config: Config, dataset: Dataset | None = None) -> list[str]:
    """Return in short phrases what a run does not do as its dataset's recipe has it; none for a run by the book.

    Args:
        config: Of the run.
        dataset: Its data, if it is to be said whether they are a stand-in.
    """
    found: list[str] = [dataset.stands_in()] if isinstance(dataset, Standing) else []
    if config.dataset.name in configs.options("dataset"):
        found += _from_recipe(config, _recipe(config.dataset.name))
    found += [start.without for start in missing_starts(config)]
    if config.trainer.batch_norm_groups > 1:
        found.append(f"batch norm in {config.trainer.batch_norm_groups} groups")
    return [phrase for phrase in found if phrase]


@cache
def _recipe(dataset: str) -> Config:
    return configs.compose([f"dataset={dataset}"])


def _from_recipe(config: Config, recipe: Config) -> Iterator[str]:
    if not recipe.dataset.own:
        yield from _of_source(config, recipe)
    ours, theirs = (_network(each.backbone, recipe.backbone) for each in (config, recipe))
    by_the_method = "head" in config.parts and not config.backbone.get("features", True)  # on inputs, without a network
    if ours != theirs and not by_the_method:
        yield f"backbone {ours}, not {theirs}"
    if recipe.backbone.get("weights", "") is None and config.backbone.get("weights") is not None:
        if "backbone.weights" not in (start.key for start in recipe.dataset.start):
            yield "begins with weights, not at random"
    yield _other(_length(config.trainer), _length(recipe.trainer))
    second, usual = config.stages.epochs, recipe.dataset.recipe.rrt_epochs
    if config.stages.on and second not in (None, usual):  # a head that is fitted at once has none
        yield f"second stage of {second} epoch{'s' * (second != 1)}, not {usual}"
    if config.trainer.patience != recipe.trainer.patience:
        yield _other(_patience(config.trainer), _patience(recipe.trainer))
    if config.trainer.batch_size != recipe.trainer.batch_size:
        yield f"batches of {config.trainer.batch_size}, not {recipe.trainer.batch_size}"
    if config.trainer.select != recipe.trainer.select:
        yield f"tested at its {config.trainer.select} epoch, not the {recipe.trainer.select}"
    if config.dataset.monitor != recipe.dataset.monitor:
        yield f"selected by {config.dataset.monitor}, not {recipe.dataset.monitor}"


def _of_source(config: Config, recipe: Config) -> Iterator[str]:
    """Yield the settings of the data that are not the recipe's, but for what it begins with."""
    starts = {start.key for start in recipe.dataset.start}
    theirs = recipe.dataset.source
    for key, value in config.dataset.source.items():
        if f"{_SOURCE}{key}" not in (*NUMBERLESS, *starts) and value != theirs.get(key):
            yield f"{key}={value}, not {theirs.get(key)}"


def _network(node: Mapping[str, Any], recipe: Mapping[str, Any]) -> str:
    """Name a network: by the choice that it is, else by its class and what of it is not the recipe's."""
    bare = {key: value for key, value in node.items() if key != "weights"}
    if (name := configs.choice_of("backbone", bare)) is not None:
        return name
    settings = (f"{key}={value}" for key, value in bare.items() if key != "_target_" and value != recipe.get(key))
    return f"{str(node['_target_']).rpartition('.')[2]} ({', '.join(settings)})"


def _length(trainer: TrainerConfig) -> str:
    bounds = ((trainer.epochs, "epoch"), (trainer.max_steps, "step"))
    return " or ".join(f"{bound} {unit}{'s' * (bound != 1)}" for bound, unit in bounds if bound is not None)


def _patience(trainer: TrainerConfig) -> str:
    return "no patience" if trainer.patience is None else f"patience {trainer.patience}"


def _other(ours: str, theirs: str) -> str:
    return "" if ours == theirs else f"{ours}, not {theirs}"
