"""SHHS-DIR: a person's general health, 0 to 100, from one night's polysomnography (Yang et al. 2021, App. B.5).

The benchmark was described, and never released; `docs/shhs.md` says what is built here where the paper is silent, and
why. Recordings of the Sleep Heart Health Study (Quan et al. 1997) come from NSRR to those who sign its agreement.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dir_bench.datasets.base import STAND_IN, CheckReport, Data, IntArray, ScalarTargets, file_hash
from dir_bench.datasets.sleep import sample as stand_in
from dir_bench.datasets.sleep import store
from dir_bench.datasets.sleep.signals import BREATHING, CHANNELS, MIN_SECONDS, REQUIRED, ROLES, FeatureSettings
from dir_bench.datasets.sleep.tables import Scores, read_scores, split_scores
from dir_bench.errors import UserError, nearest
from dir_bench.lazy import Lazy
from dir_bench.parallel import ahead

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from torch import Tensor
else:
    torch = Lazy("torch")
    pd = Lazy("pandas")

VISITS = ("shhs1", "shhs2")
RECORDINGS = {"shhs1": 5793, "shhs2": 2651}
"""Recordings that NSRR has of each visit."""


@dataclass(frozen=True)
class NightSplit(ScalarTargets):
    """Nights of different lengths, mapped from their files, and scores.

    Attributes:
        files: Features of each night, float16 of shape ``(seconds, columns)``.
        seconds: Length of each night.
        targets: Scores.
        crop: Seconds that training cuts out of a night at random; None: the whole night.
    """

    files: tuple[Path, ...]
    seconds: IntArray
    targets: npt.NDArray[np.float32]
    crop: int | None = None

    def __len__(self) -> int:
        return len(self.files)

    @cached_property
    def lengths(self) -> IntArray:
        """Seconds of each night that a batch holds."""
        return self.seconds if self.crop is None else np.minimum(self.seconds, self.crop)

    def fetch(self, indices: IntArray, rng: np.random.Generator | None) -> tuple[Tensor, Tensor]:
        """Return nights, float16 of shape ``(b, longest, columns)`` with zeros at their ends, and their seconds."""
        seconds = self.seconds[indices] if rng is None else self.lengths[indices]
        spare = self.seconds[indices] - seconds
        starts = spare if rng is None else rng.integers(spare + 1)
        nights = [store.night(self.files[i]) for i in indices]
        batch = np.zeros((len(indices), int(seconds.max()), nights[0].shape[1]), np.float16)
        for row, whole, start, length in zip(batch, nights, starts, seconds, strict=True):
            row[:length] = whole[start : start + length]
        return torch.from_numpy(batch), torch.from_numpy(seconds.astype(np.int64))


class SHHS:
    """SHHS-DIR from NSRR's files, which `data_dir` holds in NSRR's layout (see `sleep.tables`).

    Args:
        data_dir: Folder of polysomnography/ and datasets/.
        visit: "shhs2", of which there are 2,651 recordings as in the paper, or "shhs1".
        score: Column of the score in the visit's table; None: SF-36 General Health.
        channels: Role (eeg, ecg, airflow, abdomen, thorax) to accepted labels, best first; a role that is not named
            or None has those of both visits (`sleep.signals.CHANNELS`).
        required: Roles without which a recording is left out.
        min_seconds: Length below which a recording is left out; stand-ins may be shorter.
        features: Settings of the features by name, see `sleep.signals.FeatureSettings`; None: as there.
        crop_seconds: What training cuts out of a night at random; None: the whole night. Evaluation has the whole.
        n_val: Subjects in validation; None: 369 of 2,630, in proportion.
        n_test: The same of test.
        split_seed: Of the draw of both.
        prepared_dir: Folder of the features; None: `data_dir`/prepared.
        processes: That prepare; None: one a core.
    """

    def __init__(
        self,
        data_dir: str,
        visit: str = "shhs2",
        score: str | None = None,
        channels: Mapping[str, Sequence[str] | None] | None = None,
        required: Sequence[str] = REQUIRED,
        min_seconds: int = MIN_SECONDS,
        features: Mapping[str, Any] | None = None,
        crop_seconds: int | None = None,
        n_val: int | None = None,
        n_test: int | None = None,
        split_seed: int = 0,
        prepared_dir: str | None = None,
        processes: int | None = None,
    ) -> None:
        if visit not in VISITS:
            raise UserError(f"dataset.source.visit={visit} is no visit{nearest(visit, VISITS)}: {', '.join(VISITS)}")
        for role in (*(channels or {}), *required):
            if role not in ROLES:
                raise UserError(f"dataset.source: there is no role '{role}'{nearest(role, ROLES)}: {', '.join(ROLES)}")
        if crop_seconds is not None and crop_seconds < 1:
            raise UserError(f"dataset.source.crop_seconds={crop_seconds} must be at least 1, or null")
        self.data_dir, self.visit, self.score = Path(data_dir), visit, score
        named = {role: labels for role, labels in (channels or {}).items() if labels is not None}
        self.settings = store.Settings(
            FeatureSettings(**(features or {})), {**CHANNELS, **named}, tuple(required), min_seconds
        )
        self.crop_seconds, self.n_val, self.n_test, self.split_seed = crop_seconds, n_val, n_test, split_seed
        prepared = self.data_dir / "prepared" if prepared_dir is None else Path(prepared_dir)
        self.prepared = prepared / self.settings.key
        self.processes = processes or os.cpu_count() or 1

    @property
    def requirements(self) -> str:
        """What has to be on disk, whom to ask for it, and where to put it."""
        return (
            f"SHHS-DIR: polysomnography/edfs/{self.visit}/*.edf and datasets/{self.visit}-dataset-*.csv of the Sleep "
            f"Heart Health Study in {self.data_dir}. NSRR (sleepdata.org/datasets/shhs) gives them to those who sign "
            "its data access and use agreement; then `dir-bench data prepare shhs`"
        )

    def fingerprint(self) -> str:
        """Return a hash of the subjects, their scores and features."""
        rows = self._prepared_rows(self._scores())
        table = rows[["subject", "score", "sha256"]].to_csv(index=False)
        return hashlib.sha256(table.encode()).hexdigest()

    def load(self) -> Data:
        """Return the splits; UserError if files are missing, or recordings are not prepared."""
        rows = self._prepared_rows(self._scores())
        split = split_scores(rows[["subject", "score"]], n_val=self.n_val, n_test=self.n_test, seed=self.split_seed)
        parts = {name: rows[split == name] for name in ("train", "val", "test")}
        for name, part in parts.items():
            if part.empty:
                raise UserError(f"{len(rows)} subjects are too few: the split '{name}' has none")
        train, val, test = (
            NightSplit(
                tuple(map(Path, part["features"])),
                part["seconds"].to_numpy(np.int64),
                part["score"].to_numpy(np.float32),
                self.crop_seconds if name == "train" else None,
            )
            for name, part in parts.items()
        )
        features = self.settings.features
        kwargs = {
            "eeg_bins": features.eeg_bins,
            "ecg_bins": features.ecg_bins,
            "breathing_channels": len(BREATHING),
            "breathing_rate": features.breathing_rate,
        }
        return Data(train, val, test, backbone_kwargs=kwargs)

    def prepare(self) -> tuple[str, tuple[str, ...]]:
        """Make the features of all recordings that lack them; return a summary, and what failed.

        Raises:
            UserError: The tables or all recordings are missing.
        """
        scores = self._scores()
        settings = self.settings
        if stand_in.are_all_made_up(scores.rows["subject"]):
            settings = replace(settings, min_seconds=min(settings.min_seconds, stand_in.LEAST_SECONDS))
        failures = store.prepare(
            [Path(path) for path in scores.rows["recording"]], self.prepared, settings, self.processes
        )
        return "\n".join(f"{key}: {value}" for key, value in self._summary(scores).items()), tuple(failures)

    def _scores(self) -> Scores:
        if not self.data_dir.is_dir():
            raise UserError(f"missing {self.requirements}; `dir-bench data sample shhs` writes a small stand-in")
        return read_scores(self.data_dir, self.visit, self.score)  # type: ignore[arg-type]  # checked above

    def _prepared_rows(self, scores: Scores) -> pd.DataFrame:
        """Return subject, score, features (path), seconds and sha256 of everybody who is not left out."""
        found = [store.lookup(Path(path), self.prepared) for path in scores.rows["recording"]]
        missing = sum(made is None for made in found)
        if missing:
            raise UserError(
                f"{missing} of {len(found)} recordings in {self.data_dir} are not prepared with these settings: "
                "`dir-bench data prepare shhs` makes their features, once (with settings of dataset.source as here)"
            )
        rows = scores.rows.assign(
            features=[str(made.path) for made in found if made],
            seconds=[made.seconds for made in found if made],
            sha256=[made.sha256 for made in found if made],
            reason=[made.reason for made in found if made],
        )
        kept: pd.DataFrame = rows[rows["reason"] == ""].reset_index(drop=True)
        if kept.empty:
            raise UserError(f"no recording in {self.data_dir} can be used: `dir-bench data check shhs` says why")
        return kept

    def _summary(self, scores: Scores) -> dict[str, str]:
        """Return who counts and who does not, and why."""
        found = [store.lookup(Path(path), self.prepared) for path in scores.rows["recording"]]
        made = [one for one in found if one is not None]
        kept = [one for one in made if not one.reason]
        hours = sum(one.seconds for one in kept) / 3600
        megabytes = sum(one.path.stat().st_size for one in kept) / 1e6
        facts = {
            "table": f"{scores.csv.name}, column {scores.column}",
            "subjects": f"{len(scores.rows)} with a score and a recording",
            "prepared": f"{len(kept)} recordings, {hours:,.1f} hours, {megabytes:,.1f} MB in {self.prepared}",
        }
        facts |= {f"left out, {reason}": _examples(names) for reason, names in scores.excluded.subjects.items()}
        for reason in dict.fromkeys(one.reason for one in made if one.reason):
            facts[f"left out, {reason}"] = _examples([one.sentence for one in made if one.reason == reason], 1)
        notes = [f"{one.path.stem}: {note}" for one in kept for note in one.notes]
        facts |= {"notes on recordings in use": _examples(notes, 1)} if notes else {}
        if scores.repeated:
            facts["subjects with several equal rows, of which one counts"] = _examples(list(map(str, scores.repeated)))
        return facts

    def check(self) -> CheckReport:
        """Match tables, recordings and features, and compare the features' checksums, in parallel."""
        try:
            scores = self._scores()
            rows = self._prepared_rows(scores)
        except UserError as error:
            return CheckReport({}, (str(error),))
        facts = self._summary(scores)
        hashes = ahead(file_hash, [Path(path) for path in rows["features"]], self.processes)
        problems = [
            f"{path} is damaged (its SHA-256 differs): remove it and run `dir-bench data prepare shhs` again"
            for path, sha256, found in zip(rows["features"], rows["sha256"], hashes, strict=True)
            if sha256 != found
        ]
        made_up = stand_in.is_made_up(rows["subject"])
        facts["list"] = "a made-up stand-in: good for a trial, not for results" if made_up else "NSRR's"
        recordings = len(scores.rows) + sum(map(len, scores.excluded.subjects.values()))
        if not made_up and recordings < RECORDINGS[self.visit]:
            facts["recordings"] = f"NSRR has {RECORDINGS[self.visit]} of {self.visit}; not all are here"
        try:
            data = self.load()
        except UserError as error:
            return CheckReport(facts, (*problems, str(error)))
        facts["split"] = f"{len(data.train)} / {len(data.val)} / {len(data.test)} subjects (paper: 1892 / 369 / 369)"
        targets = {
            name: split.targets for name, split in (("train", data.train), ("val", data.val), ("test", data.test))
        }
        return CheckReport(facts, tuple(problems), data.train.label_counts, targets)

    def stands_in(self) -> str:
        """Say whether the nights are made up."""
        return STAND_IN if stand_in.is_made_up(self._scores().rows["subject"]) else ""

    def sample(self, folder: Path, n: int = 36, seed: int = 0) -> Path:
        """Write a stand-in: real EDF files of both visits, whose signals go by a hidden score, and their tables."""
        return stand_in.write_sample(folder, n, seed)


def _examples(names: Sequence[str], shown: int = 3) -> str:
    """Return the number of names, and the first of them."""
    return f"{len(names)} ({', '.join(names[:shown])}{', …' if len(names) > shown else ''})"
