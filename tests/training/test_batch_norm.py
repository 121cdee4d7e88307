"""Batch norm over groups, against plain batch norm run chunk by chunk; over processes, against one with the batch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from dir_bench.datasets.base import ScalarTargets
from dir_bench.training.batch_norm import (
    GhostBatchNorm,
    SyncBatchNorm,
    group_batch_norm,
    group_sizes,
    smallest_batch,
    synchronise_batch_norm,
)


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("n", [1, 2, 5, 8, 9, 21, 64, 176])
def test_groups_are_those_of_torch_chunk(n: int, groups: int) -> None:
    assert group_sizes(n, groups) == [len(part) for part in torch.zeros(n).chunk(groups)]


def test_no_group_has_one_value_a_channel() -> None:
    assert group_sizes(10, 4, 2) == [3, 3, 4]  # torch.chunk: 3, 3, 3, 1
    assert group_sizes(5, 4, 2) == [2, 3]
    assert group_sizes(3, 4, 2) == [3]
    assert group_sizes(8, 4, 2) == [2, 2, 2, 2]
    assert group_sizes(1, 4, 2) == [1]


def two_layers() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Sequential(nn.Flatten(), nn.BatchNorm1d(27))
    )
    for layer in layers.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.weight.data.uniform_(0.5, 2)
            layer.bias.data.normal_()
    return layers


@pytest.mark.parametrize("n", [8, 11])  # 11 in four groups: 3, 3, 3, 2
def test_a_grouped_batch_is_plain_batch_norm_chunk_by_chunk(n: int) -> None:
    """Outputs and gradients bit for bit; running statistics as of the first chunk alone."""
    grouped, plain, first = group_batch_norm(two_layers(), 4), two_layers(), two_layers()
    assert sum(isinstance(layer, GhostBatchNorm) for layer in grouped.modules()) == 2
    inputs = torch.randn(n, 2, 5, 5) * 3 + 7
    for _ in range(2):
        outputs = grouped(inputs)
        expected = torch.cat([plain(part) for part in inputs.chunk(4)])
        first(inputs.chunk(4)[0])
    assert torch.equal(outputs, expected)
    outputs.square().sum().backward()
    expected.square().sum().backward()
    for ours, theirs in zip(grouped.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    for key, value in first.state_dict().items():
        assert torch.equal(grouped.state_dict()[key], value), key
    assert torch.equal(grouped.eval()(inputs), first.eval()(inputs))


def test_a_lone_vector_joins_the_group_before_it() -> None:
    """Ten vectors on four GPUs: 3, 3, 3 and 1, where DataParallel breaks down."""
    layer = GhostBatchNorm(4, 2).train()
    inputs = torch.randn(10, 2)
    expected = torch.cat([nn.BatchNorm1d(2)(part) for part in inputs.split([3, 3, 4])])
    assert torch.equal(layer(inputs), expected)


def test_what_is_frozen_stays_frozen_when_it_is_replaced() -> None:
    for replace in (synchronise_batch_norm, lambda network: group_batch_norm(network, 2)):
        frozen = two_layers().requires_grad_(False)
        frozen[0].requires_grad_(True)
        trained = {name for name, parameter in replace(frozen).named_parameters() if parameter.requires_grad}
        assert trained == {"0.weight", "0.bias"}


def test_replacing_keeps_weights_and_buffers() -> None:
    for replace, kind in ((synchronise_batch_norm, SyncBatchNorm), (lambda m: group_batch_norm(m, 2), GhostBatchNorm)):
        plain = two_layers()
        plain(torch.randn(8, 2, 5, 5))
        state = {key: value.clone() for key, value in plain.state_dict().items()}
        replaced = replace(plain)
        assert sum(isinstance(layer, kind) for layer in replaced.modules()) == 2
        assert all(torch.equal(state[key], value) for key, value in replaced.state_dict().items())


class Pictures(ScalarTargets):
    """A split of pictures, all alike."""

    def __init__(self, n: int) -> None:
        self.targets = np.zeros(n, np.float32)

    def __len__(self) -> int:
        return len(self.targets)

    def fetch(self, indices: np.ndarray, rng: object) -> torch.Tensor:
        return torch.ones(len(indices), 2, 5, 5)


@pytest.mark.parametrize(
    ("network", "n", "smallest"),
    [
        (two_layers(), 9, 2),  # its second layer has one value a channel
        (two_layers(), 10, 1),
        (two_layers(), 1, 1),  # there is no batch to join
        (nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)), 9, 1),  # nine values a channel in a single picture
        (nn.Sequential(nn.Flatten(), nn.LayerNorm(50)), 9, 1),
    ],
)
def test_one_sample_is_too_few_where_batch_norm_has_one_value_of_it(network: nn.Module, n: int, smallest: int) -> None:
    before = {key: value.clone() for key, value in network.state_dict().items()}
    fabric = Fabric(accelerator="cpu")
    assert smallest_batch(network.train(), Pictures(n), 4, fabric) == smallest
    assert network.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_how_many_samples_are_needed_is_found_out_in_the_runs_precision() -> None:
    network = two_layers().double()
    assert smallest_batch(network, Pictures(9), 4, Fabric(accelerator="cpu", precision="64-true")) == 2


CUDA = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")]

THREE_PROCESSES = """
import sys, torch, torch.distributed as dist
from torch import nn
from dir_bench import FDS, TargetBins
from dir_bench.training.batch_norm import synchronise_batch_norm, uncounted

def outcome(batches, rank, world, device):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 1))
    model.double().to(device)
    if world > 1:
        synchronise_batch_norm(model)
    for batch in batches:
        mine = batch[rank::world]
        padding = len(mine) == 0
        model.zero_grad()
        with uncounted(model, padding):
            loss = model(batch[:1] if padding else mine).square().sum() * (0.0 if padding else 1 / len(batch))
        loss.backward()
        for p in model.parameters():
            if world > 1:
                dist.all_reduce(p.grad)
            p.data -= 0.1 * p.grad
    return model.eval()(batches[0]), model.state_dict()

def worker(rank, world, path, device):
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=world)
    torch.manual_seed(1)
    inputs = (torch.randn(19, 3).double() * 3 + 50).to(device)  # a mean far from 0
    batches = inputs.split([7, 2, 7, 3])  # of three processes, unequal parts, and one without a sample of the second
    ours, state = outcome(batches, rank, world, device)
    expected, plain = outcome(batches, 0, 1, device)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)
    for key in plain:
        torch.testing.assert_close(state[key], plain[key], rtol=1e-9, atol=1e-9)
    pools_statistics(inputs.float(), rank, world)
    dist.destroy_process_group()

def pools_statistics(inputs, rank, world):
    layer, whole = (FDS(3, bins=TargetBins.regular(0, 4, 1), kernel_size=3).to(inputs.device) for _ in range(2))
    labels = torch.arange(len(inputs), device=inputs.device) % 4 + 0.0
    moments, all_of_them = layer.new_moments(), whole.new_moments()
    moments.add(inputs[rank::world], labels[rank::world])
    all_of_them.add(inputs, labels)
    all_of_them.reduced = True  # each process has all
    layer.end_epoch(moments, 0)
    whole.end_epoch(all_of_them, 0)
    torch.testing.assert_close(layer.state_dict(), whole.state_dict())

if __name__ == "__main__":
    torch.multiprocessing.start_processes(worker, (3, *sys.argv[1:]), nprocs=3, start_method="fork")
    print("equal")
"""


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=CUDA)])
def test_processes_normalise_as_one_without_their_padding_and_fds_pools_theirs(tmp_path: Path, device: str) -> None:
    script = tmp_path / "three.py"
    script.write_text(THREE_PROCESSES)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "store"), device], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "equal"
