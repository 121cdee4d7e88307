"""Dense targets through the trainer: the loss of a batch, FDS over a subset, RRT of the published R, exact resume."""

import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from run_helpers import history
from torch import nn

from dir_bench import assembly, config, experiment
from dir_bench.datasets.base import Data
from dir_bench.datasets.nyud2 import BINS, NYUD2
from dir_bench.interrupt import Interrupted
from dir_bench.methods.part import Step
from dir_bench.results.store import RunFolder
from dir_bench.schema import Config
from dir_bench.task import Task
from dir_bench.training.network import Network
from dir_bench.training.recorder import Recorder
from dir_bench.training.trainer import Trainer


class Tiny(nn.Module):
    """A backbone of dense features, small enough for many runs: stride 2, as the real one has."""

    refit = ("refine",)
    mixable = ("encode", "refine")

    def __init__(self, in_channels: int = 3, size: int = 0) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Conv2d(in_channels, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.refine = nn.Conv2d(4, 4, 1)
        self.feature_dim = 4

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.refine(self.encode(images))

    def make_regressor(self, outputs: int = 1) -> nn.Module:
        return nn.Conv2d(4, outputs, 1)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    NYUD2(str(folder / "nyud2")).sample(folder / "nyud2", n=8)
    return folder


@pytest.fixture
def compose(data_dir: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("dir_bench.backbones.depth.DepthNet", Tiny)

    def make(*overrides: str, outputs: str = "outputs") -> Config:
        settings = config.compose(
            [
                "dataset=nyud2", f"paths.data={data_dir}", f"paths.outputs={tmp_path / outputs}", "trainer.cache=disk",
                "trainer.epochs=3", "trainer.batch_size=3", "trainer.threads=1", "dataset.source.val_pixels_per_bin=50",
                "dataset.source.rotation_order=1", "trainer.figures=false", *overrides,
            ]
        )  # fmt: skip
        settings.backbone = {"_target_": "dir_bench.backbones.depth.DepthNet", "features": True}
        return settings

    return make


def parts(settings: Config, folder: Path):
    fabric = assembly.build_fabric(settings, "auto", 1)
    data: Data = config.build(settings.dataset.source).load()
    task = Task.of(settings, data.train.label_counts)
    network = assembly.build_network(settings, data)
    return data, task, assembly.build_trainer(fabric, settings, RunFolder(folder), data, task, network)


def forward(trainer: Trainer, pictures: torch.Tensor, depth: torch.Tensor) -> Step:
    step = trainer._as_step(pictures, depth, 0)
    step.output, step.features, step.fed = trainer.network(pictures, depth, 0)
    return step


def test_the_loss_is_the_mean_over_pixels_weighted_by_their_bins(compose, tmp_path):
    settings = compose("method=inv_lds")
    data, _, trainer = parts(settings, tmp_path)
    batch, tensors = next(trainer._batches(trainer.loader, 0))
    pictures, depth = data.train.prepare(*tensors)
    step = forward(trainer, pictures, depth)
    loss = trainer.module.loss_sum(step).detach() / batch.size
    weights = trainer.parts["reweight"].table.numpy()[BINS.index(depth.numpy())]
    expected = np.mean((step.output.detach().numpy() - depth.numpy()).astype(np.float64) ** 2 * weights)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_loss_of_a_classifier_is_its_cross_entropy_at_every_pixel(compose, tmp_path):
    settings = compose("method=cb", "reweight.beta=0.9")
    data, _, trainer = parts(settings, tmp_path)
    batch, tensors = next(trainer._batches(trainer.loader, 0))
    pictures, depth = data.train.prepare(*tensors)
    step = forward(trainer, pictures, depth)
    assert step.output.shape[1] == 93  # bins 7 to 99
    loss = trainer.module.loss_sum(step).detach() / batch.size
    bins = BINS.index(depth.numpy()).clip(7)
    shares = step.output.detach().double().softmax(1).gather(1, torch.from_numpy(bins - 7)).numpy()
    assert loss.item() == pytest.approx(
        np.mean(-np.log(shares) * trainer.parts["reweight"].table.numpy()[bins]), rel=1e-5
    )


def test_a_classifier_predicts_depths_of_pixels_in_metres(compose, tmp_path):
    data, _, trainer = parts(compose("method=cls_vanilla"), tmp_path)
    trainer.module.regressor.weight.data.zero_()
    trainer.module.regressor.bias.data.copy_(torch.arange(93) == 30)
    np.testing.assert_allclose(trainer.predict(data.test), 3.75, rtol=1e-6)  # class 30 is bin 37, 3.7 m to 3.8 m


def test_mixup_mixes_the_depth_of_pixels_as_it_mixes_pictures(compose, tmp_path):
    data, _, trainer = parts(compose("method=mixup"), tmp_path)
    _, tensors = next(trainer._batches(trainer.loader, 0))
    pictures, depth = data.train.prepare(*tensors)
    both = torch.cat([pictures.flatten(1), depth.flatten(1)], dim=1)
    step = trainer._as_step(pictures, depth, 0)
    with trainer.parts["mixup"].batch(step):
        together = torch.cat([step.inputs.flatten(1), step.targets.flatten(1)], dim=1)
    # Each mixed sample, pixels and depths alike, is one and the same combination of the batch's three.
    shares = torch.linalg.lstsq(both.T.double(), together.T.double()).solution
    torch.testing.assert_close(shares.T @ both.double(), together.double(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(shares.sum(0), torch.ones(3).double(), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(shares, torch.eye(3).double(), atol=1e-3)


def test_fds_takes_its_statistics_from_the_subset_without_augmentation(compose, tmp_path):
    settings = compose("method=vanilla_fds", "trainer.epochs=1")
    data, _, trainer = parts(settings, tmp_path)
    network: Network = trainer.module
    network.fds.epoch_ends(0, trainer._walk, trainer.processes.sum)
    tracked = network.fds.num_samples_tracked.numpy()
    depths = [data.fds.targets[np.arange(len(data.fds))]]
    _, metres = data.fds.prepare(data.fds.fetch(np.arange(len(data.fds)), None), torch.from_numpy(depths[0]))
    expected = np.bincount(BINS.index(metres.numpy()).ravel().clip(7), minlength=100)[7:]
    np.testing.assert_array_equal(tracked, expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ["method=inv_lds_fds"],
        ["method=vanilla_fds", "fds.statistics=stream"],
        ["method=cb"],
        ["method=m_mixup", "mixup.layers=[0,1,2]"],
    ],
)
def test_an_interrupted_dense_run_goes_on_to_the_same_numbers(compose, monkeypatch, overrides):
    straight = experiment.run(compose(*overrides, outputs="straight"))
    tick, sent = Recorder.tick, []

    def ticking(self: Recorder, at: int) -> None:
        tick(self, at)
        if at == 4 and not sent:
            sent.append(at)
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Recorder, "tick", ticking)
    broken = compose(*overrides, outputs="broken")
    with pytest.raises(Interrupted):
        experiment.run(broken)
    again = experiment.run(broken)
    recorded = [experiment.recorded(outcome.folder)["test"] for outcome in (straight, again)]
    assert recorded[0] == recorded[1]
    assert history(again.folder) == history(straight.folder)


@pytest.mark.slow
def test_rrt_trains_the_listed_parts_anew_and_keeps_the_rest(compose):
    settings = compose("method=rrt", "trainer.epochs=1", "stages.epochs=1")
    outcome = experiment.run(settings)
    first = experiment.run(experiment.stage_one_config(settings))
    assert first.skipped
    one, two = (
        torch.load(RunFolder(path).best_checkpoint, weights_only=True)["network"]
        for path in (first.folder, outcome.folder)
    )
    changed = {key for key in one if not torch.equal(one[key], two[key])}
    assert "backbone.encode.0.weight" not in changed
    assert {"backbone.refine.weight", "regressor.weight"} <= changed


@pytest.mark.slow
def test_selecting_on_the_test_split_is_said(compose):
    metrics = experiment.run(compose("dataset.source.select_on=test", "trainer.epochs=1")).metrics
    assert metrics["monitor"]["split"] == "test"
    assert metrics["monitor"]["best"] == metrics["test"]["all"]["rmse"]
