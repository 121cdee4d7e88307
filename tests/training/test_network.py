"""Backbone → FDS → regressor, and batch norm over several processes."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from dir_bench import FDS
from dir_bench.labels import TargetBins
from dir_bench.methods.fds_part import FDSPart
from dir_bench.methods.part import Step
from dir_bench.training.network import Network, SyncBatchNorm, synchronise_batch_norm
from dir_bench.workers import run_all


def make_network(feedback: bool) -> Network:
    fds = FDSPart(4, bins=TargetBins.regular(0, 4, 1), kernel_size=3, lag="none", start_smooth=1, feedback=feedback)
    return Network(nn.Linear(3, 4), nn.Linear(4, 1), {"fds": fds})


def warmed_up(feedback: bool) -> tuple[Network, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    network, inputs, labels = make_network(feedback), torch.randn(40, 3), torch.arange(40) % 4 + 0.5
    moments = network.fds.new_moments()
    moments.add(network.backbone(inputs), labels)
    network.fds.end_epoch(moments, 0)
    return network.train(), inputs, labels


def test_fds_acts_in_training_only():
    network, inputs, labels = warmed_up(feedback=False)
    trained, _, _ = network(inputs, labels, 1)
    plain = network.regressor(network.backbone(inputs))
    assert not torch.allclose(trained, plain)
    assert torch.equal(network.eval()(inputs, labels, 1)[0], plain)
    assert torch.equal(network.eval()(inputs)[0], plain)


@pytest.mark.parametrize("feedback", [False, True])
def test_statistics_come_from_the_features_that_the_semantics_names(feedback):
    network, inputs, labels = warmed_up(feedback)
    step = Step(1, 0, lambda *_: None, 0, inputs, labels)
    step.output, step.features, step.fed = network(inputs, labels, 1)
    network.fds.stream = True
    network.fds.epoch_begins(1)
    network.fds.after_step(step)
    raw = network.backbone(inputs)
    expected = network.fds.new_moments()
    expected.add(network.fds.smooth(raw, labels, 1) if feedback else raw, labels)
    for found, right in zip(network.fds._moments.by_row(), expected.by_row(), strict=True):
        assert torch.equal(found, right)


def test_batch_norm_is_replaced_with_its_weights_and_buffers():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Sequential(nn.Flatten(), nn.LazyBatchNorm1d()))
    plain(torch.randn(8, 1, 5, 5))
    state = {key: value.clone() for key, value in plain.state_dict().items()}
    synced = synchronise_batch_norm(plain)
    assert sum(isinstance(layer, SyncBatchNorm) for layer in synced.modules()) == 2
    assert all(torch.equal(state[key], value) for key, value in synced.state_dict().items())


def outcome(inputs: torch.Tensor, rank: int, world: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)).double()
    if world > 1:
        synchronise_batch_norm(model)
    for _ in range(3):
        model.zero_grad()
        (model(inputs[rank::world]).square().sum() / len(inputs)).backward()
        for p in model.parameters():
            if world > 1:
                dist.all_reduce(p.grad)
            p.data -= 0.1 * p.grad
    return model.eval()(inputs).detach(), model.state_dict()


def normalised(job: tuple[str, int, int]) -> str:
    path, rank, world = job
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=world)
    torch.manual_seed(1)
    inputs = torch.randn(7, 3).double() * 3 + 50  # unequal parts, a mean far from 0
    ours, state = outcome(inputs, rank, world)
    expected, plain = outcome(inputs, 0, 1)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)
    for key in plain:
        torch.testing.assert_close(state[key], plain[key], rtol=1e-9, atol=1e-9)
    layer = FDS(3, bins=TargetBins.regular(0, 4, 1), kernel_size=3)
    whole = FDS(3, bins=TargetBins.regular(0, 4, 1), kernel_size=3)
    labels = torch.arange(7.0) % 4
    moments, all_of_them = layer.new_moments(), whole.new_moments()
    moments.add(inputs[rank::world].float(), labels[rank::world])
    all_of_them.add(inputs.float(), labels)
    all_of_them.reduced = True  # each process has all
    layer.end_epoch(moments, 0)
    whole.end_epoch(all_of_them, 0)
    torch.testing.assert_close(layer.state_dict(), whole.state_dict())
    dist.destroy_process_group()
    return "equal"


@pytest.mark.usefixtures("forked_workers")
def test_two_processes_normalise_as_one(tmp_path: Path):
    jobs = [(str(tmp_path / "store"), rank, 2) for rank in range(2)]
    assert dict(run_all(normalised, jobs, [{}, {}])) == {0: "equal", 1: "equal"}
