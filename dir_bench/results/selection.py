"""Hyper-parameters chosen by validation: of rows that differ in them alone, the one that a table then shows."""

from collections.abc import Sequence

import pandas as pd

from dir_bench.errors import UserError, nearest
from dir_bench.results.records import row_settings, shown_setting


def select(records: pd.DataFrame, keys: Sequence[str]) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """Keep of each method the row whose runs were best on validation, among those that differ in `keys` alone.

    The test errors have no part in it. A row's value is the mean, over the seeds that all these rows have, of what
    its checkpoints were selected by, lower is better. Rows selected by other metrics are not among each other's, nor,
    unless `keys` ask for it, are rows that depart from the dataset's recipe in other ways.

    Args:
        records: See `records.collect`.
        keys: Settings by their whole names or last parts ("optimizer.lr", "lr"); none: all that rows differ in.

    Returns:
        The records of the rows that are kept, and a sentence on each choice by the dataset's title.

    Raises:
        UserError: A key is none that any rows of one method differ in, rows share no seed, or a run does not record
            what it was selected by.
    """
    kept, notes, met = [], dict[str, list[str]](), set[str]()
    for (_, title, method), rows in records.groupby(["dataset", "title", "method"], sort=False):
        configs = {str(row): row_settings(part["path"].iloc[0]) for row, part in rows.groupby("row_id", sort=False)}
        names = dict.fromkeys(name for config in configs.values() for name in config)
        varied = [n for n in names if len({shown_setting(config, n) for config in configs.values()}) > 1]
        tuned = [name for name in varied if not keys or any(_names(key, name) for key in keys)]
        met |= {*varied}
        monitor = next((name for name in rows["monitor"] if name), "")
        families: dict[tuple[str | None, ...], list[str]] = {}
        for row, part in rows.groupby("row_id", sort=False):
            others = [shown_setting(configs[str(row)], name) for name in varied if name not in tuned]
            kind = (part["monitor"].iloc[0] or monitor, None if keys else part["departures"].iloc[0])
            families.setdefault((*others, *kind), []).append(str(row))
        for family in families.values():
            best = _best(rows, family, str(title), str(method))
            part = rows[rows["row_id"] == best]
            if len(family) > 1:
                what = ", ".join(f"{name}={shown_setting(configs[best], name)}" for name in tuned)
                about = f"{method}: {what}, chosen by {part['monitor'].iloc[0]} among {len(family)}"
                notes.setdefault(str(title), []).append(f"{about}.")
            if len(families) == 1:
                part = part.assign(label=str(method), legend="")
            kept.append(part)
    for key in keys:
        if not any(_names(key, name) for name in met):
            raise UserError(f"--select {key}: no rows of one method differ in it{nearest(key, met)}")
    return pd.concat(kept) if kept else records, notes


def _names(key: str, name: str) -> bool:
    """Tell whether a setting is meant: by its whole name, or by the last parts of it."""
    return name == key or name.endswith(f".{key}")


def _best(rows: pd.DataFrame, family: Sequence[str], title: str, method: str) -> str:
    if len(family) == 1:
        return family[0]
    runs = rows[rows["row_id"].isin(family)].drop_duplicates("path")
    if runs["selected_at"].isna().any():
        path = runs.loc[runs["selected_at"].isna(), "path"].iloc[0]
        raise UserError(f"--select: {path} does not record what its checkpoint was selected by")
    values = runs.pivot(index="seed", columns="row_id", values="selected_at").dropna()
    if values.empty:
        raise UserError(f"--select: the {len(family)} rows of {method} on {title} share no seed to choose by")
    return str(values.mean().idxmin())
