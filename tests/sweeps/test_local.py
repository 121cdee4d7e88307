"""The pool of worker processes: bounded, one share of GPUs each, and a dead worker costs one job."""

import os
import signal
import time
from multiprocessing import Process
from pathlib import Path

import pytest

from dir_bench.errors import RunFailed
from dir_bench.sweeps import local


def work(job: tuple[str, str]) -> str:
    """Do what the job says, in a worker."""
    what, value = job
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "environment":
        return f"{os.environ.get(value, '')} in {os.getpid()}"
    if what == "child":  # as training with several processes does
        child = Process(target=time.sleep, args=(0,))
        child.start()
        child.join()
        return str(child.exitcode)
    if what == "mark":
        Path(value, str(os.getpid())).touch()
        time.sleep(0.2)
        return str(len(list(Path(value).iterdir())))
    return value


def test_results_come_with_their_number_and_workers_are_bounded(tmp_path):
    jobs = [("mark", str(tmp_path)) for _ in range(6)]
    results = dict(local.run_all(work, jobs, [{}, {}]))
    assert sorted(results) == list(range(6))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_killed_worker_fails_its_job_and_is_replaced():
    jobs = [("echo", "a"), ("die", ""), ("echo", "b"), ("die", ""), ("echo", "c")]
    results = dict(local.run_all(work, jobs, [{}]))
    assert [results[i] for i in (0, 2, 4)] == ["a", "b", "c"]
    assert all(isinstance(results[i], RunFailed) and "SIGKILL" in str(results[i]) for i in (1, 3))


def test_workers_see_their_own_variables_and_may_start_processes():
    jobs = [("environment", "CUDA_VISIBLE_DEVICES")] * 6 + [("child", "")]
    slots = local.environments(None, 1, 1, ["0", "1"])
    results = dict(local.run_all(work, jobs, slots))
    seen = {results[i] for i in range(6)}
    assert {text.split()[0] for text in seen} == {"0", "1"}
    assert len(seen) == 2, "a worker keeps its GPU"
    assert results[6] == "0"


def test_gpus_are_shared_out():
    def seen(*arguments):
        return [slot.get("CUDA_VISIBLE_DEVICES") for slot in local.environments(*arguments)]

    assert seen(None, 1, 1, ["0", "1", "2"]) == ["0", "1", "2"]
    assert seen(None, 1, 2, ["0", "1", "2"]) == ["0,1"]
    assert seen(3, 1, 1, ["4", "6"]) == ["4", "6", "4"]
    assert seen(2, 1, 1, []) == [None, None]
    assert local.environments(1, 3, 1, [])[0]["OMP_NUM_THREADS"] == "3"


def test_the_gpus_of_a_job_are_those_that_the_scheduler_gave(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5a")
    assert local.visible_gpus() == ["3", "GPU-5a"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert local.visible_gpus() == []


def test_leaving_early_ends_the_workers():
    results = local.run_all(work, [("environment", "HOME"), ("echo", "a")], [{}])
    _, seen = next(results)
    results.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int(seen.split()[-1]), 0)
