"""How often `dir-bench table --compare` marks a difference between two halves of one method's seeds: it should never.

    dir-bench train -m seed=range(12) && python scripts/aa_trial.py outputs --method VANILLA

Each trial splits the seeds at random in two halves, takes them for two methods, and compares them as a table does, over
seeds (†) and, for contrast and in fewer trials, over test samples (‡). Printed are the shares of marked cells and of
tables with a mark, with their 95 % intervals (Wilson; the trials share their runs, so they are a guide). The bar is 5 %
of cells for †.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from dir_bench.errors import UserError
from dir_bench.results.comparison import LEAST_SEEDS, Over
from dir_bench.results.records import collect
from dir_bench.results.tables import summarise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--method", default="VANILLA", help="the row whose seeds are split")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--contrast", type=int, default=20, help="trials over test samples, of some seconds each")
    asked = parser.parse_args()
    records = collect(asked.runs)[0]
    records = records[records["label"] == asked.method]
    if records["seed"].nunique() < 2 * LEAST_SEEDS:
        raise SystemExit(f"{asked.method} has {records['seed'].nunique()} seeds: a trial needs {2 * LEAST_SEEDS}")
    trials: tuple[tuple[Over, int], ...] = (("seeds", asked.trials), ("samples", asked.contrast))
    for over, number in trials:
        try:
            marked, tables, cells = trial(records, over, number)
        except UserError as error:
            print(f"over {over}: {error}")
            continue
        for what, found, of in (("cells", marked, cells), ("tables", tables, number)):
            interval = binomtest(found, of).proportion_ci(method="wilson")
            share = f"{found / of:.1%} ({interval.low:.1%}–{interval.high:.1%})"
            print(f"over {over}: {found} of {of} {what} marked, {share}")


def trial(records: pd.DataFrame, over: Over, trials: int) -> tuple[int, int, int]:
    """Return how many cells were marked, how many tables had a mark, and how many cells there were."""
    rng = np.random.default_rng(0)
    marked = tables = cells = 0
    for _ in range(trials):
        (table,) = summarise(halves(records, rng), compare="A", over=over)
        tests = [test for row in table.rows for test in row.tests.values()]
        marked += sum(test.significant for test in tests)
        tables += any(test.significant for test in tests)
        cells += len(tests)
    return marked, tables, cells


def halves(records: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return the records of one row as those of two, A and B, whose seeds are numbered anew from 0."""
    seeds = rng.permutation(records["seed"].unique())
    size = len(seeds) // 2
    place = {seed: number for number, seed in enumerate(seeds[: 2 * size].tolist())}
    kept = records[records["seed"].isin(list(place))]
    number = kept["seed"].map(place).to_numpy()
    name = np.where(number < size, "A", "B")
    return kept.assign(seed=number % size, label=name, method=name, row_id=name)


if __name__ == "__main__":
    main()
