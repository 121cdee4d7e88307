"""Which subjects of the Sleep Heart Health Study count, with which score and recording, and how they are split.

Below the dataset's folder, files lie as NSRR (sleepdata.org/datasets/shhs) gives them out::

    polysomnography/edfs/shhs1/shhs1-200001.edf      recordings of visit 1 (1995-1998)
    polysomnography/edfs/shhs2/shhs2-200077.edf      recordings of visit 2 (2001-2003)
    datasets/shhs1-dataset-0.21.0.csv                one row a subject of visit 1; any version, the latest counts
    datasets/shhs2-dataset-0.21.0.csv                one row a subject of visit 2
    datasets/shhs-harmonized-dataset-0.21.0.csv      not read: age, sex and sleep measures (nsrr_*), no SF-36

Found in NSRR's own texts, nsrr/shhs-data-dictionary (variables/, domains/) and nsrr/shhs-documentation (pages 04, 05):

* Subject id `nsrrid`; `visitnumber` is 1 or 2 (3 in the table of outcomes).
* 5,793 subjects have a recording of visit 1, 2,651 one of visit 2. Yang et al. 2021 (App. B.5) have 2,651 subjects and
  name no visit: the number says visit 2. The tables are longer, 5,804 and 4,080 rows.
* SF-36 General Health: `gh_s1`, `gh_s2` ("General Health Perceptions Standardized Score") and `rawgh_s1`, `rawgh_s2`
  ("Raw Score"), each in the table of its visit. Public programs that carry values of visit 1 show 15.0 beside 50.0
  and 22.4 beside 87.0, so "standardized" is the score from 0 to 100, (raw − 5) / 20 · 100 (Ware et al. 1993).

Not verified, for want of the tables: that visit 2 is coded alike; how many subjects lack the score (the 21 by which
1,892 + 369 + 369 falls short of 2,651?); which codes stand for "missing" (NSRR has removed most). The tables are not
all UTF-8 (users of version 0.14.0 read them as cp1252 or mac_roman) and have had names in capitals: bytes are read as
latin-1, which accepts any, since ids and numbers are ASCII, and names are compared without regard to case.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from dir_bench.datasets.base import IntArray
from dir_bench.datasets.splits import Splits
from dir_bench.errors import UserError, nearest
from dir_bench.files.text import read_csv
from dir_bench.lazy import Lazy

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = Lazy("pandas")

Visit = Literal["shhs1", "shhs2"]
SUBJECT = "nsrrid"
VISIT_NUMBER = "visitnumber"
SCORE_COLUMNS: dict[str, tuple[str, ...]] = {"shhs1": ("gh_s1", "rawgh_s1"), "shhs2": ("gh_s2", "rawgh_s2")}
"""Where General Health is, the first one there counts; a name with "rawgh" is rescaled from 5–25 to 0–100."""
ENCODING = "latin-1"
VERSION = re.compile(r"-dataset-(\d+(?:\.\d+)*)([^\d.].*|\..*)?\.csv", re.IGNORECASE)
HELD_OUT_SHARE = 369 / 2630
"""Part of all subjects in validation, and again in test (Yang et al. 2021, App. B.5)."""

NO_ID, OTHER_VISIT, CONTRADICTING, NO_SCORE, NO_RECORDING, NO_ROW = (
    "no subject id",
    "row of another visit",
    "contradicting rows",
    "no score",
    "no recording",
    "no row in the csv",
)
"""Why a subject, or a row, is left out; one that has several reasons is counted under the first of these."""


@dataclass
class Exclusions:
    """Who was left out and why: reason to subjects, or to "row 17" of the csv where a row has no usable subject."""

    subjects: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, subjects: Iterable[object]) -> None:
        """Note subjects left out for this reason; none changes nothing."""
        if names := [str(subject) for subject in subjects]:
            self.subjects.setdefault(reason, []).extend(names)

    @property
    def counts(self) -> dict[str, int]:
        """Reason to number, in the order in which the reasons came up."""
        return {reason: len(names) for reason, names in self.subjects.items()}

    def sentences(self, examples: int = 3) -> list[str]:
        """Return a line for each reason, "21 left out: no score (200101, 200102, 200103, …)"."""
        return [
            f"{len(names)} left out: {reason} ({', '.join(names[:examples])}{', …' if len(names) > examples else ''})"
            for reason, names in self.subjects.items()
        ]


@dataclass(frozen=True)
class Scores:
    """What `read_scores` found.

    Attributes:
        rows: One a subject, by subject: columns subject (int64), score (float64, 0 to 100), recording (path, str).
        excluded: Everybody else in the csv or among the recordings.
        repeated: Subjects that had several rows with one and the same score, of which one counts.
        csv: The table that was read, of several versions the latest.
        column: The column of the score as it is spelt there.
    """

    rows: pd.DataFrame
    excluded: Exclusions
    repeated: tuple[int, ...]
    csv: Path
    column: str


def read_scores(folder: Path, visit: Visit, column: str | None = None) -> Scores:
    """Match the scores of a visit with its recordings; a subject that lacks either is counted, never fatal.

    Scores that are no number, or beyond 0 to 100 (such as a code -9), are missing. They are rounded to the sixth
    place, lest 86.9999999 falls short of its bin.

    Args:
        folder: The dataset's folder, laid out as the module says.
        visit: "shhs1" or "shhs2".
        column: Name of the score's column; None: the first of `SCORE_COLUMNS` that is there.

    Raises:
        UserError: If the csv, its column or all recordings are missing, or nobody has both.
    """
    csv = latest_table(folder, visit)
    recordings = find_recordings(folder, visit)
    excluded = Exclusions()
    table, score_column = _read_table(csv, visit, column)
    rows = _usable_rows(table, visit, excluded)

    by_subject = rows.groupby("subject")["score"]
    different = by_subject.nunique(dropna=False) > 1
    scores = by_subject.first()[~different]
    repeated = by_subject.size()[~different & (by_subject.size() > 1)]
    excluded.add(CONTRADICTING, different.index[different])
    excluded.add(NO_SCORE, scores.index[scores.isna()])
    scores = scores.dropna()
    found = scores.index.isin(list(recordings))
    excluded.add(NO_RECORDING, scores.index[~found])
    excluded.add(NO_ROW, sorted(set(recordings) - set(rows["subject"])))
    kept = scores[found]
    if kept.empty:
        raise UserError(
            f"no subject has both a score in column '{score_column}' of {csv} and a recording in "
            f"{recordings_folder(folder, visit)} ({'; '.join(excluded.sentences())}): do both belong to {visit}?"
        )
    kept_rows = pd.DataFrame(
        {
            "subject": kept.index.to_numpy(np.int64),
            "score": kept.to_numpy(np.float64),
            "recording": [str(recordings[subject]) for subject in kept.index],
        }
    )
    return Scores(kept_rows, excluded, tuple(repeated.index), csv, score_column)


def recordings_folder(folder: Path, visit: Visit) -> Path:
    """Return where the recordings of a visit lie."""
    return folder / "polysomnography" / "edfs" / visit


def find_recordings(folder: Path, visit: Visit) -> dict[int, Path]:
    """Return the recordings by subject, in order; UserError if there is none. Other files are not looked at."""
    place = recordings_folder(folder, visit)
    name = re.compile(rf"{visit}-(\d+)\.edf", re.IGNORECASE)
    files = sorted(place.iterdir()) if place.is_dir() else []
    recordings = {int(found[1]): path for path in files if (found := name.fullmatch(path.name))}
    if not recordings:
        raise UserError(f"there is no recording {place / f'{visit}-<nsrrid>.edf'}: put those of NSRR there")
    return dict(sorted(recordings.items()))


def latest_table(folder: Path, visit: Visit) -> Path:
    """Return the table of a visit of the highest version; a release comes after its previews ("0.21.0.pre").

    UserError if there is none.
    """
    versions = [
        (tuple(int(part) for part in found[1].split(".")), not found[2], path)
        for path in (folder / "datasets").glob(f"{visit}-dataset-*.csv")
        if (found := VERSION.fullmatch(path.name.removeprefix(visit)))
    ]
    if not versions:
        raise UserError(f"there is no table {folder / 'datasets' / f'{visit}-dataset-<version>.csv'}: put NSRR's there")
    return max(versions)[-1]


def _read_table(csv: Path, visit: Visit, column: str | None) -> tuple[pd.DataFrame, str]:
    """Return columns subject and score (NaN: missing), with visit where the csv has it, and the score column's name."""
    file = read_csv(csv, encoding=ENCODING)
    names = {name.lower(): name for name in file.header}
    subject = _find_column(names, (SUBJECT,), csv)
    score = _find_column(names, SCORE_COLUMNS[visit] if column is None else (column.lower(),), csv)
    wanted = {subject: "subject", score: "score"}
    if VISIT_NUMBER in names:
        wanted[names[VISIT_NUMBER]] = "visit"
    table = file.frame(list(wanted)).rename(columns=wanted).apply(pd.to_numeric, errors="coerce")
    if "rawgh" in score.lower():
        table["score"] = (table["score"] - 5) / 20 * 100
    table["score"] = table["score"].round(6)
    return table.assign(score=table["score"].where(table["score"].between(0, 100))), score


def _find_column(names: dict[str, str], wanted: tuple[str, ...], csv: Path) -> str:
    """Return the first of the `wanted` columns (in small letters) as the csv spells it; UserError if none is there."""
    if found := [names[name] for name in wanted if name in names]:
        return found[0]
    alike = [names[name] for name in names if re.search(r"gh_|gh\d|sf_?36|general|genhth", name)]
    hint = nearest(wanted[0], names)
    if alike:
        hint += f"; these may be General Health: {', '.join(alike[:12])}"
    raise UserError(
        f"{csv} has no column {' or '.join(wanted)}{hint}: name the right one by `dataset.source.score=NAME`"
    )


def _usable_rows(table: pd.DataFrame, visit: Visit, excluded: Exclusions) -> pd.DataFrame:
    """Leave out, and note by line of the csv, rows without a whole number as subject and rows of another visit."""
    line = "row " + table.index.to_series().astype(str)
    known = table["subject"].notna() & (table["subject"] % 1 == 0)
    excluded.add(NO_ID, line[~known])
    visits = table["visit"] if "visit" in table else pd.Series(np.nan, table.index)
    here = visits.isna() | (visits == int(visit[-1]))
    excluded.add(OTHER_VISIT, line[known & ~here])
    return table[known & here].astype({"subject": np.int64})


def split_scores(
    scores: pd.DataFrame,
    *,
    n_val: int | None = None,
    n_test: int | None = None,
    bin_width: float = 1.0,
    seed: int = 0,
) -> Splits:
    """Draw validation and test subjects as evenly over the score as the data allow.

    Every bin gives as many subjects to validation, and again to test, as any other, or a third of its subjects where
    that is fewer: a cap on what a bin gives rises from 0 until the wanted number is reached. Of the last step only
    some bins are needed; the seed says which, the same for both sets. So with `n_val == n_test` both hold equally
    many of each bin, and at least a third of a bin stays in training: bins of one or two subjects all do.

    Args:
        scores: Columns subject and score (at least 0), one row a subject. The order of rows does not matter.
        n_val: Subjects in validation; None: a share of 369 / 2630 as published, or what the bins can give.
        n_test: The same of test.
        bin_width: Of the bins, in points; bins start at 0 and are half open.
        seed: Of the draw.

    Returns:
        "train", "val" or "test" of each row, in the order of `scores`.

    Raises:
        UserError: If the bins cannot give that many, or nothing at all.

    Source:
        Yang et al. 2021, App. B.5, have 1,892 / 369 / 369 subjects, "balanced" over the score; neither procedure nor
        list is published. A third of a bin at most follows their other sets (`splits.split_by_label`).
    """
    order = np.argsort(scores["subject"].to_numpy(), kind="stable")
    sorted_scores = scores["score"].to_numpy(np.float64)[order]
    # The small shift keeps 0.3 / 0.1 = 2.999… in its own bin.
    bins = np.unique(np.floor(sorted_scores / bin_width + 1e-9), return_inverse=True)[1]
    counts = np.bincount(bins)
    room = counts // 3
    rng = np.random.default_rng(seed)
    first = rng.permutation(len(counts))
    held_out = []
    for name, wanted in (("n_val", n_val), ("n_test", n_test)):
        number = min(max(1, round(len(order) * HELD_OUT_SHARE)), int(room.sum())) if wanted is None else wanted
        if not 0 < number <= room.sum():
            raise UserError(
                f"{name} = {number} subjects cannot be held out of {len(order)}: a third of each bin of {bin_width:g} "
                f"points gives {room.sum()} at most; ask for 1 to that many, or for wider bins (bin_width)"
            )
        held_out.append(_fill_evenly(room, number, first))
    shuffled = rng.permutation(len(order))
    by_bin = shuffled[np.argsort(bins[shuffled], kind="stable")]
    rank = np.arange(len(order)) - np.repeat(counts.cumsum() - counts, counts)
    of_val, of_both = (np.repeat(taken, counts) for taken in (held_out[0], held_out[0] + held_out[1]))
    splits = np.empty(len(order), "<U5")
    splits[order[by_bin]] = np.select([rank < of_val, rank < of_both], ["val", "test"], "train")
    return splits


def _fill_evenly(room: IntArray, number: int, first: npt.NDArray[np.integer]) -> IntArray:
    """Return how many of `number` each bin takes, at most `room`; those that come `first` take one more at the end."""
    caps = np.arange(room.max() + 1)
    totals = np.minimum(room, caps[:, None]).sum(axis=1)
    cap = int(np.searchsorted(totals, number, side="right")) - 1
    taken = np.minimum(room, cap)
    open_bins = first[room[first] > cap]
    taken[open_bins[: number - int(totals[cap])]] += 1
    return taken
