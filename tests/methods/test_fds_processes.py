"""FDS under torch.distributed: two processes, each with its part of the samples, come to the statistics of one."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from dir_bench import FDS, TargetBins
from dir_bench.workers import run_all


def pooled(job: tuple[str, int]) -> str:
    path, rank = job
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
    torch.manual_seed(1)
    features, labels = torch.randn(7, 3) * 3 + 50, torch.arange(7.0) % 4
    layer, whole = (FDS(3, bins=TargetBins.regular(0, 4, 1), kernel_size=3) for _ in range(2))
    mine, everything = layer.new_moments(), whole.new_moments()
    mine.add(features[rank::2], labels[rank::2])
    everything.add(features, labels)
    everything.reduced = True  # each process has all
    layer.end_epoch(mine, 0)
    whole.end_epoch(everything, 0)
    torch.testing.assert_close(layer.state_dict(), whole.state_dict())
    dist.destroy_process_group()
    return "equal"


@pytest.mark.usefixtures("forked_workers")
def test_two_processes_have_the_statistics_of_all(tmp_path: Path):
    jobs = [(str(tmp_path / "store"), rank) for rank in range(2)]
    assert dict(run_all(pooled, jobs, [{}, {}])) == {0: "equal", 1: "equal"}
