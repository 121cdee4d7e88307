"""How the published splits were drawn: balanced validation and test sets out of skewed data; pure functions.

Source of the procedures: Yang et al., "Delving into Deep Imbalanced Regression", ICML 2021, arXiv:2102.09554, and the
scripts of YyzHarry/imbalanced-regression that each docstring names.
"""

import random
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from dir_bench.datasets.base import IntArray
from dir_bench.errors import UserError
from dir_bench.labels.bins import TargetBins

MAX_SCORE = 5.0
CHUNK = 2**20
"""Pixels that `balanced_mask` looks at together. Part of what a seed means: another size draws another mask."""
FACE_NAME = re.compile(r"[^_]+_.+_([0-9]{1,3})_[^_]+\.jpe?g", re.IGNORECASE)
"""An image of AgeDB, <number>_<name>_<age>_<gender>.jpg; the name may hold dots and mis-decoded bytes."""
SCENE_FOLDER = re.compile(r"(.+_\d+)[a-z]?_out")

Splits = npt.NDArray[np.str_]


def split_by_label(labels: npt.ArrayLike, *, cap: int, highest: int = 120, seed: int = 666) -> Splits:
    """Draw a validation and a test set of ages, each with a third of an age's rows but no more than `cap`.

    Row order matters: with the rows of the published list in their order, its split comes out exactly. That order is
    the one in which some folder once happened to be listed, so that from the images alone it cannot be had again.

    Args:
        labels: Ages in years, whole numbers, shape ``(n,)``.
        cap: Rows of one age in validation, and again in test, at most: 30 (AgeDB), 150 (IMDB-WIKI).
        highest: Older rows, and any below 0, all go to training.
        seed: Of the one generator that shuffles the ages' rows, youngest age first.

    Returns:
        "train", "val" or "test" of each row, shape ``(n,)``.

    Source:
        `agedb-dir/data/preprocess_agedb.py` and `imdb-wiki-dir/data/preprocess_imdb_wiki.py`. They note the split by
        path and not by row: a path listed twice is the caller's to settle (`faces.imdb_meta.imdb_wiki_list` does).
    """
    ages = np.asarray(labels)
    splits = np.full(len(ages), "train")
    generator = random.Random(seed)
    by_age = np.argsort(ages, kind="stable")
    for start, end in pairwise(np.searchsorted(ages[by_age], np.arange(highest + 2))):
        rows = by_age[start:end].tolist()
        generator.shuffle(rows)
        held_out = min(len(rows) // 3, cap)
        splits[rows[:held_out]] = "val"
        splits[rows[held_out : 2 * held_out]] = "test"
    return splits


def split_pairs(scores: npt.ArrayLike, *, bins: int = 20, per_bin: int = 100, seed: int) -> Splits:
    """Draw validation and test pairs evenly over the score: half of `per_bin` pairs of every bin for each.

    Args:
        scores: Similarity of each pair, 0 to 5, shape ``(n,)``; of the official training and development pairs.
        bins: Bins of equal width over 0 to 5; half open, the last one closed.
        per_bin: Pairs taken out of each bin, without replacement; the other pairs are for training.
        seed: Of the draw. The published one had none: its result is what the authors ship.

    Returns:
        "train", "val" or "test" of each pair, shape ``(n,)``.

    Raises:
        UserError: If a bin holds fewer than `per_bin` pairs.

    Source:
        `sts-b-dir/glue_data/create_sts.py`.
    """
    index = TargetBins.regular(0.0, MAX_SCORE, MAX_SCORE / bins, precision="float32").index(scores)
    counts = np.bincount(index, minlength=bins)
    if counts[scarcest := int(counts.argmin())] < per_bin:
        low, high = (MAX_SCORE / bins * edge for edge in (scarcest, scarcest + 1))
        raise UserError(
            f"only {counts[scarcest]} pairs have a score from {low:g} to {high:g}, and {per_bin} are to be drawn of "
            "each such range: use the official training and development pairs together, or draw fewer"
        )
    splits = np.full(len(index), "train")
    rng = np.random.default_rng(seed)
    by_bin = np.argsort(index, kind="stable")
    for members in np.split(by_bin, counts.cumsum()[:-1]):
        drawn = rng.permutation(members)[:per_bin]
        splits[drawn[: per_bin // 2]] = "val"
        splits[drawn[per_bin // 2 :]] = "test"
    return splits


def balanced_mask(
    bin_index: npt.NDArray[np.integer[Any]], *, first: int, n_bins: int, seed: int, per_bin: int | None = None
) -> npt.NDArray[np.bool_]:
    """Draw equally many pixels from every bin, without replacement; every such choice is as likely as another.

    Args:
        bin_index: Bin of each pixel, any shape. A small type (uint8) saves most of the memory.
        first: First bin to draw from. Pixels of lower bins, and of `n_bins` or higher, are never drawn.
        n_bins: One past the last bin to draw from.
        seed: Of the draw. The published one had none: its result is what the authors ship.
        per_bin: Pixels of each bin, or all of them where it has fewer; None: as many as the scarcest bin that is
            not empty has (9,357 in the test images of NYUD2).

    Returns:
        Whether a pixel was drawn, of the shape of `bin_index`.

    Raises:
        UserError: If no pixel lies in a bin to draw from.

    Source:
        `nyud2-dir/preprocess_nyud2.py`, which looks for the scarcest bin below `first` too, where the real images
        have none (they begin at 0.7 m), and stops if a bin is empty.
    """
    flat = np.asarray(bin_index).reshape(-1)
    left = np.zeros(n_bins - first, np.int64)
    for _, bins in _chunks(flat, first, n_bins):
        left += np.bincount(bins, minlength=len(left))
    if not left.any():
        raise UserError(
            f"no pixel lies in bins {first} to {n_bins - 1}, so none can be drawn: are the depth images whole, and "
            "read in the unit of the bins?"
        )
    wanted = np.minimum(left, left[left > 0].min() if per_bin is None else per_bin)
    rng = np.random.default_rng(seed)
    mask = np.zeros(len(flat), np.bool_)
    for pixels, bins in _chunks(flat, first, n_bins):
        counts = np.bincount(bins, minlength=len(left))
        # How many of the pixels still wanted fall into this chunk: drawing them from all at once comes to the same.
        here = rng.hypergeometric(counts, left - counts, wanted)
        left, wanted = left - counts, wanted - here
        shuffled = rng.permutation(len(bins))
        order = shuffled[np.argsort(bins[shuffled], kind="stable")]  # by bin, at random within it
        rank = np.arange(len(bins)) - np.repeat(counts.cumsum() - counts, counts)
        mask[pixels[order[rank < np.repeat(here, counts)]]] = True
    return mask.reshape(np.shape(bin_index))


def _chunks(flat: npt.NDArray[Any], first: int, n_bins: int) -> Iterator[tuple[IntArray, npt.NDArray[Any]]]:
    """Yield (positions, bins counted from `first`) of the pixels in bins first to n_bins - 1, a chunk at a time."""
    small = np.min_scalar_type(n_bins)  # up to 16 bits, NumPy sorts by radix
    for start in range(0, len(flat), CHUNK):
        chunk = flat[start : start + CHUNK]
        inside = np.flatnonzero((chunk >= first) & (chunk < n_bins))
        yield inside + start, (chunk[inside] - first).astype(small)


def draw_subset(n: int, size: int, seed: int) -> IntArray:
    """Return `size` of the numbers 0 to n - 1, none twice, in increasing order: the images FDS takes its moments from.

    Raises:
        UserError: If there are not that many.

    Source:
        600 images of NYUD2: `nyud2-dir/preprocess_nyud2.py`, unseeded, in the order drawn.
    """
    if size > n:
        raise UserError(f"{size} of {n} images cannot be drawn: ask for {n} or fewer")
    return np.sort(np.random.default_rng(seed).choice(n, size, replace=False))


def scene_of(path: str) -> str:
    """Return the place where an image of NYUD2 was taken: "bookstore_0001" of ".../bookstore_0001d_out/12.jpg".

    Folders that differ in the letter only show the same room, filmed again. A folder named otherwise is its own scene.
    """
    folder = PurePosixPath(path).parent.name
    found = SCENE_FOLDER.fullmatch(folder)
    return found[1] if found else folder


def hold_out_scenes(scenes: Sequence[str], share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Choose images for validation, all or none of a scene, since frames of one scene are near copies of each other.

    Scenes are taken in random order, as many as bring the images closest to `share`, and at least one on each side.
    The published NYUD2-DIR has no validation set.

    Args:
        scenes: The scene of each image, length n.
        share: Part of the images to hold out, above 0 and below 1.
        seed: Of the order.

    Returns:
        Whether an image is held out, shape ``(n,)``.

    Raises:
        UserError: If `share` is no such part, or all images are of one scene.
    """
    if not 0 < share < 1:
        raise UserError(f"the share of images held out for validation is {share:g}: give one above 0 and below 1")
    names, scene, counts = np.unique(np.asarray(scenes), return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise UserError(f"whole scenes cannot be held out of {len(names)}: images of two or more scenes are needed")
    order = np.random.default_rng(seed).permutation(len(names))
    images = counts[order].cumsum()[:-1]
    number = 1 + int(np.abs(images - share * len(scenes)).argmin())
    return np.isin(scene, order[:number])


def faces_from_names(names: Sequence[str]) -> tuple[IntArray, list[str], list[str]]:
    """Read ages off the file names of AgeDB, <number>_<name>_<age>_<gender>.jpg.

    Args:
        names: File names without folders, in the order to keep.

    Returns:
        Ages in years, shape ``(k,)``; the k names they were read from; and one sentence for each of the other names.
        Hidden files are none of them.

    Source:
        `agedb-dir/data/create_agedb.py`, which stops at a name with a fourth underscore or with a dot before the age.
    """
    ages: list[int] = []
    kept: list[str] = []
    problems: list[str] = []
    for name in names:
        if name.startswith("."):  # ._1_x_30_f.jpg beside each picture, and .DS_Store: macOS's own
            continue
        if found := FACE_NAME.fullmatch(name):
            ages.append(int(found[1]))
            kept.append(name)
        else:
            problems.append(f"{name!r} is left out: an image of AgeDB is named <number>_<name>_<age>_<gender>.jpg")
    return np.array(ages, np.int64), kept, problems
