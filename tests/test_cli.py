"""The real command: what it prints, its exit codes, and that a user's mistake never shows a traceback."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dir_bench.datasets.arrays import Arrays

TINY = [
    "dataset=arrays", "trainer.epochs=2", "trainer.batch_size=64", "backbone.hidden=[8]", "trainer.threads=1",
    "trainer.figures=false", "dataset.regions.many_over=40", "dataset.regions.few_under=8",
]  # fmt: skip


@pytest.fixture
def work(tmp_path: Path) -> Path:
    Arrays(str(tmp_path / "data" / "arrays")).sample(tmp_path / "data" / "arrays", n=300)
    return tmp_path


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"]])
def test_help_needs_neither_torch_nor_hydra(arguments, tmp_path):
    heavy = "{'torch', 'hydra', 'numpy', 'pandas', 'rich', 'jinja2'}"
    code = f"import sys; from dir_bench.cli import main; main({arguments}); print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "dir-bench" in done.stdout


MISTAKES = [
    (["trian"], "did you mean 'train'"),
    (["train", "seeed=1"], "did you mean 'seed'"),
    (["train", "method=sqinv_ldss"], "did you mean 'sqinv_lds'"),
    (["train", "lds=gaussian"], "reweight=sqrt_inv"),
    (["train", "-m", "seed=0,x"], "seed"),
    (["train", "-m", "seed=range(0,2),5"], "seed=range(0,2),5 has a function among its values"),
    (["train", "-m", "method=vanilla,inv_ldss"], "did you mean"),
    (["train", "+backbone.widht=3"], "has no setting 'widht'"),
    (["train", "dataset=arrays"], "dir-bench data sample arrays"),
    (["train", "trainer.accelerator=cuda", "dataset=gauge"], "trainer.accelerator=cuda"),
    (["train", "-m", "--cfg", "job", "seed=0,1"], "--cfg shows something and trains nothing: drop -m"),
    (["train", "--cfg", "job", "--info", "searchpath"], "show different things"),
    (["train", "--resolve"], "add --cfg job"),
    (["train", "--config-name", "mine"], "configs/train.yaml"),
    (["train", "hydra.job.chdir=true"], "would move all relative paths"),
    (["train", "hydra.jop.num=1"], "`dir-bench train --cfg hydra`"),
    (["train", "stages.first.trainer.max_steps=3"], "+stages.first.trainer.max_steps=… gives stages.first"),
    (["sweep", "backbone=cnn,resnet18", "backbone.channels=[4,8,8,8]"], "+backbone.channels=… gives backbone"),
    (["sweep", "seed=0,1", "hydra/launcher=local", "hydra.launcher.n_jobs=0", "--dry-run"], "has to be 1 or more"),
    (["sweep", "seed=0,1", "hydra/launcher=local", "+hydra.launcher.foo=1", "--dry-run"], "no setting 'foo'"),
    (["sweep", "seed=0,1", "hydra/launcher=local", "hydra.launcher.n_job=2", "--dry-run"], "did you mean 'n_jobs'"),
    (["train", "hydra.launcher=null"], "choose one by hydra/launcher=NAME"),
    (["sweep", "seed=0,1", "hydra.launcher.n_jobs=2", "--dry-run"], "hydra/launcher=local has n_jobs, threads"),
    (["train", "trainer.cache=device"], "did you mean trainer.samples_on=device?"),
    (["data", "check", "arays"], "did you mean 'arrays'"),
    (["data", "sample", "arrays", "--size", "-5"], "--size -5"),
    (["data", "sample", "arrays", "--size", "0"], "--size 0"),
    (["data", "sample", "table", "--size", "1"], "ask for 2 or more"),
    (["data", "sample", "text_table", "--size", "1"], "ask for 2 or more"),
    (["data", "sample", "abalone", "--size", "1"], "ask for 2 or more"),
    (["data", "sample", "arrays", "--size", "1000000000000"], "1,000,000"),
    (["data", "split", "agedb", "--seed", "-1"], "--seed -1"),
    (["train", "-m", "seed=range(100000000)"], "100,000,000 jobs"),
    (["sweep", "optimizer.lr=interval(0,1)"], "list them as a,b,c"),
    (["train", "dataset.name=../x"], "dataset.name"),
    (["train", "dataset.title=a=b"], "\"dataset.title='a=b'\""),
    (["evaluate", "nowhere"], "nowhere"),
    (["table", "nowhere"], "nowhere"),
    (["table", "--out", "x.docx"], "no format ends in '.docx'"),
    (["train", "+parts.x._target_=nowhere.Spread"], "PYTHONPATH=FOLDER"),
    (["plot", "lables", "."], "did you mean 'labels'"),
    (["plot", "labels", "nowhere"], "nowhere"),
    (["plot", "labels", "--anchor", "3"], "plot labels takes no --anchor: drop it, or draw similarity"),
    (["plot", "curves", "--metric", "gm"], "takes no --metric: drop it, or draw cd"),
]


def test_a_mistake_is_one_sentence_and_exit_code_2(mistakes):
    import torch

    for (arguments, says), (code, said) in zip(MISTAKES, mistakes([given for given, _ in MISTAKES]), strict=True):
        if "trainer.accelerator=cuda" in arguments and torch.cuda.is_available():
            continue  # asking for a GPU is no mistake here
        assert (code, says in said) == (2, True), (arguments, said)
        assert [line[:7] for line in said.splitlines()].count("error: ") == 1, arguments
        assert "Traceback" not in said


@pytest.mark.slow
def test_train_and_plot_end_to_end(work, commands, command):
    described = command("plot", "--help")
    figures = ("labels", "density", "similarity", "gain", "fds", "reliability", "curves")
    commands(["train", "-m", *TINY, "method=vanilla,sqinv_lds_fds", "seed=0,1"])
    drawn = commands(*(["plot", name, *(["--anchor", "7"] if name == "similarity" else [])] for name in figures))
    for name in figures:
        assert f"\n  {name} " in described.stdout
        assert f"wrote outputs/arrays/plots/{name}.png\n" in drawn
        assert (work / f"outputs/arrays/plots/{name}.png").read_bytes().startswith(b"\x89PNG")
    run = min(path.parent for path in work.glob("outputs/arrays/vanilla/*/DONE"))
    assert commands(["plot", "curves", str(run)]) == f"wrote {run}/plots/curves.png\n"
    assert commands(["plot", "fds", str(run)], code=2).count("\n") == 1


def test_train_evaluate_and_table_end_to_end(work, commands, command):
    trained = command("train", *TINY)
    assert trained.returncode == 0, trained.stderr
    assert [line.split()[0] for line in trained.stdout.splitlines()[2:6]] == ["all", "many", "medium", "few"]
    told = trained.stderr.splitlines()
    assert [line.split("  ")[0] for line in told[1:3]] == ["epoch 1", "epoch 2"]  # no terminal: a line an epoch
    assert " left at most" in told[1]
    assert told[-2].startswith("many: labels whose bin has more than 40 training samples; ")
    assert told[-1] == "next: dir-bench table outputs"
    (done,) = work.glob("outputs/arrays/vanilla/*/DONE")
    history = (done.parent / "history.csv").read_text().splitlines()
    seconds = history[0].split(",").index("seconds")
    assert all(0 < float(line.split(",")[seconds]) < 60 for line in history[1:])
    metrics = json.loads((done.parent / "metrics.json").read_text())
    assert metrics["dataset"] == "arrays"
    assert set(metrics["test"]["all"]) >= {"count", "mae", "mse", "rmse", "gm", "pearson", "spearman"}
    assert "equal to the recorded" in commands(["evaluate", "RUN"])
    assert "VANILLA" in commands(["table", "--format", "md"])


def test_a_sweep_goes_on_after_a_failed_job_and_skips_what_is_done(work, commands, command):
    sweep = ["train", *TINY, "-m", "optimizer.lr=0.001,1e30", "seed=0,1"]
    first = command(*sweep)
    assert first.returncode == 1, first.stderr
    assert "4 jobs: 2 done, 0 running, 2 failed" in first.stderr
    assert len(list(work.glob("outputs/arrays/vanilla/*/DONE"))) == 2
    kept = {frozenset(json.loads(p.read_text())["command"]) for p in work.glob("outputs/*/*/*/environment.json")}
    rates, seeds = ("optimizer.lr=0.001", "optimizer.lr=1e+30"), ("seed=0", "seed=1")
    assert kept == {frozenset([*TINY, rate, seed]) for rate in rates for seed in seeds}  # of the failed ones too
    runs = sorted(str(path.parent) for path in work.glob("outputs/arrays/vanilla/*/DONE"))
    evaluated = commands(["evaluate", *(str(Path(run).relative_to(work)) for run in runs)])
    assert evaluated.count("equal to the recorded") == 2
    stamps = {path: path.stat().st_mtime_ns for path in work.glob("outputs/arrays/vanilla/*/DONE")}
    assert commands(sweep, code=1).count("this run is finished") == 2
    assert stamps == {path: path.stat().st_mtime_ns for path in work.glob("outputs/arrays/vanilla/*/DONE")}


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    for words in (["--help"], ["data", "list"]):
        reader, writer = os.pipe()
        os.close(reader)
        line = [sys.executable, "-m", "dir_bench.cli", *words]
        ended = subprocess.run(line, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False)
        os.close(writer)
        assert (ended.returncode, ended.stderr) == (141, "")


def test_missing_data_are_said_before_what_only_training_needs(tmp_path):
    heavy = "{'torch', 'torchvision', 'pandas', 'scipy', 'rich', 'PIL.Image', 'filelock', 'edfio'}"
    code = "import sys; from dir_bench.cli import main; names = 'agedb', 'table', 'shhs', 'sts_b', 'nyud2', 'vader'; "
    code += "print([main(['train', f'dataset={name}']) for name in names]); "
    code += f"print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.splitlines() == ["[2, 2, 2, 2, 2, 2]", "[]"]
    assert "dir-bench data fetch agedb" in done.stderr
    assert "dataset.source.path=FILE" in done.stderr
    assert "missing SHHS-DIR" in done.stderr


def test_hydras_own_flags_work(work, command):
    shown = command("train", "method=sqinv_lds", "--cfg", "job")
    assert shown.returncode == 0, shown.stderr
    assert "sqrt_inv" in shown.stdout
    helped = command("train", "--help")
    assert helped.returncode == 0, helped.stderr
    assert "sqinv_lds_fds" in helped.stdout
    assert not (work / "outputs").exists()


def test_data_list_check_and_sample(commands):
    commands(["data", "check", "arrays"], code=1)
    printed = commands(["data", "list"], ["data", "sample", "arrays", "--size", "400"], ["data", "check", "arrays"])
    assert all(text in printed for text in ("sts_b", "400 samples", "many"))
    assert "exists" in commands(["data", "sample", "arrays"], code=2)


def test_a_folder_of_ones_own_is_known_to_data_and_told_about_sweeps(work, commands):
    (work / "mine" / "dataset").mkdir(parents=True)
    (work / "mine" / "sweep").mkdir()
    own = "# @package _global_\ndefaults: [arrays, _self_]\ndataset: {title: OWN DATA}\n"
    (work / "mine/dataset/own.yaml").write_text(own)
    assert "OWN DATA" in commands(["data", "list", "--config-dir", "mine"])
    assert "300 samples" in commands(["data", "check", "own", "--config-dir", "mine"])
    assert "did you mean" in commands(["data", "check", "oqn", "--config-dir", "mine"], code=2)
    (work / "mine/sweep/bare.yaml").write_text('params: {seed: "0,1"}\ngrids: [{method: "vanilla,inv"}]\n')
    said = commands(["sweep", "bare", "--config-dir", "mine", "--dry-run"], code=2)
    assert "`# @package hydra.sweeper`" in said


def test_help_says_of_each_choice_what_it_is(commands):
    shown = commands(["train", "--help"]).splitlines()
    assert "  ranksim               RankSim" in "\n".join(shown)
    assert "_schema" not in "\n".join(shown)
    choices = [line for line in shown[: shown.index("== What can be set (KEY=VALUE) ==")] if line.startswith("  ")]
    assert not [line for line in choices if len(line.split(maxsplit=1)) < 2]
    assert max(map(len, shown)) <= 120


def test_a_place_that_cannot_be_written_is_one_sentence(work, command):
    (work / "outputs").write_text("a file where the folder should be")
    done = command("train", *TINY)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "outputs" in done.stderr


def test_a_place_for_data_that_cannot_be_written_is_one_sentence(work, command):
    (work / "file").write_text("a file where the folder should be")
    done = command("data", "sample", "arrays", "--data", "file")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "file" in done.stderr


@pytest.mark.slow
def test_a_failure_in_two_processes_is_one_sentence(work, command):
    done = command("train", *TINY, "trainer.devices=2", "trainer.accelerator=cpu", "optimizer.lr=1e30")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "at step" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("toggles", [["method=sqinv_lds_fds", "fds.statistics=stream"]])
def test_two_processes_give_the_numbers_of_one(work, commands, toggles, command):
    parts = [*TINY, "trainer.epochs=4", *toggles, "trainer.accelerator=cpu"]
    commands(["train", *parts, "paths.outputs=one"])
    two = command("train", *parts, "paths.outputs=two", "trainer.devices=2")
    assert two.returncode == 0, two.stderr
    compare_runs(work)
    said = [line.partition("  ")[0] for line in two.stderr.splitlines()]
    assert said.count("epoch 4") == 1  # by the first process
    assert "distributed" not in two.stderr
    assert "Warning" not in two.stderr


@pytest.mark.slow
def test_two_processes_with_batch_norm_give_the_numbers_of_one(tmp_path, commands, command):
    parts = ["method=sqinv_lds_fds", "trainer.epochs=2", "dataset.source.n_train=300", "dataset.source.n_val_per_bin=1"]
    parts += ["dataset.source.n_test_per_bin=1", "trainer.accelerator=cpu", "backbone.channels=[4,4]"]
    commands(["train", *parts, "paths.outputs=one"])
    two = command("train", *parts, "paths.outputs=two", "trainer.devices=2")
    assert two.returncode == 0, two.stderr
    compare_runs(tmp_path, tolerance=1e-4)


def compare_runs(work: Path, tolerance: float = 1e-5) -> None:
    """Loss curve, validation errors and test metrics of `one` and `two` agree to the tolerance, relative.

    Or to a tenth of it, absolute: a correlation of a network that is hardly trained is near 0, as exact as any.
    """
    curves = []
    for name in ("one", "two"):
        (path,) = work.glob(f"{name}/*/*/*/history.csv")
        rows = [line.split(",") for line in path.read_text().splitlines()]
        timed = rows[0].index("seconds")
        curves.append([float(cell) for row in rows[1:] for place, cell in enumerate(row) if cell and place != timed])
    assert curves[0] == pytest.approx(curves[1], rel=tolerance, abs=tolerance / 10)
    tests = []
    for name in ("one", "two"):
        (path,) = work.glob(f"{name}/*/*/*/metrics.json")
        metrics = json.loads(path.read_text())["test"]
        tests.append({f"{r}/{m}": v for r, errors in metrics.items() for m, v in errors.items() if v is not None})
    assert tests[0] == pytest.approx(tests[1], rel=tolerance, abs=tolerance / 10)


@pytest.mark.parametrize(
    ("words", "closed"),
    [("data list", ">&-"), ("data list", ">&- 2>&- <&-"), ("table runs", ">&-"), ("train seeed=1", "2>&-")],
)
def test_closed_streams_are_no_error(work, words, closed):
    (work / "runs").mkdir()
    (work / "runs" / "status.json").write_text("{}")
    line = f"{shlex.quote(sys.executable)} -m dir_bench.cli {words} {closed}"
    ended = subprocess.run(["sh", "-c", line], capture_output=True, text=True, cwd=work, check=False)
    assert (ended.returncode, ended.stderr) == (2 if "seeed" in words else 0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device without space")
@pytest.mark.parametrize("words", ["--help", "data list", "train --cfg job"])
def test_output_that_takes_nothing_is_a_sentence(work, words):
    line = f"{shlex.quote(sys.executable)} -m dir_bench.cli {words} >/dev/full"
    ended = subprocess.run(["sh", "-c", line], capture_output=True, text=True, cwd=work, check=False)
    assert (ended.returncode, ended.stderr) == (1, "error: No space left on device\n")


def test_a_tilde_behind_an_equals_sign_is_the_home_folder(work, commands, monkeypatch):
    monkeypatch.setenv("HOME", str(work / "home"))
    (work / "data").rename(work / "home")
    commands(["data", "check", "arrays", "--data=~"], ["train", *TINY, "paths.data=~", "paths.outputs=~/runs"])
    assert len(list((work / "home" / "runs").glob("arrays/*/*/DONE"))) == 1
    assert not (work / "~").exists()


@pytest.mark.parametrize(
    "variables", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_letters_that_an_encoding_lacks_are_question_marks(work, variables):
    line = [sys.executable, "-m", "dir_bench.cli", "data", "check", "arrays"]
    variables = {**os.environ, **variables}
    ended = subprocess.run(line, capture_output=True, text=True, cwd=work, env=variables, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "?" in ended.stdout
