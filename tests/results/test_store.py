"""The state of a run is what the disk says, through kills, failures, damage and two processes at one folder."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest
import yaml

import dir_bench
from dir_bench.errors import UserError
from dir_bench.results import environment
from dir_bench.results.environment import run_environment
from dir_bench.results.store import RunFolder

ROOT = Path(dir_bench.__file__).parents[1]
CONFIG: dict[str, Any] = {"seed": 0, "trainer": {"epochs": np.int64(2), "lr": 1e-3}, "name": "größe"}
METRICS: dict[str, Any] = {"dataset": "d", "method": "VANILLA", "seed": 0, "test": {"all": {"count": 1, "mae": 0.5}}}
PREDICTIONS = {"target": np.zeros(4), "prediction": np.ones(4), "index": np.arange(4)}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.of(tmp_path, "agedb", "sqinv_lds", "0123456789")


@pytest.fixture
def done(run: RunFolder) -> RunFolder:
    with run.lock():
        run.start(CONFIG, {"python": "3"})
        run.finish(METRICS, PREDICTIONS)
    return run


@contextmanager
def holder(run: RunFolder, then: str = "time.sleep(60)") -> Iterator[subprocess.Popen[str]]:
    """Start a process that holds the run's lock, and wait until it does."""
    code = (
        "import os, sys, time\n"
        "from dir_bench.results.store import RunFolder\n"
        f"with RunFolder({str(run.path)!r}).lock():\n"
        "    print('held', flush=True)\n"
        f"    {then}\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_making_the_object_touches_nothing(tmp_path: Path) -> None:
    run = RunFolder.of(tmp_path / "none", "agedb", "vanilla", "0123456789")
    assert run.path == tmp_path / "none" / "agedb" / "vanilla" / "0123456789"
    assert run.state == "new"
    assert run.read_status() == {}
    assert list(tmp_path.iterdir()) == []


def test_states_along_a_life(run: RunFolder) -> None:
    states: list[str] = [run.state]
    with run.lock():
        states.append(run.state)
        run.start(CONFIG, {})
        states.append(run.state)
    states.append(run.state)
    run.fail("CUDA out of memory at step 3", "Traceback …")
    states.append(run.state)
    with run.lock():
        states.append(run.state)
        run.start(CONFIG, {})
        run.finish(METRICS, PREDICTIONS)
    states.append(run.state)
    assert states == ["new", "running", "running", "interrupted", "failed", "running", "done"]


def test_start_records_config_environment_and_status(run: RunFolder) -> None:
    environment = run_environment()
    run.start(CONFIG, environment)
    assert yaml.safe_load(run.config_path.read_text(encoding="utf-8")) == {
        "seed": 0,
        "trainer": {"epochs": 2, "lr": 1e-3},
        "name": "größe",
    }
    assert list(yaml.safe_load(run.config_path.read_text(encoding="utf-8"))) == list(CONFIG)
    assert json.loads(run.environment_path.read_text()) == environment
    assert run.read_status()["state"] == "running"
    assert run.read_status()["pid"] == os.getpid()


def test_failure_keeps_reason_traceback_and_checkpoints(run: RunFolder) -> None:
    run.start(CONFIG, {})
    run.checkpoints.mkdir()
    run.last_checkpoint.write_bytes(b"weights")
    run.fail("The loss is NaN at step 3", "Traceback …")
    status = run.read_status()
    assert (status["state"], status["error"], status["traceback"]) == (
        "failed",
        "The loss is NaN at step 3",
        "Traceback …",
    )
    assert "started" in status
    assert not run.done_path.exists()
    assert run.last_checkpoint.read_bytes() == b"weights"


def test_starting_again_clears_done_failure_and_leftovers_only(done: RunFolder) -> None:
    done.checkpoints.mkdir()
    done.last_checkpoint.write_bytes(b"weights")
    for folder in (done.path, done.checkpoints):
        (folder / ".last.pt.99-00000000.tmp.pt").write_bytes(b"half")
    done.start(CONFIG, {})
    assert not done.done_path.exists()
    assert done.state == "interrupted"
    assert [path.name for path in done.checkpoints.iterdir()] == ["last.pt"]
    assert not list(done.path.glob(".*.tmp*"))


def test_a_failed_run_never_has_done(done: RunFolder) -> None:
    done.fail("disk error")
    assert not done.done_path.exists()
    assert done.state == "failed"


def test_done_is_written_last(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (written.append(Path(b).name), replace(a, b)))
    run.start(CONFIG, {})
    written.clear()
    run.finish(METRICS, PREDICTIONS)
    assert written == ["predictions.npz", "metrics.json", "status.json", "DONE"]


@pytest.mark.parametrize("stop_at", ["predictions.npz", "metrics.json", "status.json", "DONE"])
def test_a_kill_while_finishing_leaves_an_interrupted_run(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, stop_at: str
) -> None:
    replace = os.replace

    def killed(source: Any, target: Any) -> None:
        if Path(target).name == stop_at:
            raise KeyboardInterrupt
        replace(source, target)

    run.start(CONFIG, {})
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            run.finish(METRICS, PREDICTIONS)
    assert run.state == "interrupted"
    run.finish(METRICS, PREDICTIONS)
    assert run.state == "done"


def test_done_vouches_for_metrics_and_predictions(done: RunFolder) -> None:
    seal = json.loads(done.done_path.read_text())
    sums = subprocess.run(
        ["sha256sum", done.metrics_path, done.predictions_path], check=True, capture_output=True, text=True
    ).stdout.split()
    assert [seal["metrics.json"]["sha256"], seal["predictions.npz"]["sha256"]] == sums[::2]
    assert "finished" in seal
    assert done.damage(thorough=True) == ""


@pytest.mark.parametrize("name", ["metrics.json", "predictions.npz"])
def test_missing_or_changed_results_are_broken(done: RunFolder, name: str) -> None:
    content = (done.path / name).read_bytes()
    (done.path / name).write_bytes(content + b" ")
    assert done.state == "broken"
    assert done.damage() == f"{name} is not the file that the run finished with"
    (done.path / name).unlink()
    assert done.state == "broken"
    assert done.damage() == f"{name} is missing"


def test_same_size_change_is_seen_in_metrics_always_and_in_predictions_when_thorough(done: RunFolder) -> None:
    text = done.metrics_path.read_text()
    done.metrics_path.write_text(text.replace("0.5", "0.4"))
    assert done.state == "broken"
    done.metrics_path.write_text(text)
    content = bytearray(done.predictions_path.read_bytes())
    content[-200] ^= 1
    done.predictions_path.write_bytes(content)
    assert done.state == "done"
    assert done.damage(thorough=True) == "predictions.npz is not the file that the run finished with"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"metrics.json": 3}'])
def test_done_without_hashes_is_broken(done: RunFolder, content: str) -> None:
    done.done_path.write_text(content)
    assert done.state == "broken"
    assert done.damage().startswith("DONE")


def test_unreadable_status_is_interrupted(run: RunFolder) -> None:
    run.start(CONFIG, {})
    run.status_path.write_text('{"state": "fai')
    assert run.state == "interrupted"


def test_finish_writes_null_for_nan(run: RunFolder) -> None:
    run.start(CONFIG, {})
    run.finish({**METRICS, "test": {"all": {"count": 0, "mae": float("nan")}}}, PREDICTIONS)
    assert json.loads(run.metrics_path.read_text())["test"] == {"all": {"count": 0, "mae": None}}


# ---- the lock -------------------------------------------------------------------------------------------------


def test_second_process_is_refused_in_one_sentence_naming_the_first(run: RunFolder) -> None:
    with holder(run) as process:
        assert run.state == "running"
        with pytest.raises(UserError) as caught, run.lock():
            pytest.fail("got the lock")
    message = str(caught.value)
    assert f"process {process.pid} on " in message
    assert str(run.path) in message
    assert "\n" not in message


def test_kill_9_frees_the_lock_at_once(run: RunFolder) -> None:
    with holder(run) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with run.lock():
        assert run.state == "running"
    assert run.state == "new"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, as data loader workers on Linux use it")
@pytest.mark.skipif(
    int(filelock.__version__.split(".")[0]) < 4,
    reason="before filelock 4, a forked child keeps the lock while it lives",
)
def test_forked_child_that_outlives_a_killed_run_does_not_keep_the_lock(run: RunFolder) -> None:
    fork = "pid = os.fork(); pid or time.sleep(20); print(pid, flush=True); time.sleep(60)"
    with holder(run, fork) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        try:
            with run.lock():
                pass
        finally:
            os.kill(child, signal.SIGKILL)


def test_lock_is_free_after_an_exception_and_can_be_taken_again(run: RunFolder) -> None:
    with pytest.raises(RuntimeError), run.lock():
        raise RuntimeError
    with run.lock():
        pass
    assert sorted(path.name for path in run.path.iterdir()) == ["run.lock"]


def test_same_process_is_refused_too(run: RunFolder) -> None:
    with run.lock(), pytest.raises(UserError, match=f"process {os.getpid()} on "), RunFolder(run.path).lock():
        pytest.fail("got the lock twice")


def test_looking_at_the_state_does_not_refuse_a_run(run: RunFolder) -> None:
    run.path.mkdir(parents=True)
    run.lock_path.touch()
    code = (
        "import sys\nfrom dir_bench.results.store import RunFolder\n"
        f"run = RunFolder({str(run.path)!r})\nprint('go', flush=True)\n"
        "while True: run.state\n"
    )
    watcher = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert watcher.stdout is not None
        watcher.stdout.readline()
        for _ in range(20):
            with run.lock():
                time.sleep(0.001)
    finally:
        watcher.kill()
        watcher.wait()
        assert watcher.stdout is not None
        watcher.stdout.close()


# ---- the environment ------------------------------------------------------------------------------------------


def test_environment_names_versions_and_not_the_machine() -> None:
    import socket

    found = run_environment()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["packages"]["numpy"] == np.__version__
    assert found["cpu_count"] == os.cpu_count()
    assert socket.gethostname() not in json.dumps(found)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="the package does not lie in a checkout")
def test_environment_has_the_commit() -> None:
    git = run_environment()["git"]
    assert len(git["commit"]) == 40
    assert isinstance(git["dirty"], bool)


def test_environment_without_git_or_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_git(*_: Any, **__: Any) -> None:
        raise FileNotFoundError("git")

    with monkeypatch.context() as patch:
        patch.setattr(environment.subprocess, "run", no_git)
        assert run_environment()["git"] is None
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "site-packages" / "dir_bench" / "results" / "x.py"))
    assert run_environment()["git"] is None


def test_results_start_without_torch_and_the_store_without_pandas() -> None:
    code = (
        "import sys, dir_bench.results.store, dir_bench.results.naming, dir_bench.results.published\n"
        "assert not {'torch', 'pandas', 'rich', 'hydra'} & set(sys.modules)\n"
        "import dir_bench.results.render\n"
        "assert not {'torch', 'hydra'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
