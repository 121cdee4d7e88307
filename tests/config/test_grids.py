"""Axes of sweeps: counted before they are expanded, and refused where they have no countable values."""

import tracemalloc

import pytest

from dir_bench import config
from dir_bench.errors import UserError


@pytest.mark.parametrize(
    ("axes", "says"),
    [
        (["seed=range(100001)"], "100,001 jobs"),
        (["seed=range(10000)", "fds.sigma=range(0,1,0.0001)"], "100,000,000 jobs"),
        (["seed=range(0,1000000000000)"], "1,000,000,000,000 jobs"),
        (["optimizer.lr=range(0,1,1e-12)"], "jobs"),
        (["seed=range(0,5,0)"], "no end"),
        (["seed=range(5,0)"], "no values"),
        (["method=glob(nothing*)"], "no values"),
        (["optimizer.lr=interval(0,1)"], "list them"),
        (["optimizer.lr=tag(a,interval(0,1))"], "list them"),
    ],
)
def test_a_sweep_too_large_or_without_values_is_refused_at_once(axes: list[str], says: str):
    tracemalloc.start()
    with pytest.raises(UserError, match=says) as caught:
        config.sweep_jobs(axes)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6
    assert "\n" not in str(caught.value)


def test_grids_are_counted_together():
    with pytest.raises(UserError, match="120,000 jobs"):
        config.sweep_jobs([], [{"seed": "range(60000)"}] * 2)


def test_axes_expand_in_order():
    assert config.sweep_jobs(["seed=range(3)", "lds=none"]) == [[f"seed={i}", "lds=none"] for i in range(3)]
    assert [job[0] for job in config.sweep_jobs(["fds.sigma=range(0,1,0.25)"])] == [
        f"fds.sigma={value}" for value in (0.0, 0.25, 0.5, 0.75)
    ]
    assert len(config.sweep_jobs(["seed=range(5,0,-2)"])) == 3
    assert len(config.sweep_jobs(["seed=shuffle(range(7))", "lds=shuffle(none,gaussian)"])) == 14


def test_a_setting_of_some_choices_alone_can_be_swept_over_with_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    overrides = ["method=gai,bni", "parts.head.sigma=1.0,2.0", "~parts.other", "hydra.job.name=named"]
    seen = []

    class Task:
        jobs = checked = ()

        def __setattr__(self, name, value):
            seen.append((name, value))

    config.multirun(overrides, None, Task())
    assert seen == [("results", [])]
    assert len(config.sweep_jobs(overrides[:2])) == 4
