"""The published label files give the published histograms, regions and bins (real files, not in the repository)."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dir_bench.labels import Regions, TargetBins, bin_weights

SHARED = Path(__file__).parents[3] / "shared"
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not (SHARED / "golden" / "dataset_facts.json").is_file(), reason="no ../shared beside us"),
]
AGE = TargetBins.regular(0, 121, 1, rule="truncate")
STSB = TargetBins.regular(0, 5, 0.1, precision="float32")
STSB_FILES = {"train": "train_new.tsv", "dev": "dev_new.tsv", "test": "test_new.tsv"}


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    return json.loads((SHARED / "golden" / "dataset_facts.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def ages() -> dict[str, np.ndarray]:
    with (SHARED / "data" / "agedb" / "agedb.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    splits = ("train", "val", "test")
    return {split: np.array([float(row["age"]) for row in rows if row["split"] == split]) for split in splits}


@pytest.fixture(scope="module")
def scores() -> dict[str, np.ndarray]:
    def read(name: str) -> np.ndarray:
        with (SHARED / "data" / "sts_b" / name).open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
        return np.array([row[9] for row in rows], dtype=np.float32)

    return {split: read(name) for split, name in STSB_FILES.items()}


def region_bins(regions: Regions) -> dict[str, list[int]]:
    masks = regions.masks(np.arange(len(regions)))
    return {name: np.flatnonzero(masks[name]).tolist() for name in ("many", "medium", "few")}


def test_agedb_histograms(facts: dict[str, Any], ages: dict[str, np.ndarray]) -> None:
    published = facts["agedb_dir"]["histogram"]
    assert {split: AGE.counts(values).tolist() for split, values in ages.items()} == published


def test_agedb_regions(facts: dict[str, Any], ages: dict[str, np.ndarray]) -> None:
    regions = Regions.from_counts(AGE.counts(ages["train"]))
    occurring = set(np.unique(np.concatenate([AGE.index(values) for values in ages.values()])).tolist())
    ours = {name: sorted(occurring & set(bins)) for name, bins in region_bins(regions).items()}
    published = facts["agedb_dir"]["regions"]
    assert ours == {"many": published["many"], "medium": published["median"], "few": published["low"]}
    for split, values in ages.items():
        masks = regions.masks(AGE.index(values))
        sizes = {"many": "many", "median": "medium", "low": "few"}
        published_sizes = facts["agedb_dir"]["samples_per_region"][split]
        assert {name: int(masks[ours].sum()) for name, ours in sizes.items()} == published_sizes


def test_agedb_only_age_2_is_zero_shot_inside(ages: dict[str, np.ndarray]) -> None:
    regions = Regions.from_counts(AGE.counts(ages["train"]))
    assert np.flatnonzero(regions.interp).tolist() == [2]
    assert np.flatnonzero(regions.extrap).tolist() == [0, *range(102, 121)]


def test_sts_b_histograms(facts: dict[str, Any], scores: dict[str, np.ndarray]) -> None:
    published = facts["sts_b_dir"]["histogram"]
    assert {split: STSB.counts(values).tolist() for split, values in scores.items()} == published


def test_sts_b_published_lists_follow_from_100_and_30(facts: dict[str, Any], scores: dict[str, np.ndarray]) -> None:
    regions = Regions.from_counts(STSB.counts(scores["train"]), many_over=100, few_under=30)
    assert region_bins(regions) == facts["sts_b_dir"]["regions_fixed_in_code"]
    for split, values in scores.items():
        masks = regions.masks(STSB.index(values))
        sizes = {name: int(masks[name].sum()) for name in ("many", "medium", "few")}
        assert sizes == facts["sts_b_dir"]["samples_per_region"][split]


def test_sts_b_differs_from_100_and_20_in_five_bins(facts: dict[str, Any], scores: dict[str, np.ndarray]) -> None:
    counts = STSB.counts(scores["train"])
    differ = Regions.from_counts(counts).codes != Regions.from_counts(counts, few_under=30).codes
    assert np.flatnonzero(differ).tolist() == facts["sts_b_dir"]["bins_where_the_20_100_rule_differs"]


def test_nyud2_published_lists_follow_from_pixel_counts(facts: dict[str, Any]) -> None:
    counts = facts["nyud2_dir"]["train_pixel_count_per_bin"]
    regions = Regions.from_counts(counts, many_over=2.6e7, few_under=1e7)
    assert region_bins(regions) == facts["nyud2_dir"]["regions_fixed_in_code"]
    weights = bin_weights(counts, "inv", first=7)
    assert np.isclose(np.average(weights, weights=counts), 1, rtol=1e-6)
