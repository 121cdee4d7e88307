"""Jobs of a sweep file, their configs composed together, and the plan that is printed."""

import itertools
import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from dir_bench import config
from dir_bench.atomic import write_json
from dir_bench.errors import UserError
from dir_bench.sweeps import plan

SMALL = ["dataset.source.n_train=50", "dataset.source.n_val_per_bin=1", "dataset.source.n_test_per_bin=1"]


def test_grids_are_products_of_their_own_and_share_params(tmp_path):
    (tmp_path / "sweep").mkdir()
    text = (
        '# @package hydra.sweeper\nparams: {seed: "range(2)"}\ngrids:\n  - {a: "1,2", b: 3}\n  - {a: null, seed: 7}\n'
    )
    (tmp_path / "sweep" / "own.yaml").write_text(text)
    grids = config.sweep_of(["+sweep=own", "c=1,2"], str(tmp_path)).grids
    jobs = config.sweep_jobs(["+sweep=own", "hydra/launcher=local"], grids)
    first = [["a=" + a, "b=3", "seed=" + seed] for a, seed in itertools.product("12", "01")]
    assert jobs == [*first, ["a=null", "seed=7"]]


def test_the_command_line_wins_over_a_grid_and_adds_axes_to_all():
    grids = [{"method": "vanilla,inv", "seed": "0,1"}, {"method": "sqinv", "+x": "1"}]
    jobs = config.sweep_jobs(["seed=5", "optimizer.lr=1e-3,3e-4", "x=2"], grids)
    rest = [["seed=5", f"optimizer.lr={lr}", "x=2"] for lr in ("0.001", "0.0003")]
    assert jobs == [[f"method={method}", *job] for method in ("vanilla", "inv", "sqinv") for job in rest]


def test_a_job_that_two_grids_have_is_one():
    assert config.sweep_jobs([], [{"method": "vanilla,inv"}, {"method": "inv"}]) == [["method=vanilla"], ["method=inv"]]


def test_every_sweep_file_gives_configs_that_compose():
    """Of the jobs, each that has a word that none before it has: all of them would take half a minute.

    Tables, and smoke, which has every method: test_published_rows.
    """
    seen, chosen = {f"method={name}" for name in config.options("method")}, []
    for name in (name for name in config.options("sweep") if not re.match(r"table\d|smoke", name)):
        jobs = config.sweep_jobs([f"+sweep={name}"], config.sweep_of([f"+sweep={name}"]).grids)
        seeds = {word for job in jobs for word in job if word.startswith("seed=")}
        assert len(jobs) > len(seeds)
        if not re.match("ablation|gauge_table", name):
            assert len(seeds) >= 5, f"{name} has too few seeds for a paired test"
        for job in jobs:
            if not seen.issuperset(job):
                chosen.append([word for word in job if not word.startswith("seed=")])
                seen |= {*job, *seeds}
    assert len(config.compose_all(chosen)) == len(chosen) > 40


def test_the_follow_ups_are_in_smoke_for_each_kind_of_data_and_lack_no_method():
    grids = {name: config.sweep_of([f"+sweep={name}"]).grids for name in ("followups", "smoke")}
    apart = ("seed=", "paths.")
    jobs = {
        name: {
            frozenset(word for word in job if not word.startswith(apart)) for job in config.sweep_jobs(["seed=0"], each)
        }
        for name, each in grids.items()
    }
    both = jobs["followups"] & jobs["smoke"]
    kinds = {word for job in jobs["followups"] for word in job if word.startswith("dataset=")}
    assert {word for job in both for word in job if word.startswith("dataset=")} == kinds
    presets = Path(config.__file__).parents[2] / "configs" / "method"
    classes = {
        name: set(re.findall(r"_target_: ([\w.]+)", (presets / f"{name}.yaml").read_text()))
        for name in config.options("method")
    }
    had = {word.removeprefix("method=") for job in jobs["followups"] for word in job if word.startswith("method=")}
    assert set().union(*classes.values()) == set().union(*(classes[name] for name in had))


JOBS = [
    ["method=sqinv_lds", "seed=3", "lds.sigma=1", "trainer.epochs=7"],
    ["method=sqinv_lds", "seed=4", "lds.sigma=1", "trainer.epochs=7"],
    ["dataset=sts_b", "backbone=bilstm_small", "seed=1", "optimizer.lr=0.5"],
    ["method=rrt_fds", "+backbone.channels=[4,4]", "seed=0", "dataset.source.seed=${seed}"],
    ["method=rrt_fds", "+backbone.channels=[4,4]", "seed=1", "dataset.source.seed=${seed}"],
    ["schedule=none", "~optimizer.weight_decay", "optimizer=adamw"],
    [],
]


def test_jobs_composed_together_are_as_composed_alone():
    assert config.compose_all(JOBS) == [config.compose(job) for job in JOBS]


@pytest.mark.parametrize("wrong", ["seeed=1", "method=inv_ldss", "trainer.epochs=many", "seed=-1", "+method.foo=1"])
def test_a_mistake_in_any_job_reads_as_it_does_alone(wrong):
    with pytest.raises(UserError) as alone:
        config.compose([wrong])
    with pytest.raises(UserError) as together:
        config.compose_all([["seed=0"], ["seed=1", wrong]])
    assert str(together.value) == str(alone.value)


@pytest.mark.parametrize(("launcher", "extra"), [("submitit_slurmm", "slurm"), ("rayy", "ray")])
def test_a_launcher_that_is_not_installed_is_named_with_its_extra(launcher, extra):
    with pytest.raises(UserError, match=re.escape(f"'dir-bench[{extra}]'")):
        config.sweep_of([f"hydra/launcher={launcher}"])


def test_a_plan_counts_states_puts_two_stage_runs_last_and_estimates_from_finished_runs(tmp_path):
    jobs = [[f"method={m}", f"seed={s}", *SMALL, f"paths.outputs={tmp_path}"] for m in ("rrt", "inv") for s in range(3)]
    made = plan.make([*jobs, jobs[0]])
    assert [job.method for job in made.jobs] == ["INV"] * 3 + ["RRT"] * 3
    assert made.counts() == {"waiting": 6}
    assert "no finished run" in made.text()
    finished, failed, begun = (job.folder for job in made.jobs[:3])
    for folder in (finished, failed, begun):
        folder.start(config.to_dict(made.jobs[0].config), {})
    metrics = {"dataset": "gauge", "method": "INV", "seed": 0, "test": {"all": {"count": 1, "mae": 0.0}}}
    finished.finish(metrics, {"target": [1.0], "prediction": [1.0], "index": [0]})
    started = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
    times = {"started": started.isoformat(), "ended": (started + timedelta(seconds=100)).isoformat()}
    write_json(finished.status_path, {"state": "done", **times})
    failed.fail("it broke")
    assert made.look() == {"done": 1, "failed": 1, "waiting": 4}
    assert [job.state for job in made.left] == ["failed", "interrupted", "new", "new", "new"]
    text = made.text()
    assert "1 of those waiting were begun" in text
    assert "estimate: 8 min for 5 runs, one after another (from 1 finished)" in text  # 5 × 100 s
    with begun.lock():
        assert made.look()["running"] == 1
        assert len(made.left) == 4
    other = plan.make([["trainer.epochs=3", f"paths.outputs={tmp_path}", *SMALL]])
    assert "no finished run" in other.text(), "runs of another length tell nothing"


def test_only_a_sweep_with_one_vanilla_beside_others_is_told_to_compare_with_it(tmp_path):
    def has_reference(*overrides):
        given = [*SMALL, f"paths.outputs={tmp_path}", *overrides]
        return plan.make(config.sweep_jobs(given)).has_reference

    assert has_reference("method=vanilla,inv", "seed=0,1")
    assert not has_reference("method=inv,sqinv")
    assert not has_reference("seed=0,1")
    assert not has_reference("optimizer.lr=0.1,0.2", "method=vanilla,inv")
