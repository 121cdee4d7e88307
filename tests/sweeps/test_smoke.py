"""Every method on every kind of data, through the real commands: stand-ins, the sweep, its table."""

import json
import re

import numpy as np
import pytest

from dir_bench import config
from dir_bench.results import published

CLASSIFIERS = {"CLS-VANILLA": "cls_vanilla", "CB": "cb", "CRT": "crt"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_smoke_runs_every_method_and_leaves_no_hole_in_its_table(command, work):
    local = ["hydra/launcher=local", "hydra.launcher.n_jobs=2"]
    swept = command("sweep", "smoke", *local)
    assert swept.returncode == 0, swept.stdout[-2000:] + swept.stderr
    number = len(config.sweep_jobs([], config.sweep_of(["+sweep=smoke"]).grids))
    assert f"{number} jobs: {number} done, 0 running, 0 failed, 0 waiting" in swept.stdout
    assert "next: dir-bench table outputs/smoke --compare VANILLA" in swept.stdout
    shown = command("table", "outputs/smoke", "--holes", "--format", "json")
    assert shown.returncode == 0, shown.stderr
    made = json.loads(shown.stdout)
    assert made["left_out"] == []
    rows = {table["title"]: len(table["rows"]) for table in made["tables"]}
    assert sum(rows.values()) == number + 1  # Rank-N-Contrast's first stage is a run of its own
    pictures = ("IMDB-WIKI-DIR", "IMDB-WIKI-DIR [FIG2 SUBSAMPLE]")
    assert rows.keys() == {"GAUGE-DIR", *pictures, "NYUD2-DIR", "SHHS-DIR", "STS-B-DIR", "sample", "texts"}
    have = {(table["title"], row["label"]) for table in made["tables"] for row in table["rows"]}
    assert {row for row in main_rows() if (row[0], published.derived_name(*row)) not in have} == set()
    assert_uncertainty_is_told(work)
    assert all(row["seeds"] == [0] and not row["missing_seeds"] for table in made["tables"] for row in table["rows"])
    # Untrained networks may give a depth below zero, which has no logarithm, and a class all samples, which have no
    # correlation. Nothing else may be without a number, but what has no test samples.
    undefined = {
        (cell["metric"], "classes" if row["label"] in CLASSIFIERS else "numbers")
        for table in made["tables"]
        for row in table["rows"]
        for cell in row["cells"]
        if cell["mean"] is None and table["test_samples"][cell["region"]] > 0
    }
    assert undefined <= {("log10", "numbers"), ("pearson", "classes"), ("spearman", "classes")}
    assert_classes_are_labels(work)


def main_rows():
    """Return (dataset's title, printed method) of each row of the paper's main tables."""
    tables = re.compile(r"Table (8|10|11|12|20)\b")
    return {
        (row.title, row.method)
        for row in published.load()
        if row.paper == published.full_name("paper") and tables.search(row.source)
    }


def assert_uncertainty_is_told(work):
    found = {path.parts[-4]: json.loads(path.read_text()) for path in work.glob("outputs/smoke/*/uvote/*/metrics.json")}
    assert found.keys() == {"imdb_wiki", "nyud2", "shhs", "sts_b"}
    for metrics in found.values():
        assert metrics["family"] == "laplace"
        assert all(np.isfinite(metrics["test"]["all"][name]) for name in ("nll", "crps", "coverage", "width", "uce"))
    assert {name for name, metrics in found.items() if "sera" not in metrics["test"]["all"]} >= {"nyud2"}


def assert_classes_are_labels(work):
    values = {"imdb_wiki": np.arange(187), "sts_b": np.arange(50) / 10, "nyud2": np.arange(7, 100) / 10 + 0.05}
    seen = set()
    for path in work.glob("outputs/smoke/*/*/*/predictions.npz"):
        dataset, method = path.parts[-4:-2]
        if method in CLASSIFIERS.values():
            kind = dataset.split("-")[0]
            away = np.abs(np.load(path)["prediction"].ravel()[:, None] - values[kind]).min(axis=1)
            assert away.max() < (1e-6 if kind != "nyud2" else 0.06)  # maps of depth are resized between pixels
            seen.add((kind, method))
    assert seen == {(kind, method) for kind in values for method in CLASSIFIERS.values()}
