"""Holes: printed rows without a run are shown with the command that fills them, and that command makes that row."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dir_bench import config
from dir_bench.cli import main
from dir_bench.results import published
from dir_bench.results.naming import method_name, overrides
from dir_bench.results.records import collect
from dir_bench.results.rows import Table
from dir_bench.results.store import RunFolder
from dir_bench.results.tables import summarise, table

Make = Callable[..., RunFolder]
Report = Callable[..., dict[str, dict[str, Any]]]

UNBUILT = re.compile(r"SMOTER|SMOGN( \+ (LDS|FDS|LDS \+ FDS))?|M-MIXUP|MIXUP|CLS-VANILLA|CB|CRT")
"""Printed methods whose presets may still be missing."""
DATASETS = {
    "AgeDB-DIR": "agedb",
    "IMDB-WIKI-DIR": "imdb_wiki",
    "STS-B-DIR": "sts_b",
    "NYUD2-DIR": "nyud2",
    "SHHS-DIR": "shhs",
}


def summarised(folder: Path, **more: Any) -> Table:
    (found,) = summarise(collect([folder])[0], **more)
    return found


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("SQINV + LDS + FDS", ["method=sqinv_lds_fds"]),
        ("M-MIXUP", ["method=m_mixup"]),
        ("INV + LDS [KERNEL=LAPLACIAN]", ["method=inv_lds", "lds=laplace"]),
        ("INV + LDS + FDS [KERNEL=TRIANGULAR]", ["method=inv_lds_fds", "lds=triang", "fds=triang"]),
        ("VANILLA + FDS [KS=9;SIGMA=1]", ["method=vanilla_fds", "fds.kernel_size=9", "fds.sigma=1"]),
        ("VANILLA + FDS [LOSS=HUBER]", ["method=vanilla_fds", "loss=huber"]),
    ],
)
def test_a_name_gives_its_overrides(name: str, settings: list[str]) -> None:
    assert overrides(name) == settings


def test_a_name_of_no_overrides_is_refused() -> None:
    with pytest.raises(ValueError, match="SEMANTICS"):
        overrides("VANILLA [SEMANTICS=PAPER]")


@pytest.mark.parametrize(
    ("title", "printed", "derived"),
    [
        ("AgeDB-DIR", "VANILLA + LDS + FDS", "SQINV + LDS + FDS"),
        ("SHHS-DIR", "VANILLA + LDS", "INV + LDS"),
        ("IMDB-WIKI-DIR", "VANILLA + LDS [KERNEL=GAUSSIAN]", "SQINV + LDS"),
        ("IMDB-WIKI-DIR", "VANILLA + FDS [KS=5;SIGMA=2]", "VANILLA + FDS"),
        ("IMDB-WIKI-DIR", "VANILLA + FDS [KS=15;SIGMA=2]", "VANILLA + FDS [KS=15;SIGMA=2]"),
        ("STS-B-DIR", "VANILLA + LDS [LOSS=MSE]", "INV + LDS"),
        ("STS-B-DIR", "VANILLA + LDS [LOSS=L1]", "INV + LDS [LOSS=L1]"),
        ("IMDB-WIKI-DIR [2-PEAK SUBSET]", "VANILLA + LDS", "SQINV + LDS"),
    ],
)
def test_a_printed_row_gives_its_derived_name(title: str, printed: str, derived: str) -> None:
    assert published.derived_name(title, printed) == derived


@pytest.mark.slow
def test_every_printed_row_is_made_by_the_overrides_of_its_name() -> None:
    from dir_bench.resolved import toggles

    presets, asked, unbuilt = config.options("method"), {}, set()
    for title in published_titles():
        for printed in published.methods(title):
            name = published.derived_name(title, printed)
            settings = overrides(name)
            if settings[0].removeprefix("method=") not in presets:
                unbuilt.add(printed)
                continue
            assert published.published_row(title, name) is not None
            asked[title, name] = [f"dataset={DATASETS[title.split(' [')[0]]}", *settings]
    composed = config.compose_all(list(asked.values()))
    assert [method_name(toggles(made)) for made in composed] == [name for _, name in asked]
    assert len(asked) >= 120
    assert [row for row in unbuilt if not UNBUILT.fullmatch(row)] == []


def published_titles() -> list[str]:
    paper = published.full_name("paper")
    return list(dict.fromkeys(row.title for row in published.load() if row.paper == paper))


def test_a_derived_name_finds_the_printed_row_it_came_from() -> None:
    for title in published_titles():
        for printed in published.methods(title):
            back = published.published_row(title, published.derived_name(title, printed))
            assert back is not None
            ours, theirs = published.numbers(title, back), published.numbers(title, printed)
            differ = {key for key in ours.keys() & theirs.keys() if ours[key] != theirs[key]}
            # Tables 13 and 16 print another number than Table 8 (FACTS: a known conflict inside the paper).
            assert differ <= {("mse", "few")}


def test_printed_rows_without_a_run_are_holes_on_request(tmp_path: Path, make_run: Make, regions: Report) -> None:
    for seed in (0, 1):
        command = ["dataset=agedb", "paths.data=/d", "trainer.epochs=2", f"seed={seed}"]
        make_run(tmp_path, regions(7.0, 4.0), seed=seed, command=command)
        make_run(tmp_path, regions(7.0, 4.0), seed=seed, method="SQINV", command=["method=sqinv", *command])
    assert [row.label for row in summarised(tmp_path).rows] == ["VANILLA", "SQINV"]
    found = summarised(tmp_path, presets=["sqinv_lds", "rrt"], against="paper")
    rows = {row.label: row for row in found.rows}
    assert rows["SQINV + LDS"].fill == (
        "dir-bench train -m dataset=agedb paths.data=/d trainer.epochs=2 method=sqinv_lds seed=0,1"
    )
    assert rows["SQINV + LDS"].printed["paper"]["mae", "all"] == 7.67
    assert (rows["SQINV + LDS"].cells, rows["SQINV + LDS"].seeds) == ({}, ())
    assert rows["SMOGN"].fill == ""
    assert "VANILLA + LDS" not in rows  # the same method as SQINV + LDS on faces
    assert list(rows) == [
        name for name in published.methods("AgeDB-DIR") if not name.startswith("VANILLA + LDS")
    ]  # fmt: skip
    text = table([tmp_path], "md", presets=["sqinv_lds"])
    assert "| SQINV + LDS | 0 | – |" in text
    assert "SMOGN has no run, and no method preset makes one" in text


def test_ablation_rows_are_holes_once_one_of_their_kind_is_run(tmp_path: Path, make_run: Make) -> None:
    more = {"dataset": "imdb_wiki", "title": "IMDB-WIKI-DIR"}
    make_run(tmp_path, {"all": {"count": 9, "mae": 7.0}}, **more)
    assert not any("[" in row.label for row in summarised(tmp_path, presets=[]).rows)
    make_run(tmp_path, {"all": {"count": 9, "mae": 7.0}}, method="SQINV + LDS [KERNEL=TRIANGULAR]", **more)
    labels = {row.label for row in summarised(tmp_path, presets=[]).rows if "[" in row.label}
    assert labels == {
        f"{method} [KERNEL={kernel}]"
        for method in ("SQINV + LDS", "VANILLA + FDS")
        for kernel in ("TRIANGULAR", "LAPLACIAN")
    }


def test_methods_that_only_another_paper_has_are_shown_with_their_source(
    tmp_path: Path, make_run: Make, regions: Report
) -> None:
    make_run(tmp_path, regions(7.0, 4.0))
    found = summarised(tmp_path, against=["paper", "vir", "ranksim"])
    labels = [row.label for row in found.rows]
    assert labels[:1] == ["VANILLA"]
    assert {"VIR", "RANKSIM", "SQINV + RANKSIM"} <= set(labels)
    text = table([tmp_path], "md", ["paper", "vir"])
    assert "| VIR | 0 | – | – | – | – |" in text
    assert re.search(r"- vir: VIR \(Wang & Wang\); .*Table", text)
    assert re.search(r"- paper: Delving into .*arXiv 2102\.09554v2 PDF Table 2, Table 9", text)


def test_every_paper_has_a_short_name_and_one_head_may_not_stand_for_two() -> None:
    names = published.papers()
    assert set(names.values()) == {row.paper for row in published.load()}
    assert {"paper", "repo", "vir", "ranksim", "conr", "srl", "balanced_mse", "balanced_mse_zoo"} <= set(names)
    with pytest.raises(published.UserError, match="head of several papers' names"):
        published.full_name("balanced")


def test_subsets_of_a_dataset_are_tables_of_their_own(tmp_path: Path, make_run: Make) -> None:
    values = {"all": {"count": 9, "mae": 7.0}, "zero": {"count": 2, "mae": 9.0}, "interp": {"count": 2, "mae": 9.0}}
    for title in ("IMDB-WIKI-DIR", "IMDB-WIKI-DIR [2-PEAK SUBSET]"):
        make_run(tmp_path, values, dataset="imdb_wiki", title=title, method="SQINV + LDS", settings={"subset": title})
    whole, subset = summarise(collect([tmp_path])[0], against="paper")
    assert [row.label for row in (*whole.rows, *subset.rows)] == ["SQINV + LDS"] * 2
    assert [region for metric, region in whole.columns if metric == "mae"] == ["all"]
    assert [region for metric, region in subset.columns if metric == "mae"] == ["all", "zero", "interp"]
    assert subset.rows[0].printed_as == {"paper": "VANILLA + LDS"}


def test_gains_are_over_vanilla_from_the_tables_own_numbers(tmp_path: Path, make_run: Make, regions: Report) -> None:
    rows_of = {"VANILLA": (8.0, 0.7), "SQINV": (6.0, 0.9), "SQINV + LDS": (7.5, 0.8), "VANILLA + FDS": (7.75, 0.65)}
    for method, (mae, pearson) in rows_of.items():
        make_run(tmp_path, regions(mae, 4.0, pearson=pearson), method=method, table_metrics=["mae", "pearson"])
    found = summarised(tmp_path, gains=True)
    rows = {row.label: row for row in found.rows}
    assert rows["VANILLA"].gains == {}
    assert rows["SQINV"].gains["mae", "all"] == 2.0
    assert rows["VANILLA + FDS"].gains["pearson", "all"] == pytest.approx(-0.05)  # more is better
    assert found.top_gains["mae", "all"] == 0.5  # SQINV has neither LDS nor FDS
    assert found.top_gains["pearson", "all"] == pytest.approx(0.1)
    text = table([tmp_path], "md", gains=True, metrics=["mae", "pearson"], regions=["all"])
    assert "| *gain over VANILLA* |  | +2.00 | +20.0 |" in text
    assert "| OURS (BEST) VS. VANILLA |  | +0.50 | +10.0 |" in text


def test_without_vanilla_there_are_no_gains(tmp_path: Path, make_run: Make, regions: Report) -> None:
    make_run(tmp_path, regions(7.0, 4.0), method="INV")
    assert "No gains: no run is VANILLA." in summarised(tmp_path, gains=True).notes


def test_the_command_shows_holes_of_the_presets_that_exist(
    tmp_path: Path, make_run: Make, regions: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path, regions(7.0, 4.0))
    assert main(["table", str(tmp_path), "--holes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("RRT + LDS has no run")]
    assert line == "RRT + LDS has no run: dir-bench train dataset=agedb method=rrt_lds seed=0"
