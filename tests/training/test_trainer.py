"""The trainer through whole small runs: resume, selection, failure, seeds, stages."""

import gc
import json
import signal
import weakref
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from run_helpers import assert_same_run, history, recipes, stop_after, weights

from dir_bench import assembly, config, experiment
from dir_bench.datasets.arrays import Arrays
from dir_bench.errors import RunFailed, UserError
from dir_bench.interrupt import Interrupted
from dir_bench.methods.part import Step
from dir_bench.results.store import RunFolder
from dir_bench.schema import Config
from dir_bench.task import Task
from dir_bench.training import recorder
from dir_bench.training.network import Network

SMALL = [
    "dataset=arrays",
    "trainer.epochs=3",
    "trainer.batch_size=32",
    "backbone.hidden=[16,8]",
    "trainer.threads=1",
    "trainer.figures=false",
    "dataset.regions.many_over=40",
    "dataset.regions.few_under=8",
]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    Arrays(str(folder / "arrays")).sample(folder / "arrays", n=300)
    return folder


@pytest.fixture
def compose(data_dir: Path, tmp_path: Path):
    def make(*overrides: str, outputs: str = "outputs") -> Config:
        paths = [f"paths.data={data_dir}", f"paths.outputs={tmp_path / outputs}"]
        return config.compose([*SMALL, *paths, *overrides])

    return make


@pytest.mark.parametrize(
    ("step", "overrides"),
    [
        (4, []),
        (10, ["backbone.dropout=0.3", "schedule=cosine"]),  # the last step of the first epoch
        (13, ["method=sqinv_lds_fds"]),
        (15, ["method=sqinv_lds_fds", "fds.statistics=stream"]),
        (13, ["method=smogn_lds_fds"]),
        (14, ["fds=gaussian", "fds.statistics=stream", "trainer.eval_unit=step", "trainer.eval_every=7"]),
        (13, ["method=mixup", "fds=gaussian"]),
        (17, ["method=m_mixup", "mixup.layers=[0,1,2]"]),
        (13, ["method=cb", "lds=gaussian", "fds=gaussian", "fds.statistics=stream"]),
        (
            29,
            ["method=inv_fds", "semantics=paper", "trainer.clip_norm=1.0", "schedule.interval=step", "schedule=cosine"],
        ),
    ],
)
def test_an_interrupted_run_goes_on_to_the_same_numbers(compose, monkeypatch, step, overrides):
    straight = experiment.run(compose(*overrides, outputs="straight")).folder
    stop_after(monkeypatch, step)
    broken = compose(*overrides, outputs="broken")
    with pytest.raises(Interrupted) as stopped:
        experiment.run(broken)
    assert stopped.value.exit_code == 128 + signal.SIGTERM
    folder = experiment.run_folder(broken)
    assert folder.state == "interrupted"
    assert torch.load(folder.last_checkpoint, weights_only=True)["progress"]["step"] == step
    assert_same_run(straight, experiment.run(broken).folder)


def test_time_left_of_a_resumed_run_counts_its_own_steps_alone(compose, monkeypatch, caplog):
    stop_after(monkeypatch, 15)
    with pytest.raises(Interrupted):
        experiment.run(compose())
    ticks = count()
    monkeypatch.setattr(recorder, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))
    monkeypatch.setattr(recorder, "_span", str)
    caplog.clear()
    with caplog.at_level("INFO", "dir_bench"):
        experiment.run(compose())
    left = [record.getMessage().partition(" s, ")[2] for record in caplog.records if "epoch" in record.getMessage()]
    assert left == ["2.0 left at most", "0.0 left at most"]  # at step 20 of 30, 5 of them made in 1 s


@pytest.mark.parametrize(
    "words", [["method=vir", "parts.head.statistics=stream"], ["method=srl", "parts.srl.projector=4"]]
)
def test_parts_with_layers_of_their_own_train_in_double_precision(compose, words):
    run = experiment.run(compose(*words, "trainer.precision=64-true", "trainer.max_steps=21"))
    assert all(np.isfinite(float(row["loss"])) for row in history(run.folder))
    kept = [value.dtype for key, value in weights(run.folder).items() if key.startswith(("head.spread", "srl.memory"))]
    assert set(kept) == {torch.float64}


def test_ctrl_c_leaves_a_resumable_run(compose, monkeypatch):
    stop_after(monkeypatch, 3, signal.SIGINT)
    with pytest.raises(Interrupted) as stopped:
        experiment.run(compose())
    assert stopped.value.exit_code == 130
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_seed_alone_decides_the_numbers(compose):
    one = experiment.run(compose(outputs="a")).folder
    torch.manual_seed(123)
    np.random.default_rng().random()
    assert_same_run(one, experiment.run(compose(outputs="b")).folder)
    other = experiment.run(compose("seed=1")).folder
    assert experiment.recorded(one)["test"] != experiment.recorded(other)["test"]


def test_methods_start_from_the_same_weights_and_see_the_same_order(compose, data_dir):
    data = Arrays(str(data_dir / "arrays")).load()
    plain = assembly.build_network(compose(), data).state_dict()
    fancy = assembly.build_network(compose("method=inv_lds_fds"), data).state_dict()
    assert all(torch.equal(plain[key], fancy[key]) for key in plain)


def test_a_finished_run_is_skipped(compose):
    first = experiment.run(compose())
    stamp = (first.folder / "metrics.json").stat().st_mtime_ns
    again = experiment.run(compose())
    assert (first.skipped, again.skipped) == (False, True)
    assert again.metrics == experiment.recorded(first.folder)
    assert (first.folder / "metrics.json").stat().st_mtime_ns == stamp


def test_other_data_is_another_run(compose, tmp_path):
    here = experiment.run_folder(compose()).path
    Arrays(str(tmp_path / "data" / "arrays")).sample(tmp_path / "data" / "arrays", n=300, seed=1)
    assert experiment.run_folder(compose(f"paths.data={tmp_path / 'data'}")).path.name != here.name
    Arrays(str(tmp_path / "same" / "arrays")).sample(tmp_path / "same" / "arrays", n=300, seed=0)
    assert experiment.run_folder(compose(f"paths.data={tmp_path / 'same'}")).path == here


def test_settings_of_what_is_switched_off_do_not_make_another_run(compose):
    plain = experiment.run_folder(compose()).path
    for unused in (
        *("lds.sigma=1", "fds.momentum=0.5", "stages.lr=1", "loss.beta=7"),
        *("mixup.alpha=1", "mixup.layers=[0]", "head.decode=expected", "reweight.beta=0.5"),
    ):
        assert experiment.run_folder(compose(unused)).path == plain
    focal = experiment.run_folder(compose("loss=focal_l1")).path
    assert experiment.run_folder(compose("loss=focal_l1", "loss.beta=7")).path != focal


@pytest.mark.parametrize("dataset", recipes())
def test_stage_one_of_rrt_is_the_vanilla_run(dataset):
    rrt = config.compose([f"dataset={dataset}", "method=rrt"])
    assert experiment.stage_one_config(rrt) == config.compose([f"dataset={dataset}"])


@pytest.mark.parametrize("dataset", recipes())
def test_stage_one_of_crt_is_the_plain_classifier(dataset):
    crt = config.compose([f"dataset={dataset}", "method=crt"])
    assert experiment.stage_one_config(crt) == config.compose([f"dataset={dataset}", "method=cls_vanilla"])


def test_the_small_recipe_of_sts_b_shares_its_stage_one():
    small = ["dataset=sts_b", "backbone=bilstm_small"]
    assert experiment.stage_one_config(config.compose([*small, "method=rrt"])) == config.compose(small)
    assert config.compose([*small, "method=rrt"]).stages.max_steps == 410


def test_a_limit_on_the_run_limits_its_second_stage(compose):
    folder = experiment.run(compose("method=rrt", "stages.epochs=9", "trainer.max_steps=12")).folder
    assert [row["step"] for row in history(folder)] == ["10", "12"]
    assert {float(row["lr"]) for row in history(folder)} == {1e-3}


def test_what_cannot_change_numbers_does_not_change_the_folder(compose):
    folder = experiment.run_folder(compose())
    assert experiment.run_folder(compose("trainer.progress=false", "trainer.checkpoint_minutes=3")).path == folder.path
    assert experiment.run_folder(compose("optimizer.lr=0.5")).path != folder.path


def test_metrics_follow_from_the_predictions_digit_by_digit(compose, data_dir):
    settings = compose("method=sqinv")
    folder = experiment.run(settings).folder
    saved = np.load(folder / "predictions.npz")
    train = Arrays(str(data_dir / "arrays")).load().train
    recomputed = Task.of(settings, train.label_counts, train.targets).report(saved["target"], saved)
    assert recomputed == experiment.recorded(folder)["test"]
    assert saved["index"].tolist() == list(range(75))


def test_evaluate_repeats_the_recorded_errors(compose):
    folder = experiment.run(compose("method=inv_fds")).folder
    assert experiment.evaluate(folder)["test"] == experiment.recorded(folder)["test"]


def test_the_best_epoch_is_kept_and_patience_ends_the_run(compose):
    folder = experiment.run(compose("optimizer.lr=0.3", "trainer.epochs=60", "trainer.patience=3")).folder
    values = [float(row["val/all/mae"]) for row in history(folder)]
    best = int(np.argmin(values)) + 1
    monitor = experiment.recorded(folder)["monitor"]
    assert (monitor["name"], monitor["epoch"], monitor["best"]) == ("mae", best, min(values))
    assert len(values) == best + 3 < 60


def test_max_steps_ends_the_run_in_the_middle_of_an_epoch(compose):
    folder = experiment.run(compose("trainer.max_steps=13", "trainer.epochs=null")).folder
    assert [row["step"] for row in history(folder)] == ["10", "13"]


def test_evaluation_by_steps(compose):
    folder = experiment.run(compose("trainer.eval_unit=step", "trainer.eval_every=8")).folder
    assert [row["step"] for row in history(folder)] == ["8", "16", "24", "30"]


def test_a_step_that_ends_an_epoch_is_evaluated_once(compose):
    folder = experiment.run(compose("trainer.eval_unit=step", "trainer.eval_every=10", "trainer.epochs=2")).folder
    assert [row["step"] for row in history(folder)] == ["10", "20"]


def test_a_signal_during_the_last_evaluation_is_not_lost(compose, monkeypatch):
    stop_after(monkeypatch, 30)  # the last step: it is noted, and the epoch's end goes on
    with pytest.raises(Interrupted):
        experiment.run(compose())
    monkeypatch.undo()
    straight = experiment.run(compose(outputs="straight")).folder
    assert_same_run(straight, experiment.run(compose()).folder)


def test_the_schedule_moves_the_learning_rate(compose):
    steps = ["schedule=steps", "schedule.source.milestones=[1,2]"]
    folder = experiment.run(compose(*steps)).folder
    assert [float(row["lr"]) for row in history(folder)] == pytest.approx([1e-3, 1e-4, 1e-5])  # of the steps taken


def test_an_exploding_loss_stops_the_run_and_says_where(compose):
    settings = compose("optimizer.lr=1e30", "trainer.epochs=3")
    with pytest.raises(RunFailed, match=r"at step \d+ \(epoch 1, batch \d+, training samples \d+, .*optimizer\.lr"):
        experiment.run(settings)
    folder = experiment.run_folder(settings)
    assert folder.state == "failed"
    assert not folder.done_path.exists()
    assert not folder.metrics_path.exists()


def test_a_nan_after_good_epochs_names_the_last_good_checkpoint(compose, monkeypatch):
    loss_sum = Network.loss_sum

    def poisoned(self: Network, step: Step) -> torch.Tensor:
        return loss_sum(self, step) * (float("nan") if step.number == 14 else 1.0)

    settings = compose()
    with monkeypatch.context() as patched:
        patched.setattr(Network, "loss_sum", poisoned)
        with pytest.raises(RunFailed, match=r"at step 15 \(epoch 2, batch 5, .*last\.pt"):
            experiment.run(settings)
    # The checkpoint before it is sound: without the poison the run goes on to what it would have been.
    resumed = experiment.run(settings).folder
    assert_same_run(experiment.run(compose(outputs="straight")).folder, resumed)


def test_a_damaged_checkpoint_is_refused_in_one_sentence(compose, monkeypatch):
    stop_after(monkeypatch, 12)
    with pytest.raises(Interrupted):
        experiment.run(compose())
    last = experiment.run_folder(compose()).last_checkpoint
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be read"):
        experiment.run(compose())


def test_stream_and_pass_statistics_both_calibrate(compose):
    rows: dict[str, Any] = {}
    for how in ("stream", "pass"):
        folder = experiment.run(compose("fds=gaussian", f"fds.statistics={how}")).folder
        rows[how] = weights(folder, "last")["fds.running_mean"]
    assert rows["stream"].abs().sum() > 0
    assert not torch.equal(rows["stream"], rows["pass"])


def test_rrt_retrains_the_regressor_alone_and_reuses_stage_one(compose):
    outcome = experiment.run(compose("method=rrt", "stages.epochs=2"))
    first = experiment.run(compose())
    assert first.skipped, "stage one is the vanilla run itself"
    one, two = weights(first.folder), weights(outcome.folder)
    backbone = [key for key in one if key.startswith("backbone.")]
    assert backbone
    assert all(torch.equal(one[key], two[key]) for key in backbone)
    assert not torch.equal(one["regressor.weight"], two["regressor.weight"])
    assert outcome.metrics["method"] == "RRT"
    assert len(history(outcome.folder)) == 2


def test_crt_retrains_the_classifier_alone_on_the_backbone_of_the_plain_one(compose):
    outcome = experiment.run(compose("method=crt", "stages.epochs=2"))
    first = experiment.run(compose("method=cls_vanilla"))
    assert first.skipped
    one, two = weights(first.folder), weights(outcome.folder)
    changed = {key for key in one if not torch.equal(one[key], two[key])}
    assert changed == {"regressor.weight", "regressor.bias"}
    assert (first.metrics["method"], outcome.metrics["method"]) == ("CLS-VANILLA", "CRT")
    assert one["regressor.weight"].shape == (36, 8)  # a class for each bin


def test_an_interrupted_second_stage_goes_on_to_the_same_numbers(compose, monkeypatch):
    straight = experiment.run(compose("method=crt", outputs="straight")).folder
    broken = compose("method=crt", outputs="broken")
    experiment.run(experiment.stage_one_config(broken))
    stop_after(monkeypatch, 13)
    with pytest.raises(Interrupted):
        experiment.run(broken)
    assert_same_run(straight, experiment.run(broken).folder)


@pytest.mark.parametrize("decode", ["argmax", "expected"])
def test_a_classifier_predicts_labels_and_is_evaluated_as_a_regression(compose, decode):
    folder = experiment.run(compose("method=cb", f"head.decode={decode}")).folder
    assert experiment.evaluate(folder)["test"] == experiment.recorded(folder)["test"]
    predictions = np.load(folder / "predictions.npz")["prediction"]
    middles = np.arange(-1.75, 16, 0.5)
    assert np.isin(predictions, middles).all() == (decode == "argmax")
    assert ((predictions > -2) & (predictions < 16)).all()


def test_mixup_changes_training_alone_and_every_step(compose, data_dir):
    data = Arrays(str(data_dir / "arrays")).load()
    plain, mixup = (experiment.run(compose(*more)).folder for more in ([], ["method=mixup"]))
    first, second = experiment.recorded(plain), experiment.recorded(mixup)
    assert (first["method"], second["method"]) == ("VANILLA", "MIXUP")
    assert first["test"]["all"]["count"] == second["test"]["all"]["count"]
    assert first["test"] != second["test"]
    assert np.array_equal(np.load(mixup / "predictions.npz")["target"], data.test.targets)


def test_fds_with_mixup_takes_its_statistics_from_samples_as_they_are(compose, tmp_path):
    settings = compose("method=mixup", "fds=gaussian", "trainer.epochs=1")
    fabric = assembly.build_fabric(settings, "auto", 1)
    data = config.build(settings.dataset.source).load()
    task = Task.of(settings, data.train.label_counts)
    network = assembly.build_network(settings, data)
    trainer = assembly.build_trainer(fabric, settings, RunFolder(tmp_path / "run"), data, task, network)
    trainer.train_epoch()
    assert network.fds.num_samples_tracked.long().tolist() == task.counts.tolist()


def test_rrt_from_a_named_run(compose):
    first = experiment.run(compose("method=sqinv")).folder
    named = compose("method=rrt", "stages.epochs=1", f"stages.from_run={first}")
    folder = experiment.run(named).folder
    key = "backbone.layers.0.weight"
    assert torch.equal(weights(first)[key], weights(folder)[key])
    with pytest.raises(UserError, match="not a finished run"):
        experiment.run(compose("method=rrt", "stages.from_run=nowhere"))


def test_two_runs_of_one_folder_at_once_are_refused(compose):
    folder = experiment.run_folder(compose())
    with folder.lock(), pytest.raises(UserError, match="Another process"):
        experiment.run(compose())


def test_tensorboard_holds_losses_errors_by_region_and_hparams(compose):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = experiment.run(compose()).folder
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert {"loss", "lr", "val/few/mae", "val/medium/gm", "test/few/mae"} <= tags
    assert [event.step for event in events.Scalars("loss")] == [10, 20, 30]


def test_a_run_knows_what_made_it(compose):
    settings = compose("method=inv_lds")
    folder = RunFolder(experiment.run(settings, ("method=inv_lds",)).folder)
    metrics = experiment.recorded(folder.path)
    assert metrics["command"] == ["method=inv_lds"]
    assert (metrics["method"], metrics["slug"], metrics["seed"]) == ("INV + LDS", "inv_lds", 0)
    assert config.load(folder.config_path) == settings
    assert {"device", "python", "packages"} <= json.loads(folder.environment_path.read_text()).keys()


def test_a_run_leaves_nothing_of_its_network_in_memory(compose, monkeypatch):
    """On a GPU it would hold memory that the next run of the process takes for used."""
    made = []
    plain = assembly.build_network

    def build(*arguments):
        network = plain(*arguments)
        made.append(weakref.ref(network))
        return network

    monkeypatch.setattr(experiment, "build_network", build)
    gc.collect()
    gc.disable()  # nothing goes but by itself
    try:
        experiment.run(compose("method=rrt", "fds=gaussian", "trainer.feature_statistics=true"))
    finally:
        gc.enable()
    assert len(made) == 2
    assert [network() for network in made] == [None, None]


def test_predictions_of_double_precision_are_not_rounded(compose):
    settings = ("trainer.precision=64-true", "method=cls_vanilla", "head.decode=expected")
    path = experiment.run(compose(*settings)).folder
    predictions = RunFolder(path).read_predictions()["prediction"]
    assert (predictions != predictions.astype(np.float32)).any()
