"""A run is resolved once: config, dataset, fingerprint and identity are made one time, and handed on."""

import pickle
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl

from dir_bench import config, resolved
from dir_bench.datasets.arrays import Arrays

TINY = ["dataset=arrays", "trainer.epochs=1", "backbone.hidden=[4]", "trainer.figures=false", "trainer.threads=1"]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count what a command does of the things that it should do once."""
    counts: Counter[str] = Counter()
    places: list[tuple[Any, str]] = [
        (ConfigLoaderImpl, "_compose_config_from_defaults_list"),
        (Arrays, "__init__"),
        (Arrays, "fingerprint"),
        (Arrays, "load"),
        (resolved, "_identities"),
    ]
    for owner, name in places:
        monkeypatch.setattr(owner, name, _counting(counts, name, getattr(owner, name)))
    return counts


def _counting(counts: Counter[str], name: str, made: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        counts[name] += 1
        return made(*arguments, **named)

    return call


def test_a_run_is_composed_built_and_fingerprinted_once(commands, counted):
    commands(["data", "sample", "arrays", "--size", "200"])
    counted.clear()
    commands(["train", *TINY])
    assert set(counted.values()) == {1}
    assert len(counted) == 5
    commands(["train", *TINY])
    assert counted.pop("load") == 1  # a finished run is not trained again
    assert set(counted.values()) == {2}


def test_two_stages_hash_the_data_once(commands, counted):
    commands(["data", "sample", "arrays", "--size", "200"])
    counted.clear()
    commands(["train", *TINY, "method=rrt", "stages.epochs=1"])
    assert (counted["fingerprint"], counted["__init__"], counted["_identities"]) == (1, 2, 2)


def test_a_process_that_is_sent_a_run_builds_its_own_dataset():
    made = resolved.resolve(config.compose(["dataset.source.n_train=20", "seed=3"]))
    sent = pickle.loads(pickle.dumps(made))
    assert sent == made
    assert sent.folder.path == made.folder.path
    assert sent.dataset is not made.dataset
    assert type(sent.dataset) is type(made.dataset)
