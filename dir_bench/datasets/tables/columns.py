"""What the columns of a table that nobody has described are for: by their names, and by what stands in them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dir_bench.datasets.tables.encoding import IDENTIFIER, NUMERIC, with_commas
from dir_bench.datasets.tables.holdout import HELD_OUT
from dir_bench.errors import UserError, nearest
from dir_bench.files.table import Table

SPLITS = ("train", "val", "test")
NAMED_SO = ("target", "label", "y")
"""Names that say that a column is the target."""
LIKE_TARGETS = frozenset(
    "target label y age ages score scores price rating ratings stars outcome response grade severity value cost".split()
)
"""Words in a column's name that make it likely."""
IDENTITIES = frozenset("id ids uuid guid index idx patient subject person participant".split())
"""Words that a column's name ends in where it says what a row is about."""
WORDS = 4
"""Words that a field of free text has on average, at least."""
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
"""Ends of names of pictures."""
CATEGORIES = 30
"""Texts that a column may hold and still be one of categories, however few the rows."""


@dataclass(frozen=True)
class Columns:
    """What each column is for.

    Attributes:
        target: The column of targets.
        guessed: Why it was taken for it, a sentence that says how to name another; "" if it was asked for.
        split: The column that says train, val or test of each row; None: there is none.
        identity: The column that says what rows are about, where several share one; None: there is none.
        texts: Columns of free text, the longest first.
        names: Columns that name the row and nothing else, those without any value, and those of lists and the like.
        inputs: All others.
        missing: Of each input that lacks values, how many rows do.
        targets_missing: Rows without a target.
        problems: What is doubtful, a sentence each.
    """

    target: str
    guessed: str
    split: str | None
    identity: str | None
    texts: tuple[str, ...]
    names: tuple[str, ...]
    inputs: tuple[str, ...]
    missing: dict[str, int]
    targets_missing: int
    problems: tuple[str, ...]


def columns_of(table: Table, others: Sequence[Table], target: str | None) -> Columns:
    """Tell what the columns are for.

    Args:
        table: The training part, or the whole.
        others: Tables of other splits.
        target: The column that the user names; None: it is guessed.

    Raises:
        UserError: If no column can be the target, or the one that is named is none of numbers.
    """
    every = [str(name) for name in table.frame.columns if name not in table.oddities]
    split = _split_column(table, every)
    single = split is not None and bool(others) and table.frame[split].nunique() == 1
    plain = [name for name in every if name != split]
    numeric = [name for name in plain if is_numeric(table, name)]
    possible = [name for name in numeric if not table.holds_times(name)]
    if target is None:
        target, guessed = _guess(table, [name for name in possible if not _is_identity(name)], possible, plain)
    else:
        guessed = ""
        table.column(target, "--target")
        _require_numbers(table, target, possible)
    rest = [name for name in plain if name != target]
    words = {name: _words(table, name) for name in rest if name not in numeric}
    texts = sorted((name for name, mean in words.items() if mean >= WORDS and _varies(table, name)),
                   key=lambda name: -words[name])  # fmt: skip
    empty = [name for name in rest if table.missing(name).all()]
    identity, names, problems = _identities(table, others, None if single else split, rest, numeric, texts)
    names = [*names, *(name for name in empty if name not in names), *([str(split)] if single else []), *table.oddities]
    inputs = [name for name in rest if name not in (*names, *texts, identity)]
    gaps = {name: max(int(each.missing(name).sum()) for each in (table, *others) if name in each.frame.columns)
            for name in inputs}  # fmt: skip
    lacking = sum(int(each.missing(target).sum()) for each in (table, *others) if target in each.frame.columns)
    return Columns(
        target,
        guessed,
        None if single else split,
        identity,
        tuple(texts),
        tuple(names),
        tuple(inputs),
        {name: count for name, count in gaps.items() if count},
        lacking,
        tuple(problems),
    )


def is_numeric(table: Table, name: str) -> bool:
    """Tell whether nearly all values of a column that are there are numbers."""
    there = ~table.missing(name)
    return bool(there.any()) and float(np.isfinite(table.numbers(name)[there]).mean()) > NUMERIC


def names_pictures(table: Table, name: str) -> bool:
    """Tell whether nearly all fields of a column end as names of pictures do."""
    if name in table.oddities:
        return False
    return bool(table.text(name).str.lower().str.endswith(PICTURES).mean() > NUMERIC)


def _guess(table: Table, candidates: list[str], numeric: list[str], plain: list[str]) -> tuple[str, str]:
    named = [name for name in candidates if name.lower() in NAMED_SO]
    likely = [name for name in candidates if set(_parts(name)) & LIKE_TARGETS]
    rest = [name for name in candidates if len(np.unique(table.numbers(name)[~table.missing(name)])) > 2]
    if len(named) == 1:
        found, why = named[0], "for its name"
    elif len(likely) == 1:
        found, why = likely[0], "as the one column of numbers with such a name"
    elif rest or numeric:
        found, why = (rest or candidates or numeric)[-1], "as the last column of numbers"
    else:
        raise UserError(
            f"{table.path} has no column of numbers, which the target has to be; it has: "
            f"{', '.join(name[:60] for name in plain[:CATEGORIES])}"
        )
    others = [name for name in candidates if name != found]
    other = f"; if it is another, say --target {others[-1] if len(others) == 1 else 'COLUMN'}" if others else ""
    return found, f"the target is guessed: {found}, {why}{other}"


def _require_numbers(table: Table, target: str, numeric: list[str]) -> None:
    if target in numeric:
        return
    if table.missing(target).all():
        raise UserError(f"{table.path}: {target} has no value in any row, so it is no target: name another by --target")
    if np.isfinite(table.numbers(target)).any():
        table.targets(target, np.flatnonzero(~table.missing(target)))
    example = str(table.frame[target][~table.missing(target)].iloc[0])[:60]
    shown = f"; of numbers are: {', '.join(numeric[:CATEGORIES])}" if numeric else ""
    raise UserError(
        f"{table.path}: {target} holds text such as '{example}', and a target is a number: name another by --target"
        f"{nearest(target, numeric)}{shown}"
    )


def _split_column(table: Table, names: list[str]) -> str | None:
    return next((name for name in names if table.frame[name].isin(SPLITS).all()), None)


def _identities(
    table: Table, others: Sequence[Table], split: str | None, rest: list[str], numeric: list[str], texts: list[str]
) -> tuple[str | None, list[str], list[str]]:
    """Return the column that says what rows are about, columns that name rows only, and what is doubtful of them."""
    identity, names, problems = None, [], []
    for name in rest:
        if name in texts:
            continue
        distinct = table.frame[name].nunique()
        if _is_identity(name):
            if distinct == len(table) or identity is not None or table.missing(name).any():
                names.append(name)
            elif shared := _shared(table, others, split, name):
                names.append(name)
                problems.append(
                    f"{shared} values of {name} are in two splits, which leaks if they are one and the same thing: "
                    "give all rows of one to one split"
                )
            else:
                identity = name
        elif name not in numeric and (example := with_commas(table, name)):
            names.append(name)
            problems.append(
                f"{name} holds numbers with commas, such as '{example}', and is left out: write them without, and with "
                "a decimal point"
            )
        elif name not in numeric and (
            distinct > max(CATEGORIES, IDENTIFIER * len(table))
            or _names_training_rows(table, others, split, name)
            or names_pictures(table, name)
        ):
            names.append(name)
    return identity, names, problems


def _names_training_rows(table: Table, others: Sequence[Table], split: str | None, name: str) -> bool:
    """Tell whether training is likely to have too many texts for categories: of fewer rows more are different."""
    column = table.frame[name]
    if split is not None:
        column = column[table.frame[split] == "train"]
    share = 1.0 if split is not None else 1 - HELD_OUT * (2 - len(others))
    # A text of n rows is in training but for those draws that leave out all n.
    expected = float((1 - (1 - share) ** column.value_counts().to_numpy(np.float64)).sum())
    return expected > max(CATEGORIES, 0.95 * IDENTIFIER * share * len(column))


def _shared(table: Table, others: Sequence[Table], split: str | None, name: str) -> int:
    """Count the values that are in more than one split."""
    if split is not None:
        return int((table.frame.groupby(name)[split].nunique() > 1).sum())
    parts = [set(each.text(name)) for each in (table, *others) if name in each.frame.columns]
    return sum(map(len, parts)) - len(set.union(*parts))


def _is_identity(name: str) -> bool:
    parts = _parts(name)
    return bool(parts) and (parts[-1] in IDENTITIES or name.lower().startswith("unnamed"))


def _parts(name: str) -> list[str]:
    """Return the words of a name such as sale_price, SalePrice or "sale price", in small letters."""
    return [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def _words(table: Table, name: str) -> float:
    text = table.text(name)[~table.missing(name)]
    return float(text.str.count(r"\S+").mean()) if len(text) else 0.0


def _varies(table: Table, name: str) -> bool:
    there = table.frame[name][~table.missing(name)]
    return bool(there.nunique() > max(1, min(CATEGORIES, IDENTIFIER * len(there))))
