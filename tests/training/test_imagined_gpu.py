"""Training steps on a GPU that is not there: torch tells devices, types and shapes of CUDA tensors without numbers.

What would have to be read from the device, such as one number or how many are true, is an error then: so no step waits
for it, and no tensors of two devices meet. Out of sight are autograd's own engine, streams, memory, and packed texts.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from dir_bench import assembly, config, inspection
from dir_bench.methods.fds import FDS
from dir_bench.results.store import RunFolder
from dir_bench.task import Task
from dir_bench.tensors import in_single
from dir_bench.training import features, prediction, trainer
from dir_bench.training.kept import kept
from dir_bench.training.trainer import Trainer

CUDA = torch.device("cuda", 0)
GAUGE = [
    *("dataset=gauge", "dataset.source.n_train=96", "dataset.source.size=16", "trainer.batch_size=32"),
    *("dataset.source.n_val_per_bin=1", "dataset.source.n_test_per_bin=1"),
]
DEPTH = ["dataset=nyud2", "backbone=depth_small", "trainer.batch_size=2"]


class Engine:
    """What the trainer asks of Lightning Fabric."""

    device, world_size, global_rank, is_global_zero = CUDA, 1, 0, True

    strategy = SimpleNamespace(precision=SimpleNamespace(convert_input=lambda inputs: inputs))

    def to_device(self, tensors: Any) -> Any:
        return apply_to_collection(tensors, Tensor, lambda tensor: tensor.to(CUDA))

    def autocast(self) -> Any:
        return nullcontext()  # CUDA's own asks for a driver

    def backward(self, loss: Tensor) -> None:
        assert (loss.device, loss.dtype, loss.shape, loss.requires_grad) == (CUDA, torch.float32, (), True)
        for parameter in self.trained:
            parameter.grad = torch.zeros_like(parameter)


def on_device(pairs: Any, engine: Engine) -> Iterator[Any]:
    for item, tensors in pairs:
        yield item, engine.to_device(tensors)


@pytest.fixture
def imagined(monkeypatch: pytest.MonkeyPatch) -> FakeTensorMode:
    """Give the mode in which CUDA tensors can be made; before it, turn off what needs a driver or reads a number."""
    for module in (trainer, prediction, features):
        monkeypatch.setattr(module, "on_device", on_device)
    monkeypatch.setattr(trainer, "SmallestBatch", lambda *found_out_by: lambda split: 1)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(torch.cuda, "manual_seed", lambda seed: None)
    for name in ("_check_loss", "_save"):  # those wait, and may
        monkeypatch.setattr(Trainer, name, lambda self, *asked, **options: None)
    monkeypatch.setattr(Trainer, "_evaluate", judge_one_batch)
    monkeypatch.setattr(FDS, "end_epoch", take_up)
    return FakeTensorMode(allow_non_fake_inputs=True)


def move(network: nn.Module, imagined: FakeTensorMode) -> None:
    """Put weights and buffers on the device."""
    for module in network.modules():
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            if tensor is not None:
                moved = imagined.from_tensor(tensor.detach()).to(CUDA)
                is_weight = isinstance(tensor, nn.Parameter)
                setattr(module, name, nn.Parameter(moved, tensor.requires_grad) if is_weight else moved)


def take_up(self: FDS, moments: Any, epoch: int) -> None:
    """Do what the end of an epoch does, but for asking which it is."""
    self._blend(slice(None), *moments.by_row(), epoch)
    self._copy_running_to_last()
    self.smoothed_mean_last_epoch.copy_(self._smoothed(self.running_mean, 0.0, self.published))
    self._tabulate()


def judge_one_batch(self: Trainer) -> bool:
    """Evaluate up to where predictions are read."""
    network, head, split = self.module.eval(), self.head, self.val
    index, inputs = next(iter(prediction.eval_batches(split, 4)))
    with torch.no_grad():
        output = in_single(network(split.prepare(self.fabric.to_device(inputs), None)[0])[0])
    for column in {"prediction": head.decode(output), **head.columns(output)}.values():
        assert split.judge(column, index)[1].device == CUDA
    return False


METHODS = ("sqinv_lds_fds", "bsam", "conr", "ranksim", "vir", "srl", "hca", "group_dir", "m_mixup", "uvote", "bni")


@pytest.mark.skipif(not torch.backends.cuda.is_built(), reason="this torch knows no CUDA")
@pytest.mark.parametrize("samples", ["host", "device"])
@pytest.mark.parametrize(
    "overrides",
    [
        *([*GAUGE, f"method={name}"] for name in METHODS),
        [*GAUGE, "method=sqinv_lds_fds", "fds.statistics=stream"],
        [*DEPTH, "method=vanilla_lds_fds"],
    ],
    ids=lambda overrides: " ".join(overrides[-2:]),
)
def test_an_epoch_never_reads_from_the_device(
    imagined: FakeTensorMode, overrides: list[str], samples: str, tmp_path: Path
) -> None:
    dataset = overrides[0].partition("=")[2]
    if dataset != "gauge":
        inspection.sample(dataset, tmp_path, 4)
    settings = config.compose([*overrides, f"paths.data={tmp_path}"])
    data = config.build(settings.dataset.source).load()
    network, engine = assembly.build_network(settings, data), Engine()
    data = assembly.train_on(data, network, torch.device("cpu"), "host")
    with imagined:
        if samples == "device":
            data = replace(data, train=kept(data.train, CUDA), val=kept(data.val, CUDA, with_maps=False))
        move(network, imagined)
        trained = Trainer(
            fabric=engine, settings=settings.trainer, network=network,
            optimizer=torch.optim.Adam(assembly.parameter_groups(network, 0.1), 0.1, fused=True), scheduler=None,
            schedule_interval="epoch", train=data.train, val=data.val, evaluate=lambda values: {}, monitor="mae",
            seed=0, checkpoints=tmp_path,
        )  # fmt: skip
        engine.trained = trained._trained
        for _ in range(2):
            trained.train_epoch()
    assert trained.progress.epoch == 2


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")],
        ),
    ],
)
def test_steps_after_the_first_make_nobody_wait(device: str, never_waiting: Any, tmp_path: Path) -> None:
    words = [*GAUGE, "method=sqinv_lds_fds", "fds.statistics=stream", f"trainer.accelerator={device}"]
    settings = config.compose(words)
    data = config.build(settings.dataset.source).load()
    fabric = assembly.build_fabric(settings, "auto", 1)
    network = assembly.build_network(settings, data)
    task = Task.of(settings, data.train.label_counts, data.train.targets)
    data = assembly.train_on(data, network, fabric.device, settings.trainer.samples_on)
    made = assembly.build_trainer(fabric, settings, RunFolder(tmp_path), data, task, network)
    for part in made.parts.values():
        part.epoch_begins(0)
    batches = list(made._batches(made.loader, 0))
    assert len(batches) == 3
    for number, (batch, tensors) in enumerate(batches):
        with never_waiting() if device == "cuda" and number else nullcontext():
            made._step(batch, *made.train.prepare(*tensors))
        made.progress.step += 1
    assert made.losses.first_bad() is None
