"""What a config leaves to its data: bins, regions, rows of FDS and what a class stands for, chosen from the targets."""

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from dir_bench.datasets.base import Dataset, Labelled
from dir_bench.errors import UserError
from dir_bench.labels.choice import choose_bins, choose_class_value, choose_regions
from dir_bench.rules import check
from dir_bench.schema import BY_TARGETS, Bins, Config, DatasetConfig
from dir_bench.task import target_bins


def is_settled(config: Config) -> bool:
    """Tell whether a config leaves nothing to its data."""
    dataset, regions = config.dataset, config.dataset.regions
    bounds = (regions.many_over, regions.few_under, dataset.fds_last)
    return dataset.bins.settled and None not in bounds and not _asks_class_value(config)


def _asks_class_value(config: Config) -> bool:
    return config.head.value == BY_TARGETS or any(BY_TARGETS in _words(node) for node in config.parts.values())


def _words(node: Any) -> list[str]:
    return [value for value in node.values() if isinstance(value, str)]


def settle(config: Config, dataset: Dataset, known: dict[str, str] | None = None) -> tuple[Config, tuple[str, ...]]:
    """Return the config with all that it leaves to its data, and what was chosen, in sentences.

    The same training targets give the same choice, so that the identity of a run may hold the numbers themselves: a
    run whose bins were chosen and one that was given the same bins are the same run.

    Args:
        config: A checked config.
        dataset: That of the config, built.
        known: Remembers what was chosen, for the many configs of a sweep.

    Raises:
        UserError: The targets cannot be read, or no bins can be made of them as asked for.
    """
    if is_settled(config):
        return config, ()
    known = {} if known is None else known
    key = repr(("chosen", config.dataset.source, config.dataset.bins, config.dataset.regions, config.dataset.fds_last))
    if key not in known:
        targets = dataset.train_targets() if isinstance(dataset, Labelled) else dataset.load().train.targets
        known[key] = json.dumps(_chosen(config.dataset, np.asarray(targets, np.float32)))
    found = json.loads(known[key])
    regions = replace(config.dataset.regions, **found["regions"])
    settled = replace(config.dataset, bins=Bins(**found["bins"]), regions=regions, fds_last=found["fds_last"])
    said = tuple(found["said"])
    if _asks_class_value(config):
        config, said = _with_class_value(config, found["class_value"]), (*said, found["class_value_said"])
    config = replace(config, dataset=settled)
    check(config)
    return config, said


def _with_class_value(config: Config, chosen: str) -> Config:
    head = replace(config.head, value=chosen) if config.head.value == BY_TARGETS else config.head
    parts = {
        name: {key: chosen if value == BY_TARGETS else value for key, value in node.items()}
        for name, node in config.parts.items()
    }
    return replace(config, head=head, parts=parts)


def _chosen(dataset: DatasetConfig, targets: Any) -> dict[str, Any]:
    bins, said = dataset.bins, []
    if not bins.settled:
        asked = {"number": bins.number, "width": bins.width, "start": bins.start, "stop": bins.stop}
        try:
            choice = choose_bins(targets, by=bins.choose, **asked)  # type: ignore[arg-type]
        except ValueError as error:
            raise UserError(f"no bins can be chosen for {dataset.title}: {error}") from error
        edges = [float(edge) for edge in choice.edges]
        if choice.width is None:
            bins = replace(bins, edges=edges).used()
        else:
            bins = replace(bins, start=edges[0], stop=edges[-1], width=choice.width, choose="none", number=None)
        said.append(f"bins, chosen from {len(targets)} training targets: {choice.why}")
    made = target_bins(replace(dataset, bins=bins))
    many, few = dataset.regions.many_over, dataset.regions.few_under
    if many is None or few is None:
        *rule, why = choose_regions(made.counts(targets))
        given = [
            f"{key}={value:g} is as set"
            for key, value in (("many_over", many), ("few_under", few))
            if value is not None
        ]
        if many is None and few is not None:
            many = max(rule[0], few)
            given += [f"many_over={many:g} goes with it"] if many != rule[0] else []
        elif few is None and many is not None:
            few = min(rule[1], many + 1)
            given += [f"few_under={few:g} goes with it"] if few != rule[1] else []
        else:
            many, few = rule
        said.append("; but ".join([f"regions: {why}", *given]))
    last = len(made) - 1 if dataset.fds_last is None else dataset.fds_last
    class_value, why = choose_class_value(targets, made)
    return {
        "bins": asdict(bins),
        "regions": {"many_over": many, "few_under": few},
        "fds_last": last,
        "said": said,
        "class_value": class_value,
        "class_value_said": why,
    }
