"""Methods over several datasets, against SciPy and by hand; and the figure of it."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from dir_bench.errors import UserError
from dir_bench.results import plots, ranking
from dir_bench.results.plots import ranks
from dir_bench.results.plots.runs import read_groups
from dir_bench.results.plots.style import styled
from dir_bench.results.store import RunFolder

Make = Callable[..., RunFolder]
METHODS = ("VANILLA", "INV", "SQINV", "RRT")


def errors(datasets: int = 12) -> np.ndarray:
    """Return errors in which SQINV is ahead everywhere, RRT behind, and the two others take turns."""
    rng = np.random.default_rng(0)
    return np.array([2.0, 2.0, 1.0, 4.0]) + rng.uniform(-0.3, 0.3, (datasets, 4))


def test_ranks_and_p_are_those_of_scipy() -> None:
    values = errors()
    found = ranking.rank(METHODS, values)
    columns = dict(zip(METHODS, values.T, strict=True))
    assert found.names[0] == "SQINV"
    assert found.names[-1] == "RRT"
    assert found.ranks.tolist() == sorted(found.ranks)
    assert found.ranks[[0, -1]].tolist() == [1, 4]
    assert found.ranks.sum() == pytest.approx(1 + 2 + 3 + 4)
    assert found.friedman == pytest.approx(stats.friedmanchisquare(*values.T).pvalue)
    raw = [stats.wilcoxon(columns[a], columns[b]).pvalue for a, b in combinations(found.names, 2)]
    least = min(raw)
    assert found.pairs[0, 3] == pytest.approx(least * 6)  # Holm's first of six
    assert found.pairs[1, 2] == max(raw) > 0.05
    assert found.cliques == ((1, 2),)  # the two in the middle, and they alone
    assert found.can_differ


def test_cliques_are_the_longest_runs_by_hand() -> None:
    near = np.eye(5, dtype=bool)
    for first, last in ((0, 1), (1, 2), (1, 3), (2, 3)):
        near[first, last] = near[last, first] = True
    assert ranking._cliques(near) == ((0, 1), (1, 3))  # 4 stands alone; (2, 3) lies within (1, 3)


def test_without_a_difference_in_all_no_pair_differs() -> None:
    values = np.random.default_rng(3).normal(size=(8, 4))
    found = ranking.rank(METHODS, values)
    assert found.friedman > 0.05
    assert found.cliques == ((0, 3),)
    assert ranking.rank(METHODS, np.ones((3, 4))).friedman == 1.0
    assert not ranking.rank(METHODS, errors(5)).can_differ


def test_few_methods_or_one_dataset_have_no_ranks() -> None:
    with pytest.raises(UserError, match="here are 2 and 12"):
        ranking.rank(METHODS[:2], errors()[:, :2])
    with pytest.raises(UserError, match="here are 4 and 1"):
        ranking.rank(METHODS, errors()[:1])


@pytest.fixture
def outputs(tmp_path: Path, make_run: Make) -> Path:
    for number, row in enumerate(errors()):
        for method, error in zip(METHODS, row, strict=True):
            for seed in (0, 1) if method != "RRT" else (1, 2):
                test = {"all": {"count": 2, "mae": error + seed / 100, "pearson": 1 / error, "slope": error - 0.05}}
                about = {"settings": {"dataset": {"name": f"d{number}", "title": f"D{number} OF TWELVE",
                         "monitor": "mae", "bins": {"start": 0, "stop": 10, "width": 1}},
                         "backbone": {}, "trainer": {}}}  # fmt: skip
                make_run(
                    tmp_path,
                    test,
                    dataset=f"d{number}",
                    title=f"D{number} OF TWELVE",
                    method=method,
                    seed=seed,
                    **about,
                )
    return tmp_path


def test_the_figure_of_runs_is_of_shared_seeds(outputs: Path, make_run: Make) -> None:
    names, values, titles, left = ranks.over_datasets(read_groups([outputs]), "mae", "all")
    shown = dict(zip(names, values.T, strict=True))
    expected = errors()[[int(title[1:].split()[0]) for title in titles]]
    for place, name in enumerate(METHODS):
        np.testing.assert_allclose(shown[name], expected[:, place] + 0.01)  # seed 1 is the one that all have
    assert left == []
    (file,) = plots.plot("cd", [outputs], out=[outputs / "cd.svg"])
    assert file.stat().st_size > 5000
    with styled():
        figure = ranks.draw(read_groups([outputs]), "pearson", "all")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[0] == "SQINV  1.00"  # of the highest correlation
    assert texts[-1] == "4.00  RRT"
    with styled():
        by_slope = ranks.draw(read_groups([outputs]), "slope", "all").axes[0].texts
    assert by_slope[0].get_text().startswith("SQINV")  # whose slope is the nearest to 1, not the lowest
    bars = [line for line in figure.axes[0].lines if line.get_linewidth() > 3]
    assert len(bars) == 1
    note = figure.legends[0].get_title().get_text()
    assert "Friedman's test over 12 datasets: p = " in note
    assert "PEARSON" in note
    figure.canvas.draw()
    assert figure.legends[0].get_window_extent().x1 <= figure.bbox.x1, "the datasets' names are cut off"


def test_what_cannot_be_ranked_is_refused(outputs: Path, make_run: Make) -> None:
    with pytest.raises(UserError, match=r"has no 'maee' \(did you mean 'mae'\?\)"):
        plots.plot("cd", [outputs], metric="maee")
    with pytest.raises(UserError, match="has no 'few'"):
        plots.plot("cd", [outputs], region="few")
    with pytest.raises(UserError, match="--metric bins: of it no value is better"):
        plots.plot("cd", [outputs], metric="bins")
    test = {"all": {"count": 2, "mae": 1.0}}
    make_run(outputs, test, dataset="d0", title="D0", method="VANILLA", seed=7, settings={"backbone": {}})
