"""`dir-bench sweep` as it is used: plan, failures, what is left, launchers, Ctrl-C and kills."""

import importlib.util
import json
import os
import random
import shutil
import signal
import time
from contextlib import suppress

import pytest

OWN = ["sweep", "tiny", "--config-dir", "own"]


def done(work):
    return sorted(path.parent for path in work.glob("outputs/*/*/*/DONE"))


def test_a_dry_run_prints_the_plan_and_leaves_nothing(command, work):
    ended = command(*OWN, "--dry-run")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-2].split() == ["all", "8", "0", "0", "0", "8"]
    assert not (work / "outputs").exists()


MISTAKES = [
    (["sweep"], "gauge_table"),
    (["sweep", "gauge_tabel"], "did you mean 'gauge_table'"),
    (["sweep", "gauge_table", "seeed=1", "--dry-run"], "did you mean 'seed'"),
    (["sweep", "gauge_table", "+backbone.widht=3", "--dry-run"], "has no setting 'widht'"),
    (["sweep", "gauge_table", "dataset=agedb", "--dry-run"], "agedb.csv"),
    (["train", "+sweep=gauge_table"], "dir-bench sweep gauge_table"),
]


def test_a_mistake_is_one_sentence(mistakes):
    for (arguments, says), (code, said) in zip(MISTAKES, mistakes([given for given, _ in MISTAKES]), strict=True):
        assert (code, says in said) == (2, True), (arguments, said)
        assert "Traceback" not in said


def test_help_shows_the_sweeps(command):
    helped = command("sweep", "--help")
    assert helped.returncode == 0
    assert "--dry-run" in helped.stdout
    assert "gauge_table" in helped.stdout


@pytest.mark.slow
def test_a_sweep_goes_on_after_failures_says_what_failed_and_runs_what_is_left(command, work):
    axes = ["optimizer.lr=0.001,1e30", "seed=0"]
    first = command(*OWN, *axes)
    assert first.returncode == 1, first.stderr
    assert "8 jobs: 4 done, 0 running, 4 failed, 0 waiting" in first.stdout
    assert first.stdout.count("failed: ") == 4
    assert first.stdout.count("trainer.loss_limit") == 4
    assert "failed: method=sqinv_lds lds.sigma=2 optimizer.lr=1e+30" in first.stdout
    assert first.stderr == "", "quiet where there is no terminal"
    stamps = {run: (run / "DONE").stat().st_mtime_ns for run in done(work)}
    second = command(*OWN, *axes)
    assert second.returncode == 1
    assert "estimate" in second.stdout
    assert stamps == {run: (run / "DONE").stat().st_mtime_ns for run in done(work)}
    third = command(*OWN, "optimizer.lr=0.001", "seed=0")
    assert third.returncode == 0
    assert "nothing is left to do" in third.stdout


def installed(*modules):
    return all(importlib.util.find_spec(module) for module in modules)


LAUNCHERS = {
    "local": (["hydra.launcher.n_jobs=2"], ()),
    "submitit_local": ([], ("submitit", "hydra_plugins.hydra_submitit_launcher")),
    "ray": (["+hydra.launcher.ray.init.num_cpus=2"], ("ray", "hydra_plugins.hydra_ray_launcher")),
}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_launcher_runs_all_jobs_and_reports_the_failed_ones(command, work, launcher):
    settings, needs = LAUNCHERS[launcher]
    try:
        there = installed(*needs)
    except ModuleNotFoundError:
        there = False
    if not there:
        pytest.skip(f"needs {' and '.join(needs)}: pip install 'dir-bench[slurm,ray]'")
    # RRT's first stage is VANILLA: both jobs want that run.
    axes = ["method=vanilla,rrt", "lds.sigma=2", "optimizer.lr=0.001,1e30", "seed=0"]
    ended = command(*OWN, *axes, f"hydra/launcher={launcher}", *settings)
    assert ended.returncode == 1, ended.stderr
    assert "2 done, 0 running, 2 failed" in ended.stdout
    assert {run.parent.name for run in done(work)} == {"vanilla", "rrt"}


@pytest.mark.slow
def test_two_process_training_runs_inside_the_local_launcher(command, work):
    ended = command(*OWN, "method=vanilla", "seed=0", "trainer.devices=2", "hydra/launcher=local")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert len(done(work)) == 1


def table(command, outputs):
    ended = command("table", outputs, "--format", "json")
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


LONG = ["method=vanilla", "trainer.epochs=100000", "seed=0,1", "hydra/launcher=local", "hydra.launcher.n_jobs=2"]


@pytest.mark.slow
@pytest.mark.parametrize(("whom", "devices"), [("the process alone", 1), ("all of its group, as a terminal does", 2)])
def test_ctrl_c_stops_all_workers_and_each_saves(start, work, whom, devices):
    process = start(*OWN, *LONG, f"trainer.devices={devices}")
    wait_for(lambda: len(list(work.glob("outputs/*/*/*/checkpoints/last.pt"))) == 2)
    (os.killpg if whom.startswith("all") else os.kill)(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    assert "Traceback" not in "".join(process.said())
    assert not list(work.glob("outputs/*/*/*/run.lock.owner.json"))


@pytest.mark.slow
def test_workers_save_and_end_if_the_sweep_alone_is_killed(start, work):
    process = start(*OWN, *LONG)
    wait_for(lambda: len(list(work.glob("outputs/*/*/*/run.lock.owner.json"))) == 2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: not list(work.glob("outputs/*/*/*/run.lock.owner.json")))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("launcher", "times"), [("local", 1)])
def test_a_sweep_killed_at_random_moments_ends_in_the_same_table(command, start, work, launcher, times):
    settings = ["method=rrt,sqinv_lds_fds", "trainer.epochs=20", "seed=0", "trainer.checkpoint_minutes=0.001"]
    settings += [f"hydra/launcher={launcher}"]
    assert command(*OWN, *settings, "paths.outputs=straight").returncode == 0
    straight = json.dumps(table(command, "straight"))

    def at_work(since):
        saved = (path for path in work.glob("outputs/*/*/*/checkpoints/last.pt") if path.stat().st_mtime > since)
        return {path.parents[1] for path in saved} - set(done(work))

    rng, kills = random.Random(0), 0
    while kills < times:
        began, process = time.time(), start(*OWN, *settings, "paths.outputs=outputs")
        wait_for(lambda began=began, process=process: at_work(began) or process.poll() is not None)
        time.sleep(rng.uniform(0, 1))
        kills += bool(at_work(began)) and process.poll() is None
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        if process.wait() == 0:  # it had come to its end: look, and kill another
            assert json.dumps(table(command, "outputs")).replace("outputs", "straight") == straight
            shutil.rmtree(work / "outputs")
    assert command(*OWN, *settings, "paths.outputs=outputs").returncode == 0
    assert json.dumps(table(command, "outputs")).replace("outputs", "straight") == straight
