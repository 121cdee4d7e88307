"""Hand-made run folders for the tests of records and tables."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dir_bench.results.naming import identity, slug
from dir_bench.results.store import RunFolder

Values = Mapping[str, Mapping[str, float | None]]


def write_run(
    outputs: Path,
    test: Values,
    *,
    dataset: str = "agedb",
    title: str = "AgeDB-DIR",
    method: str = "VANILLA",
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    drop: tuple[str, ...] = (),
    predictions: Mapping[str, Any] | None = None,
    **extra: Any,
) -> RunFolder:
    """Write a finished run. `settings` go into its config and its identity; `drop` removes keys of metrics.json."""
    config = {"seed": seed, "dataset": {"name": dataset}, "method": method, **(settings or {})}
    metrics = {
        "dataset": dataset,
        "title": title,
        "method": method,
        "slug": slug(method),
        "seed": seed,
        "row_id": identity(config, ["seed"]),
        "identity": identity(config),
        "command": [f"dataset={dataset}", f"method={slug(method)}", f"seed={seed}"],
        "monitor": {"name": "mae", "best": 7.5, "epoch": 3},
        "table_metrics": ["mae", "gm"],
        "test": test,
        **extra,
    }
    run = RunFolder.of(outputs, dataset, slug(method), identity(config))
    run.start(config, {"git": {"commit": "0123456789abcdef", "dirty": False}})
    run.finish(
        {key: value for key, value in metrics.items() if key not in drop},
        predictions or {"target": np.zeros(2), "prediction": np.ones(2), "index": np.arange(2)},
    )
    return run


def report(mae: float, gm: float, **more: float | None) -> dict[str, dict[str, float | None]]:
    """Return a test report with the sample counts of AgeDB-DIR, better for many-shot and worse for few-shot."""
    counts = {"all": 2140, "many": 1530, "medium": 448, "few": 162}
    worse = {"all": 0.0, "many": -0.5, "medium": 1.0, "few": 4.0}
    return {r: {"count": n, "mae": mae + worse[r], "gm": gm + worse[r], **more} for r, n in counts.items()}


@pytest.fixture
def make_run() -> Callable[..., RunFolder]:
    return write_run


@pytest.fixture
def regions() -> Callable[..., Values]:
    return report
