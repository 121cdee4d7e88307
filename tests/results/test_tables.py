"""Tables of hand-made run folders: exact text, mean and spread by hand, holes as holes, nothing left out silently."""

import csv
import io
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from dir_bench import atomic
from dir_bench.errors import UserError
from dir_bench.results.records import collect
from dir_bench.results.render import as_text, region_table
from dir_bench.results.rows import Cell, student
from dir_bench.results.store import RunFolder
from dir_bench.results.tables import summarise, table

Make = Callable[..., RunFolder]
Report = Callable[..., dict[str, dict[str, Any]]]

TEXT = """\
AgeDB-DIR

                               MAE ↓         MAE ↓         MAE ↓          MAE ↓
method            seeds          all          many        medium            few
────────────────────────────────────────────────────────────────────────────────
VANILLA               3  7.70 ± 0.20   7.20 ± 0.20   8.70 ± 0.20   11.70 ± 0.20°
  paper                         7.77          6.62          9.55          13.67
SQINV + LDS           2  7.45 ± 0.07   6.95 ± 0.07   8.45 ± 0.07   11.45 ± 0.07*
  paper                         7.67          6.98          8.86          10.89
SQINV + LDS           3  7.25 ± 0.00*  6.75 ± 0.00*  8.25 ± 0.00*           n/a
[KS=9;SIGMA=1]

                                 GM ↓          GM ↓          GM ↓          GM ↓
method             seeds          all          many        medium           few
────────────────────────────────────────────────────────────────────────────────
VANILLA                3  4.50 ± 0.00   4.00 ± 0.00   5.50 ± 0.00   8.50 ± 0.00
  paper                          5.05          4.23          7.01         10.75
SQINV + LDS            2  4.25 ± 0.00*  3.75 ± 0.00*  5.25 ± 0.00*  8.25 ± 0.00*
  paper                          4.85          4.39          5.80          7.45
SQINV + LDS            3  4.50 ± 0.00   4.00 ± 0.00   5.50 ± 0.00           n/a
[KS=9;SIGMA=1]

*: best of its column.
°: within noise of the best, its mean ± standard deviation overlaps the best's.
Mean ± sample standard deviation over seeds.
n/a: no such number (a region without samples, a correlation of constants, the log of a negative depth).
Test samples: all 2140, many 1530, medium 448, few 162.
Not printed (paper): SQINV + LDS [KS=9;SIGMA=1].
paper: Delving into Deep Imbalanced Regression (Yang et al.); arXiv 2102.09554v2 PDF Table 2, Table 9.
Checkpoints selected by mae.
Code: 0123456.
SQINV + LDS lacks seed 2: dir-bench train dataset=agedb method=sqinv_lds seed=2

Left out:
  outputs/agedb/rrt/0000000000: failed, CUDA out of memory at step 3
"""

MARKDOWN = """\
### AgeDB-DIR

| Method | Seeds | MAE ↓ all | MAE ↓ many | MAE ↓ medium | MAE ↓ few |
| --- | ---: | ---: | ---: | ---: | ---: |
| VANILLA | 3 | 7.70 ± 0.20 | 7.20 ± 0.20 | 8.70 ± 0.20 | *11.70 ± 0.20* |
| *paper* |  | 7.77 | 6.62 | 9.55 | 13.67 |
| SQINV + LDS | 2 | 7.45 ± 0.07 | 6.95 ± 0.07 | 8.45 ± 0.07 | **11.45 ± 0.07** |
| *paper* |  | 7.67 | 6.98 | 8.86 | 10.89 |
| SQINV + LDS \\[KS=9;SIGMA=1\\] | 3 | **7.25 ± 0.00** | **6.75 ± 0.00** | **8.25 ± 0.00** | n/a |

- Bold: best of its column.
- Italic: within noise of the best, its mean ± standard deviation overlaps the best's.
- Mean ± sample standard deviation over seeds.
- n/a: no such number (a region without samples, a correlation of constants, the log of a negative depth).
- Test samples: all 2140, many 1530, medium 448, few 162.
- Not printed (paper): SQINV + LDS \\[KS=9;SIGMA=1\\].
- paper: Delving into Deep Imbalanced Regression (Yang et al.); arXiv 2102.09554v2 PDF Table 2, Table 9.
- Checkpoints selected by mae.
- Code: 0123456.
- SQINV + LDS lacks seed 2: `dir-bench train dataset=agedb method=sqinv_lds seed=2`

Left out:

- outputs/agedb/rrt/0000000000: failed, CUDA out of memory at step 3
"""

LATEX = r"""
% AgeDB-DIR
% SQINV + LDS lacks seed 2: dir-bench train dataset=agedb method=sqinv_lds seed=2
\begin{tabular}{lrrrrr}
\toprule
Method & Seeds & MAE $\downarrow$ all & MAE $\downarrow$ many & MAE $\downarrow$ medium & MAE $\downarrow$ few \\
\midrule
VANILLA & 3 & 7.70 $\pm$ 0.20 & 7.20 $\pm$ 0.20 & 8.70 $\pm$ 0.20 & \textit{11.70 $\pm$ 0.20} \\
  paper &  & 7.77 & 6.62 & 9.55 & 13.67 \\
SQINV + LDS & 2 & 7.45 $\pm$ 0.07 & 6.95 $\pm$ 0.07 & 8.45 $\pm$ 0.07 & \textbf{11.45 $\pm$ 0.07} \\
  paper &  & 7.67 & 6.98 & 8.86 & 10.89 \\
SQINV + LDS [KS=9;SIGMA=1] & 3 & \textbf{7.25 $\pm$ 0.00} & \textbf{6.75 $\pm$ 0.00} & \textbf{8.25 $\pm$ 0.00} & n/a \\
\bottomrule
\end{tabular}
\par\smallskip
\begin{minipage}{\linewidth}\footnotesize
Bold: best of its column.\par
Italic: within noise of the best, its mean $\pm$ standard deviation overlaps the best's.\par
Mean $\pm$ sample standard deviation over seeds.\par
n/a: no such number (a region without samples, a correlation of constants, the log of a negative depth).\par
Test samples: all 2140, many 1530, medium 448, few 162.\par
Not printed (paper): SQINV + LDS [KS=9;SIGMA=1].\par
paper: Delving into Deep Imbalanced Regression (Yang et al.); arXiv 2102.09554v2 PDF Table 2, Table 9.\par
Checkpoints selected by mae.\par
Code: 0123456.\par
\end{minipage}

% Left out: outputs/agedb/rrt/0000000000: failed, CUDA out of memory at step 3
""".lstrip()


REGIONS = """\
region  samples  MAE ↓  MSE ↓  PEARSON % ↑
──────────────────────────────────────────
all        1000  0.791  0.974         74.2
many       1000  0.791  0.974         74.2
few           0    n/a    n/a          n/a
zero          3  1.000  1.000          n/a
"""


@pytest.fixture
def outputs(tmp_path: Path, make_run: Make, regions: Report, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three methods on AgeDB-DIR, the second with a seed to come, and one failed run; paths are relative."""
    monkeypatch.chdir(tmp_path)
    root = Path("outputs")
    for seed, mae in enumerate((7.5, 7.7, 7.9)):
        make_run(root, regions(mae, 4.5), seed=seed)
    for seed, mae in enumerate((7.4, 7.5)):
        make_run(root, regions(mae, 4.25), seed=seed, method="SQINV + LDS")
    few = {**regions(7.25, 4.5), "few": {"count": 162, "mae": None, "gm": None}}
    for seed in range(3):
        make_run(root, few, seed=seed, method="SQINV + LDS [KS=9;SIGMA=1]")
    failed = RunFolder(root / "agedb" / "rrt" / "0000000000")
    failed.start({}, {})
    failed.fail("CUDA out of memory at step 3")
    return root


def test_text_is_exactly_this(outputs: Path) -> None:
    assert table([outputs], against="paper", width=80, colour=False, spread="std") == TEXT


def test_markdown_is_exactly_this(outputs: Path) -> None:
    assert table([outputs], "md", "paper", ["mae"], spread="std") == MARKDOWN


def test_latex_is_exactly_this(outputs: Path) -> None:
    assert table([outputs], "latex", "paper", ["mae"], spread="std") == LATEX


def test_mean_and_sample_deviation_by_hand(outputs: Path) -> None:
    (found,) = summarise(collect([outputs])[0])
    rows = {row.label: row for row in found.rows}
    # 7.5, 7.7, 7.9: mean 7.7, squared deviations 0.04 + 0 + 0.04 over n - 1 = 2, root 0.2
    cell = rows["VANILLA"].cells["mae", "all"]
    assert cell.mean == pytest.approx(7.7, abs=1e-12)
    assert cell.std == pytest.approx(0.2, abs=1e-12)
    assert cell.n == 3
    assert rows["SQINV + LDS"].missing == (2,)
    assert rows["SQINV + LDS"].fill == "dir-bench train dataset=agedb method=sqinv_lds seed=2"
    assert ("mae", "few") not in rows["SQINV + LDS [KS=9;SIGMA=1]"].cells
    assert found.best(("mae", "many")) == {"SQINV + LDS [KS=9;SIGMA=1]"}
    assert found.best(("mae", "few")) == {"SQINV + LDS"}


def test_one_seed_has_no_spread(tmp_path: Path, make_run: Make, regions: Report) -> None:
    make_run(tmp_path, regions(7.0, 4.0))
    (found,) = summarise(collect([tmp_path])[0])
    assert found.rows[0].cells["mae", "all"] == Cell(7.0, None, 1)
    assert found.best(("mae", "all")) == frozenset()  # one row: nothing to be best of
    assert "±" not in table([tmp_path])


def test_a_null_in_one_seed_lowers_n_and_is_shown(tmp_path: Path, make_run: Make, regions: Report) -> None:
    make_run(tmp_path, regions(7.0, 4.0))
    make_run(tmp_path, {**regions(8.0, 4.0), "few": {"count": 162, "mae": None, "gm": 1.0}}, seed=1)
    text = table([tmp_path], width=200, spread="std")
    assert "11.00 (n=1)" in text
    assert "7.50 ± 0.71" in text


def test_correlations_are_per_cent_and_higher_is_better(tmp_path: Path, make_run: Make) -> None:
    for method, value in (("VANILLA", 0.742), ("INV + LDS", 0.7561)):
        make_run(
            tmp_path,
            {"all": {"count": 1000, "mse": 0.974, "pearson": value}},
            dataset="sts_b",
            title="STS-B-DIR",
            method=method,
            table_metrics=["mse", "pearson"],
        )
    (found,) = summarise(collect([tmp_path])[0], against="paper")
    assert found.best(("pearson", "all")) == {"INV + LDS"}
    assert found.best(("mse", "all")) == {"INV + LDS", "VANILLA"}  # ties share it
    assert found.rows[1].printed["paper"]["pearson", "all"] == pytest.approx(0.756)
    markdown = table([tmp_path], "md", "paper")
    assert "| PEARSON % ↑ all |" in markdown
    assert "| INV + LDS | 1 | **0.974** | **75.6** |" in markdown
    assert "| *paper* |  | 0.914 | 75.6 |" in markdown


def test_alias_names_the_printed_row(tmp_path: Path, make_run: Make) -> None:
    make_run(
        tmp_path,
        {"all": {"count": 654, "rmse": 1.4}},
        dataset="nyud2",
        title="NYUD2-DIR",
        method="INV + LDS",
        table_metrics=["rmse"],
    )
    assert "| *paper: VANILLA + LDS* |  | 1.387 |" in table([tmp_path], "md", "paper")


def test_a_dataset_that_no_paper_has_is_tabled_alone(tmp_path: Path, make_run: Make, regions: Report) -> None:
    make_run(tmp_path, regions(7.0, 4.0), dataset="gauge", title="Gauge")
    assert "paper" not in table([tmp_path], against="paper")


def test_rows_stand_in_the_papers_order(tmp_path: Path, make_run: Make, regions: Report) -> None:
    names = ["VANILLA", "FOCAL-R", "RRT", "SQINV", "SQINV + LDS", "INV", "MY OWN"]
    for name in sorted(names):
        make_run(tmp_path, regions(7.0, 4.0), method=name)
    assert [row.label for row in summarise(collect([tmp_path])[0])[0].rows] == names


def test_default_metrics_are_the_runs_own_and_regions_the_four(tmp_path: Path, make_run: Make, regions: Report) -> None:
    report = {**regions(7.0, 4.0, rmse=9.0), "zero": {"count": 3, "mae": 1.0, "gm": 1.0, "rmse": 1.0}}
    make_run(tmp_path, report, table_metrics=["rmse", "mae"])
    (found,) = summarise(collect([tmp_path])[0])
    names = [(metric, region) for metric in ("rmse", "mae") for region in ("all", "many", "medium", "few")]
    assert list(found.columns) == names
    assert "Also recorded: zero." in found.notes
    (found,) = summarise(collect([tmp_path])[0], metrics=["gm"], regions=["zero", "all"])
    assert found.columns == (("gm", "zero"), ("gm", "all"))


def test_different_test_splits_are_called_out(tmp_path: Path, make_run: Make) -> None:
    make_run(tmp_path, {"all": {"count": 10, "mae": 1.0}})
    make_run(tmp_path, {"all": {"count": 20, "mae": 1.0}}, method="INV")
    (found,) = summarise(collect([tmp_path])[0])
    assert "Beware: these runs were tested on different splits, of 10, 20 samples." in found.notes
    assert found.counts == {}


def test_a_wrong_name_meets_its_nearest(outputs: Path) -> None:
    with pytest.raises(UserError, match=r"'mea' \(did you mean 'mae'\?\)"):
        table([outputs], metrics=["mea"])
    with pytest.raises(UserError, match=r"'few-shot' \(did you mean 'few'\?\)"):
        table([outputs], regions=["few-shot"])
    with pytest.raises(UserError, match=r"'markdown'"):
        table([outputs], "markdown")
    with pytest.raises(UserError, match=r"'papr' \(did you mean 'paper'\?\)"):
        table([outputs], against="papr")


def test_an_empty_folder_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no run under"):
        table([tmp_path])


@pytest.mark.parametrize("format", ["text", "md", "latex"])
def test_only_unfinished_runs_still_give_their_reasons(tmp_path: Path, format: str) -> None:
    run = RunFolder(tmp_path / "a")
    run.start({}, {})
    run.fail("no space")
    assert "failed, no space" in table([tmp_path], format)


def test_csv_has_full_precision_and_the_left_out_go_to_the_log(outputs: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        rows = list(csv.DictReader(io.StringIO(table([outputs], "csv", "paper"))))
    assert len(rows) == 3 * 2 * 4  # methods × metrics × regions
    first = rows[0]
    assert (first["dataset"], first["method"], first["metric"], first["region"]) == ("agedb", "VANILLA", "mae", "all")
    assert float(first["mean"]) == pytest.approx((7.5 + 7.7 + 7.9) / 3, rel=1e-15)
    assert (first["n"], first["published_paper"]) == ("3", "7.77")
    assert [row["mean"] for row in rows if row["region"] == "few"][-1] == ""
    assert "CUDA out of memory" in caplog.text


def test_json_holds_everything(outputs: Path) -> None:
    content = json.loads(table([outputs], "json", "paper"))
    (found,) = content["tables"]
    assert [row["label"] for row in found["rows"]] == ["VANILLA", "SQINV + LDS", "SQINV + LDS [KS=9;SIGMA=1]"]
    assert found["rows"][1]["missing_seeds"] == [2]
    assert found["rows"][2]["published_as"] == {}
    assert content["left_out"] == [
        {"path": str(Path("outputs/agedb/rrt/0000000000")), "state": "failed", "reason": "CUDA out of memory at step 3"}
    ]


def test_text_fits_a_wide_screen_in_one_grid_and_never_cuts_a_number(outputs: Path) -> None:
    wide = table([outputs], width=200, colour=False, spread="std")
    assert wide.count("method ") == 1
    narrow = table([outputs], width=30, colour=False, spread="std")
    assert narrow.count("method ") == 2
    assert narrow.count("7.70 ± 0.20") == wide.count("7.70 ± 0.20") == 1
    assert "…" not in narrow


def test_terminal_codes_only_when_asked_for(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" not in table([outputs], colour=False)
    assert "\x1b[" not in table([outputs])  # standard output is not a terminal here
    assert "\x1b[1m" in table([outputs], colour=True)


def test_region_table_of_one_run(tmp_path: Path, make_run: Make) -> None:
    report = {
        "few": {"count": 0, "mse": None, "mae": None, "pearson": None},
        "all": {"count": 1000, "mse": 0.9744, "mae": 0.7911, "pearson": 0.742},
        "zero": {"count": 3, "mse": 1.0, "mae": 1.0, "pearson": None},
        "many": {"count": 1000, "mse": 0.9744, "mae": 0.7911, "pearson": 0.742},
    }
    run = make_run(tmp_path, report, title="STS-B-DIR", table_metrics=["mae", "mse"])
    text = as_text(region_table(json.loads(run.metrics_path.read_text())), width=80, colour=False)
    assert text == REGIONS


@pytest.mark.slow
def test_many_runs_are_tabled(tmp_path: Path, make_run: Make, regions: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "_sync", lambda *_: None)  # thousands of files need not survive a power cut
    start = time.perf_counter()
    more = {"mse": 1.0, "rmse": 1.0, "pearson": 0.5, "spearman": 0.5}
    for number in range(100):
        for seed in range(5):
            make_run(
                tmp_path, regions(7.0 + seed, 4.0, **more), dataset=f"set{number % 10}", method=f"M{number}", seed=seed
            )
    written = time.perf_counter()
    records, problems = collect([tmp_path])
    read = time.perf_counter()
    assert (len(records), problems) == (500 * 4 * 6, [])
    text = table([tmp_path], "md", against="paper")
    done = time.perf_counter()
    assert text.count("| 5 |") == 100
    logging.getLogger(__name__).info(
        f"write {written - start:.1f} s, collect {read - written:.1f} s, collect and table {done - read:.1f} s"
    )


def test_the_interval_of_a_mean_is_students(tmp_path: Path, make_run: Make) -> None:
    values = [7.0, 7.5, 8.0, 7.2, 7.8]
    for seed, mae in enumerate(values):
        make_run(tmp_path, {"all": {"count": 9, "mae": mae}}, seed=seed, table_metrics=["mae"])
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert Cell(7.5, float(np.std(values, ddof=1)), 5).half == pytest.approx((high - low) / 2)
    shown = table([tmp_path], "md")
    assert f"7.50 ± {(high - low) / 2:.2f}" in shown
    assert "Mean ± the half of its 95 % interval over seeds (Student's t)." in shown
    (cell,) = json.loads(table([tmp_path], "json"))["tables"][0]["rows"][0]["cells"]
    assert (cell["std"], cell["half_interval"]) == pytest.approx((np.std(values, ddof=1), (high - low) / 2))


def test_runs_of_different_releases_are_told_apart(tmp_path: Path, make_run: Make) -> None:
    for method, release in (("VANILLA", "0.1.0"), ("INV", "0.2.0")):
        run = make_run(tmp_path, {"all": {"count": 9, "mae": 1.0}}, method=method)
        git = {"commit": "89abcdef", "dirty": False}
        run.environment_path.write_text(json.dumps({"dir_bench": release, "git": git}))
        if method == "VANILLA":
            assert "Code: dir_bench 0.1.0 (89abcde)." in table([tmp_path])
            assert "Beware" not in table([tmp_path])
    assert "different releases, whose numbers may differ: VANILLA by 0.1.0; INV by 0.2.0." in table([tmp_path])


def test_further_metrics_are_best_where_they_should_be(
    tmp_path: Path, make_run: Callable[..., Any], regions: Callable[..., Any]
) -> None:
    further = {"VANILLA": (-2.0, 0.5, 57, 0.91), "LDS": (1.0, 0.8, 57, 0.7), "FDS": (3.0, 1.4, 57, 1.0)}
    for method, (bias, slope, bins, coverage) in further.items():
        values = regions(7.0, 4.0, bias=bias, slope=slope, bins=bins, coverage=coverage, sera=9.0)
        make_run(tmp_path, values, method=method, relevance=[[3.25, 1.0], [31.0, 0.0]])
    text = table([tmp_path], "md", metrics=["bias", "slope", "bins", "coverage", "sera"], regions=["all"], gains=True)
    assert "| BIAS → 0 all | SLOPE → 1 all | BINS all | COVERAGE → 0.9 all | SERA ↓ all |" in text
    assert "| LDS | 1 | **1.000** | **0.800** | 57 | 0.700 |" in text
    assert "| VANILLA | 1 | -2.000 | 0.500 | 57 | **0.910** |" in text
    assert "| *gain over VANILLA* |  | +1.000 | +0.300 | +0 | -0.190 | +0.000 |" in text
    assert "SERA's relevance of labels: 1 at 3.25, 0 at 31." in text


def test_students_quantile_is_scipys() -> None:
    dofs = [*range(1, 200), 999, 1000]
    np.testing.assert_allclose([student(dof) for dof in dofs], stats.t.ppf(0.975, dofs), rtol=1e-12)
