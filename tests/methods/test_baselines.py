"""The plain baselines: each against scikit-learn or NumPy on the same numbers, by hand, and as whole runs."""

import os
import signal
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from run_helpers import assert_same_run
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge as ScikitRidge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from dir_bench import config, experiment
from dir_bench.datasets.arrays import Arrays
from dir_bench.errors import UserError
from dir_bench.interrupt import Interrupted
from dir_bench.labels import TargetBins
from dir_bench.methods import baselines
from dir_bench.methods.part import Facts, FeatureSet

BINS = TargetBins.regular(0, 10, 1)


def facts(targets, width: int = 4, scale: float = 2.0, shift: float = 1.0) -> Facts:
    return Facts(BINS, BINS.counts(targets), targets, scale, width, nn.Identity(), target_shift=shift)


def sample(seed: int, n: int = 60, width: int = 4, whole: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.integers(-2, 3, (n, width)) if whole else rng.normal(3, [1, 10, 0.1, 1][:width], (n, width))
    x = x.astype(np.float32)
    return x, (5 + x[:, 0] - 0.1 * x[:, 1] ** 2 + rng.normal(0, 0.3, n)).clip(0, 9.9)


def fitted(head, train, val, weights=None):
    def given_as(pair, some=None):
        return lambda: FeatureSet(torch.from_numpy(pair[0]), torch.from_numpy(pair[1]), some)

    head.fit(given_as(train, None if weights is None else torch.from_numpy(weights)), given_as(val))
    copy = type(head)(facts(train[1], width=train[0].shape[1]))
    copy.load_state_dict(head.state_dict())  # buffers of any length
    return lambda x: (copy.decode(torch.from_numpy(x)) * head.target_scale + head.target_shift).squeeze(1).numpy()


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 999), st.integers(1, 7))
def test_neighbours_are_those_of_scikit_learn_on_standardised_features(seed, k):
    train, test = sample(seed), sample(seed + 1)
    head = baselines.KNN(facts(train[1]), k)
    reference = make_pipeline(StandardScaler(), KNeighborsRegressor(k)).fit(*train)
    predicted = fitted(head, train, test)
    # the copy has the default k; the head itself the one asked for
    own = head.decode(torch.from_numpy(test[0])).squeeze(1).numpy() * 2 + 1
    np.testing.assert_allclose(own, reference.predict(test[0]), rtol=1e-4)
    if k == 5:
        np.testing.assert_array_equal(predicted(test[0]), own)


def test_near_samples_are_told_apart_beside_one_that_is_far_away():
    x = np.append(np.linspace(0, 1, 200), 1e5).astype(np.float32)[:, None]
    labels = np.arange(201) / 30
    head = baselines.KNN(facts(labels, width=1), k=1)
    fitted(head, (x, labels), (x, labels))
    np.testing.assert_allclose(head.decode(torch.from_numpy(x)).squeeze(1).numpy() * 2 + 1, labels, rtol=1e-6)


def test_more_neighbours_than_samples_are_all_of_them():
    train = sample(0, n=3)
    np.testing.assert_allclose(
        fitted(baselines.KNN(facts(train[1])), train, train)(train[0]), train[1].mean(), rtol=1e-5
    )


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 999), st.booleans())
def test_ridge_solves_the_normal_equations_with_weights(seed, weighted):
    train, test = sample(seed), sample(seed + 1)
    weights = np.random.default_rng(seed).uniform(0.2, 3, 60) if weighted else None
    predicted = fitted(baselines.Ridge(facts(train[1]), alpha=3.0), train, test, weights)(test[0])
    x = (train[0].astype(float) - train[0].mean(0, dtype=float)) / train[0].std(0, dtype=float)
    x, w = np.hstack([x, np.ones((60, 1))]), np.ones(60) if weights is None else weights
    solved = np.linalg.solve(x.T @ (w[:, None] * x) + np.diag([3, 3, 3, 3, 0]), x.T @ (w * train[1]))
    standard = (test[0].astype(float) - train[0].mean(0, dtype=float)) / train[0].std(0, dtype=float)
    np.testing.assert_allclose(predicted, standard @ solved[:4] + solved[4], rtol=1e-4, atol=1e-4)


def test_ridge_takes_the_penalty_with_the_least_validation_error():
    train, val = sample(0, n=8), sample(1)
    head = baselines.Ridge(facts(train[1]))
    fitted(head, train, val)
    errors = []
    for alpha in baselines.ALPHAS:
        model = make_pipeline(StandardScaler(), ScikitRidge(alpha)).fit(train[0].astype(float), train[1])
        errors.append(np.abs(model.predict(val[0].astype(float)) - val[1]).mean())
    assert head.report()["ridge/alpha"] == pytest.approx(baselines.ALPHAS[int(np.argmin(errors))])
    assert 0 < int(np.argmin(errors)) < len(errors) - 1  # neither end, or the choice was none


def test_a_feature_of_one_value_counts_for_nothing():
    train = sample(0)
    train[0][:, 2] = 1e3
    head = baselines.Ridge(facts(train[1]), alpha=1.0)
    predicted = fitted(head, train, train)
    assert np.isfinite(predicted(train[0])).all()
    assert head.weight[2] == 0


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 999), st.booleans())
def test_trees_as_arrays_predict_what_scikit_learn_does(seed, whole):
    """Whole numbers lie on many thresholds' sides; normal ones just beside them."""
    x, y = sample(seed, n=80, whole=whole)
    options = {"max_iter": 7, "max_leaf_nodes": 6, "min_samples_leaf": 3, "early_stopping": False}
    model = HistGradientBoostingRegressor(**options).fit(x, y)
    head = baselines.GradientBoosting(facts(y, scale=1.0, shift=0.0))
    head._keep(**baselines.arrays_of(model, 7))
    thresholds = np.concatenate([p[0].nodes["num_threshold"] for p in model._predictors]).astype(np.float32)
    x = np.vstack([x, np.repeat(thresholds[:, None], 4, axis=1), np.nextafter(x, np.float32(np.inf))])
    found = head.decode(torch.from_numpy(x)).squeeze(1)
    np.testing.assert_allclose(found, model.predict(x), rtol=1e-5)


def test_boosting_keeps_as_many_trees_as_validation_asks_for_and_heeds_weights():
    train, val = sample(0, n=200), sample(1, n=100)
    head = baselines.GradientBoosting(facts(train[1]), rounds=60, lr=0.3, min_leaf=5)
    predicted = fitted(head, train, val)(val[0])
    options = {"max_iter": 60, "learning_rate": 0.3, "min_samples_leaf": 5, "early_stopping": False}
    model = HistGradientBoostingRegressor(**options).fit(train[0], (train[1] - 1) / 2)
    stages = [np.abs(stage * 2 + 1 - val[1]).mean() for stage in model.staged_predict(val[0])]
    assert head.report()["gradient_boosting/rounds"] == int(np.argmin(stages)) + 1 < 60
    assert np.abs(predicted - val[1]).mean() == pytest.approx(min(stages), rel=1e-5)
    weighted = baselines.GradientBoosting(facts(train[1]), rounds=60, lr=0.3, min_leaf=5)
    heavy = np.where(train[1] > 5, 50.0, 1.0)
    assert np.abs(fitted(weighted, train, val, heavy)(val[0]) - predicted).max() > 0.05


@pytest.mark.parametrize(("targets", "shape"), [(np.array([1.0, 2.0, 9.0, 9.5]), (3, 4)), (None, (3, 4, 2, 2))])
def test_the_median_by_hand_for_samples_and_for_pixels(targets, shape):
    counts = np.zeros(10, np.int64)
    counts[[1, 4]] = [2, 6]  # of pixels: the middle of 8 is the second of the six in [4, 5)
    given_facts = Facts(BINS, counts, targets, 2.0, 4, nn.Identity(), target_shift=1.0, dense=targets is None)
    head = baselines.TrainMedian(given_facts)
    found = head.decode(torch.randn(shape)) * 2 + 1
    assert found.shape == (3, 1, *shape[2:])
    assert found.unique().item() == pytest.approx(5.5 if targets is not None else 4 + 2 / 6)


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    Arrays(str(folder / "data" / "arrays")).sample(folder / "data" / "arrays", n=200)
    return folder


def composed(work: Path, *words: str, out: str = "outputs"):
    common = [
        *("dataset=arrays", "trainer.epochs=2", "trainer.threads=1", "trainer.figures=false", "trainer.batch_size=64"),
        *("trainer.feature_statistics=false", f"paths.data={work / 'data'}", f"paths.outputs={work / out}"),
    ]
    return config.compose([*common, *words])


def test_a_run_is_the_estimator_on_the_inputs_and_its_checkpoint_has_it_all(work):
    run = experiment.run(composed(work, "method=ridge", "parts.head.alpha=2", "reweight=inv"))
    arrays = np.load(work / "data" / "arrays" / "arrays.npz")
    settings = composed(work)
    bins = TargetBins.of_settings(vars(settings.dataset.bins))
    table = config.compose(["reweight=inv"]).reweight.weights(settings, bins, bins.counts(arrays["train_y"]))
    scaler = StandardScaler().fit(arrays["train_x"].astype(float))
    spread = arrays["train_y"].std()
    model = ScikitRidge(2.0).fit(
        scaler.transform(arrays["train_x"].astype(float)),
        arrays["train_y"] / spread,
        sample_weight=table[bins.index(arrays["train_y"])],
    )
    expected = model.predict(scaler.transform(arrays["test_x"].astype(float))) * spread
    np.testing.assert_allclose(np.load(run.folder / "predictions.npz")["prediction"], expected, rtol=1e-4, atol=1e-4)
    assert run.metrics["method"] == "INV + RIDGE"
    assert experiment.evaluate(run.folder)["test"] == run.metrics["test"]
    trivial = experiment.run(composed(work, "method=train_median")).metrics["test"]["all"]["mae"]
    assert trivial == pytest.approx(np.abs(arrays["test_y"] - np.median(arrays["train_y"])).mean(), rel=1e-6)
    history = (run.folder / "history.csv").read_text().splitlines()
    assert len(history) == 2
    assert history[1].startswith("1,0,nan,0.0")  # one epoch of no step


@pytest.mark.parametrize("method", ["gradient_boosting", "knn"])
def test_a_run_that_was_stopped_begins_again_and_ends_the_same(work, monkeypatch, method):
    words = [f"method={method}", "parts.head.rounds=20"][: 2 if method == "gradient_boosting" else 1]
    whole = experiment.run(composed(work, *words))
    head = config.resolve_target(composed(work, *words).parts["head"])
    fit, calls = head.fit, []

    def stopped(self, train, val):
        if not calls:
            calls.append(train())
            os.kill(os.getpid(), signal.SIGTERM)
        fit(self, train, val)

    monkeypatch.setattr(head, "fit", stopped)
    again = composed(work, *words, out="again")
    with pytest.raises(Interrupted):
        experiment.run(again)
    assert_same_run(whole.folder, experiment.run(again).folder)


def test_features_are_those_of_the_run_that_is_named_or_of_vanilla(work):
    own = experiment.run(composed(work, "method=vanilla_ridge"))
    assert own.metrics["method"] == "VANILLA + RIDGE"
    vanilla = experiment.run(composed(work))
    assert vanilla.skipped  # stage one is the ordinary run
    named = experiment.run(composed(work, "method=vanilla_ridge", f"stages.from_run={vanilla.folder}"))
    assert named.metrics["test"] == own.metrics["test"]
    inputs = experiment.run(composed(work, "method=ridge")).metrics["test"]["all"]["mae"]
    assert own.metrics["test"]["all"]["mae"] != inputs


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["method=knn", "reweight=inv"], "reweight=inv has no meaning for KNN"),
        (["method=ridge", "mixup=input"], "mixup=input acts in training steps"),
        (["method=ridge", "backbone=mlp", "fds=gaussian"], "first stage"),
        (["method=ridge", "trainer.devices=2"], "fitted by one process"),
        (
            ["method=ridge", "+parts.near._target_=dir_bench.methods.ranksim.RankSim"],
            "parts.near: RankSim acts in training steps",
        ),
        (
            ["method=knn", "+parts.rare._target_=dir_bench.methods.dense_weight.DenseWeight"],
            "DenseWeight acts by `weigh`",
        ),
        (["method=vanilla_knn", "+parts.flat._target_=dir_bench.methods.bsam.BSAM"], "no meaning for KNN: drop it"),
        (["method=train_median", "resample=smoter"], "resample=smoter has no meaning for TrainMedian"),
        (["method=knn", "parts.head.k=0"], "k=0 must be at least 1"),
        (["method=ridge", "parts.head.alpha=-1"], "alpha=-1 must be 0 or more"),
        (["method=gradient_boosting", "parts.head.rounds=0"], "rounds=0"),
    ],
)
def test_what_makes_no_sense_is_refused(work, words, said):
    with pytest.raises(UserError, match=said):
        experiment.run(composed(work, *words))


def test_parts_that_act_are_taken(work):
    weighing = ["+parts.rare._target_=dir_bench.methods.dense_weight.DenseWeight"]
    learning = ["+parts.near._target_=dir_bench.methods.ranksim.RankSim"]
    for words in (["method=ridge", *weighing], ["method=vanilla_knn", *learning]):
        chosen = composed(work, *words)
        config.resolve_target(chosen.parts["head"]).check(chosen)


@pytest.mark.parametrize("method", ["knn", "ridge", "gradient_boosting", "vanilla_knn", "vanilla_ridge"])
def test_maps_are_refused_in_a_sentence(method):
    chosen = config.compose(["dataset=nyud2", f"method={method}"])
    with pytest.raises(UserError, match="has one a pixel: drop it"):
        config.resolve_target(chosen.parts["head"]).check(chosen)
    median = config.compose(["dataset=nyud2", "method=train_median"])
    config.resolve_target(median.parts["head"]).check(median)
