"""Split procedures: the published lists come out again where the real files are at hand; draws are fair and seeded."""

import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dir_bench.datasets import splits
from dir_bench.datasets.splits import (
    balanced_mask,
    draw_subset,
    faces_from_names,
    hold_out_scenes,
    scene_of,
    split_by_label,
    split_pairs,
)
from dir_bench.datasets.sts_b import FILES, read_pairs
from dir_bench.errors import UserError

REAL = Path(__file__).parents[3] / "shared" / "data"


def needs(folder: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not (REAL / folder).is_dir(), reason=f"no ../shared/data/{folder} beside the checkout")


def sizes(split: np.ndarray) -> tuple[int, ...]:
    return tuple(int((split == part).sum()) for part in ("train", "val", "test"))


@pytest.mark.data
@needs("agedb")
def test_published_split_of_agedb_comes_out_exactly() -> None:
    listed = pd.read_csv(REAL / "agedb" / "agedb.csv")
    split = split_by_label(listed["age"], cap=30)
    assert sizes(split) == (12208, 2140, 2140)
    assert (split == listed["split"].to_numpy(str)).all()


def test_split_by_label_by_hand() -> None:
    # Ages 7 (4 rows), 9 (9 rows), 130. Python's generator for seed 3 shuffles the youngest age's rows first.
    ages = [9, 7, 9, 9, 130, 7, 9, 7, 9, 9, 7, 9, 9, 9]
    generator = random.Random(3)
    sevens, nines = [1, 5, 7, 10], [0, 2, 3, 6, 8, 9, 11, 12, 13]
    generator.shuffle(sevens)
    generator.shuffle(nines)
    split = split_by_label(ages, cap=2, seed=3)
    assert np.flatnonzero(split == "val").tolist() == sorted([sevens[0], *nines[:2]])  # 4 // 3 = 1; 9 // 3, capped
    assert np.flatnonzero(split == "test").tolist() == sorted([sevens[1], *nines[2:4]])


def test_generator_of_the_published_splits_is_unchanged() -> None:
    # Written down from CPython 3.11, random.Random(666): six rows of one age, two held out for each split.
    assert split_by_label([40] * 6, cap=30).tolist() == ["val", "test", "val", "train", "test", "train"]


def test_ages_out_of_range_and_rare_ages_are_for_training() -> None:
    ages = [121] * 9 + [-1] * 9 + [5] * 2
    assert set(split_by_label(ages, cap=30)) == {"train"}
    assert sizes(split_by_label([121] * 9, cap=30, highest=121)) == (3, 3, 3)
    assert split_by_label([], cap=30).tolist() == []


def pairs_of_every_bin(per_bin: int = 120) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.permutation((np.repeat(np.arange(20), per_bin) + rng.random(20 * per_bin)) / 4)


def bin_counts(scores: np.ndarray) -> list[int]:
    return [int(n) for n in np.histogram(scores, bins=20, range=(0, 5))[0]]


def test_split_pairs_takes_the_same_number_of_every_bin() -> None:
    scores = pairs_of_every_bin()
    split = split_pairs(scores, seed=1)
    assert bin_counts(scores[split == "val"]) == bin_counts(scores[split == "test"]) == [50] * 20
    assert sizes(split_pairs(scores, per_bin=7, seed=1)) == (2400 - 140, 60, 80)


def test_split_pairs_puts_edges_up_and_5_into_the_last_bin() -> None:
    scores = np.repeat([0.0, 2.5, 5.0], 2)
    assert sizes(split_pairs(scores, bins=2, per_bin=2, seed=0)) == (2, 2, 2)
    with pytest.raises(UserError, match=r"only 1 pairs have a score from 0 to 2\.5, and 2"):
        split_pairs(scores[1:], bins=2, per_bin=2, seed=0)


def test_draws_follow_their_seed() -> None:
    scores, bins = pairs_of_every_bin(), np.random.default_rng(0).integers(0, 5, 1000)
    scenes = [f"room_{i // 10}" for i in range(500)]
    for draw in (
        lambda seed: split_pairs(scores, seed=seed),
        lambda seed: split_by_label(bins, cap=30, seed=seed),
        lambda seed: balanced_mask(bins, first=0, n_bins=5, seed=seed, per_bin=9),
        lambda seed: draw_subset(1000, 60, seed),
        lambda seed: hold_out_scenes(scenes, 0.1, seed),
    ):
        assert (draw(1) == draw(1)).all()
        assert (draw(1) != draw(2)).any()


@pytest.mark.data
@needs("sts_b")
def test_published_pairs_hold_50_of_every_bin_and_can_be_drawn_again() -> None:
    real = {part: read_pairs(REAL / "sts_b" / name).scores for part, name in FILES.items()}
    assert bin_counts(real["val"]) == bin_counts(real["test"]) == [50] * 20
    pooled = np.concatenate([real["train"], real["val"], real["test"]])
    again = split_pairs(pooled, seed=0)
    assert sizes(again) == (5249, 1000, 1000)
    assert bin_counts(pooled[again == "train"]) == bin_counts(real["train"])


def test_balanced_mask_draws_as_many_as_the_scarcest_bin_has() -> None:
    bins = np.repeat([0, 3, 4, 6, 9, 7], [2, 50, 5, 80, 3, 40])  # 5 is empty; 0, 9 and 7 are outside
    np.random.default_rng(0).shuffle(bins)
    images = bins.reshape(3, 4, 15)
    mask = balanced_mask(images, first=3, n_bins=7, seed=0)
    assert mask.dtype == np.bool_
    assert mask.shape == images.shape
    assert np.bincount(images[mask], minlength=10).tolist() == [0, 0, 0, 5, 5, 0, 5, 0, 0, 0]


def test_balanced_mask_takes_all_of_a_bin_with_fewer_than_asked() -> None:
    bins = np.repeat(np.array([-1, 0, 1], np.int8), [9, 30, 4])
    mask = balanced_mask(bins, first=0, n_bins=2, seed=0, per_bin=6)
    assert [int(mask[bins == i].sum()) for i in (-1, 0, 1)] == [0, 6, 4]


def test_balanced_mask_is_exact_and_fair_over_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "CHUNK", 64)
    bins = np.random.default_rng(0).choice([2, 3], 200, p=[0.8, 0.2]).astype(np.uint8)
    scarcest = int((bins == 3).sum())
    drawn = np.zeros(200)
    for seed in range(1500):
        mask = balanced_mask(bins, first=2, n_bins=4, seed=seed)
        assert mask[bins == 3].all()
        assert mask[bins == 2].sum() == scarcest
        drawn += mask
    # Each pixel of bin 2 is drawn with probability p; 5 standard deviations of a binomial of 1500 draws.
    p = scarcest / (200 - scarcest)
    assert np.abs(drawn[bins == 2] - 1500 * p).max() < 5 * np.sqrt(1500 * p * (1 - p))


def test_balanced_mask_of_no_pixel_in_range_says_so() -> None:
    with pytest.raises(UserError, match="no pixel lies in bins 7 to 99"):
        balanced_mask(np.array([0, 3, 100]), first=7, n_bins=100, seed=0)


def test_subset_has_no_number_twice() -> None:
    chosen = draw_subset(1000, 600, 0)
    assert len(chosen) == 600
    assert (np.diff(chosen) > 0).all()
    assert 0 <= chosen[0] <= chosen[-1] < 1000
    assert draw_subset(3, 3, 0).tolist() == [0, 1, 2]
    with pytest.raises(UserError, match="4 of 3 images"):
        draw_subset(3, 4, 0)


@pytest.mark.parametrize(
    ("path", "scene"),
    [
        ("data/nyu2_train/bookstore_0001d_out/12.jpg", "bookstore_0001"),
        ("data/nyu2_train/bookstore_0001e_out/3.jpg", "bookstore_0001"),
        ("data/nyu2_train/living_room_0012_out/9.png", "living_room_0012"),
        ("data/nyu2_train/attic/9.png", "attic"),
    ],
)
def test_letters_of_a_scene_are_one_place(path: str, scene: str) -> None:
    assert scene_of(path) == scene


def test_whole_scenes_are_held_out_in_about_the_share_asked_for() -> None:
    rng = np.random.default_rng(0)
    scenes = [f"room_{i}" for i in rng.integers(0, 200, 5000)]
    for seed in range(20):
        held_out = hold_out_scenes(scenes, 0.1, seed)
        assert not {scene for scene, out in zip(scenes, held_out, strict=True) if out} & {
            scene for scene, out in zip(scenes, held_out, strict=True) if not out
        }
        assert abs(held_out.mean() - 0.1) < 0.005  # a scene is about 0.005 of the images


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_at_least_one_scene_is_on_each_side(share: float) -> None:
    assert set(hold_out_scenes(["a", "a", "b"], share, 0)) == {False, True}


@pytest.mark.parametrize(("scenes", "share"), [(["a", "a"], 0.5), (["a", "b"], 0.0), (["a", "b"], 1.0), ([], 0.5)])
def test_scenes_that_cannot_be_parted_are_refused(scenes: list[str], share: float) -> None:
    with pytest.raises(UserError, match="held out"):
        hold_out_scenes(scenes, share, 0)


@pytest.mark.data
@needs("nyud2")
def test_real_scene_folders_are_all_of_the_known_form() -> None:
    paths = pd.read_csv(REAL / "nyud2" / "nyu2_train_FDS_subset.csv", header=None)[0]
    folders = set(paths.str.split("/").str[-2])
    assert len(folders) == 221
    assert not [folder for folder in folders if scene_of(f"{folder}/1.jpg") == folder]
    assert len({scene_of(path) for path in paths}) < len(folders)


def test_age_is_read_from_names_with_dots_and_wrong_bytes() -> None:
    names = ["1_St.Vincent_44_f.jpg", "2_Ren\udce9e_Adoree_7_f.JPG", "Thumbs.db", "3_JohnDoe_x_m.jpg", "0_A_101_m.jpg"]
    ages, kept, problems = faces_from_names(names)
    assert ages.tolist() == [44, 7, 101]
    assert kept == [names[0], names[1], names[4]]
    assert [problem.split(" is left out")[0] for problem in problems] == ["'Thumbs.db'", "'3_JohnDoe_x_m.jpg'"]


@pytest.mark.data
@needs("agedb")
def test_every_name_of_the_published_list_gives_its_age() -> None:
    listed = pd.read_csv(REAL / "agedb" / "agedb.csv")
    names = [path.removeprefix("AgeDB/") for path in listed["path"]]
    ages, kept, problems = faces_from_names(names)
    assert (kept, problems) == (names, [])
    assert (ages == listed["age"]).all()
