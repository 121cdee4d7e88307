"""What float32 is on a GPU, and what Lightning does not get to say."""

import logging
import os
from collections.abc import Iterator

import pytest
import torch
from lightning_fabric.accelerators import cuda
from lightning_fabric.utilities.rank_zero import rank_zero_info

from dir_bench import assembly, config
from dir_bench.errors import UserError
from dir_bench.training.precision import TF32, choose_tf32, say_tf32


@pytest.fixture
def _as_it_was() -> Iterator[None]:
    yield
    choose_tf32("convolutions")


@pytest.mark.usefixtures("_as_it_was")
@pytest.mark.parametrize(
    ("choice", "set_to"), {"none": (False, "highest"), "convolutions": (True, "highest"), "all": (True, "high")}.items()
)
def test_tf32_is_what_the_key_says(choice, set_to):
    assert (torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()) == (True, "highest")  # torch's own
    assembly.build_fabric(config.compose([f"trainer.tf32={choice}", "trainer.accelerator=cpu"]), "auto", 1)
    assert (torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()) == set_to
    assert torch.backends.cuda.matmul.allow_tf32 == (choice == "all")


def test_what_float32_is_is_said_where_there_is_a_choice(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
    with caplog.at_level(logging.INFO, "dir_bench"):
        for capability in ((7, 5), (9, 0)):
            monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
            say_tf32("all", torch.device("cuda"))
        say_tf32("all", torch.device("cpu"))
    assert [record.message for record in caplog.records] == [f"float32 on Some GPU: {TF32['all']} (trainer.tf32=all)"]


def test_hints_of_lightning_do_not_reach_users(monkeypatch):
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    engine = logging.getLogger("lightning_fabric")
    engine.addHandler(handler)
    try:
        assembly.build_fabric(config.compose(["trainer.precision=bf16-mixed", "trainer.accelerator=cpu"]), "auto", 1)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
        monkeypatch.setattr(cuda, "_is_ampere_or_later", lambda device: True)
        cuda._check_cuda_matmul_precision.__wrapped__(torch.device("cuda"))
        rank_zero_info("something else")
    finally:
        engine.removeHandler(handler)
    assert said == ["something else"]


def test_float16_is_not_trained_on_a_cpu_but_evaluated_in_bfloat16_without_a_warning():
    settings = config.compose(["trainer.precision=16-mixed", "trainer.accelerator=cpu"])
    with pytest.raises(UserError, match=r"16-mixed needs a GPU: on a CPU set trainer\.precision=bf16-mixed or 32-true"):
        assembly.build_fabric(settings, "auto", 1)
    fabric = assembly.build_fabric(settings, "auto", 1, trains=False)
    assert fabric.strategy.precision.precision == "bf16-mixed"


@pytest.mark.parametrize("there", [False, True])
def test_nvidias_library_is_searched_for_only_where_there_is_a_device(monkeypatch: pytest.MonkeyPatch, there: bool):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    assembly.build_fabric(config.compose(["trainer.accelerator=cpu"]), "auto", 1)
    assert ("PYTORCH_NVML_BASED_CUDA_CHECK" in os.environ) is there
