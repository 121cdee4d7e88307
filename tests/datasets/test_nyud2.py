"""NYUD2-DIR on rooms drawn in its on-disk format: splits, scales, what is judged, and every mistake by name."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dir_bench import config
from dir_bench.datasets import nyud2
from dir_bench.datasets.base import Dataset, Fetchable, Splittable
from dir_bench.datasets.nyud2 import BINS, LISTS, MASK, NYUD2, PUBLISHED_COUNTS
from dir_bench.errors import UserError
from dir_bench.labels import Regions
from dir_bench.task import target_bins

SHARED = Path(__file__).parents[3] / "shared"


def make(folder: Path, **options: object) -> NYUD2:
    return NYUD2(str(folder), **{"cache": "ram", "decode_threads": 1, **options})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nyud2")
    return make(folder).sample(folder, n=6)


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "nyud2"))


def test_stand_in_has_the_published_format(made: Path) -> None:
    dataset = make(made)
    assert isinstance(dataset, Dataset)
    assert isinstance(dataset, Fetchable)
    assert isinstance(dataset, Splittable)
    image, depth = (made / LISTS["train"]).read_text().splitlines()[0].split(",")
    assert image.startswith("data/nyu2_train/")
    with Image.open(made / image.removeprefix("data/")) as picture, Image.open(made / depth.removeprefix("data/")) as d:
        assert (picture.size, picture.mode, d.size, d.mode) == ((640, 480), "RGB", (640, 480), "L")
    with Image.open(made / "nyu2_test" / "00000_depth.png") as test_depth:
        assert np.asarray(test_depth).dtype in (np.uint16, np.int32)
        assert 700 <= np.asarray(test_depth).min() < np.asarray(test_depth).max() < 10_000
    mask = np.load(made / MASK)
    assert (mask.dtype, mask.shape) == (np.uint8, (2, 228, 304))
    report = dataset.check()
    assert report.problems == ()
    assert "stand-in" in report.facts["list"]


def test_test_pixels_are_those_of_the_mask_and_equally_many_of_each_bin(made: Path) -> None:
    test = make(made).load().test
    mask = np.load(made / MASK).astype(bool)
    assert len(test.judged) == mask.sum()
    for image in range(2):
        with Image.open(made / "nyu2_test" / f"{image:05d}_depth.png") as opened:
            codes = np.asarray(opened.resize((320, 240), Image.Resampling.NEAREST))[6:234, 8:312]
        ours = test.judged[mask[:image].sum() : mask[: image + 1].sum()]
        np.testing.assert_array_equal(ours, codes[mask[image]].astype(np.float32) / np.float32(1000))
    counts = BINS.counts(test.judged)
    assert len(set(counts[counts > 0])) == 1


def test_judged_predictions_are_the_resized_output_at_the_same_pixels(made: Path) -> None:
    test = make(made).load().test
    output = torch.rand(2, 1, 114, 152, generator=torch.Generator().manual_seed(0))
    places, values = test.judge(output, np.array([1, 0]))
    big = torch.nn.functional.interpolate(output, (228, 304), mode="bilinear", align_corners=True)[:, 0]
    mask = torch.from_numpy(np.load(made / MASK).astype(bool))
    expected = torch.cat([big[1][mask[0]], big[0][mask[1]]])  # in the order of `judged`
    whole = torch.empty(len(test.judged))
    whole[places] = values
    assert torch.equal(whole, expected)


def test_validation_holds_out_whole_scenes_and_the_fds_subset_is_of_what_is_left(made: Path) -> None:
    data = make(made).load()
    scenes = [line.split("/")[2] for line in (made / LISTS["train"]).read_text().split()]
    of = [{scenes[row] for row in split.rows} for split in (data.train, data.val, data.fds)]
    assert not of[0] & of[1]
    assert of[2] <= of[0]
    assert len(data.train) + len(data.val) == 6
    assert data.selected_on == "validation"
    assert BINS.index(data.val.judged).min() >= BINS.first
    everything = make(made, select_on="test").load()
    assert (len(everything.train), len(everything.fds), everything.selected_on) == (6, 6, "test")
    assert everything.val is everything.test


def test_val_pixels_per_bin_bounds_what_validation_counts(made: Path) -> None:
    data = make(made, val_pixels_per_bin=7).load()
    assert BINS.counts(data.val.judged).max() == 7


def test_pixels_are_counted_at_228_by_304(made: Path) -> None:
    train = make(made, select_on="test").load().train
    expected = np.zeros(100, np.int64)
    for line in (made / LISTS["train"]).read_text().split():
        with Image.open(made / line.split(",")[1].removeprefix("data/")) as opened:
            codes = np.asarray(opened.resize((320, 240), Image.Resampling.NEAREST))[6:234, 8:312]
        depth = codes.astype(np.float32) / np.float32(255) * np.float32(10)
        expected += np.bincount(np.minimum((depth * np.float32(10)).astype(int), 99).ravel(), minlength=100)
    np.testing.assert_array_equal(train.label_counts(BINS), expected)
    assert expected.sum() == 6 * 228 * 304


def test_published_counts_are_taken_when_asked_for_or_when_the_list_is_as_long(made: Path, monkeypatch) -> None:
    assert make(made, pixel_counts="published").load().train.label_counts(BINS).sum() == 3_513_286_656
    monkeypatch.setattr(nyud2, "TRAIN_IMAGES", 6)
    assert make(made).load().train.label_counts(BINS).tolist() == list(PUBLISHED_COUNTS)
    assert make(made, pixel_counts="counted").load().train.label_counts(BINS).sum() < 10**6


def test_our_regions_of_the_published_counts_are_the_published_lists() -> None:
    settings = config.compose(["dataset=nyud2"]).dataset
    lists = settings.regions
    by_counts = Regions.from_counts(PUBLISHED_COUNTS, many_over=lists.many_over, few_under=lists.few_under)
    masks = by_counts.masks(np.arange(100))
    for name in ("many", "medium", "few"):
        assert np.flatnonzero(masks[name]).tolist() == getattr(lists, name)
    assert len(target_bins(settings)) == len(BINS)
    np.testing.assert_array_equal(target_bins(settings).edges, BINS.edges)


def test_training_and_evaluation_batches(made: Path) -> None:
    train = make(made).load().train
    index = np.array([1, 0])
    codes = torch.from_numpy(train.targets[index])
    pictures, depth = train.prepare(train.fetch(index, np.random.default_rng(0)), codes)
    assert (pictures.shape, depth.shape) == ((2, 3, 228, 304), (2, 1, 114, 152))
    plain, plain_depth = train.prepare(train.fetch(index, None), codes)
    assert plain_depth.shape == (2, 1, 114, 152)
    assert not torch.equal(plain, pictures)
    only, nothing = train.prepare(train.fetch(index, None), None)
    assert nothing is None
    assert torch.equal(only, plain)


def damage(folder: Path, name: str) -> None:
    if name == "mask":
        np.save(folder / MASK, np.ones((2, 114, 152), np.uint8))
    elif name == "empty mask":
        np.save(folder / MASK, np.zeros((2, 228, 304), np.uint8))
    elif name == "torn mask":
        (folder / MASK).write_bytes((folder / MASK).read_bytes()[:50])
    elif name == "8 bit":
        Image.fromarray(np.full((480, 640), 9, np.uint8)).save(folder / "nyu2_test" / "00001_depth.png")
    elif name == "16 bit":
        path = next((folder / "nyu2_train").glob("*/1.png"))
        Image.fromarray(np.full((480, 640), 900, np.uint16)).save(path)
    elif name == "list":
        (folder / LISTS["train"]).write_text("data/nyu2_train/a_out/1.jpg\n")
    elif name == "missing":
        (folder / LISTS["test"]).unlink()
    elif name == "picture":
        next((folder / "nyu2_train").glob("*/1.jpg")).unlink()
    elif name == "subset":
        (folder / LISTS["fds"]).write_text(
            "data/nyu2_train/other_0001_out/1.jpg,data/nyu2_train/other_0001_out/1.png\n"
        )


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mask", r"test_balanced_mask\.npy has shape \(2, 114, 152\)"),
        ("empty mask", r"test_balanced_mask\.npy selects no pixel"),
        ("torn mask", r"test_balanced_mask\.npy is not a readable"),
        ("8 bit", r"00001_depth\.png"),
        ("16 bit", r"1\.png"),
        ("list", r"nyu2_train\.csv, line 1"),
        ("missing", r"missing nyu2_test\.csv"),
        ("picture", r"1\.jpg"),
        ("subset", r"FDS_subset\.csv names nyu2_train/other_0001_out"),
    ],
)
def test_every_mistake_is_one_sentence_that_names_the_file(folder: Path, name: str, says: str) -> None:
    damage(folder, name)
    with pytest.raises(UserError, match=says) as raised:
        make(folder).load()
    assert "\n" not in str(raised.value)
    assert make(folder).check().problems


def test_lists_and_mask_are_rebuilt_from_the_images_and_those_there_count(folder: Path) -> None:
    with pytest.raises(UserError, match="already and count"):
        make(folder).write_split()
    before = {name: (folder / name).read_bytes() for name in (*LISTS.values(), MASK)}
    for name in before:
        (folder / name).unlink()
    make(folder).write_split(seed=0)
    assert {name: (folder / name).read_bytes() for name in before} == before
    (folder / MASK).unlink()
    make(folder).write_split(seed=1)
    assert (folder / MASK).read_bytes() != before[MASK]
    assert np.load(folder / MASK).sum() == np.load(folder / MASK).astype(bool).sum()


def test_fingerprint_and_settings(folder: Path) -> None:
    before = make(folder).fingerprint()
    (folder / LISTS["fds"]).write_text((folder / LISTS["train"]).read_text().splitlines()[0] + "\n")
    assert make(folder).fingerprint() != before
    for bad, says in (
        ({"select_on": "tset"}, "did you mean 'test'"),
        ({"pixel_counts": "count"}, "did you mean 'counted'"),
        ({"val_share": 1.5}, "val_share"),
        ({"rotation_order": 3}, "rotation_order"),
    ):
        with pytest.raises(UserError, match=says):
            make(folder, **bad)
    with pytest.raises(UserError, match="left as it is"):
        make(folder).sample(folder)


@pytest.mark.data
def test_constants_are_the_published_facts() -> None:
    facts_file = SHARED / "golden" / "dataset_facts.json"
    if not facts_file.is_file():
        pytest.skip("no ../shared/golden/dataset_facts.json beside the checkout")
    facts = json.loads(facts_file.read_text(encoding="utf-8"))["nyud2_dir"]
    assert facts["train_pixel_count_per_bin"] == list(PUBLISHED_COUNTS)
    regions = config.compose(["dataset=nyud2"]).dataset.regions
    assert {name: getattr(regions, name) for name in ("many", "medium", "few")} == facts["regions_fixed_in_code"]
    assert (facts["fds_subset_rows"], facts["test_rows"]) == (nyud2.FDS_IMAGES, nyud2.TEST_IMAGES)


@pytest.mark.data
def test_the_published_subset_is_read() -> None:
    if not (SHARED / "data" / "nyud2" / LISTS["fds"]).is_file():
        pytest.skip("no ../shared/data/nyud2 beside the checkout")
    pairs = make(SHARED / "data" / "nyud2")._read_list(LISTS["fds"])
    assert len(pairs) == 600
    assert pairs[0] == ("nyu2_train/bookstore_0001f_out/642.jpg", "nyu2_train/bookstore_0001f_out/642.png")
