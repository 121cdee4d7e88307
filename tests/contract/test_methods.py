"""Every method file is composed, built and run: what lies in the folder, with no list to keep."""

from pathlib import Path

import numpy as np
import pytest

from dir_bench import config, experiment
from dir_bench.datasets.arrays import Arrays
from dir_bench.results.store import RunFolder


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    Arrays(str(folder / "data" / "arrays")).sample(folder / "data" / "arrays", n=120)
    return folder


@pytest.mark.parametrize("method", config.options("method"))
def test_a_method_trains_and_leaves_a_whole_run_of_its_name(work, method):
    words = [
        *("dataset=arrays", f"method={method}", "trainer.batch_size=40"),
        *("trainer.epochs=2", "trainer.threads=1", "trainer.figures=false", "mixup.layers=[0,1,2]"),
        *(f"paths.data={work / 'data'}", f"paths.outputs={work / 'outputs'}"),
    ]
    settings = config.compose(words)
    if "hidden" in settings.backbone:  # the dataset's own; some methods choose another
        settings = config.compose([*words, "backbone.hidden=[8,4]"])
    outcome = experiment.run(settings)
    assert np.isfinite(outcome.metrics["test"]["all"]["mae"])
    assert RunFolder(outcome.folder).damage(thorough=True) == ""
    named = "sqinv" if settings.dataset.recipe.lds_reweight == "sqrt_inv" else "inv"
    assert outcome.metrics["slug"] == method.replace("vanilla_lds", f"{named}_lds")
