"""Training in two processes: fresh ones, and none that outlives the command that started it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from dir_bench.datasets.arrays import Arrays

LONG = [
    *("train", "dataset=arrays", "trainer.epochs=100000", "trainer.batch_size=64", "backbone.hidden=[8]"),
    *("trainer.threads=1", "trainer.figures=false", "trainer.accelerator=cpu", "trainer.devices=2"),
    *("dataset.regions.many_over=40", "dataset.regions.few_under=8"),
]


@pytest.fixture(autouse=True)
def _data(tmp_path):
    Arrays(str(tmp_path / "data" / "arrays")).sample(tmp_path / "data" / "arrays", n=300)


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def gone(group):
    """Tell whether no process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("when", ["run.lock.owner.json", "checkpoints/last.pt"])  # it starts; it is at work
def test_no_training_process_outlives_the_command(start, tmp_path, number, when):
    process = start(*LONG)
    wait_for(lambda: list(tmp_path.glob(f"outputs/*/*/*/{when}")))
    os.kill(process.pid, number)
    assert process.wait(60) in ((143,) if number == signal.SIGTERM and when.endswith("pt") else (143, -number))
    wait_for(lambda: gone(process.pid), 60)
    assert "Traceback" not in "".join(process.said())


@pytest.mark.slow
def test_a_fresh_command_trains_in_fresh_processes(tmp_path):
    line = [sys.executable, "-m", "dir_bench.cli", *LONG, "trainer.epochs=1"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("outputs/*/*/*/DONE"))
