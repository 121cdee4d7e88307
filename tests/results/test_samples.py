"""Errors of single samples follow from a run's own files; contributions have the metric for their mean."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from dir_bench.datasets.depth.metrics import depth_errors
from dir_bench.datasets.depth.metrics import terms as depth_terms
from dir_bench.errors import UserError
from dir_bench.evaluation.metrics import regression_errors
from dir_bench.results.samples import contributions, metric_of, read_predictions
from dir_bench.results.store import RunFolder

Make = Callable[..., RunFolder]
SETTINGS = {
    "dataset": {"name": "d", "bins": {"start": 0, "stop": 5, "width": 1, "first": 1}, "extra_errors": "none"},
    "semantics": {"zero_error": 0.0},
}


def write(make_run: Make, folder: Path, target: Any, prediction: Any, counts: Any = None, **more: Any) -> RunFolder:
    target, prediction = np.asarray(target, float), np.asarray(prediction, float)
    errors = regression_errors(prediction, target)
    arrays = {"target": target, "prediction": prediction, "index": np.arange(len(target))}
    run = make_run(folder, {"all": errors}, settings=SETTINGS, predictions=arrays, **more)
    if counts is not None:
        codes = np.select([np.asarray(counts) > 100, np.asarray(counts) < 20], [0, 2], 1)
        np.savez(run.path / "labels.npz", counts=np.asarray(counts), region=codes.astype(np.int8))
    return run


def test_regions_are_those_that_the_run_recorded(tmp_path: Path, make_run: Make) -> None:
    run = write(make_run, tmp_path, [1.5, 2.5, 3.5, 4.5], [1, 2, 3, 4], counts=[0, 500, 50, 0, 5])
    masks = read_predictions(run.path).masks()
    found = {name: mask.nonzero()[0].tolist() for name, mask in masks.items()}
    assert found == {
        "all": [0, 1, 2, 3], "many": [0], "medium": [1], "few": [2, 3],
        "with_data": [0, 1, 3], "zero": [2], "interp": [2],
    }  # fmt: skip


def test_without_recorded_labels_there_is_one_region(tmp_path: Path, make_run: Make) -> None:
    assert list(read_predictions(write(make_run, tmp_path, [1.0, 2.0], [1, 1]).path).masks()) == ["all"]


def test_other_predictions_than_the_run_finished_with_are_refused(tmp_path: Path, make_run: Make) -> None:
    run = write(make_run, tmp_path, [1.0, 2.0], [1, 1])
    content = bytearray(run.predictions_path.read_bytes())
    content[-200] ^= 1  # the same size
    run.predictions_path.write_bytes(bytes(content))
    with pytest.raises(UserError, match=r"predictions\.npz is not the file that the run finished with"):
        read_predictions(run.path)


def test_an_unfinished_run_has_no_predictions(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.start({}, {})
    with pytest.raises(UserError, match="it is interrupted, not finished"):
        read_predictions(run.path)


@pytest.mark.parametrize("metric", ["mae", "mse", "rmse", "gm", "pearson", "spearman"])
@pytest.mark.parametrize("digits", [0, 6])  # with ties, and without
def test_contributions_have_the_metric_for_their_mean(metric: str, digits: int) -> None:
    rng = np.random.default_rng(1)
    target = rng.uniform(0, 9, 200).round(digits)
    prediction = (target + rng.normal(0, 2, 200)).round(digits) + 0.25
    values = contributions(metric, prediction, target)
    assert values is not None
    expected = regression_errors(prediction, target)[metric]
    assert metric_of(metric, values.mean()) == pytest.approx(expected, rel=1e-12)


def test_contributions_of_depth_errors() -> None:
    depth = np.random.default_rng(2).uniform(0.7, 10, 50)
    for metric in ("delta1", "log10", "abs_rel"):
        values = contributions(metric, depth * 1.2, depth, terms=depth_terms)
        assert values is not None
        assert values.mean() == pytest.approx(depth_errors(depth * 1.2, depth)[metric])


@pytest.mark.parametrize(("metric", "reference"), [("pearson", stats.pearsonr), ("spearman", stats.spearmanr)])
@pytest.mark.parametrize("digits", [0, 6])
def test_influence_on_a_correlation_is_the_jackknifes(metric: str, reference: Any, digits: int) -> None:
    # The jackknife's pseudo-values n r - (n - 1) r_without_i, which leave one sample out and start anew.
    rng = np.random.default_rng(3)
    n = 400
    target = rng.uniform(0, 9, n).round(digits)
    prediction = (target + rng.normal(0, 2, n)).round(digits)
    whole = reference(prediction, target)[0]
    rest = np.array([reference(np.delete(prediction, i), np.delete(target, i))[0] for i in range(n)])
    pseudo = n * whole - (n - 1) * rest
    values = contributions(metric, prediction, target)
    assert values is not None
    assert values.std() == pytest.approx(pseudo.std(), rel=0.02)
    assert np.abs(values - pseudo).max() < 0.1 * pseudo.std()  # what is left is of second order, as 1 / n


def test_what_no_sample_contributes_to_is_none() -> None:
    assert contributions("bmae", np.ones(3), np.arange(3.0)) is None
    assert contributions("pearson", np.ones(3), np.arange(3.0)) is None
    assert contributions("spearman", np.ones(1), np.ones(1)) is None
