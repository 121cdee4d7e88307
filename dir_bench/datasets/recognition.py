"""How a dataset says that it can read somebody's files: what is looked at, and what it answers.

`dir-bench data describe` asks every class that a `configs/dataset/*.yaml` names as its `_target_` and that defines
`recognise` itself. There is no list to add a new one to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from dir_bench.datasets.base import CheckReport
from dir_bench.datasets.tables.columns import Columns, columns_of
from dir_bench.errors import UserError
from dir_bench.files.plain import is_plain, status
from dir_bench.files.table import SUFFIXES, Table, read_table

TOKENS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "dev"), "test": ("test", "testing")}
"""Words in the name of a file that say which split it holds."""
SHOWN = 5
"""Names of files that a message lists at most."""


@dataclass(frozen=True)
class Found:
    """What a dataset sees in files that it can read.

    Attributes:
        what: What they are and how large, a phrase.
        source: Settings of `dataset.source` that read them, those that differ from the YAML of the dataset.
        stem: What the data may be called.
        label: What figures call the target; "": as the YAML has it.
        backbone: One that takes such samples, if it is another than that of the YAML.
        fits: How special this reading is: of several, the greatest is taken.
        notes: What was guessed or taken from beside, a sentence each, with how to say otherwise.
        problems: What is doubtful in the files, a sentence each.
        once: An action of `dir-bench data` that has to come first, such as "split".
    """

    what: str
    source: Mapping[str, Any]
    stem: str
    label: str = ""
    backbone: str | None = None
    fits: int = 1
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    once: str | None = None


@runtime_checkable
class Recognising(Protocol):
    """A dataset that tells whether files of somebody are such as it reads."""

    looks_for: ClassVar[str]
    """What it recognises, a phrase, for the message where nothing does."""

    @classmethod
    def recognise(cls, place: Place) -> Found | None:
        """Look at files; None if they are nothing for this dataset, UserError if they would be but for a mistake."""
        ...


@runtime_checkable
class Surveyable(Protocol):
    """A dataset whose `check` reads every sample, and that can tell its labels sooner."""

    def survey(self) -> CheckReport:
        """Return what `check` finds, as far as it can be told without reading the samples."""
        ...


class Place:
    """A file or folder that is looked at, each of its tables read once.

    Args:
        path: It.
        target: The column that the user calls the target; None: not said.

    Raises:
        UserError: If there is nothing there, or something that is neither a folder nor a plain file.
    """

    def __init__(self, path: Path, target: str | None = None) -> None:
        if not (is_folder := path.is_dir()):
            status(path)
        self.path, self.target, self.is_folder = path, target, is_folder
        self.folder = path if is_folder else path.parent
        self._read: dict[Path, Table] = {}

    @cached_property
    def files(self) -> list[Path]:
        """The plain files of the folder itself, or the one file; hidden ones are left out."""
        if not self.is_folder:
            return [self.path]
        return [path for path in sorted(self.path.iterdir()) if not path.name.startswith(".") and is_plain(path)]

    @cached_property
    def folders(self) -> list[Path]:
        """Folders in the folder."""
        return [path for path in sorted(self.folder.iterdir()) if not path.name.startswith(".") and path.is_dir()]

    @cached_property
    def tables(self) -> dict[str, Path]:
        """The table ("train") and those of the other splits that lie beside it; none if there is no table.

        UserError if a folder has several that do not belong together.
        """
        tables = [path for path in self.files if path.suffix.lower() in SUFFIXES]
        if not tables:
            return {}
        if self.is_folder:
            families = {(family_of(path), path.suffix) for path in tables}
            if len(families) > 1:
                more = f" and {len(tables) - SHOWN} more" if len(tables) > SHOWN else ""
                shown = ", ".join(path.name for path in tables[:SHOWN])
                raise UserError(f"{self.path} has several tables ({shown}{more}): name the one to describe")
            first = next((path for path in tables if split_of(path) in ("train", None)), tables[0])
        else:
            first = self.path
        found = {"train": first}
        if split_of(first) == "train":
            for path in _shown(first):
                split = split_of(path)
                if split in ("val", "test") and family_of(path) == family_of(first) and is_plain(path):
                    found.setdefault(split, path)
        return {split: found[split] for split in TOKENS if split in found}

    @cached_property
    def stem(self) -> str:
        """What the data may be called: the file's name without the split, or the folder's."""
        if self.is_folder:
            return self.path.resolve().name
        return (family_of(self.path) if len(self.tables) > 1 else self.path.stem) or self.folder.resolve().name

    def table(self, split: str = "train") -> Table | None:
        """Return the table, or that of another split beside it; None if there is none, UserError if it is damaged."""
        path = self.tables.get(split)
        if path is None:
            return None
        if path not in self._read:
            self._read[path] = read_table(path)
        return self._read[path]

    @cached_property
    def columns(self) -> Columns | None:
        """What the columns of the table are for; None if there is no table, UserError if none can be the target."""
        table = self.table()
        if table is None:
            return None
        others = [other for split in ("val", "test") if (other := self.table(split)) is not None]
        return columns_of(table, others, self.target)

    @property
    def beside(self) -> tuple[str, ...]:
        """Sentences on the files of other splits that are used, or could be."""
        if len(self.tables) > 1:
            names = {split: path.name for split, path in self.tables.items() if split != "train"}
            used = " and ".join(f"{name} ({split})" for split, name in names.items())
            return (f"beside {self.tables['train'].name}, {used} will be used too",)
        own = self.tables.get("train")
        if own is None or split_of(own) in ("train", None):
            return ()
        train = [path for path in _shown(own) if split_of(path) == "train" and family_of(path) == family_of(own)]
        return tuple(f"{path.name} lies beside: describe that one, and {own.name} becomes its {split_of(own)} part"
                     for path in train[:1])  # fmt: skip


def split_of(path: Path) -> str | None:
    """Return which split a file's name says that it holds; None if it says nothing."""
    return next((split for split, words in TOKENS.items() if _word(words).search(path.stem)), None)


def family_of(path: Path) -> str:
    """Return a file's name without its ending and without what says which split it holds."""
    split = split_of(path)
    rest = path.stem if split is None else _word(TOKENS[split]).sub(" ", path.stem, count=1)
    return "_".join(re.split(r"[\s._-]+", rest.strip(" ._-"))) if split else path.stem


def shortened(names: Iterable[object]) -> str:
    """Return names for a message, the first few and how many more."""
    listed = [str(name)[:60] for name in names]
    return ", ".join(listed[:SHOWN]) + (f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else "")


def _shown(table: Path) -> list[Path]:
    """Return the files beside a table that end as it does, itself among them; hidden ones are left out."""
    return [path for path in sorted(table.parent.glob(f"*{table.suffix}")) if not path.name.startswith(".")]


def _word(words: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"(?i)(?<![a-z])(?:{'|'.join(words)})(?![a-z])")
