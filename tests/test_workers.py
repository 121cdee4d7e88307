"""The pool of worker processes: bounded, a dead worker costs one job, and none outlives who started it."""

import os
import signal
import subprocess
import sys
import time
from multiprocessing import Process
from pathlib import Path

import pytest

from dir_bench import workers
from dir_bench.errors import RunFailed


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
    if what == "deaf":  # as a wait for another process in a library's code
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        Path(value).touch()
        time.sleep(600)
    if what == "await":
        while not Path(value).exists():
            time.sleep(0.01)
    return value


def test_results_come_with_their_number_and_workers_are_bounded(tmp_path):
    jobs = [("mark", str(tmp_path)) for _ in range(6)]
    results = dict(workers.run_all(work, jobs, [{}, {}]))
    assert sorted(results) == list(range(6))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_killed_worker_fails_its_job_and_is_replaced():
    jobs = [("echo", "a"), ("die", ""), ("echo", "b"), ("die", ""), ("echo", "c")]
    results = dict(workers.run_all(work, jobs, [{}]))
    assert [results[i] for i in (0, 2, 4)] == ["a", "b", "c"]
    assert all(isinstance(results[i], RunFailed) and "SIGKILL" in str(results[i]) for i in (1, 3))


def test_workers_see_their_own_variables_and_may_start_processes():
    jobs = [("environment", "CUDA_VISIBLE_DEVICES")] * 6 + [("child", "")]
    results = dict(workers.run_all(work, jobs, [{"CUDA_VISIBLE_DEVICES": number} for number in "01"]))
    seen = {results[i] for i in range(6)}
    assert {text.split()[0] for text in seen} == {"0", "1"}
    assert len(seen) == 2, "a worker keeps its GPU"
    assert results[6] == "0"


def test_leaving_early_ends_the_workers():
    results = workers.run_all(work, [("environment", "HOME"), ("echo", "a")], [{}])
    _, seen = next(results)
    results.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int(seen.split()[-1]), 0)


def test_a_worker_that_heeds_no_signal_is_killed_after_its_grace(tmp_path):
    jobs = [("deaf", str(tmp_path / "deaf")), ("await", str(tmp_path / "deaf"))]
    results = workers.run_all(work, jobs, [{}, {}], grace=0.2)
    assert next(results)[0] == 1
    began = time.monotonic()
    results.close()
    assert time.monotonic() - began < 60


LAUNCH = """
import os, signal, sys, time
from dir_bench import workers

def say(text):  # in one write, so that the lines of two processes do not mix, as those of print can
    os.write(1, text.encode() + b"\\n")

if __name__ == "__mp_main__":  # in a worker, before anything of it is imported
    say("starting")
    time.sleep(0.5)

def rank(job):
    try:
        if "deaf" in sys.argv:  # as a wait for a process that has ended
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        say("at work")
        time.sleep(600)
    except KeyboardInterrupt:
        say("saved")
        raise

def launch(job):  # a sweep's worker, whose job trains in two processes
    list(workers.run_all(rank, [0, 1], [{}, {}], grace=1))

if __name__ == "__main__":
    list(workers.run_all(launch, [0], [{}]))
"""


@pytest.mark.parametrize("when", ["starting", "at work"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_and_theirs_end_with_who_started_them(tmp_path, number, when):
    (tmp_path / "launch.py").write_text(LAUNCH)
    line = [sys.executable, tmp_path / "launch.py"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as parent:
        while parent.stdout.readline().strip() != when:
            pass
        parent.send_signal(number)
        said, _ = parent.communicate(timeout=30)  # until the last process that could print has ended
    assert ("saved" in said) == (when == "at work")


def test_ctrl_c_in_a_terminal_ends_workers_of_workers_that_heed_no_signal(tmp_path):
    (tmp_path / "launch.py").write_text(LAUNCH)
    line = [sys.executable, tmp_path / "launch.py", "deaf"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True, "start_new_session": True}
    with subprocess.Popen(line, **streams) as parent:
        for when in ("starting", "at work", "at work"):
            while parent.stdout.readline().strip() != when:
                pass
        os.killpg(parent.pid, signal.SIGINT)
        parent.communicate(timeout=60)
