"""What a dataset gives to the trainer: three splits, each an array of targets and a way to fetch a batch."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from dir_bench.labels import TargetBins

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from dir_bench.datasets.download.remote import Remote

STAND_IN = "stand-in data"
"""What runs on made-up samples record."""

IntArray = npt.NDArray[np.int64]


class Split(Protocol):
    """Training, validation or test part of a dataset. With one target a sample, mix in `ScalarTargets`.

    A batch is made in two steps: `fetch` on the host, in any thread, then `prepare` on the device.
    """

    @property
    def targets(self) -> Any:
        """What `prepare` turns into targets, indexable by an array of samples.

        For one target a sample, the targets themselves, in label units (years, metres, points), shape ``(n,)``. For
        dense ones, what the files hold, shape ``(n, h, w)``.
        """
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

    def prepare(self, inputs: Any, targets: "Tensor | None") -> tuple[Any, Any]:
        """Return what the network takes, and targets in label units, from a batch that is on the device.

        Decoding of pixels and augmentation belong here: batched, with the numbers that `fetch` drew.

        Args:
            inputs: What `fetch` returned.
            targets: Those of `targets` that belong to the batch; None where they are not wanted.

        Returns:
            Targets have shape ``(b,)``, or ``(b, 1, h, w)`` for dense ones; None stays None.
        """
        ...

    @property
    def judged(self) -> npt.NDArray[np.floating[Any]]:
        """The targets that errors are computed from, label units, shape ``(m,)``: one a sample, or one a pixel."""
        ...

    def judge(self, output: "Tensor", indices: IntArray) -> tuple["Tensor", "Tensor"]:
        """Return from the network's output for some samples the predictions that are judged, network units.

        Returns:
            Their places in `judged`, on the CPU, and the predictions, both of shape ``(k,)``.
        """
        ...

    def label_counts(self, bins: TargetBins) -> IntArray:
        """Return how many targets (samples, or pixels) lie in each bin, shape ``(len(bins),)``."""
        ...


class ScalarTargets:
    """The part of `Split` that is the same wherever a sample has one target and needs no work on the device."""

    targets: Any

    def prepare(self, inputs: Any, targets: "Tensor | None") -> tuple[Any, Any]:
        """Return both as they are."""
        return inputs, targets

    @property
    def judged(self) -> npt.NDArray[np.floating[Any]]:
        """All targets."""
        return np.asarray(self.targets)

    def judge(self, output: "Tensor", indices: IntArray) -> tuple["Tensor", "Tensor"]:
        """Return the output itself, one a sample."""
        import torch

        return torch.from_numpy(indices), output.squeeze(-1)

    def label_counts(self, bins: TargetBins) -> IntArray:
        """Count the targets."""
        return bins.counts(self.targets)


class Stored:
    """The part of `Split` whose batches are rows of a table: it can lie on the device (`training.kept`).

    Mix in, with a `read`, and a `beside` if `fetch` has more to give than what was read.
    """

    stored = True

    def read(self, indices: IntArray) -> "Tensor":
        """Return the stored inputs of samples: CPU tensors whose shape, but for the first axis, is that of all."""
        raise NotImplementedError

    def beside(self, inputs: "Tensor", indices: IntArray, rng: np.random.Generator | None) -> Any:
        """Return a batch of inputs that were read, or of whatever stands for them, one a sample.

        As of `fetch`: the inputs alone, or a tuple of them and what augmentation drew.
        """
        return inputs

    def fetch(self, indices: IntArray, rng: np.random.Generator | None) -> Any:
        """Return what is read, and beside it what augmentation drew."""
        return self.beside(self.read(indices), indices, rng)


@dataclass(frozen=True)
class Data:
    """The loaded dataset.

    Attributes:
        train: Training split.
        val: The split that selects the checkpoint.
        test: The split that is reported.
        backbone_kwargs: What only the data can tell the backbone (a vocabulary's size).
        fds: What FDS passes over for its statistics, without augmentation; None: the training split, as it is trained.
        selected_on: "validation", or "test" where `val` is the test split, as in the published NYUD2 code.
        kind: What inputs are: "vectors", "sequences", "pictures", "volumes", "texts" or "word pieces", to be held
            against what a backbone takes (`Backbone.takes`); "": something else.
        drawn: Rows and distinct samples of each split that a protocol drew, see `protocols`.
    """

    train: Split
    val: Split
    test: Split
    backbone_kwargs: Mapping[str, Any] = field(default_factory=dict)
    fds: Split | None = None
    selected_on: str = "validation"
    kind: str = ""
    drawn: Mapping[str, Mapping[str, int]] | None = None


@dataclass(frozen=True)
class CheckReport:
    """What `dir-bench data check` found: `facts` to print, `problems` as one sentence each (none: all is well)."""

    facts: Mapping[str, Any]
    problems: tuple[str, ...] = ()
    label_counts: Callable[[TargetBins], IntArray] | None = None
    """Training targets per bin, for the histogram by region; None where they could not be read."""
    targets: Mapping[str, npt.NDArray[np.floating[Any]]] = field(default_factory=dict)
    """Targets of each split, label units, to be held against the bins; none where every pixel has one."""


def file_hash(*paths: Path) -> str:
    """Return the SHA-256 of files' contents, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def large_file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, or, above 256 MiB, of its size and of 1,024 blocks spread evenly over it.

    Word vectors of some gigabytes would else be read whole before each run that finds them in its cache.
    """
    size, count, block = path.stat().st_size, 1024, 2**15
    if size <= 2**28:
        return file_hash(path)
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for i in range(count):
            file.seek((size - block) * i // (count - 1))
            digest.update(file.read(block))
    return digest.hexdigest()


@runtime_checkable
class Dataset(Protocol):
    """A benchmark: built from its YAML by `_target_`, cheap to construct, reads files in `load` and `check` only."""

    def fingerprint(self) -> str:
        """Return a hash of the files that decide labels, splits and order ("" if settings alone do).

        It is part of a run's identity, so that a stand-in's numbers are never taken for the real data's. It goes by
        contents, not by where files lie; what was read once is remembered (`pictures.contents`). UserError if the
        files are missing.
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


@runtime_checkable
class Requiring(Protocol):
    """A dataset that can tell whether its files are there sooner than it can read them."""

    def require(self) -> None:
        """UserError if files are missing, with what to get; looks at a few of many."""
        ...


@runtime_checkable
class Labelled(Protocol):
    """A dataset that has its training targets sooner than its samples, for bins that are chosen from them."""

    def train_targets(self) -> npt.NDArray[np.floating[Any]]:
        """Return the targets of the training split, label units, shape ``(n,)``; UserError as of `load`."""
        ...


@runtime_checkable
class Standing(Protocol):
    """A dataset that knows whether its files are those whose results are published."""

    def stands_in(self) -> str:
        """Return in a short phrase what is there instead, such as "stand-in data"; "" if nothing is."""
        ...


@runtime_checkable
class Predictable(Protocol):
    """A dataset that can read samples that nobody has labelled, so that trained networks can be used on them."""

    def new_samples(self, files: Sequence[Path]) -> "tuple[pd.DataFrame, Split]":
        """Read new samples.

        Returns:
            What a table of predictions calls each of them, and the samples as a split, whose targets are NaN.

        Raises:
            UserError: They are not of the kind that this dataset has.
        """
        ...


@runtime_checkable
class Fetchable(Protocol):
    """A dataset some of whose files can be downloaded without asking anybody."""

    @property
    def remotes(self) -> "tuple[Remote, ...]":
        """The files, where they are, and their places below the dataset's folder."""
        ...


@runtime_checkable
class Splittable(Protocol):
    """A dataset whose splits can be rebuilt from raw files."""

    def write_split(self, seed: int | None = None) -> Path:
        """Write split files that are missing and return where; UserError if none is: the ones that are there count."""
        ...


@runtime_checkable
class Preparable(Protocol):
    """A dataset whose files are turned, once, into what training reads."""

    def prepare(self) -> tuple[str, tuple[str, ...]]:
        """Make what is missing; return a summary, and one sentence for each thing that failed."""
        ...
