"""What a table lacks: seeds of a row, rows of a published table; and the commands that run them."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from dir_bench.results import published
from dir_bench.results.naming import overrides

MAIN = "paper"
"""The paper whose tables decide which rows there should be."""

_METHOD = frozenset(
    (
        *("seed", "method", "reweight", "lds", "fds", "loss", "head", "stages", "resample", "mixup", "parts"),
        "semantics",
    )
)
"""Groups that make a method: what else a command says is the protocol, which all rows share."""


@dataclass(frozen=True)
class Hole:
    """A printed method without a run, under its derived name, and the overrides that run it; none if none do."""

    method: str
    overrides: tuple[str, ...]


def missing_rows(title: str, runs: pd.DataFrame, papers: Sequence[str], presets: Sequence[str] | None) -> list[Hole]:
    """Return the printed methods of a dataset that have no run, each once.

    With presets these are the rows of the paper's tables; of its ablations only those of a kind (kernel, loss, size)
    that some run is of, for nobody wants thirty holes unasked. Methods that only another of `papers` has are always
    among them: their numbers could be shown nowhere else.

    Args:
        title: The dataset's title.
        runs: One record a run, see `records.collect`.
        papers: The papers whose numbers are shown.
        presets: The method presets there are; None: holes are not asked for.
    """
    have = set(runs["method"])
    main = published.methods(title)
    wanted = []
    if presets is not None:
        kinds = {kind for method in have for kind in _kinds(method)}
        wanted += [row for row in main if _kinds(row) <= kinds]
    for paper in papers:
        wanted += [row for row in published.methods(title, paper=paper) if row not in main]
    names = [name for name in dict.fromkeys(published.derived_name(title, row) for row in wanted) if name not in have]
    if not names:
        return []
    one_a_row = runs.drop_duplicates("label")  # its runs differ in the seed
    protocol = _protocol(shlex.split(command) for command in one_a_row["command"])
    holes = []
    for name in names:
        method = overrides(name)
        known = method[0].removeprefix("method=") in (presets or ())
        holes.append(Hole(name, (*protocol, *method) if known else ()))
    return holes


def fill_command(overrides: Iterable[str], seeds: Sequence[int]) -> str:
    """Return the command that trains these overrides with these seeds."""
    kept = [word for word in overrides if not word.startswith("seed=")]
    several = ["-m"] if len(seeds) > 1 else []
    return shlex.join(["dir-bench", "train", *several, *kept, f"seed={','.join(map(str, seeds))}"])


def _kinds(method: str) -> set[str]:
    """Return the names of the settings in a method's brackets."""
    return {setting.partition("=")[0] for setting in method.partition(" [")[2].rstrip("]").split(";") if setting}


def _protocol(commands: Iterable[Sequence[str]]) -> list[str]:
    """Return the overrides that all commands have, in their order, without those that make a method."""
    first, *others = commands
    shared = [word for word in first if all(word in command for command in others)]
    return [word for word in shared if word.split("=")[0].split(".")[0] not in _METHOD]
