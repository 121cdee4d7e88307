"""Backbone → FDS → regressor."""

import pytest
import torch
from torch import nn

from dir_bench.labels import TargetBins
from dir_bench.methods.fds_part import FDSPart
from dir_bench.methods.part import Step
from dir_bench.training.network import Network


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
