"""Targets of one's own, far from 0 and in any unit, are learned without a setting."""

import numpy as np
import pytest

from dir_bench import config, experiment
from dir_bench.assembly import build_network, target_units
from dir_bench.errors import UserError


@pytest.fixture
def compose(tmp_path):
    rng = np.random.default_rng(0)
    x = {split: rng.normal(size=(n, 4)) for split, n in (("train", 300), ("val", 80), ("test", 80))}
    y = {split: 330_000 + 15_000 * values[:, 0] + 5_000 * np.sin(2 * values[:, 1]) for split, values in x.items()}
    folder = tmp_path / "data" / "arrays"
    folder.mkdir(parents=True)
    arrays = {f"{split}_{name}": values[split] for name, values in (("x", x), ("y", y)) for split in x}
    np.savez(folder / "arrays.npz", **arrays)
    common = [
        *("dataset=arrays", "trainer.epochs=20", "trainer.threads=1", "trainer.figures=false", "trainer.batch_size=32"),
        *("dataset.bins={start: 260000, stop: 400000, width: 5000}", "dataset.fds_last=27"),
        *(f"paths.data={tmp_path / 'data'}", f"paths.outputs={tmp_path / 'outputs'}"),
    ]

    def make(*overrides):
        return config.compose([*common, *overrides])

    make.y = y
    return make


def test_targets_of_hundreds_of_thousands_are_learned_and_predicted_in_their_unit(compose):
    run = experiment.run(compose())
    trivial = np.abs(compose.y["test"] - np.median(compose.y["train"])).mean()
    assert run.metrics["test"]["all"]["mae"] < 0.6 * trivial
    train = compose.y["train"].astype(np.float32)
    assert run.metrics["target_units"] == [pytest.approx(train.mean()), pytest.approx(train.std(), rel=1e-5)]
    saved = np.load(run.folder / "predictions.npz")
    assert 250_000 < saved["prediction"].min() < saved["prediction"].max() < 420_000
    assert experiment.evaluate(run.folder)["test"] == run.metrics["test"]
    raw = experiment.run(compose("dataset.standardize=false"))
    assert raw.metrics["test"]["all"]["mae"] > 5 * trivial  # what it was before


def test_the_network_begins_at_the_training_median(compose):
    settings = compose()
    data = config.build(settings.dataset.source).load()
    shift, scale = target_units(settings, data)
    assert (shift, scale) == (pytest.approx(data.train.targets.mean()), pytest.approx(data.train.targets.std()))
    bias = build_network(settings, data).regressor.bias.item()
    assert bias * scale + shift == pytest.approx(np.median(data.train.targets), rel=1e-6)


@pytest.mark.parametrize("method", ["bmc", "gai", "bni", "uvote", "dist_loss", "cls_vanilla", "sqinv_lds_fds"])
def test_every_kind_of_head_and_part_works_in_that_unit(compose, method):
    few = ["trainer.epochs=1", "parts.head.sigma=5000"] if method in ("bmc", "gai", "bni") else ["trainer.epochs=1"]
    run = experiment.run(compose(f"method={method}", *few))
    assert run.metrics["test"]["all"]["mae"] < 60_000


def test_published_datasets_stay_as_published():
    for name in ("agedb", "imdb_wiki", "nyud2", "sts_b", "shhs", "gauge"):
        assert not config.compose([f"dataset={name}"]).dataset.standardize
    with pytest.raises(UserError, match="maps of them"):
        config.compose(["dataset=nyud2", "dataset.standardize=true"])
