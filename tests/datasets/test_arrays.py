"""Arrays of any rank: read or mapped, checked, standardised, and trained on."""

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from run_helpers import assert_same_run, stop_after

from dir_bench import config, experiment, inspection
from dir_bench.assembly import check_backbone
from dir_bench.datasets.arrays import SPLITS, Arrays, ArraySplit, Volumes, _scale
from dir_bench.errors import UserError
from dir_bench.interrupt import Interrupted


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"test_x": np.zeros((60, 4))}, r"test_x has 4 columns, and train_x 3"),
        ({"val_x": np.zeros((60, 0))}, r"val_x is empty"),
        ({"train_y": np.array(["1.5"] * 60)}, r"train_y must be numbers, and holds text"),
        ({"train_y": np.full(60, 1e300)}, r"train_y\[0\] = 1e\+300 is beyond the range of float32"),
        ({"train_x": np.full((60, 3), 1 + 2j)}, r"train_x must be numbers, and holds complex numbers"),
        ({"train_y": np.zeros((60, 1))}, r"train_y must have 1 axes"),
        ({"val_y": np.zeros(59)}, r"val_x must be \(n, features\) or .* and val_y \(n,\), got \(60, 3\) and \(59,\)"),
        ({"test_y": np.where(np.arange(60) == 7, np.nan, 1.0)}, r"test_y\[7\] = nan is not a finite number \(1 such"),
        ({"test_y": np.zeros(0), "test_x": np.zeros((0, 3))}, r"test_x is empty"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path: Path, change: dict[str, np.ndarray], said: str) -> None:
    rng = np.random.default_rng(0)
    good = {f"{split}_x": rng.normal(size=(60, 3)) for split in ("train", "val", "test")}
    good |= {f"{split}_y": rng.uniform(0, 10, 60) for split in ("train", "val", "test")}
    np.savez(tmp_path / "arrays.npz", **{**good, **change})  # type: ignore[arg-type]
    report = Arrays(str(tmp_path)).check()
    assert len(report.problems) == 1
    with pytest.raises(UserError, match=rf"arrays\.npz: {said}"):
        Arrays(str(tmp_path)).load()


SHAPES = {"vectors": (5,), "sequences": (2, 9), "pictures": (3, 6, 4), "volumes": (2, 5, 6, 4)}


def some(kind: str, n: int = 12, dtype: str = "float64") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {f"{split}_y": rng.uniform(0, 10, n + i) for i, split in enumerate(SPLITS)}
    scale = np.arange(1.0, 1 + SHAPES[kind][0]).reshape(-1, *[1] * (len(SHAPES[kind]) - 1))
    x = {f"{s}_x": 100 + 30 * scale * rng.normal(size=(n + i, *SHAPES[kind])) for i, s in enumerate(SPLITS)}
    return arrays | {name: values.astype(dtype) for name, values in x.items()}


@pytest.mark.parametrize("kind", SHAPES)
def test_channels_are_standardised_by_the_training_part_but_not_of_vectors(tmp_path: Path, kind: str) -> None:
    arrays = some(kind)
    np.savez(tmp_path / "arrays.npz", **arrays)  # type: ignore[arg-type]
    data = Arrays(str(tmp_path)).load()
    assert data.kind == kind
    got = data.test.fetch(np.array([3, 0]), None).numpy()
    assert got.dtype == np.float32
    over = tuple(i for i in range(len(SHAPES[kind]) + 1) if i != 1)
    mean, std = (f(arrays["train_x"], axis=over, keepdims=True) for f in (np.mean, np.std))
    expected = (arrays["test_x"] - (0 if kind == "vectors" else mean)) / (1 if kind == "vectors" else std)
    np.testing.assert_allclose(got, expected[[3, 0]], rtol=2e-5, atol=2e-5)
    other = Arrays(str(tmp_path), standardize_inputs=kind == "vectors").load().test.fetch(np.array([0]), None).numpy()
    expected = (arrays["test_x"] - mean) / std if kind == "vectors" else arrays["test_x"]
    np.testing.assert_allclose(other, expected[:1], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("dtype", ["float32", "int16", "uint8"])
@pytest.mark.parametrize("layout", ["npz", "compressed", "folder", "fortran"])
def test_large_arrays_are_mapped_and_give_the_same_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, dtype: str
) -> None:
    arrays = some("volumes", dtype=dtype)
    np.savez(tmp_path / "arrays.npz", **arrays)  # type: ignore[arg-type]
    expected = Arrays(str(tmp_path)).load()
    other = tmp_path / "other"
    other.mkdir()
    if layout == "folder":
        (other / "arrays.npz").mkdir()
        for name, values in arrays.items():
            np.save(other / "arrays.npz" / f"{name}.npy", values)
    else:
        save = np.savez_compressed if layout == "compressed" else np.savez
        order = "F" if layout == "fortran" else "C"
        save(other / "arrays.npz", **{name: np.asarray(a, order=order) for name, a in arrays.items()})  # type: ignore[arg-type, call-overload]
    monkeypatch.setattr("dir_bench.datasets.arrays.IN_MEMORY", 1500)
    monkeypatch.setattr("dir_bench.files.arrays.BLOCK", 2)  # many blocks
    dataset = Arrays(str(other))
    data = dataset.load()
    assert isinstance(data.train, ArraySplit)
    assert isinstance(data.train.inputs, np.memmap) == (layout != "compressed")
    assert data.train.targets.tolist() == expected.train.targets.tolist()
    indices = np.array([7, 2, 2])
    torch.testing.assert_close(data.val.fetch(indices, None), expected.val.fetch(indices, None))
    assert dataset.check().facts["inputs"].startswith("volumes of shape (2, 5, 6, 4), ")


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64", "int64"])
def test_bytes_stay_bytes_in_memory_and_batches_are_those_of_float32_to_the_last_bit(
    tmp_path: Path, dtype: str
) -> None:
    arrays = some("pictures", dtype=dtype)
    np.savez(tmp_path / "own.npz", **arrays)  # type: ignore[arg-type]
    np.savez(tmp_path / "wide.npz", **{name: values.astype(np.float32) for name, values in arrays.items()})  # type: ignore[arg-type]
    dataset = Arrays(str(tmp_path), "own.npz")
    own, wide = (each.load().test for each in (dataset, Arrays(str(tmp_path), "wide.npz")))
    assert isinstance(own, ArraySplit)
    assert own.inputs.dtype == ("float32" if dtype in ("float64", "int64") else dtype)
    assert torch.equal(own.fetch(np.arange(9), None), wide.fetch(np.arange(9), None))
    assert dataset.load().test is own  # read once


@pytest.mark.parametrize("name", ["train_x", "test_y"])
@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("in_memory", [2**28, 1500])
def test_a_fingerprint_goes_by_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: int, folder: bool, name: str
) -> None:
    monkeypatch.setattr("dir_bench.datasets.arrays.IN_MEMORY", in_memory)

    def written(arrays: dict[str, np.ndarray]) -> str:
        if folder:
            (tmp_path / "arrays.npz").mkdir(exist_ok=True)
            for part, values in arrays.items():
                np.save(tmp_path / "arrays.npz" / f"{part}.npy", values)
        else:
            np.savez(tmp_path / "arrays.npz", **arrays)  # type: ignore[arg-type]
        return Arrays(str(tmp_path)).fingerprint()

    arrays = some("sequences")
    before = written(arrays)
    assert before == written(arrays)
    arrays[name].flat[0] += 1
    assert written(arrays) != before


def test_a_mapped_value_that_is_no_number_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = some("pictures", dtype="float32")
    arrays["train_x"][5, 2, 0, 1] = arrays["train_x"][9, 0, 0, 0] = np.nan
    np.savez(tmp_path / "arrays.npz", **arrays)  # type: ignore[arg-type]
    monkeypatch.setattr("dir_bench.datasets.arrays.IN_MEMORY", 0)
    monkeypatch.setattr("dir_bench.files.arrays.BLOCK", 2)
    with pytest.raises(UserError, match=r"train_x\[5, 2, 0, 1\] = nan is not a finite number \(2 such of 864\)"):
        Arrays(str(tmp_path)).load()
    content = (tmp_path / "arrays.npz").read_bytes()
    (tmp_path / "arrays.npz").write_bytes(content.replace(b"PK\x03\x04", b"PK\x03\x05"))
    with pytest.raises(UserError, match="cut short or damaged"):
        Arrays(str(tmp_path)).load()


@pytest.mark.parametrize("kind", ["sequences", "pictures", "volumes"])
def test_channels_may_be_last(tmp_path: Path, kind: str) -> None:
    arrays = some(kind)
    for folder, last in (("first", False), ("last", True)):
        (tmp_path / folder).mkdir()
        moved = {n: np.moveaxis(a, 1, -1) if last and n.endswith("_x") else a for n, a in arrays.items()}
        np.savez(tmp_path / folder / "arrays.npz", **moved)  # type: ignore[arg-type]
    first, last = Arrays(str(tmp_path / "first")).load(), Arrays(str(tmp_path / "last"), channels_last=True).load()
    torch.testing.assert_close(first.val.fetch(np.arange(4), None), last.val.fetch(np.arange(4), None))
    assert first.backbone_kwargs == last.backbone_kwargs == {"in_channels": SHAPES[kind][0], "size": SHAPES[kind][1:]}


def test_shapes_that_do_not_fit_are_named(tmp_path: Path) -> None:
    pictures = some("pictures")
    np.savez(tmp_path / "volumes.npz", **pictures)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"\(12, 3, 6, 4\), and .* takes volumes, of 5 axes: give it a channel axis"):
        Volumes(str(tmp_path), "volumes.npz").load()
    np.savez(tmp_path / "arrays.npz", **(pictures | {"val_x": pictures["val_x"][..., :2]}))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"val_x has samples of shape \(3, 6, 2\), and train_x of \(3, 6, 4\)"):
        Arrays(str(tmp_path)).load()
    np.savez(tmp_path / "arrays.npz", **{n: a[..., None, None] if "_x" in n else a for n, a in pictures.items()})  # type: ignore[arg-type]
    with pytest.raises(UserError, match="of 2, 3, 4, 5 axes: give it one array a sample"):
        Arrays(str(tmp_path)).load()
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "folder" / "train_x.npy", pictures["train_x"])
    with pytest.raises(UserError, match=r"folder has no train_y\.npy, val_x\.npy, .*test_y\.npy: missing"):
        Arrays(str(tmp_path), "folder").load()


def test_a_channel_that_does_not_vary_is_only_shifted() -> None:
    inputs = np.stack([np.full((6, 4), 7.0), np.arange(24.0).reshape(6, 4)], axis=1)
    mean, std = _scale(inputs, 1)
    np.testing.assert_allclose(mean, [7, 11.5])
    np.testing.assert_allclose(std, [1, np.arange(24).std()], rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "last", "said"),
    [("vectors", False, "feature 2"), ("volumes", False, "channel 1"), ("volumes", True, "channel 3")],
)
@pytest.mark.parametrize("mapped", [False, True])
def test_inputs_that_32_bits_would_blur_are_refused(
    tmp_path: Path, kind: str, last: bool, said: str, mapped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = some(kind)
    channel = int(said.split()[1])
    for split in SPLITS:
        inputs = arrays[f"{split}_x"]
        (inputs[..., channel] if last else inputs[:, channel])[...] += 1e9
    np.savez(tmp_path / "arrays.npz", **arrays)  # type: ignore[arg-type]
    if mapped:
        monkeypatch.setattr("dir_bench.datasets.arrays.IN_MEMORY", 1000)
    with pytest.raises(UserError, match=rf"arrays\.npz: train_x: numbers of {said} from 99.* take one value off"):
        Arrays(str(tmp_path), channels_last=last).load()


def test_the_readmes_scans_are_written_checked_and_read(tmp_path: Path) -> None:
    readme = (config.config_dir().parent / "README.md").read_text(encoding="utf-8")
    (block,) = [part for part in readme.split("```") if part.startswith("python\n") and "open_memmap" in part]
    names: dict[str, Any] = {}
    exec(block.removeprefix("python\n"), names)
    rng = np.random.default_rng(0)
    scans = rng.integers(-1000, 1000, (30, 4, 6, 5))
    for start, split in enumerate(SPLITS):
        part = slice(10 * start, 10 * start + 10)
        names["write_split"](tmp_path / "volumes" / "scans", split, list(scans[part]), rng.uniform(0, 80, 10))
    (line,) = [line for line in readme.splitlines() if line.startswith("dir-bench data check volumes")]
    text, problems = inspection.check("volumes", str(tmp_path), shlex.split(line)[4:])
    assert problems == ()
    assert "inputs: volumes of shape (1, 4, 6, 5), int16" in text
    data = Volumes(str(tmp_path / "volumes"), "scans").load()
    mean, std = scans[:10].mean(), scans[:10].std()
    np.testing.assert_allclose(data.test.fetch(np.array([3]), None)[0, 0], (scans[23] - mean) / std, atol=1e-4)


class TestRuns:
    @pytest.fixture
    def compose(self, tmp_path: Path):
        Volumes(str(tmp_path / "data" / "volumes"), "volumes.npz").sample(tmp_path / "data" / "volumes", n=48)

        def make(*overrides: str, outputs: str = "outputs"):
            return config.compose(
                [
                    *("dataset=volumes", "trainer.epochs=2", "trainer.threads=1", "trainer.figures=false"),
                    *("trainer.batch_size=12", "backbone.channels=[4,8]", "backbone.feature_dim=8"),
                    *(f"paths.data={tmp_path / 'data'}", f"paths.outputs={tmp_path / outputs}", *overrides),
                ]
            )

        return make

    def test_volumes_train_are_cut_and_resumed_to_the_same_bits(self, compose, monkeypatch) -> None:
        words = ["method=sqinv_lds_fds", "mixup=input"]
        straight = experiment.run(compose(*words, outputs="straight"))
        stop_after(monkeypatch, 6)
        with pytest.raises(Interrupted):
            experiment.run(compose(*words, outputs="broken"))
        assert_same_run(straight.folder, experiment.run(compose(*words, outputs="broken")).folder)
        assert experiment.evaluate(straight.folder)["test"] == straight.metrics["test"]

    def test_new_volumes_are_predicted_as_the_test_split_is(self, compose, tmp_path) -> None:
        run = experiment.run(compose("trainer.epochs=1"))
        x = np.load(tmp_path / "data" / "volumes" / "volumes.npz")["test_x"]
        np.save(tmp_path / "one.npy", x[0])
        np.save(tmp_path / "more.npy", x[1:4])
        table = experiment.predict(run.folder, [tmp_path / "one.npy", tmp_path / "more.npy"])
        expected = np.load(run.folder / "predictions.npz")["prediction"][:4]
        np.testing.assert_allclose(table["prediction"], expected, rtol=1e-5)
        assert [Path(name).stem for name in table["file"]] == ["one", "more", "more", "more"]
        np.save(tmp_path / "other.npy", x[0, :, :5])
        with pytest.raises(UserError, match=r"shape \(1, 5, 16, 16\), and the run was trained on samples of \(1, 16"):
            experiment.predict(run.folder, [tmp_path / "other.npy"])
        with pytest.raises(UserError, match=r"give \.npy files of them"):
            experiment.predict(run.folder, [tmp_path / "other.csv"])

    @pytest.mark.parametrize(
        "words",
        [
            ["method=smogn"],
            ["method=m_mixup", "mixup.layers=[0,1,2]"],
            ["trainer.channels_last=true"],
            ["method=ranksim"],
        ],
    )
    def test_methods_take_volumes(self, compose, words) -> None:
        run = experiment.run(compose("trainer.epochs=1", *words))
        assert np.isfinite(run.metrics["test"]["all"]["mae"])

    def test_a_backbone_that_takes_other_inputs_is_refused_with_those_that_fit(self, compose) -> None:
        data = config.build(compose().dataset.source).load()
        for name, takes in (("resnet50", "pictures"), ("mlp", "vectors")):
            settings = config.compose(["dataset=volumes", f"backbone={name}"])
            with pytest.raises(
                UserError, match=rf"takes {takes}, .* are volumes: choose backbone=cnn or cnn3d or .*video"
            ):
                check_backbone(settings, data)


def test_a_survey_says_where_samples_and_targets_do_not_match(tmp_path):
    arrays = {
        f"{name}_{kind}": np.zeros((5, 2) if kind == "x" else 5) for name in ("train", "val", "test") for kind in "xy"
    }
    np.savez(tmp_path / "arrays.npz", **arrays | {"train_y": np.zeros(4)})
    assert Arrays(str(tmp_path)).survey().problems == (
        "train_x has 5 samples, and train_y 4 targets: give each its own",
    )
