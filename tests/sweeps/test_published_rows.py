"""Every row that Yang et al. printed has a sweep: its table's file gives a run with the row's name on its dataset."""

import re
from collections import defaultdict
from functools import cache

import pytest

from dir_bench import config
from dir_bench.resolved import toggles
from dir_bench.results import published
from dir_bench.results.naming import method_name, names

TABLES = {f"table{number}" for number in (*range(1, 7), *range(8, 21))}


def printed_rows():
    """Return {table: {(dataset's title, printed method)}}."""
    rows = defaultdict(set)
    for row in published.load():
        if row.paper == published.full_name("paper"):
            for number in re.findall(r"Table (\d+)", row.source):
                rows[f"table{number}"].add((row.title, row.method))
    return rows


def jobs_of(name):
    asked = [f"+sweep={name}", "seed=0"]
    return config.sweep_jobs(asked, config.sweep_of(asked).grids)


@cache
def rows_of_sweep(name):
    """Return {(dataset's title, derived method)} of all jobs of a sweep."""
    return {(names(made)[1], method_name(toggles(made))) for made in config.compose_all(jobs_of(name))}


def missing(name, rows):
    have = rows_of_sweep(name)
    return sorted(row for row in rows if (row[0], published.derived_name(*row)) not in have)


def test_the_paper_s_tables_are_those_that_have_a_sweep():
    assert (
        printed_rows().keys() == TABLES == {name for name in config.options("sweep") if re.fullmatch(r"table\d+", name)}
    )


@pytest.mark.parametrize("name", sorted(TABLES))
def test_no_printed_row_is_without_a_run(name):
    assert missing(name, printed_rows()[name]) == []


@pytest.mark.parametrize("name", sorted(TABLES))
def test_no_run_is_without_a_printed_row(name):
    """Or a table would cost days of training that nothing is compared with."""
    printed = {(title, published.derived_name(title, method)) for title, method in printed_rows()[name]}
    extra = rows_of_sweep(name) - printed
    assert extra <= ({("IMDB-WIKI-DIR", "VANILLA"), ("STS-B-DIR", "VANILLA")} if name in REFERENCED else set())


REFERENCED = ("table16", "table17")
"""Their rows are read against VANILLA's, which they do not print again."""


def test_a_row_without_a_run_is_found():
    assert missing("table4", {("NYUD2-DIR", "FOCAL-R")}) == [("NYUD2-DIR", "FOCAL-R")]


def test_smoke_has_every_method():
    asked = {text.removeprefix("method=") for job in jobs_of("smoke") for text in job if text.startswith("method=")}
    assert asked == set(config.options("method"))
