"""Checkpoints written beside training: true copies, in an order that can be gone on from, all there when it ends."""

import errno
import io
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from run_helpers import assert_same_run, history, stop_after
from torch import nn

from dir_bench import config, experiment
from dir_bench.datasets.arrays import Arrays
from dir_bench.errors import UserError
from dir_bench.interrupt import Interrupted
from dir_bench.results.store import RunFolder
from dir_bench.schema import Config
from dir_bench.training import checkpoint
from dir_bench.training.checkpoint_writer import CheckpointWriter, HostMemory
from dir_bench.training.recorder import Recorder

SMALL = [
    *("dataset=arrays", "trainer.epochs=3", "trainer.batch_size=32", "backbone.hidden=[16,8]", "trainer.threads=1"),
    *("trainer.figures=false", "trainer.accelerator=cpu", "trainer.feature_statistics=false"),
    *("dataset.regions.many_over=40", "dataset.regions.few_under=8"),
]


@pytest.fixture
def compose(tmp_path: Path) -> Callable[..., Config]:
    """Compose a run of three epochs of ten steps, from a folder of outputs."""
    Arrays(str(tmp_path / "arrays")).sample(tmp_path / "arrays", n=300)
    return lambda outputs: config.compose([*SMALL, f"paths.data={tmp_path}", f"paths.outputs={tmp_path / outputs}"])


def as_bytes(state: Any) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def trained(device: str = "cpu") -> tuple[nn.Module, torch.optim.Optimizer, Callable[[], None]]:
    """Return a network whose tensors have strides of their own and share storages, and what takes a step with it."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(device, memory_format=torch.channels_last)
    network.register_buffer("table", torch.arange(12.0, device=device).to(torch.bfloat16))
    network.register_buffer("row", network.table[3:6])
    network.register_buffer("none", torch.empty(0, device=device))
    optimizer = torch.optim.Adam(network.parameters())
    inputs = torch.randn(2, 3, 8, 8, device=device)

    def step() -> None:
        network(inputs).square().sum().backward()
        optimizer.step()
        network.table += 1

    step()
    return network, optimizer, step


def test_later_steps_do_not_reach_a_snapshot_which_is_saved_as_the_state_would_have_been() -> None:
    network, optimizer, step = trained()
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 2])  # has a Counter
    state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
    saved = as_bytes(state)
    snapshot = HostMemory().snapshot(state)
    step()
    scheduler.step()
    assert as_bytes({**state, "network": network.state_dict()}) != saved
    assert as_bytes(snapshot.state) == saved


def test_buffers_are_used_again_once_given_back() -> None:
    network, _, step = trained()
    memory = HostMemory()

    def places() -> tuple[Any, set[int]]:
        snapshot = memory.snapshot({"network": network.state_dict()})
        return snapshot, {buffer.data_ptr() for buffer, _ in snapshot.buffers if buffer.nbytes()}

    (first, before), (_, beside) = places(), places()
    assert not before & beside
    memory.give_back(first)
    step()
    again, after = places()
    assert after == before
    assert as_bytes(again.state) == as_bytes({"network": network.state_dict()})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_snapshot_of_a_gpu_waits_for_nothing(never_waiting) -> None:
    network, _, step = trained("cuda")
    memory = HostMemory()
    memory.give_back(memory.snapshot({"network": network.state_dict()}))
    expected = {name: tensor.cpu() for name, tensor in network.state_dict().items()}
    with never_waiting():
        snapshot = memory.snapshot({"network": network.state_dict()})
        step()
    assert snapshot.copied is not None
    snapshot.copied.synchronize()
    assert all(tensor.device.type == "cpu" for tensor in snapshot.state["network"].values())
    assert all(torch.equal(tensor, expected[name]) for name, tensor in snapshot.state["network"].items())


class Held:
    """A writer whose files are names in a list; the first waits until it may go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.may, self.begun = threading.Event(), threading.Event()
        self.written: list[tuple[str, int]] = []
        monkeypatch.setattr(checkpoint, "save", self.write)
        self.writer = CheckpointWriter(Path("folder"))

    def write(self, path: Path, state: dict[str, Any]) -> None:
        self.begun.set()
        self.may.wait(10)
        self.written.append((path.stem, state["number"]))

    def save(self, number: int, selected: bool = False) -> None:
        state = {"network": {"w": torch.tensor(number)}}
        self.writer.save(state, {"number": number}, {"number": number} if selected else None)


def test_a_newer_state_takes_the_place_of_one_that_waits_but_not_of_a_selected_one(monkeypatch) -> None:
    held = Held(monkeypatch)
    held.save(1)
    held.begun.wait(10)
    for number in (2, 3):
        held.save(number)
    held.save(4, selected=True)
    held.save(5, selected=True)  # `best.pt` would be of this one in any case
    late = threading.Thread(target=held.save, args=(6,))
    late.start()
    late.join(0.05)
    assert late.is_alive(), "the fifth state has to be written first"
    held.may.set()
    late.join(10)
    held.writer.join()
    assert held.written == [("last", 1), ("best", 5), ("last", 5), ("last", 6)]


def test_whenever_it_is_killed_the_best_one_there_is_the_one_that_the_last_one_speaks_of(monkeypatch) -> None:
    held, rng, best = Held(monkeypatch), np.random.default_rng(0), {}
    held.may.set()
    for number in range(200):
        selected = number == 0 or rng.random() < 0.3
        best[number] = number if selected else best[number - 1]
        held.save(number, selected)
        time.sleep(float(rng.choice([0, 0, 1e-4])))
    held.writer.join()
    on_disk = None
    for name, number in held.written:
        on_disk = number if name == "best" else on_disk
        assert name == "best" or on_disk == best[number]
    assert held.written[-1] == ("last", 199)


def breaks_down(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    """Let the disk be full in the middle of `last.pt` of an epoch."""
    save = torch.save

    def full(state: dict[str, Any], path: Path) -> None:
        if "progress" in state and state["progress"]["epoch"] == epoch:
            path.write_bytes(b"PK")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(state, path)

    monkeypatch.setattr(torch, "save", full)


def test_a_write_that_fails_ends_the_run_at_its_next_step_and_leaves_what_was_before(compose, monkeypatch) -> None:
    steps: list[int] = []

    def once_written(recorder: Recorder, step: int) -> None:
        steps.append(step)
        recorder.trainer.writer._thread and recorder.trainer.writer._thread.join()

    with monkeypatch.context() as patched:
        patched.setattr(Recorder, "tick", once_written)
        breaks_down(patched, epoch=2)
        with pytest.raises(UserError, match=r"The disk is full: .*last\.pt could not be written and is as it was"):
            experiment.run(compose("broken"))
    assert steps[-1] == 21
    folder = experiment.run_folder(compose("broken"))
    assert folder.state == "failed"
    assert "disk is full" in folder.failure
    assert {path.name for path in folder.checkpoints.iterdir()} == {"best.pt", "last.pt"}
    assert checkpoint.load_last(folder.last_checkpoint)["progress"]["step"] == 10
    assert [row["step"] for row in history(folder.path)] == ["10", "20"]  # ahead of it
    assert_same_run(experiment.run(compose("straight")).folder, experiment.run(compose("broken")).folder)


def test_a_write_that_fails_at_the_very_end_leaves_no_result(compose, monkeypatch) -> None:
    with monkeypatch.context() as patched:
        breaks_down(patched, epoch=3)
        with pytest.raises(UserError, match=r"The disk is full: .*last\.pt"):
            experiment.run(compose("broken"))
    folder = experiment.run_folder(compose("broken"))
    assert (folder.state, folder.metrics_path.exists()) == ("failed", False)


def test_a_run_ends_when_its_checkpoints_are_written_however_slow_the_disk(compose, monkeypatch) -> None:
    events: list[str] = []
    save, finish = checkpoint.save, RunFolder.finish

    def slowly(path: Path, state: dict[str, Any]) -> None:
        time.sleep(0.2)
        save(path, state)
        events.append(f"{path.stem} {state['progress']['step']}" if path.stem == "last" else path.stem)

    def finishing(folder: RunFolder, *results: Any) -> None:
        events.append("finish")
        finish(folder, *results)

    monkeypatch.setattr(checkpoint, "save", slowly)
    monkeypatch.setattr(RunFolder, "finish", finishing)
    with monkeypatch.context() as patched:
        stop_after(patched, 13)
        with pytest.raises(Interrupted):
            experiment.run(compose("outputs"))
    assert events[-1] == "last 13"
    experiment.run(compose("outputs"))
    assert events[-2:] == ["last 30", "finish"]


def test_a_last_state_of_a_finished_run_settles_its_history(compose) -> None:
    """Killed after the last checkpoint and before DONE, with a history that the disk has not got."""
    done = RunFolder(experiment.run(compose("outputs")).folder)
    before = history(done.path)
    done.done_path.unlink()
    done.history_path.write_bytes(b"")
    assert not experiment.run(compose("outputs")).skipped
    assert history(done.path) == before
