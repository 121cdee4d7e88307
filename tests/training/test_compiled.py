"""Which calls of a backbone are compiled ones; the compiler here counts, and changes nothing."""

import logging
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from dir_bench import assembly, config
from dir_bench.training.compiled import CACHE, Compiled, keep_compiled
from dir_bench.training.network import Network


class Counting:
    """A backend of torch.compile: compiled code is the graph itself, and calls are counted."""

    def __init__(self) -> None:
        self.compiled: list[tuple[int, ...]] = []
        self.calls = 0

    def __call__(self, graph, given, **_):
        self.compiled.append(next(tuple(each.shape) for each in given if not isinstance(each, nn.Parameter)))

        def run(*inputs):
            self.calls += 1
            return graph.forward(*inputs)

        return run


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_full_training_batches_are_compiled_once_and_others_run_as_they_are(mode, caplog):
    torch._dynamo.reset()
    backend, backbone = Counting(), nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    network = Network(backbone, nn.Linear(4, 1), {})
    network.compiled = Compiled(backbone, mode, backend)
    full, rest = torch.randn(8, 3), torch.randn(5, 3)
    with caplog.at_level(logging.INFO, "dir_bench"):
        results = [network.train()(inputs)[1] for inputs in (full, rest, full)]
        network.eval()(full)
        with torch.no_grad():
            network.train()(full)
    assert backend.compiled == [(8, 3), (8, 3)]  # with gradients and without
    assert backend.calls == 3
    assert [record.message[:9] for record in caplog.records] == ["compiling", "compiled "] * 2
    for features, inputs in zip(results, (full, rest, full), strict=True):
        torch.testing.assert_close(features, backbone(inputs), rtol=0, atol=0)
    results[2].sum().backward()
    assert backbone[0].weight.grad is not None
    texts = Compiled(nn.Identity(), backend=backend)
    assert texts((full, rest)) == (full, rest)  # of another shape each time
    assert len(backend.compiled) == 2


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch 2.11 warns of itself
def test_keys_reach_the_compiler(tmp_path: Path, monkeypatch):
    monkeypatch.setenv(CACHE, str(tmp_path / "torchinductor_me"))  # as torch names it when it is imported
    settings = config.compose(["dataset=gauge", f"paths.data={tmp_path}", "trainer.compile=true"])
    data = config.build(settings.dataset.source | {"n_train": 10, "n_val_per_bin": 1, "n_test_per_bin": 1}).load()
    network = assembly.build_network(settings, data)
    assert isinstance(network.compiled, Compiled)
    assert os.environ[CACHE] == str(tmp_path / ".cache" / "compiled")
    keep_compiled(tmp_path / "other")
    assert os.environ[CACHE] == str(tmp_path / ".cache" / "compiled")  # what the environment names stays
