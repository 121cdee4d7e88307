"""What the trainer does step by step: which streams it draws from, which epoch it keeps, which loss it records."""

import itertools
import shutil

import numpy as np
import pytest
import torch

from dir_bench import assembly, config
from dir_bench.datasets.arrays import Arrays
from dir_bench.datasets.base import ScalarTargets
from dir_bench.results.store import RunFolder
from dir_bench.task import Task
from dir_bench.training.loaders import TrainLoader

SMALL = [
    *("dataset=arrays", "trainer.batch_size=32", "backbone.hidden=[16,8]", "trainer.accelerator=cpu"),
    *("dataset.regions.many_over=40", "dataset.regions.few_under=8"),
]


@pytest.fixture
def build(tmp_path):
    """Build a trainer of a small run with these overrides, and its data."""
    Arrays(str(tmp_path / "arrays")).sample(tmp_path / "arrays", n=300)

    def make(*overrides):
        settings = config.compose([*SMALL, f"paths.data={tmp_path}", *overrides])
        data = config.build(settings.dataset.source).load()
        folder = RunFolder(tmp_path / "run")
        folder.last_checkpoint.parent.mkdir(parents=True)
        fabric = assembly.build_fabric(settings, "auto", 1)
        task, network = Task.of(settings, data.train.label_counts), assembly.build_network(settings, data)
        return assembly.build_trainer(fabric, settings, folder, data, task, network), data

    return make


def test_of_equally_good_epochs_the_first_is_kept(build):
    trainer, _ = build("trainer.epochs=5")
    values = iter([2.0, 1.0, 1.0, 3.0, 1.0])
    trainer.evaluate = lambda predictions: {"all": {trainer.monitor: next(values)}}
    progress = trainer.fit()
    assert (progress.best, progress.best_epoch) == (1.0, 2)
    assert torch.load(trainer.checkpoints / "best.pt", weights_only=True)["epoch"] == 2


def test_the_recorded_loss_is_the_mean_over_the_samples(build):
    trainer, data = build(
        "trainer.epochs=1", "optimizer.lr=1e-30", "dataset.standardize=false"
    )  # the network stays as it is
    assert len(data.train) % 32, "batches of unequal size"
    loss = trainer.fit().history[0]["loss"]
    assert loss == pytest.approx(np.abs(trainer.predict(data.train) - data.train.targets).mean(), rel=1e-5)


def test_each_step_and_each_batch_of_the_pass_for_fds_draws_from_streams_of_its_own(build, monkeypatch):
    trainer, data = build("trainer.epochs=2", "method=vanilla_fds", "fds.statistics=pass", "backbone.dropout=0.1")
    orders, augmentations, dropouts = [], [], []
    fetch = type(data.train).fetch

    def fetching(split, indices, rng):
        if rng is not None:
            orders.append(indices.tolist())
            augmentations.append(rng.bit_generator.state["state"]["state"])
        return fetch(split, indices, rng)

    monkeypatch.setattr(type(data.train), "fetch", fetching)
    trainer.module.register_forward_pre_hook(
        lambda network, _: dropouts.append(torch.initial_seed()) if network.training else None
    )
    trainer.fit()
    steps = len(trainer.loader)
    assert len(orders) == len(dropouts) == 4 * steps  # two epochs, each with a pass for FDS
    assert len(set(augmentations)) == len(set(dropouts)) == 4 * steps
    passes = [list(itertools.chain(*orders[i * steps : (i + 1) * steps])) for i in range(4)]
    assert len({tuple(each) for each in passes}) == 4
    assert all(sorted(each) == list(range(len(data.train))) for each in passes)


def test_augmentation_is_drawn_anew_for_each_epoch_batch_process_and_purpose():
    class Noise(ScalarTargets):
        targets, lengths = np.zeros(40, np.float32), None

        def __len__(self):
            return len(self.targets)

        def fetch(self, indices, rng):
            return torch.from_numpy(rng.normal(size=len(indices)))

    drawn = torch.cat(
        [
            batch.inputs
            for rank, epoch, purpose in itertools.product(range(2), range(3), ("order", "fds"))
            for batch in TrainLoader(Noise(), 8, seed=4, rank=rank, world=2).batches(epoch, purpose=purpose)
        ]
    )
    assert len(drawn) == 40 * 3 * 2
    assert len(drawn.unique()) == len(drawn)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_on_a_cpu_weights_take_a_step_in_one_pass_and_come_to_the_same(build, tmp_path, optimizer):
    weights, passes = [], []
    for overrides in [], ["optimizer.fused=false"]:
        trainer, _ = build(f"optimizer={optimizer}", "optimizer.lr=1e-2", "trainer.precision=64-true", *overrides)
        with trainer.writer:
            trainer.train_epoch()
        shutil.rmtree(tmp_path / "run")
        weights.append(torch.cat([value.detach().flatten() for value in trainer.module.parameters()]))
        passes.append(trainer.optimizer.param_groups[0]["fused"])
    assert passes == [True, False]
    torch.testing.assert_close(*weights, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("device", "overrides", "passes"),
    [
        ("cpu", [], True),
        ("cuda", [], True),
        ("cuda", ["trainer.clip_norm=1", "trainer.precision=bf16-mixed"], True),
        ("cuda", ["trainer.clip_norm=1", "trainer.precision=16-mixed"], None),
        ("mps", [], None),
    ],
)
def test_where_weights_take_a_step_in_one_pass_by_themselves(device, overrides, passes):
    settings = config.compose(["dataset=gauge", *overrides]).trainer
    assert assembly.steps_in_one_pass(settings, torch.device(device)) is passes
