"""Memory that a step gave back is there for the next one."""

import platform
import resource

import pytest
import torch

from dir_bench.training.memory import keep_freed_memory


def pages_asked_for() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.ones(2**18) for _ in range(32)]  # 1 MiB each, as of a batch's pictures
    del tensors
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="speaks to glibc")
def test_a_second_step_asks_the_system_for_nothing() -> None:
    keep_freed_memory()
    pages_asked_for()  # of a heap that may be small so far
    assert pages_asked_for() < 32 * 256 / 10
