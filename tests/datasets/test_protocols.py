"""Protocols: what is drawn, against the published counts where the list is there, and whole runs on them."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dir_bench import config
from dir_bench.datasets.arrays import ArraySplit
from dir_bench.datasets.protocols import Drawn, Joined, densities, draw
from dir_bench.datasets.shhs import NightSplit
from dir_bench.errors import UserError
from dir_bench.labels import TargetBins
from dir_bench.results.repeated import repeats
from dir_bench.schema import Protocol, Subset
from dir_bench.task import target_bins

AGEDB = Path(__file__).parents[3] / "shared" / "data" / "agedb" / "agedb.csv"
PROTOCOLS = ("balanced_extrapolation", "bimodal_interpolation", "blind_spot")
PUBLISHED = {
    # rows and distinct pictures of train, val and test, ages of train and of test: the review's shipped lists
    "balanced_extrapolation": ((8728, 5932), (1066, 1016), (3450, 2797), (22, 78), (16, 85)),
    "bimodal_interpolation": ((7423, 5071), (903, 865), (2800, 2334), (20, 75), (20, 75)),
    "blind_spot": ((10253, 6835), (1257, 1196), (2700, 2065), (20, 73), (20, 73)),
}


def drawn(name: str, targets: np.ndarray, *settings: str) -> Drawn:
    chosen = config.compose(["dataset=agedb", f"subset={name}", *settings])
    return draw(targets, target_bins(chosen.dataset), chosen.subset)


def made_up_ages(n: int = 20_000) -> np.ndarray:
    return np.random.default_rng(3).normal(45, 20, n).clip(1, 100).round()


@pytest.mark.data
@pytest.mark.skipif(not AGEDB.exists(), reason=f"needs {AGEDB}")
@pytest.mark.parametrize("name", PROTOCOLS)
def test_published_counts(name: str) -> None:
    with AGEDB.open() as file:
        ages = np.array([int(row["age"]) for row in csv.DictReader(file)])
    found = drawn(name, ages, "subset.replace=true")
    *sizes, trained, tested = PUBLISHED[name]
    for (rows, distinct), size in zip(sizes, found.sizes.values(), strict=True):
        assert size["rows"] == pytest.approx(rows, rel=0.02)  # which are drawn is up to the stream
        assert size["distinct"] == pytest.approx(distinct, rel=0.03)
    for rows, ends in ((found.train, trained), (found.test, tested)):
        assert (ages[rows].min(), ages[rows].max()) == ends
    if name == "blind_spot":
        assert (len(set(ages[found.train])), len(set(ages[found.test]))) == (47, 54)
    # Without replacement: as many pictures as there are distinct ones with it.
    without = drawn(name, ages)
    pool = found.sizes["train"]["distinct"] + found.sizes["val"]["distinct"]
    assert len(without.train) + len(without.val) == pytest.approx(pool, rel=0.02)


@pytest.mark.parametrize("settings", [[], ["subset.replace=true"]])
@pytest.mark.parametrize("name", PROTOCOLS)
def test_no_sample_is_in_two_splits_and_copies_only_where_asked_for(name: str, settings: list[str]) -> None:
    ages = made_up_ages()
    found = drawn(name, ages, *settings)
    for one, other in ((found.train, found.val), (found.train, found.test), (found.val, found.test)):
        assert not set(one) & set(other)
    copies = {each: size["rows"] - size["distinct"] for each, size in found.sizes.items()}
    assert all(count > 0 for count in copies.values()) if settings else not any(copies.values())
    assert np.unique(ages[found.test], return_counts=True)[1].max() <= 50
    again = drawn(name, ages, *settings)
    assert np.array_equal(found.train, again.train)
    assert not np.array_equal(found.train, drawn(name, ages, *settings, "subset.seed=1").train)


def test_what_each_protocol_asks_for() -> None:
    ages = made_up_ages()
    extrapolation, interpolation = drawn(PROTOCOLS[0], ages), drawn(PROTOCOLS[1], ages)
    assert ages[extrapolation.test].min() < ages[extrapolation.train].min()
    assert ages[extrapolation.test].max() > ages[extrapolation.train].max()
    assert set(np.unique(ages[extrapolation.test], return_counts=True)[1]) == {50}  # even
    assert ages[interpolation.train].min() >= ages[interpolation.test].min()
    assert np.isin(ages[interpolation.train], range(48, 57)).mean() < 0.05
    blind = drawn(PROTOCOLS[2], ages)
    assert not np.isin(ages[blind.train], range(47, 54)).any()
    assert set(range(47, 54)) <= set(ages[blind.test])


def test_density_scales_to_the_range_of_labels() -> None:
    ages, _ = densities(TargetBins.regular(0, 121, 1), Protocol(omega=[[50, 0.01]], range=[0, 100]))
    assert ages[[50, 60]].tolist() == pytest.approx([1, np.exp(-1)])
    scores, _ = densities(TargetBins.regular(0, 5, 0.1), Protocol(omega=[[50, 0.01]]))
    assert scores[[25, 30]].tolist() == pytest.approx([1, np.exp(-1)])  # 2.5 is place 50, 3.0 place 60
    weights, inside = densities(
        TargetBins.regular(-1, 1, 0.01), Protocol(omega=[[0, 0]], within=[20, 74], blind=[[47, 54]])
    )
    assert (inside.sum(), (weights > 0).sum()) == (108, 94)  # 54 of 100 places, less 7


@pytest.mark.parametrize("low", [0.0, -4.0, 0.1, 2000.0])
@pytest.mark.parametrize("reach", [0.1, 3.0, 7.0, 37.0, 100.0, 120.0])
def test_bins_on_the_ends_of_a_stretch_belong_to_what_begins_there(low: float, reach: float) -> None:
    bins = TargetBins.regular(low, low + reach, reach / 100)
    weights, inside = densities(bins, Protocol(omega=[[50, 0]], within=[7, 93], blind=[[14, 29], [57, 58]]))
    assert np.flatnonzero(inside).tolist() == list(range(7, 93))
    assert np.flatnonzero(weights).tolist() == [*range(7, 14), *range(29, 57), *range(58, 93)]


def test_an_empty_split_says_what_to_do() -> None:
    with pytest.raises(UserError, match=r"split 'test'.*lower subset.protocol.per_bin"):
        drawn(PROTOCOLS[0], made_up_ages(200))
    with pytest.raises(UserError, match=r"no sample to train on.*subset\.protocol\.range"):
        draw([1.0, 2.0], TargetBins.regular(0, 10, 1), Subset("x", protocol=Protocol(omega=[[50, 1e6]], range=[0, 9])))


def test_a_batch_of_several_splits_is_in_its_order() -> None:
    inputs = np.arange(12, dtype=np.float32).reshape(6, 2)
    parts = tuple(ArraySplit(inputs[i : i + 2], inputs[i : i + 2, 0]) for i in (0, 2, 4))
    joined = Joined(parts)
    order = np.array([5, 0, 3, 1])
    assert joined.fetch(order, None).tolist() == inputs[order].tolist()
    assert joined.fetch(np.array([2, 3]), None).tolist() == inputs[[2, 3]].tolist()
    assert (len(joined), joined.lengths, joined.targets.tolist()) == (6, None, inputs[:, 0].tolist())


def test_samples_of_different_lengths_are_padded_together(tmp_path: Path) -> None:
    files = [tmp_path / f"{n}.npy" for n in (2, 3, 1)]
    for file in files:
        np.save(file, np.ones((int(file.stem), 4), np.float16))
    seconds, scores = np.array([2, 3, 1]), np.zeros(3, np.float32)
    whole = NightSplit(tuple(files), seconds, scores)
    parts = tuple(NightSplit((f,), s, t) for f, s, t in zip(files, seconds[:, None], scores[:, None], strict=True))
    nights, lengths = Joined(parts).fetch(np.array([2, 0, 1]), None)
    expected, expected_lengths = whole.fetch(np.array([2, 0, 1]), None)
    assert nights.equal(expected)
    assert lengths.equal(expected_lengths)


def test_a_run_records_what_was_drawn(commands: Callable[..., str], tmp_path: Path) -> None:
    small = ["dataset.source.n_train=300", "dataset.source.n_val_per_bin=1", "dataset.source.n_test_per_bin=4"]
    words = ["dataset=gauge", "subset=blind_spot", "subset.replace=true", "subset.protocol.per_bin=3", *small]
    quick = ["method=uvote", "trainer.epochs=1", "trainer.figures=false", "trainer.accelerator=cpu"]
    said = commands(["data", "check", "gauge", *words[1:]], ["train", *words, *quick], ["evaluate", "RUN"])
    assert "equal to the recorded metrics.json" in said
    (file,) = tmp_path.glob("outputs/gauge-blind_spot_with_replacement/*/*/metrics.json")
    metrics = json.loads(file.read_text())
    assert metrics["title"] == "GAUGE-DIR [BLIND SPOT, WITH REPLACEMENT]"
    assert metrics["test"]["all"]["count"] == metrics["drawn"]["test"]["rows"]
    assert metrics["drawn"]["train"]["distinct"] < metrics["drawn"]["train"]["rows"]
    assert metrics["test"]["interp"]["bins"] >= 7  # all of the blind spot
    assert metrics["family"] == "laplace"
    assert metrics["test"]["all"]["nll"] > 0
    # A folder of an earlier version has fewer errors, and they are the same.
    held = {region: {"count": errors["count"], "mae": errors["mae"]} for region, errors in metrics["test"].items()}
    assert repeats(held, metrics["test"])
    held["all"]["mae"] += 1
    assert not repeats(held, metrics["test"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("subset.replace=true subset=fig2", "subset.replace has no effect with subset=fig2"),
        ("subset=blind_spot subset.protocol.range=[5,1]", "subset.protocol.range=[5, 1] must be [low, high]"),
        ("subset=blind_spot subset.protocol.blind=[3]", "subset.protocol.blind=[3] must list ranges"),
        ("subset=blind_spot subset.protocol.per_bin=0", "subset.protocol.per_bin=0 must be at least 1"),
        ("subset=blind_spot subset.remove=[[1,2]]", "subset.remove has no effect with subset=blind_spot"),
        ("subset=blind_spot subset.protocol.omega=[]", "subset.protocol.omega=[] must list"),
        ("subset=blind_spot dataset=nyud2", "every pixel has one"),
    ],
)
def test_mistakes_are_told(words: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        config.compose(["dataset=gauge", *words.split()])
