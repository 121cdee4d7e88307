"""Paired tests: exact where they can be, calibrated where drawn, and refused where rows cannot be paired."""

import csv
import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from dir_bench.errors import UserError
from dir_bench.evaluation.metrics import region_metrics
from dir_bench.labels import Regions, TargetBins
from dir_bench.results import significance
from dir_bench.results.comparison import holm
from dir_bench.results.records import collect
from dir_bench.results.rows import Table
from dir_bench.results.significance import sign_flip_p
from dir_bench.results.store import RunFolder
from dir_bench.results.tables import summarise, table

Make = Callable[..., RunFolder]
BINS = {"start": 0, "stop": 10, "width": 1}
COUNTS = np.array([500, 500, 500, 50, 50, 50, 50, 5, 5, 5])
SETTINGS = {"dataset": {"name": "d", "bins": BINS, "extra_errors": "none"}, "semantics": {"zero_error": 0.0}}


def write(
    make_run: Make, folder: Path, target: np.ndarray, noise: float, seed: int, method: str, labels: bool = True
) -> RunFolder:
    """Write a run whose errors on each sample have a common part, and its own part times `noise`."""
    rng = np.random.default_rng([seed, int(noise * 1000)])
    common = np.random.default_rng(99).normal(0, 1, len(target))
    prediction = target + common + noise * rng.normal(0, 1, len(target))
    regions = Regions.from_counts(COUNTS)
    test = region_metrics(prediction, target, bins=TargetBins.regular(**BINS), regions=regions)
    arrays = {"target": target, "prediction": prediction, "index": np.arange(len(target))}
    columns = ["mae", "gm", "pearson"]
    run = make_run(folder, test, method=method, seed=seed, settings=SETTINGS, predictions=arrays, table_metrics=columns)
    if labels:
        np.savez(run.path / "labels.npz", counts=COUNTS, region=regions.codes.astype(np.int8))
    return run


def compared(folder: Path, reference: str = "VANILLA") -> Table:
    (found,) = summarise(collect([folder])[0], compare=reference, over="samples")
    return found


def test_few_units_give_the_exact_p_of_all_flips() -> None:
    differences = np.random.default_rng(0).normal(0.3, 1, (3, 9))
    expected = [
        np.mean([abs(np.dot(signs, row)) >= abs(row.sum()) - 1e-12 for signs in itertools.product((1, -1), repeat=9)])
        for row in differences
    ]
    assert sign_flip_p(differences) == pytest.approx(expected, abs=0)
    assert sign_flip_p(np.array([[1.0, 1.0]])).tolist() == [0.5]  # two of four flips are as far out
    assert sign_flip_p(np.zeros((1, 5))).tolist() == [1.0]


def test_many_units_agree_with_scipy_and_with_the_t_test() -> None:
    differences = np.random.default_rng(1).normal([[0.0], [0.08], [0.3]], 1, (3, 500))
    found = sign_flip_p(differences)
    for p, row in zip(found, differences, strict=True):
        drawn = stats.permutation_test(
            (row,), np.sum, permutation_type="samples", n_resamples=9999, rng=np.random.default_rng(5)
        ).pvalue
        assert p == pytest.approx(drawn, abs=0.02)
        assert p == pytest.approx(stats.ttest_1samp(row, 0).pvalue, abs=0.02)
    assert found[2] == 1 / (1 + significance.FLIPS)  # never 0
    assert np.array_equal(found, sign_flip_p(differences))


def test_p_is_uniform_where_there_is_no_difference() -> None:
    p = sign_flip_p(np.random.default_rng(2).standard_t(3, (1000, 60)))
    assert np.mean(p < 0.05) == pytest.approx(0.05, abs=0.02)
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_holm_by_hand() -> None:
    # sorted 0.01 0.02 0.03 0.9, times 4 3 2 1: 0.04 0.06 0.06 0.9, none below the one before
    assert holm(np.array([0.03, 0.01, 0.9, 0.02])) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert holm(np.array([0.6, 0.7])).tolist() == [1.0, 1.0]


def test_a_real_difference_is_found_and_none_is_not(tmp_path: Path, make_run: Make) -> None:
    target = np.random.default_rng(3).uniform(0, 10, 400)
    for seed in range(3):
        for method, noise in (("VANILLA", 0.5), ("INV", 0.505), ("SQINV", 1.5)):
            write(make_run, tmp_path, target, noise, seed, method)
    found = compared(tmp_path)
    rows = {row.label: row for row in found.rows}
    assert rows["VANILLA"].tests == {}
    assert set(rows["SQINV"].tests) == set(found.columns) == set(rows["INV"].tests)
    for column in (("mae", "all"), ("mae", "few"), ("gm", "all"), ("pearson", "all")):
        assert rows["SQINV"].tests[column].significant
        assert not rows["INV"].tests[column].significant
        assert rows["INV"].tests[column].p <= rows["INV"].tests[column].p_holm
        assert found.best(column) | found.within_noise(column) == {"VANILLA", "INV"}
    markdown = table([tmp_path], "md", compare="vanilla", over="samples")  # in any case
    assert markdown.count("‡") == 1 + sum(test.significant for row in rows.values() for test in row.tests.values())
    p = [
        line["p_holm"]
        for line in csv.DictReader(io.StringIO(table([tmp_path], "csv", compare="VANILLA", over="samples")))
    ]
    assert p.count("") == len(found.columns)  # of the row itself
    assert sorted(map(float, filter(None, p))) == sorted(t.p_holm for r in found.rows for t in r.tests.values())


def test_the_difference_is_that_of_the_shared_seeds(tmp_path: Path, make_run: Make) -> None:
    target = np.random.default_rng(3).uniform(0, 10, 12)
    a = [write(make_run, tmp_path, target, 0.5, seed, "VANILLA") for seed in (0, 1)]
    b = [write(make_run, tmp_path, target, 1.5, seed, "INV") for seed in (1, 2)]
    write(make_run, tmp_path, target, 1.0, 7, "RRT")
    found = compared(tmp_path)
    rows = {row.label: row for row in found.rows}
    mae = [np.abs(np.load(run.predictions_path)["prediction"] - target) for run in (a[1], b[0])]
    assert rows["INV"].tests["mae", "all"].p == sign_flip_p((mae[1] - mae[0])[None])[0]
    assert "Not tested, as they share no seed with VANILLA: RRT." in found.notes


def test_different_samples_are_refused_with_both_runs(tmp_path: Path, make_run: Make) -> None:
    target = np.random.default_rng(3).uniform(0, 10, 50)
    splits = {"VANILLA": target, "INV": target[::-1]}
    runs = [write(make_run, tmp_path, labels, 0.5, 0, method) for method, labels in splits.items()]
    with pytest.raises(UserError, match="were tested on different samples") as refused:
        table([tmp_path], compare="VANILLA", over="samples")
    assert all(str(run.path) in str(refused.value) for run in runs)


def test_predictions_that_do_not_give_the_recorded_error_are_refused(tmp_path: Path, make_run: Make) -> None:
    arrays = {"target": np.ones(3), "prediction": np.zeros(3), "index": np.arange(3)}
    for method in ("VANILLA", "INV"):
        make_run(tmp_path, {"all": {"count": 3, "mae": 2.0}}, method=method, settings=SETTINGS, predictions=arrays)
    records, problems = collect([tmp_path])
    assert problems == []
    (found,) = summarise(records, compare="VANILLA", over="samples")
    assert len(found.left_out) == 2
    shown = table([tmp_path], compare="VANILLA", over="samples")
    assert shown.count("predictions.npz gives 1.0 for mae of region all, and metrics.json says 2.0") == 2


def test_regions_that_nobody_recorded_are_named_and_not_tested(tmp_path: Path, make_run: Make) -> None:
    target = np.random.default_rng(3).uniform(0, 10, 50)
    for method in ("VANILLA", "INV"):
        write(make_run, tmp_path, target, 0.5, 0, method, labels=False)
    found = compared(tmp_path)
    assert {region for row in found.rows for _, region in row.tests} == {"all"}
    assert sum(note.startswith("Not tested: few, ") for note in found.notes) == 1


def test_a_row_that_is_not_there_meets_its_nearest(tmp_path: Path, make_run: Make) -> None:
    target = np.arange(9.0)
    write(make_run, tmp_path, target, 0.5, 0, "VANILLA")
    with pytest.raises(UserError, match=r"No row 'VANILA' to compare with \(did you mean 'VANILLA'\?\)"):
        table([tmp_path], compare="VANILA", over="samples")


def test_pixels_are_flipped_in_groups_of_neighbours(
    tmp_path: Path, make_run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(significance, "UNITS", 16)
    target = np.random.default_rng(3).uniform(0, 10, 100)
    for method, noise in (("VANILLA", 0.5), ("INV", 1.5)):
        write(make_run, tmp_path, target, noise, 0, method)
    samples = significance.read_samples(collect([tmp_path])[0], [("mae", "all"), ("mae", "few")])
    sums: Any = samples.units["INV"][0]["mae", "all"]
    held = np.load(next(tmp_path.glob("agedb/inv/*/predictions.npz")))
    error = np.abs(held["prediction"] - held["target"])
    assert sums.shape == (16,)
    assert sums[0] == pytest.approx(error[: 100 // 16].sum() / 100)
    assert sums.sum() == pytest.approx(error.mean())
    assert samples.notes == ("The test flips neighbouring samples together, in at most 16 groups a region.",)
