"""What a dataset gives to the trainer: three splits, each an array of targets and a way to fetch a batch."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


class Split(Protocol):
    """Training, validation or test part of a dataset."""

    @property
    def targets(self) -> npt.NDArray[np.floating[Any]]:
        """Targets in label units (years, metres, points), shape ``(n,)``."""
        ...

    @property
    def lengths(self) -> IntArray | None:
        """Length of each sample where samples differ (tokens, seconds), for batches of like lengths; else None."""
        ...

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def fetch(self, indices: IntArray, rng: np.random.Generator | None) -> Any:
        """Return the inputs of one batch: a CPU tensor, or a tuple or dict of them.

        What is wanted on the host (lengths, for packing) goes as a NumPy array: only tensors are moved to a device.

        Args:
            indices: Which samples, shape ``(b,)``.
            rng: In training, the stream that augmentation draws from; None means no augmentation.
        """
        ...


@dataclass(frozen=True)
class Data:
    """The loaded dataset. `backbone_kwargs` is what only the data can tell the backbone (a vocabulary's size)."""

    train: Split
    val: Split
    test: Split
    backbone_kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckReport:
    """What `dir-bench data check` found: `facts` to print, `problems` as one sentence each (none: all is well)."""

    facts: Mapping[str, Any]
    problems: tuple[str, ...] = ()
    train_targets: npt.NDArray[np.floating[Any]] | None = None
    """Training targets, for the histogram by region; None where they could not be read."""


def file_hash(*paths: Path) -> str:
    """Return the SHA-256 of files' contents, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


@runtime_checkable
class Dataset(Protocol):
    """A benchmark: built from its YAML by `_target_`, cheap to construct, reads files in `load` and `check` only."""

    def fingerprint(self) -> str:
        """Return a hash of the files that decide labels, splits and order ("" if settings alone do).

        It is part of a run's identity, so that a stand-in's numbers are never taken for the real data's. Cheap: of
        large sets, hash the lists and not the pictures. UserError if the files are missing.
        """
        ...

    def load(self) -> Data:
        """Read the files (or make the samples) and return the splits; UserError if they are missing or bad."""
        ...

    def check(self) -> CheckReport:
        """Verify what is on disk against the published counts, ranges and hashes."""
        ...

    def sample(self, folder: Path, **options: Any) -> Path:
        """Write a small stand-in in the real on-disk format into `folder` and return it; never overwrites data."""
        ...

    @property
    def requirements(self) -> str:
        """What has to be on disk, where it comes from and where to put it, for `data list` and error messages."""
        ...
