"""What a run keeps for figures: labels, feature statistics, FDS distances, TensorBoard's table and pictures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from run_helpers import history

from dir_bench import assembly, config, experiment, task
from dir_bench.datasets.arrays import Arrays
from dir_bench.labels import TargetBins, lds_density
from dir_bench.methods.fds import FDS
from dir_bench.schema import Config
from dir_bench.training import checkpoint

SMALL = [
    "dataset=arrays", "trainer.epochs=3", "trainer.batch_size=32", "backbone.hidden=[16,8]", "trainer.threads=1",
    "dataset.regions.many_over=40", "dataset.regions.few_under=8", "trainer.figures=false",
]  # fmt: skip


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    Arrays(str(folder / "arrays")).sample(folder / "arrays", n=300)
    return folder


@pytest.fixture
def compose(data_dir: Path, tmp_path: Path) -> Callable[..., Config]:
    def make(*overrides: str, outputs: str = "outputs") -> Config:
        return config.compose([*SMALL, f"paths.data={data_dir}", f"paths.outputs={tmp_path / outputs}", *overrides])

    return make


def test_feature_statistics_are_means_and_variances_of_evaluated_features(compose):
    settings = compose("backbone.dropout=0.5")
    folder = experiment.run(settings).folder
    held = np.load(folder / "features.npz")
    data = config.build(settings.dataset.source).load()
    network = assembly.build_network(settings, data)
    network.load_state_dict(checkpoint.load(folder / "checkpoints" / "best.pt")["network"])
    network.eval()
    with torch.no_grad():
        features = network.backbone(data.train.fetch(np.arange(len(data.train)), None)).double().numpy()
    place = task.target_bins(settings.dataset).index(data.train.targets)
    assert held["mean"].dtype == held["variance"].dtype == np.float32
    assert held["bin"].tolist() == list(range(36))
    for b in range(36):
        mine = features[place == b]
        assert held["count"][b] == len(mine)
        if len(mine) > 1:
            np.testing.assert_allclose(held["mean"][b], mine.mean(0), rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(held["variance"][b], mine.var(0, ddof=1), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("method", ["vanilla", "sqinv_lds_fds"])
def test_keeping_them_changes_no_number_and_no_identity(compose, method):
    choices = {"on": [], "off": ["trainer.feature_statistics=false"]}
    made = {k: experiment.run(compose(f"method={method}", *v, outputs=k)) for k, v in choices.items()}
    on, off = made["on"], made["off"]
    assert on.folder.name == off.folder.name
    assert on.metrics["test"] == off.metrics["test"]
    assert (on.folder / "predictions.npz").read_bytes() == (off.folder / "predictions.npz").read_bytes()
    assert history(on.folder) == history(off.folder)
    for which in ("best", "last"):
        a, b = (checkpoint.load(run.folder / "checkpoints" / f"{which}.pt")["network"] for run in (on, off))
        assert all(torch.equal(a[key], b[key]) for key in a)
    assert (on.folder / "features.npz").exists()
    assert not (off.folder / "features.npz").exists()


def test_a_backbone_without_features_has_no_statistics(compose):
    paths = compose().paths
    small = [item for item in SMALL if "hidden" not in item]
    settings = config.compose([*small, "backbone=linear", f"paths.data={paths.data}", f"paths.outputs={paths.outputs}"])
    assert not (experiment.run(settings).folder / "features.npz").exists()


def test_a_run_keeps_its_training_labels(compose):
    settings = compose("reweight=inv", "lds=triang")
    folder = experiment.run(settings).folder
    held = np.load(folder / "labels.npz")
    bins = TargetBins.regular(-2, 16, 0.5)
    counts = bins.counts(config.build(settings.dataset.source).load().train.targets)
    assert held["counts"].tolist() == counts.tolist()
    assert held["edges"].tolist() == bins.edges.tolist()
    smoothed = lds_density(counts, kernel="triang", boundary="reflect", integers="exact")
    np.testing.assert_array_equal(held["density"], smoothed)
    many, medium, few = counts > 40, (counts >= 8) & (counts <= 40), counts < 8
    assert held["region"].tolist() == np.select([many, medium, few], [0, 1, 2]).tolist()


def test_the_density_is_smoothed_by_the_default_kernel_where_lds_is_off(compose):
    held = np.load(experiment.run(compose()).folder / "labels.npz")
    expected = lds_density(held["counts"], kernel="gaussian", boundary="reflect", integers="exact")
    np.testing.assert_array_equal(held["density"], expected)


def test_smoothing_distance_is_the_mean_difference_over_bins_with_samples():
    fds = FDS(2, bins=TargetBins.regular(0, 3, 1), kernel="triang", kernel_size=3, clip=(0.1, 10), momentum=0.0)
    assert fds.smoothing_distance().isnan().all()
    features, labels = torch.tensor([[0.0, 0], [2, 0], [4, 8], [4, 8]]), torch.tensor([0.5, 0.5, 1.5, 1.5])
    fds.update_running_stats(features, labels, 0)
    # Means (1, 0), (4, 8), none; the window (1, 2, 1) / 4, its end mirrored, over the two bins with samples:
    # bin 0: (2 * (1, 0) + 2 * (4, 8)) / 4 = (2.5, 4), off by (1.5, 4); bin 1: (1 * (1, 0) + 2 * (4, 8)) / 3 =
    # (3, 16/3), off by (1, 8/3). Variances (2, 0), (0, 0): smoothed (1, 0), (2/3, 0).
    mean, variance = fds.smoothing_distance().tolist()
    assert mean == pytest.approx((1.5 + 4 + 1 + 8 / 3) / 4)
    assert variance == pytest.approx((1 + 0 + 2 / 3 + 0) / 4)


def test_history_has_the_distances_of_runs_with_fds_alone(compose):
    plain = pd.read_csv(experiment.run(compose()).folder / "history.csv")
    smoothed = pd.read_csv(experiment.run(compose("fds=gaussian")).folder / "history.csv")
    columns = ["fds/mean_distance", "fds/variance_distance"]
    assert not set(columns) & set(plain)
    assert (smoothed[columns] > 0).all(axis=None)


def test_tensorboards_own_table_has_a_row_for_each_run_with_its_test_errors(compose, tmp_path):
    made = [experiment.run(compose(f"method={method}")) for method in ("vanilla", "sqinv")]
    names, rows = hparams_table(tmp_path / "outputs")
    assert {"method", "seed", "lr", "backbone", "loss"} <= names
    assert len(rows) == 2
    for outcome in made:
        (row,) = (row for row in rows if row["method"] == outcome.metrics["method"])
        errors = {region: values["mae"] for region, values in outcome.metrics["test"].items() if values["count"]}
        assert {"all", "medium", "few"} <= errors.keys()
        assert {key: row[f"test/{key}/mae"] for key in errors} == pytest.approx(errors)
        assert row["seed"] == 0


def test_tensorboard_has_the_figures_of_a_finished_run(compose):
    pytest.importorskip("matplotlib")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = experiment.run(compose("trainer.figures=true")).folder
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["images"]) == {"figures/labels", "figures/reliability", "figures/curves"}
    (picture,) = events.Images("figures/curves")
    assert picture.encoded_image_string.startswith(b"\x89PNG")
    assert picture.step == 30
    assert (picture.width, picture.height) == (800, 480)


def hparams_table(logdir: Path) -> tuple[set[str], list[dict[str, Any]]]:
    """Return what TensorBoard's HPARAMS tab shows: names of hyper-parameters, and each row's values and metrics."""
    from tensorboard import context
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment, list_session_groups

    runs = EventMultiplexer()
    runs.AddRunsFromDirectory(str(logdir))
    runs.Reload()
    backend = backend_context.Context(TBContext(data_provider=MultiplexerDataProvider(runs, str(logdir))))
    asked = context.RequestContext()
    found = get_experiment.Handler(asked, backend, "", api_pb2.GetExperimentRequest(include_metrics=True)).run()
    request = api_pb2.ListSessionGroupsRequest(slice_size=100, include_metrics=True)
    request.allowed_statuses.extend([api_pb2.STATUS_SUCCESS])
    for metric in found.metric_infos:
        request.col_params.add().metric.CopyFrom(metric.name)
    groups = list_session_groups.Handler(asked, backend, "", request).run().session_groups
    rows = []
    for group in groups:
        values = {key: getattr(value, value.WhichOneof("kind")) for key, value in group.hparams.items()}
        rows.append(values | {metric.name.tag: metric.value for metric in group.metric_values})
    return {info.name for info in found.hparam_infos}, rows
