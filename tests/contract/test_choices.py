"""Every choice of every group that trains is composed, built and run: what lies in the folders, no list to keep."""

from pathlib import Path

import numpy as np
import pytest
from run_helpers import recipes

from dir_bench import config, experiment, inspection
from dir_bench.datasets.arrays import Arrays
from dir_bench.datasets.base import Data

APART = {"dataset", "backbone", "preset", "sweep", "method"}
"""Groups whose choices need other data, or are many runs; each has a test of its own."""
NEEDED = {"lds": ["reweight=inv"], "stages": ["reweight=inv", "stages.epochs=1"], "subset": []}
"""What a choice of a group is an error without."""
PROTOCOLS = ("balanced_extrapolation", "bimodal_interpolation", "blind_spot")
MORE = {
    ("stages", "crt"): ["head=classification", "reweight=class_balanced"],
    ("mixup", "manifold"): ["mixup.layers=[0,1]"],
    ("subset", "gaps"): ["subset.remove=[[5,8]]"],
    **{("subset", name): ["subset.protocol.per_bin=1"] for name in PROTOCOLS},
}
CHOICES = [(group, name) for group in config.groups() if group not in APART for name in config.options(group)]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    Arrays(str(folder / "data" / "arrays")).sample(folder / "data" / "arrays", n=120)
    return folder


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_a_choice_trains(work, group, name):
    words = [
        *("dataset=arrays", "backbone.hidden=[8,4]", "trainer.batch_size=40", "trainer.threads=1"),
        *("trainer.epochs=1", "trainer.figures=false", "trainer.feature_statistics=false"),
        *(f"paths.data={work / 'data'}", f"paths.outputs={work / 'outputs'}"),
    ]
    choice = [*NEEDED.get(group, []), f"{group}={name}", *MORE.get((group, name), [])]
    settings = config.compose([*words, *choice])
    if settings.subset.peaks or settings.subset.fullest:
        pytest.skip("its peaks lie at ages: tests/datasets/test_subsets.py")
    outcome = experiment.run(settings)
    assert np.isfinite(outcome.metrics["test"]["all"]["mae"])


@pytest.mark.usefixtures("forked_workers")  # SHHS is prepared by several processes
@pytest.mark.parametrize("name", recipes())
def test_a_dataset_writes_a_stand_in_that_loads_and_gives_batches(tmp_path, name):
    source = config.compose([f"dataset={name}", f"paths.data={tmp_path}"]).dataset.source
    if name != "gauge":  # embedded
        inspection.sample(name, str(tmp_path), 4 if config.compose([f"dataset={name}"]).dataset.dense else 30)
    if name == "shhs":
        inspection.prepare(name, str(tmp_path), [])
    data: Data = config.build(source).load()
    for split in (data.train, data.val, data.test):
        inputs = split.fetch(np.arange(min(2, len(split))), None)
        assert split.prepare(inputs, None)[0] is not None
        assert len(split) > 0
