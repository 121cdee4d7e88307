"""Every method on every kind of data, through the real commands: stand-ins, the sweep, its table."""

import json

import pytest


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_smoke_runs_every_method_and_leaves_no_hole_in_its_table(command, work):
    local = ["hydra/launcher=local", "hydra.launcher.n_jobs=2"]
    swept = command("sweep", "smoke", *local)
    assert swept.returncode == 0, swept.stdout[-2000:] + swept.stderr
    assert "72 jobs: 72 done, 0 running, 0 failed, 0 waiting" in swept.stdout
    shown = command("table", "outputs/smoke", "--holes", "--format", "json")
    assert shown.returncode == 0, shown.stderr
    made = json.loads(shown.stdout)
    assert made["left_out"] == []
    rows = {table["title"]: len(table["rows"]) for table in made["tables"]}
    assert rows == {
        "IMDB-WIKI-DIR": 22, "IMDB-WIKI-DIR [FIG2 SUBSAMPLE]": 7, "NYUD2-DIR": 7, "SHHS-DIR": 14, "STS-B-DIR": 22
    }  # fmt: skip
    # A region without test samples has no error. Nor has a logarithm where two steps left a depth below zero.
    holes = [
        (table["title"], row["label"], cell["metric"], cell["region"])
        for table in made["tables"]
        for row in table["rows"]
        for cell in row["cells"]
        if cell["mean"] is None and cell["metric"] != "log10" and table["test_samples"][cell["region"]] > 0
    ]
    assert holes == []
    again = command("sweep", "smoke", *local)
    assert again.returncode == 0
    assert "nothing is left to do" in again.stdout
