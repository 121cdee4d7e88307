"""SMOTER and SMOGN as rows of the table, through the real command."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dir_bench.results.published import published_row

RUNS = {
    "gauge": ("SMOGN + FDS", ["dataset.source.n_train=400", "dataset.source.n_val_per_bin=1",
              "dataset.source.n_test_per_bin=1", "trainer.epochs=2", "method=smogn_fds"]),
    "arrays": ("SMOTER", ["trainer.epochs=2", "method=smoter"]),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_resampled_run_from_data_to_row(name: str, tmp_path: Path, commands: Callable[..., str]) -> None:
    method, overrides = RUNS[name]
    sample = [] if name == "gauge" else [["data", "sample", name, "--size", "150"]]
    printed = commands(
        *sample,
        ["train", f"dataset={name}", *overrides, "trainer.threads=1", "trainer.figures=false"],
        ["evaluate", "RUN"],
    )
    assert f"· {method} ·" in printed
    assert "resampled" in printed
    (run,) = (path.parent for path in tmp_path.glob("outputs/*/*/*/DONE"))
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["method"] == method
    assert metrics["slug"] == run.parent.name == method.lower().replace(" + ", "_")
    assert "equal to the recorded metrics.json" in printed


@pytest.mark.parametrize("method", ["SMOTER", "SMOGN", "SMOGN + LDS", "SMOGN + FDS", "SMOGN + LDS + FDS"])
@pytest.mark.parametrize("title", ["IMDB-WIKI-DIR", "AgeDB-DIR", "STS-B-DIR"])
def test_the_paper_prints_a_row_of_that_name(title: str, method: str) -> None:
    assert published_row(title, method) == method
