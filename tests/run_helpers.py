"""What tests of whole runs share: stopping one, reading what it left, comparing two."""

import csv
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from dir_bench import config, experiment
from dir_bench.training.recorder import Recorder


def recipes() -> list[str]:
    """Return the datasets that have a recipe of their own: others, such as published tables, begin with one's."""
    folder, names = config.config_dir() / "dataset", config.options("dataset")
    begins = {name: yaml.safe_load((folder / f"{name}.yaml").read_text("utf-8")).get("defaults", []) for name in names}
    return [name for name in names if not set(names) & {each for each in begins[name] if isinstance(each, str)}]


def weights(folder: Path, which: str = "best") -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(folder / "checkpoints" / f"{which}.pt", weights_only=True)["network"]
    return state


def history(folder: Path) -> list[dict[str, str]]:
    """Return the lines of a run's history, but for how long they took."""
    rows = csv.DictReader((folder / "history.csv").read_text().splitlines())
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int, number: int = signal.SIGTERM) -> None:
    """Send this process a signal once, after so many steps, as a user or a scheduler would."""
    tick = Recorder.tick
    sent: list[int] = []

    def ticking(self: Recorder, at: int) -> None:
        tick(self, at)
        if at == step and not sent:
            sent.append(at)
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Recorder, "tick", ticking)


def assert_same_run(one: Path, other: Path) -> None:
    for which in ("best", "last"):
        a, b = weights(one, which), weights(other, which)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)
    assert history(one) == history(other)
    assert experiment.recorded(one)["test"] == experiment.recorded(other)["test"]
    first, second = np.load(one / "predictions.npz"), np.load(other / "predictions.npz")
    assert all(np.array_equal(first[key], second[key]) for key in ("target", "prediction", "index"))
