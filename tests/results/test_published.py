"""The printed numbers are found under the paper's names, and derived names find their printed row."""

import math

import pytest

from dir_bench.errors import UserError
from dir_bench.results import published


def test_the_whole_file_is_there() -> None:
    rows = published.load()
    assert len(rows) == 2927
    assert {row.metric for row in rows} >= {"mae", "gm", "mse", "rmse", "pearson", "spearman", "log10", "delta1"}
    assert all(isinstance(row.value, float) for row in rows)


def test_numbers_of_a_printed_row() -> None:
    # Yang et al. 2021, Table 2 (AgeDB-DIR, VANILLA) and Table 3 (STS-B-DIR)
    found = published.numbers("AgeDB-DIR", "VANILLA")
    assert (found["mae", "all"], found["mae", "few"], found["gm", "all"]) == (7.77, 13.67, 5.05)
    assert published.numbers("agedb-dir", "VANILLA") == found
    assert published.numbers("STS-B-DIR", "INV + LDS")["mse", "medium"] == 1.319
    assert published.numbers("STS-B-DIR", "VANILLA + LDS")["pearson", "all"] == 75.6  # per cent
    assert published.numbers("STS-B-DIR", "NOT PRINTED") == {}


def test_papers_are_never_mixed() -> None:
    # FACTS: IMDB SQINV + LDS MAE 7.83 in the paper, 7.87 in the authors' repository
    assert published.numbers("IMDB-WIKI-DIR", "SQINV + LDS")["mae", "all"] == 7.83
    assert published.numbers("IMDB-WIKI-DIR", "SQINV + LDS", paper="repo")["mae", "all"] == 7.87
    assert {row.paper for row in published.find("AgeDB-DIR", paper="ranksim")} == {"RankSim (Gong et al.)"}


def test_the_paper_prints_each_number_once() -> None:
    keys = [
        (row.title, row.method, row.metric, row.region)
        for row in published.load()
        if row.paper.startswith(published.papers()["paper"])
    ]
    assert len(keys) == len(set(keys)) == 2220


def test_find_narrows() -> None:
    (row,) = published.find("NYUD2-DIR", "VANILLA", "rmse", "few")
    assert (row.value, row.year) == (2.123, 2021)
    assert "Table 4" in row.source


def test_what_was_read_elsewhere_is_marked() -> None:
    (row,) = published.find("AgeDB-DIR", "BSAM", "mae", "few", paper="bsam")
    assert (row.value, row.secondary) == (7.928, True)
    assert published.is_secondary("NYUD2-DIR", "CONR (BEST)", paper="conr")
    assert not any(row.secondary for row in published.load() if row.paper.startswith("Delving into"))
    assert not published.is_secondary("IMDB-WIKI-DIR", "SQINV + LDS", paper="repo")


def test_unknown_paper_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"'papr' \(did you mean 'paper'\?\)"):
        published.find("AgeDB-DIR", paper="papr")


@pytest.mark.parametrize(
    ("title", "derived", "printed"),
    [
        ("AgeDB-DIR", "SQINV + LDS", "SQINV + LDS"),
        ("IMDB-WIKI-DIR", "SQINV + LDS [KS=9;SIGMA=1]", "VANILLA + LDS [KS=9;SIGMA=1]"),
        ("IMDB-WIKI-DIR", "SQINV + LDS [KERNEL=TRIANGULAR]", "VANILLA + LDS [KERNEL=TRIANGULAR]"),
        ("IMDB-WIKI-DIR [2-PEAK SUBSET]", "SQINV + LDS + FDS", "VANILLA + LDS + FDS"),
        ("IMDB-WIKI-DIR [2-PEAK SUBSET]", "INV + LDS", None),
        ("NYUD2-DIR", "INV + LDS", "VANILLA + LDS"),
        ("NYUD2-DIR", "SQINV + LDS", None),
        ("STS-B-DIR", "INV + LDS", "INV + LDS"),
        ("STS-B-DIR", "INV + LDS [LOSS=HUBER]", "VANILLA + LDS [LOSS=HUBER]"),
        ("STS-B-DIR", "VANILLA + FDS", "VANILLA + FDS"),
        ("SHHS-DIR", "SQINV", None),
        ("Synthetic", "VANILLA", None),
    ],
)
def test_derived_name_finds_its_printed_row(title: str, derived: str, printed: str | None) -> None:
    assert published.published_row(title, derived) == printed


@pytest.mark.parametrize(
    ("title", "weights"),
    [
        ("IMDB-WIKI-DIR", "SQINV"),
        ("AgeDB-DIR", "SQINV"),
        ("STS-B-DIR", "INV"),
        ("SHHS-DIR", "INV"),
        ("NYUD2-DIR", "INV"),
        ("IMDB-WIKI-DIR [4-PEAK SUBSET]", "SQINV"),
    ],
)
def test_vanilla_lds_has_the_weights_that_facts_state(title: str, weights: str) -> None:
    assert published.lds_weights(title) == weights  # FACTS §3, "Equalities visible in the printed tables"


def test_aliases_carry_equal_numbers_where_both_are_printed() -> None:
    for title, weights in (("AgeDB-DIR", "SQINV"), ("IMDB-WIKI-DIR", "SQINV"), ("STS-B-DIR", "INV")):
        for rest in ("", " + FDS"):
            vanilla = published.numbers(title, f"VANILLA + LDS{rest}")
            own = published.numbers(title, f"{weights} + LDS{rest}")
            assert vanilla.keys() & own.keys()
            assert all(own[key] == vanilla[key] for key in vanilla.keys() & own.keys())


def test_decimals_are_the_papers() -> None:
    assert published.decimals("AgeDB-DIR", "mae") == 2
    assert published.decimals("STS-B-DIR", "mse") == 3
    assert published.decimals("STS-B-DIR", "pearson") == 1
    assert published.decimals("Synthetic", "mae") == 3


def test_small_numbers_of_a_dataset_that_is_not_printed_have_three_digits():
    assert published.decimals_for("Synthetic", "mae", [6.084, 13.4, math.nan]) == 3
    assert published.decimals_for("Synthetic", "mae", [6.084, 0.0123, 0.0]) == 4
    assert published.decimals_for("Synthetic", "mae", [0.000125, 0.1]) == 6
    assert published.decimals_for("Synthetic", "mae", [1e-300]) == 12
    assert published.decimals_for("Synthetic", "mae", [6.084, 1e-9, 13.4]) == 3  # one that is nearly 0 is no scale
    assert published.decimals_for("Synthetic", "bias", [0.5, 1e-7]) == 3
    assert published.decimals_for("Synthetic", "slope", [0.001]) == 3
    assert published.decimals_for("Synthetic", "pearson", [0.001]) == 1
    assert published.decimals_for("Synthetic", "bins", [3]) == 0
    assert published.decimals_for("AgeDB-DIR", "mae", [0.001]) == 2
