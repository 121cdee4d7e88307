"""Figures show the numbers that the run folders hold, in every format, in the same bytes each time."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr

from dir_bench.errors import UserError
from dir_bench.labels.regions import FEW, MANY, MEDIUM
from dir_bench.results import plots
from dir_bench.results.plots import runs as reading
from dir_bench.results.plots import style
from dir_bench.results.plots.features import similarity
from dir_bench.results.plots.per_bin import density_correlations
from dir_bench.results.plots.runs import over_seeds, per_bin, read_groups
from dir_bench.results.store import RunFolder

pytest.importorskip("matplotlib")

COUNTS = np.array([0, 5, 30, 200, 150, 40, 8, 1])
CODES = np.array([FEW, FEW, MEDIUM, MANY, MANY, MEDIUM, FEW, FEW], dtype=np.int8)
DENSITY = np.array([2.0, 12, 80, 130, 125, 66, 17, 3])
BINS = {"start": 0, "stop": 8, "width": 1, "first": 0, "rule": "edges", "precision": "float64"}
TARGET = np.repeat(np.arange(8) + 0.5, 4)

OF_ONE_DATASET = [name for name, kind in plots.PLOTS.items() if not kind.over_datasets]


@pytest.fixture
def make(tmp_path: Path, make_run: Callable[..., RunFolder]) -> Callable[..., RunFolder]:
    """Write a run with all that figures read: labels, features (as given), history and predictions."""

    def run(
        method: str = "VANILLA", seed: int = 0, error: float = 1.0, features: Any = None, **config: Any
    ) -> RunFolder:
        bins = config.pop("bins", BINS)
        settings = {
            "dataset": {"name": "toy", "title": "TOY-DIR", "label": "age (years)", "monitor": "mae", "bins": bins},
            "backbone": {}, "trainer": {}, **config,
        }  # fmt: skip
        test = {r: {"count": 8, "mae": error * k} for k, r in enumerate(("all", "many", "medium", "few"), 1)}
        folder = make_run(tmp_path, test, dataset="toy", title="TOY-DIR", method=method, seed=seed, settings=settings)
        prediction = TARGET + error * np.tile([-1, 1, 0.5, 2], 8) * np.repeat(20 / (DENSITY + 9), 4)
        folder.finish(
            folder.read_metrics(), {"target": TARGET, "prediction": prediction, "index": np.arange(len(TARGET))}
        )
        np.savez(folder.labels_path, edges=np.arange(9.0), first=0, counts=COUNTS, region=CODES, density=DENSITY)
        rng = np.random.default_rng(seed)
        table = {"count": COUNTS, "mean": rng.normal(size=(8, 3)), "variance": rng.uniform(1, 2, (8, 3))}
        np.savez(folder.features_path, bin=np.arange(8), **(features or table))
        epochs = np.arange(1, 4)
        history = {"epoch": epochs, "step": 10 * epochs, "loss": 1 / epochs, "lr": 0.1}
        history |= {f"val/{r}/mae": (error + seed) / epochs for r in ("all", "many", "medium", "few")}
        if "FDS" in method:
            history |= {"fds/mean_distance": 0.3 / epochs, "fds/variance_distance": 0.2 / epochs}
        pd.DataFrame(history).to_csv(folder.history_path, index=False)
        return folder

    return run


@pytest.fixture
def figure() -> Callable[..., Any]:
    def draw(name: str, folders: Sequence[RunFolder], **options: Any) -> Any:
        return plots.draw(name, read_groups([f.path for f in folders]), plots.Options(**options))

    return draw


def heights(axes: Any) -> list[float]:
    """Return the heights of an axes' stairs, those of several in one; the bins of one are holes in the others."""
    shown = [patch.get_data().values for patch in axes.patches if patch.get_zorder() == 2]
    assert (np.isfinite(shown).sum(axis=0) <= 1).all()
    together = np.nansum(shown, axis=0)
    return together[np.isfinite(shown).any(axis=0)].tolist()


def line(axes: Any, label: str) -> Any:
    return next(line for line in axes.lines if line.get_label().startswith(label))


def test_bars_are_the_training_counts_and_grounds_their_regions(make, figure):
    axes = figure("labels", [make()]).axes[0]
    assert heights(axes) == COUNTS.tolist()
    grounds = [ground for ground in axes.collections if ground.get_zorder() == 0]
    spans = [[tuple(path.get_extents().intervalx) for path in ground.get_paths()] for ground in grounds]
    # many (two bins), medium, few (three bins), zero
    assert spans == [[(3, 5)], [(2, 3), (5, 6)], [(1, 2), (6, 8)], [(0, 1)]]
    assert [bool(ground.get_hatch()) for ground in grounds] == [False] * 3 + [True]
    assert axes.get_xlabel() == "age (years)"
    assert axes.get_title("left") == "TOY-DIR: many 350, medium 70, few 14, 1 bins empty"


def test_one_panel_for_each_distribution(make, figure):
    other = make("INV", bins={**BINS, "first": 2})
    shown = [axes for axes in figure("labels", [make(), make("SQINV"), other]).axes if axes.axison]
    assert [len(heights(axes)) for axes in shown] == [8, 6]


def test_per_bin_errors_are_those_of_five_plain_lines(make):
    (group,) = read_groups([make().path])
    run = group.first
    target, prediction = run.predictions
    got = per_bin(run)
    for b in range(8):
        mine = (target >= b) & (target < b + 1)
        assert got["count"][b] == mine.sum() == 4
        assert got["mae"][b] == pytest.approx(np.abs(prediction - target)[mine].mean())
        assert got["prediction"][b] == pytest.approx(prediction[mine].mean())


def test_correlations_of_error_and_density_are_pearsons(make, figure):
    folder = make()
    run = read_groups([folder.path])[0].first
    mae = per_bin(run)["mae"]
    empirical, smoothed = density_correlations(run)
    assert empirical == pytest.approx(pearsonr(COUNTS, mae).statistic)
    assert smoothed == pytest.approx(pearsonr(DENSITY, mae).statistic)
    drawn = figure("density", [folder])
    top, bottom = drawn.axes
    assert heights(top) == pytest.approx(COUNTS / COUNTS.sum())
    assert line(top, "LDS").get_ydata()[:-1] == pytest.approx(DENSITY / DENSITY.sum())
    assert line(bottom, "VANILLA").get_ydata() == pytest.approx(mae)
    said = f"VANILLA: r = −{abs(empirical):.2f} with empirical, −{abs(smoothed):.2f} with LDS density"
    assert said in [text.get_text() for legend in drawn.legends for text in legend.get_texts()]


def test_bins_without_test_samples_do_not_count_in_the_correlation(make):
    folder = make()
    kept = (TARGET < 2) | (TARGET > 5)
    held = np.load(folder.predictions_path)
    np.savez(folder.predictions_path, **{key: held[key][kept] for key in ("target", "prediction")})
    run = reading.Run(folder.path, "VANILLA", {})
    mae, there = per_bin(run)["mae"], [0, 1, 5, 6, 7]
    assert np.isnan(mae[[2, 3, 4]]).all()
    assert density_correlations(run)[0] == pytest.approx(pearsonr(COUNTS[there], mae[there]).statistic)


def test_gain_is_the_references_error_less_the_methods(make, figure):
    plain, better, worse = make(error=2.0), make("SQINV", error=1.0), make("INV", error=3.0)
    drawn = figure("gain", [plain, better, worse])
    panels = {axes.get_title("left").split(":")[0]: axes for axes in drawn.axes[1:]}
    mae = {
        name: per_bin(reading.Run(f.path, name, {}))["mae"] for name, f in (("V", plain), ("S", better), ("I", worse))
    }
    assert sorted(heights(panels["SQINV"])) == pytest.approx(sorted(mae["V"] - mae["S"]))
    assert sorted(heights(panels["INV"])) == pytest.approx(sorted(mae["V"] - mae["I"]))
    assert min(heights(panels["SQINV"])) > 0 > max(heights(panels["INV"]))
    # Region gains are of metrics.json: k * error there, k = 1 (all) to 4 (few).
    assert panels["SQINV"].get_title("left") == "SQINV: all +1.00, many +2.00, medium +3.00, few +4.00"


def test_gain_over_a_named_reference(make, figure, tmp_path):
    plain, better = make("SQINV", error=2.0), make("INV", error=1.0)
    with pytest.raises(UserError, match="--reference RUN"):
        figure("gain", [plain, better])
    with pytest.raises(UserError, match=r"Several rows are VANILLA \(.*\): say which"):
        figure("gain", [make(error=2.0), make(error=2.5, optimizer={"lr": 0.5}), better])
    (file,) = plots.plot("gain", [better.path], reference=plain.path, out=[tmp_path / "gain.png"])
    with pytest.raises(UserError, match=r"gain\.svg cannot be written: .*; give --out another path"):
        plots.plot("gain", [better.path], reference=plain.path, out=[file / "gain.svg"])
    assert file.stat().st_size > 10_000
    with pytest.raises(UserError, match=r"reference .SQINV. itself"):
        plots.plot("gain", [plain.path], reference=plain.path)
    with pytest.raises(UserError, match="holds several methods"):
        plots.plot("gain", [better.path], reference=tmp_path)


def test_similarity_is_the_cosine(make, figure):
    mean = np.array([[9, 9], [1, 0], [1, 1], [0, 2], [-3, 0], [0, 0], [3, 4], [5, 0]], dtype=np.float32)
    variance = np.ones((8, 2), dtype=np.float32)
    folder = make(features={"count": COUNTS, "mean": mean, "variance": variance})
    of_mean, of_variance = similarity(reading.Run(folder.path, "", {}), 1)
    # Against (1, 0): the empty bin 0 and the zero vector have no angle; (3, 4) is at cosine 3/5.
    assert of_mean == pytest.approx([np.nan, 1, 0.5**0.5, 0, -1, np.nan, 0.6, 1], nan_ok=True)
    # One sample has no variance.
    assert of_variance == pytest.approx([np.nan, 1, 1, 1, 1, 1, 1, np.nan], nan_ok=True)
    drawn = figure("similarity", [folder], anchors=(1.4, 3.0))
    assert line(drawn.axes[0], "VANILLA").get_ydata() == pytest.approx(of_mean, nan_ok=True)
    assert drawn.axes[1].get_title("left") == "feature mean, anchor 3"


def test_the_anchor_is_the_most_frequent_bin_by_default_and_a_wrong_one_is_named(make, figure):
    folder = make()
    assert figure("similarity", [folder]).axes[0].get_title("left") == "feature mean, anchor 3"
    with pytest.raises(UserError, match="--anchor 9 lies outside the labels of TOY-DIR, 0 to 8"):
        figure("similarity", [folder], anchors=(9.0,))
    with pytest.raises(UserError, match=r"--anchor 0\.5 has no training samples in TOY-DIR; the nearest is 1"):
        figure("similarity", [folder], anchors=(0.5,))


def test_reliability_shows_mean_and_quantiles_of_pooled_predictions(make, figure):
    folders = [make(seed=seed, error=1.0 + seed) for seed in (0, 1)]
    axes = figure("reliability", folders).axes[0]
    loaded = [reading.Run(folder.path, "", {}).predictions for folder in folders]
    target, prediction = (np.concatenate(parts) for parts in zip(*loaded, strict=True))
    (band,) = (held for held in axes.collections if held.get_zorder() == 2)
    corners = band.get_paths()[0].vertices
    for b in range(8):
        mine = prediction[(target >= b) & (target < b + 1)]
        assert line(axes, "mean").get_ydata()[b] == pytest.approx(mine.mean())
        ends = corners[corners[:, 0] == b + 0.5, 1]
        assert (ends.min(), ends.max()) == pytest.approx(tuple(np.quantile(mine, [0.1, 0.9])))


def test_curves_average_seeds_and_band_them(make, figure):
    drawn = figure("curves", [make(seed=0), make(seed=1), make("INV")])
    panel = next(axes for axes in drawn.axes if axes.get_title("left") == "validation MAE, few")
    mine = line(panel, "VANILLA")
    assert mine.get_xdata().tolist() == [1, 2, 3]
    assert mine.get_ydata() == pytest.approx([1.5, 0.75, 0.5])  # seeds: 1 / epoch and 2 / epoch
    assert len(panel.collections) == 1, "INV has one seed and no band"


def test_several_evaluations_in_an_epoch_are_drawn_over_steps(make, figure):
    folder = make()
    history = pd.read_csv(folder.history_path).assign(epoch=1)
    history.to_csv(folder.history_path, index=False)
    axes = figure("curves", [folder]).axes[0]
    assert axes.get_xlabel() == "step"
    assert line(axes, "VANILLA").get_xdata().tolist() == [10, 20, 30]


def test_fds_distances_over_epochs(make, figure):
    drawn = figure("fds", [make(), make("VANILLA + FDS")])
    means, variances = drawn.axes
    assert [entry.get_label() for entry in means.lines] == ["VANILLA + FDS"]
    assert line(means, "VANILLA").get_ydata() == pytest.approx([0.3, 0.15, 0.1])
    assert line(variances, "VANILLA").get_ydata() == pytest.approx([0.2, 0.1, 0.2 / 3])
    with pytest.raises(UserError, match="name runs with FDS"):
        figure("fds", [make()])


def test_mean_and_spread_over_seeds_leave_out_what_is_missing():
    mean, spread = over_seeds([[1.0, np.nan, np.nan], [3.0, 4.0, np.nan]])
    assert mean == pytest.approx([2, 4, np.nan], nan_ok=True)
    assert spread == pytest.approx([2**0.5, np.nan, np.nan], nan_ok=True)
    assert over_seeds([[1.0]])[1] is None


@pytest.mark.parametrize("name", OF_ONE_DATASET)
def test_every_figure_is_written(make, tmp_path, name):
    paths = [folder.path for folder in (make(), make(seed=1, error=1.2), make("SQINV + FDS", error=0.5))]
    (file,) = plots.plot(name, paths, out=[tmp_path / f"{name}.png"])
    assert file.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_every_format_is_written_and_bytes_repeat(make, tmp_path):
    name = "density"  # has every kind of mark
    paths = [folder.path for folder in (make(), make(seed=1, error=1.2), make("SQINV + FDS", error=0.5))]
    files = plots.plot(name, paths, out=[tmp_path / f"{name}.{ending}" for ending in style.FORMATS])
    png, svg, pdf = (file.read_bytes() for file in files)
    assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    assert pdf.startswith(b"%PDF-")
    assert b"/FontFile2" in pdf, "TrueType fonts are embedded"
    assert b"CreationDate" not in pdf
    again = plots.plot(name, paths, out=[tmp_path / "again" / file.name for file in files])
    assert [file.read_bytes() for file in again] == [png, svg, pdf]


def test_a_users_own_matplotlib_settings_neither_count_nor_change(make, tmp_path):
    import matplotlib

    folder = make()
    (file,) = plots.plot("labels", [folder.path], out=[tmp_path / "a.svg"])
    plain = file.read_bytes()
    with matplotlib.rc_context({"font.size": 30, "svg.hashsalt": "mine"}):
        (file,) = plots.plot("labels", [folder.path], out=[tmp_path / "b.svg"])
        assert matplotlib.rcParams["font.size"] == 30
    assert file.read_bytes() == plain


def test_grounds_and_lines_differ_without_colour():
    from matplotlib.colors import to_rgb

    def lightness(colour: str) -> float:
        return float(np.dot(to_rgb(colour), [0.299, 0.587, 0.114]))

    grounds = [lightness(look["facecolor"]) for region, look in style.REGIONS.items() if region != "zero"]
    assert min(-np.diff(grounds)) > 0.05, "many, medium, few: ever darker"
    assert style.REGIONS["zero"]["hatch"]
    assert max(lightness(look["color"]) for look in style.LINES) < min(grounds) - 0.25
    assert len({str(look["linestyle"]) for look in style.LINES}) == len(style.LINES)
    assert len({look["marker"] for look in style.LINES}) == len(style.LINES)


def test_no_text_lies_on_another(make, figure):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    folders = [make(), make(seed=1), make("SQINV + LDS + FDS"), make("INV + LDS"), make("FOCAL-R + LDS + FDS")]
    for name in OF_ONE_DATASET:
        drawn = figure(name, folders)
        with style.styled():
            canvas = FigureCanvasAgg(drawn)
            canvas.draw()
            boxes = [legend.get_window_extent() for legend in drawn.legends]
            boxes += [axes.get_tightbbox() for axes in drawn.axes if axes.axison]
            boxes += [text.get_window_extent() for text in drawn.texts if text.get_text()]
        inside = drawn.bbox
        for i, box in enumerate(boxes):
            assert inside.x0 - 1 <= box.x0 and box.x1 <= inside.x1 + 1, (name, i)  # noqa: PT018
            assert inside.y0 - 1 <= box.y0 and box.y1 <= inside.y1 + 1, (name, i)  # noqa: PT018
            assert not any(box.shrunk(0.99, 0.97).overlaps(other.shrunk(0.99, 0.97)) for other in boxes[:i]), (name, i)


def test_a_mistake_is_one_sentence(make, figure, tmp_path):
    folder = make()
    with pytest.raises(UserError, match=r"no figure 'lables' .did you mean 'labels'"):
        plots.plot("lables", [folder.path])
    with pytest.raises(UserError, match=r"\.png, \.svg or \.pdf"):
        plots.plot("labels", [folder.path], out=[tmp_path / "labels.jpg"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no finished run"):
        plots.plot("labels", [tmp_path / "empty"])
    folder.features_path.unlink()
    with pytest.raises(UserError, match=r"keeps no feature statistics \(features.npz\), as runs of older versions"):
        figure("similarity", [folder])
    folder.labels_path.write_bytes(b"PK damaged")
    with pytest.raises(UserError, match=r"labels.npz is not a readable .npz"):
        figure("density", [folder])


def test_features_that_were_never_kept_are_named(make, figure):
    with pytest.raises(UserError, match="no learned features"):
        figure("similarity", [make(backbone={"features": False})])
    with pytest.raises(UserError, match="feature_statistics=false"):
        figure("similarity", [make("INV", trainer={"feature_statistics": False})])


def test_runs_that_cannot_share_a_figure_are_named(make, figure):
    folders = [make(), make("INV")]
    held = dict(np.load(folders[1].labels_path))
    np.savez(folders[1].labels_path, **{**held, "region": np.roll(CODES, 1)})
    with pytest.raises(UserError, match="not trained and tested on the same labels"):
        figure("density", folders)
    many = [make(f"METHOD {letter}") for letter in "ABCDEFG"]
    with pytest.raises(UserError, match="7 methods, and a figure holds 6"):
        figure("curves", many)


def test_without_matplotlib_the_error_says_how_to_install_it(make, figure, monkeypatch):
    import builtins

    real = builtins.__import__

    def absent(name: str, *rest: Any) -> Any:
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *rest)

    groups = read_groups([make().path])
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(UserError, match=r"pip install 'dir-bench\[plots\]'"):
        plots.draw("labels", groups)
