"""docs/fidelity.md against the schema and the tests, and the switches on it that belong to no one module."""

import logging
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from run_helpers import history, recipes
from torch import Tensor, nn

from dir_bench import assembly, config, experiment
from dir_bench.backbones.mlp import MLP
from dir_bench.datasets.arrays import Arrays
from dir_bench.datasets.nyud2 import LISTS, NYUD2
from dir_bench.departures import departures
from dir_bench.errors import UserError
from dir_bench.methods.fds_part import FDSPart
from dir_bench.results.repeated import repeats
from dir_bench.results.store import RunFolder
from dir_bench.schema import Config, Semantics, look_up
from dir_bench.task import Task
from dir_bench.toggles.head import Loss
from dir_bench.training.batch_norm import GhostBatchNorm
from dir_bench.training.loaders import TrainLoader

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8")
RULES = ("no_progress", "newest_is_largest")
FACES = ("agedb", "imdb_wiki")
DATASETS = recipes()


@pytest.fixture(scope="module")
def of_dataset() -> dict[str, Config]:
    return dict(zip(DATASETS, config.compose_all([[f"dataset={name}"] for name in DATASETS]), strict=True))


def keys_of_the_page() -> list[str]:
    """Return the keys in the first column of the page's tables."""
    cells = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    return [key for cell in cells for key in re.findall(r"`([^`]+)`", cell)]


def test_every_switch_of_the_page_is_a_key_of_a_config(of_dataset: dict[str, Config]) -> None:
    keys = keys_of_the_page()
    assert len(keys) == len(set(keys)) > 20
    plain = [config.to_dict(composed) for composed in of_dataset.values()]

    def there(key: str) -> bool:
        parent, _, last = key.rpartition(".")
        return any(last in (look_up(each, parent) or {}) for each in plain)

    assert [key for key in keys if not there(key)] == ["backbone.weights"] or all(map(there, keys))


def test_every_choice_of_semantics_is_on_the_page() -> None:
    named = {key.removeprefix("semantics.") for key in keys_of_the_page() if key.startswith("semantics.")}
    assert named == {field.name for field in fields(Semantics)} - {"name"}


def test_every_test_that_the_page_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 20
    missing = [
        f"{path}::{name}" for path, name in named if f"def {name}(" not in (ROOT / path).read_text(encoding="utf-8")
    ]
    assert missing == []


def test_readme_and_changelog_point_to_the_page() -> None:
    assert "docs/fidelity.md" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "docs/fidelity.md" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


# The second stage on faces


class Published:
    """FDS of ages as golden/NOTES describes it (section C), for one feature and labels 0, 1, …, one row each."""

    def __init__(self, rows: int, window: list[float]) -> None:
        self.window, self.epoch = np.array(window, np.float64), 0
        self.mean, self.var = np.zeros(rows), np.ones(rows)
        self.last_mean, self.last_var = np.zeros(rows), np.ones(rows)
        self.smooth_mean, self.smooth_var = np.zeros(rows), np.ones(rows)

    def load(self, other: "Published") -> None:
        """Copy every buffer, as `load_state_dict` does: what was one tensor under two names is two from now on."""
        self.epoch = other.epoch
        for name in ("mean", "var", "last_mean", "last_var", "smooth_mean", "smooth_var"):
            setattr(self, name, getattr(other, name).copy())

    def smoothed(self, row: np.ndarray) -> np.ndarray:
        half = len(self.window) // 2
        return np.correlate(np.pad(row, half, mode="reflect"), self.window, "valid")

    def update_last_epoch_stats(self, e: int) -> None:
        if e == self.epoch + 1:
            self.epoch += 1
            self.last_mean, self.last_var = self.mean, self.var  # the very arrays
            self.smooth_mean, self.smooth_var = self.smoothed(self.mean), self.smoothed(self.var)

    def update_running_stats(self, features: np.ndarray, e: int) -> None:
        """Take up features of shape ``(rows, samples)``."""
        if e < self.epoch:
            return
        factor = 0.0 if e == 0 else 0.9
        self.mean[:] = (1 - factor) * features.mean(1) + factor * self.mean
        self.var[:] = (1 - factor) * features.var(1, ddof=1) + factor * self.var

    def smooth(self, features: np.ndarray, e: int) -> np.ndarray:
        if e < 1:
            return features
        factor = np.sqrt(np.clip(self.smooth_var / self.last_var, 0.1, 10))[:, None]
        return (features - self.last_mean[:, None]) * factor + self.smooth_mean[:, None]


@pytest.mark.parametrize("reached", [0, 1, 3])
def test_the_second_stage_on_faces_takes_over_statistics(reached: int) -> None:
    """Five epochs of stage two after a first that was best in epoch `reached`, against the description of the code."""
    rows, rng = 8, np.random.default_rng(0)

    def part() -> FDSPart:
        settings = {"edges": "absorb_if_present", "empty": "initial", "lag": "alias", "guard": "nonzero_columns"}
        return FDSPart(
            1, first=0, last=rows - 1, clip=(0.1, 10), new_bins="blend", second_stage="taken_over", **settings
        )

    ours, theirs = part(), Published(rows, part().kernel_window.tolist())
    labels = torch.arange(rows).repeat_interleave(5).float()

    def epoch(e: int) -> None:
        features = rng.normal(size=(rows, 5)) * rng.uniform(0.5, 3, (rows, 1)) + rng.normal(size=(rows, 1)) * 5
        column = torch.tensor(features.reshape(-1, 1), dtype=torch.float32)
        expected = theirs.smooth(features, e).reshape(-1, 1)
        np.testing.assert_allclose(ours.smooth(column, labels, e).numpy(), expected, rtol=2e-4, atol=2e-4)
        theirs.update_last_epoch_stats(e)
        theirs.update_running_stats(features, e)
        moments = ours.new_moments()
        moments.add(column, labels)
        ours.end_epoch(moments, e)

    for e in range(reached + 1):
        epoch(e)
    second, fresh = part(), Published(rows, theirs.window.tolist())
    second.begin_second_stage(ours.state_dict())
    fresh.load(theirs)
    ours, theirs = second, fresh
    before = ours.running_mean.clone()
    for e in range(5):
        epoch(e)
        assert torch.equal(ours.running_mean, before) == (e < reached)  # frozen until the first's best epoch


def test_statistics_begin_afresh_where_that_is_chosen_or_stage_one_had_none() -> None:
    state = FDSPart(1, first=0, last=7).state_dict() | {"epoch": torch.full((1,), 5.0)}
    for choice, given in (("afresh", state), ("taken_over", {})):
        part = FDSPart(1, first=0, last=7, second_stage=choice)
        part.begin_second_stage(given)
        assert part.epoch.item() == 0


def test_what_a_dataset_chooses_of_the_semantics_that_came_later(of_dataset: dict[str, Config]) -> None:
    chosen = {
        key: {name for name, each in of_dataset.items() if getattr(each.dataset.published, key) != default}
        for key, default in (
            ("fds_second_stage", "afresh"),
            ("fds_subset_order", "shuffled"),
            ("mse_selects", False),
            ("stop_rule", "no_progress"),
        )
    }
    assert chosen == {
        "fds_second_stage": {*FACES, "utk"},
        "fds_subset_order": {"nyud2"},
        "mse_selects": {*FACES, "utk"},
        "stop_rule": {"sts_b"},
    }


def test_rrt_with_fds_takes_over_the_statistics_of_the_run_it_begins_from(compose: Callable[..., Config]) -> None:
    settings = compose("method=rrt_fds", "semantics.fds_second_stage=taken_over", "stages.epochs=1")
    folder = experiment.run(settings).folder
    first = experiment.run_folder(experiment.stage_one_config(settings)).path
    best, last = (
        torch.load(path, weights_only=True)["network"]
        for path in (first / "checkpoints/best.pt", folder / "checkpoints/last.pt")
    )
    epoch = int(best["fds.epoch"])
    assert epoch > 1  # lag "none": one ahead of the epoch that was best; one epoch of stage two moves nothing
    for key in ("fds.running_mean", "fds.smoothed_var_last_epoch", "fds.epoch"):
        assert torch.equal(best[key], last[key]), key


# The rest of training


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    Arrays(str(folder / "arrays")).sample(folder / "arrays", n=300)
    return folder


@pytest.fixture
def compose(data_dir: Path, tmp_path: Path) -> Callable[..., Config]:
    def make(*overrides: str) -> Config:
        small = ["dataset=arrays", "trainer.epochs=3", "trainer.batch_size=32", "backbone.hidden=[16,8]"]
        quiet = ["trainer.threads=1", "trainer.figures=false", "trainer.feature_statistics=false"]
        return config.compose([*small, *quiet, f"paths.data={data_dir}", f"paths.outputs={tmp_path}/out", *overrides])

    return make


class Normalised(MLP):
    """An MLP with batch norm, for vectors."""

    def __init__(self, in_features: int, hidden: list[int], dropout: float) -> None:
        super().__init__(in_features, hidden)
        self.norm = nn.BatchNorm1d(self.feature_dim)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.norm(super().forward(inputs))  # type: ignore[no-any-return]


def test_faces_trained_by_mse_are_selected_by_mse(
    compose: Callable[..., Config], of_dataset: dict[str, Config]
) -> None:
    monitors = {
        (name, loss): Loss(loss).monitor(of_dataset[name])
        for name in (*FACES, "gauge", "sts_b", "nyud2")
        for loss in ("mse", "l1", "huber")
    }
    own = {"gauge": "mae", "sts_b": "mse", "nyud2": "rmse"}
    assert monitors == {(name, loss): own.get(name, "mse" if loss == "mse" else "mae") for name, loss in monitors}
    folder = experiment.run(compose("loss=mse", "semantics.mse_selects=true")).folder
    monitor = experiment.recorded(folder)["monitor"]
    rows = (folder / "history.csv").read_text().splitlines()
    column = rows[0].split(",").index("val/all/mse")
    assert (monitor["name"], monitor["best"]) == ("mse", min(float(row.split(",")[column]) for row in rows[1:]))


def test_a_run_stops_by_the_rule_that_the_semantics_names(compose: Callable[..., Config]) -> None:
    """One and the same history, cut where each rule says."""

    def values(*overrides: str) -> list[float]:
        folder = experiment.run(
            compose("optimizer.lr=0.3", "trainer.epochs=14", "dataset.standardize=false", *overrides)
        ).folder
        return [float(row["val/all/mae"]) for row in history(folder)]

    whole = values()
    cut_short = {rule: values("trainer.patience=3", f"semantics.stop_rule={rule}") for rule in RULES}
    assert all(whole[: len(part)] == part for part in cut_short.values())
    largest = (n for n in range(5, 15) if whole[n - 1] == max(whole[n - 4 : n]))
    best = [whole.index(min(whole[:n])) + 1 for n in range(1, 15)]
    assert len(cut_short["newest_is_largest"]) == next(largest, 14)
    assert len(cut_short["no_progress"]) == next((n for n in range(1, 15) if n - best[n - 1] == 3), 14)
    assert len({len(part) for part in cut_short.values()}) == 2


def test_patience_alone_makes_the_stop_rule_count(compose: Callable[..., Config]) -> None:
    def folder(*overrides: str) -> Path:
        return experiment.run_folder(compose(*overrides)).path

    rule = "semantics.stop_rule=newest_is_largest"
    assert folder(rule) == folder()
    assert folder(rule, "trainer.patience=3") != folder("trainer.patience=3")


def test_a_run_that_ends_within_an_epoch_gives_fds_nothing(compose: Callable[..., Config]) -> None:
    """An epoch has ten steps: of 15 the first ten are one, and of 20 all."""
    for steps, epochs in ((15, 1), (20, 2)):
        ends = [f"trainer.max_steps={steps}", "trainer.epochs=null"]
        folder = experiment.run(compose("method=vanilla_fds", *ends)).folder
        state = torch.load(folder / "checkpoints/last.pt", weights_only=True)["network"]
        assert int(state["fds.num_samples_tracked"].sum()) == 300 * epochs
        assert int(state["fds.epoch"]) == epochs  # lag "none" counts one ahead


def test_the_subset_of_fds_comes_in_the_order_of_its_list(tmp_path: Path) -> None:
    dataset = NYUD2(str(tmp_path), val_pixels_per_bin=50)
    dataset.sample(tmp_path, n=8)
    path = tmp_path / LISTS["fds"]
    rows = path.read_text().splitlines()
    before = dataset.load().fds
    path.write_text("\n".join(reversed(rows)) + "\n")
    after = dataset.load().fds
    assert before is not None
    assert after is not None
    assert len(before) > 1
    assert after.rows.tolist() == before.rows.tolist()[::-1]
    loader = TrainLoader(after, batch_size=2, seed=0, shuffled=False)
    assert np.concatenate(loader.order(3)).tolist() == list(range(len(after)))


def test_lengths_and_kernels_are_those_of_the_paper(of_dataset: dict[str, Config]) -> None:
    assert {name: of_dataset[name].trainer.epochs for name in (*FACES, "nyud2", "shhs")} == {
        **dict.fromkeys(FACES, 90),
        "nyud2": 20,
        "shhs": 80,
    }
    for each in of_dataset.values():
        assert (each.lds.kernel_size, each.lds.sigma, each.fds.kernel_size, each.fds.sigma) == (5, 2, 5, 2)


def test_published_sts_b_batches_hold_any_lengths(of_dataset: dict[str, Config]) -> None:
    assert not of_dataset["sts_b"].trainer.bucket_by_length
    assert config.compose(["dataset=sts_b", "backbone=bilstm_small"]).trainer.bucket_by_length  # a recipe of our own
    assert of_dataset["sts_b"].trainer.batch_size == 128


def test_a_last_batch_of_one_is_said_once_and_does_not_break_batch_norm(
    compose: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("dir_bench.backbones.mlp.MLP", Normalised)
    with caplog.at_level(logging.INFO, "dir_bench"):
        folder = experiment.run(compose("trainer.batch_size=13", "trainer.epochs=2")).folder  # 300 = 23 · 13 + 1
    assert sum("joins the one before" in record.message for record in caplog.records) == 1
    assert [line.split(",")[1] for line in (folder / "history.csv").read_text().splitlines()] == ["step", "23", "46"]
    with pytest.raises(UserError, match=r"batch norm needs at least two samples .* raise trainer.batch_size"):
        experiment.run(compose("trainer.batch_size=1"))
    assert experiment.run(compose("trainer.batch_size=13", "trainer.epochs=1", "seed=1")).folder != folder


def test_without_batch_norm_a_last_batch_of_one_stays(compose: Callable[..., Config]) -> None:
    folder = experiment.run(compose("trainer.batch_size=13", "trainer.epochs=1")).folder
    assert (folder / "history.csv").read_text().splitlines()[1].split(",")[1] == "24"


def test_groups_of_batch_norm_are_built_said_and_count(
    compose: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("dir_bench.backbones.mlp.MLP", Normalised)
    settings = compose("trainer.batch_norm_groups=4")
    data = assembly.load_data(settings)
    task, network = Task.of(settings, data.train.label_counts), assembly.build_network(settings, data)
    fabric = assembly.build_fabric(settings, "auto", 1)
    assembly.build_trainer(fabric, settings, RunFolder(tmp_path), data, task, network)
    (layer,) = (module for module in network.modules() if isinstance(module, GhostBatchNorm))
    assert layer.groups == 4
    assert departures(settings)[-1] == "batch norm in 4 groups"
    assert experiment.run_folder(settings).path != experiment.run_folder(compose()).path
    with pytest.raises(UserError, match=r"trainer.batch_norm_groups=4 parts the batch of one process"):
        compose("trainer.batch_norm_groups=4", "trainer.devices=2")


def test_a_run_without_the_published_start_says_so(
    compose: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    for dataset, key, phrase in (
        ("sts_b", "dataset.source.glove", "word vectors not from GloVe"),
        ("nyud2", "backbone.weights", "encoder not from ImageNet weights"),
    ):
        assert departures(config.compose([f"dataset={dataset}"])) == [phrase]
        assert departures(config.compose([f"dataset={dataset}", f"{key}=FILE"])) == []
    assert departures(config.compose(["dataset=agedb"])) == []  # published from scratch
    settings = compose("trainer.epochs=1", "dataset.start=[{key: backbone.weights, without: not from any weights}]")
    with caplog.at_level(logging.INFO, "dir_bench"):
        folder = experiment.run(settings).folder
    assert [record.message for record in caplog.records if "not from any weights" in record.message] == [
        "not from any weights: set backbone.weights to begin where published runs do"
    ]
    assert "not from any weights" in experiment.recorded(folder)["departures"]
    assert folder == experiment.run_folder(compose("trainer.epochs=1")).path  # it says what is there, and changes none


# Identity, refusals, and comparing with what was recorded


def test_several_processes_are_another_run(compose: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (experiment.run_folder(compose(f"trainer.devices={n}")).path for n in (1, 2))
    assert one == experiment.run_folder(compose()).path
    assert one != two
    monkeypatch.setenv("WORLD_SIZE", "2")  # as torchrun says it
    assert experiment.run_folder(compose()).path == two


@pytest.mark.parametrize("dataset", ["sts_b", "nyud2", "arrays"])
def test_absorbing_at_the_ends_is_refused_where_bins_are_no_whole_labels(dataset: str) -> None:
    with pytest.raises(UserError, match=r"takes a label's whole part for its bin, and the bins of .* set semantics"):
        config.compose([f"dataset={dataset}", "method=vanilla_fds", "semantics.fds_edges=absorb_if_present"])
    config.compose([f"dataset={dataset}", "semantics.fds_edges=absorb_if_present"])  # nothing reads it


def test_absorbing_at_the_ends_is_refused_for_fractional_labels(compose: Callable[..., Config]) -> None:
    bins = ["dataset.bins={start: 0, stop: 20, width: 1}", "dataset.fds_first=0", "dataset.fds_last=19"]
    settings = compose("method=vanilla_fds", "semantics.fds_edges=absorb_if_present", *bins)
    with pytest.raises(UserError, match="absorb_if_present is for whole labels, and the training split has others"):
        assembly.build_network(settings, assembly.load_data(settings))


def test_what_is_no_number_equals_itself(tmp_path: Path) -> None:
    errors = {"all": {"count": 3, "mae": 0.1, "log10": float("nan")}}
    metrics = {"dataset": "own", "method": "VANILLA", "seed": 0, "test": errors}
    RunFolder(tmp_path).finish(metrics, {"prediction": np.zeros(3)})
    held = experiment.recorded(tmp_path)["test"]
    assert repeats(held, errors)
    assert not repeats(held, {"all": {**errors["all"], "mae": 0.1 + 2**-50}})
    assert not repeats(held, {"all": {**errors["all"], "log10": 0.5}})
