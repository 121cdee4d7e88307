"""SHHS-DIR from raw recordings to splits: prepared once, resumable, one subject's failure harms no other."""

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock

from dir_bench import assembly, config
from dir_bench.datasets.base import Dataset, Preparable
from dir_bench.datasets.shhs import SHHS, NightSplit
from dir_bench.datasets.sleep import sample as stand_in
from dir_bench.datasets.sleep import store
from dir_bench.errors import UserError
from dir_bench.labels import TargetBins
from dir_bench.results.store import RunFolder
from dir_bench.task import Task

N = 18


def make(folder: Path, **options: object) -> SHHS:
    return SHHS(str(folder), **{"min_seconds": 60, "processes": 1, **options})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw") / "shhs"
    return stand_in.write_sample(folder, n=N, minutes=(1.5, 3), visits=("shhs2",))


@pytest.fixture(scope="module")
def prepared(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(raw, tmp_path_factory.mktemp("prepared") / "shhs"))
    summary, failures = make(folder).prepare()
    assert failures == ()
    assert f"{N - 1} with a score and a recording" in summary
    return folder


@pytest.fixture
def folder(raw: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(raw, tmp_path / "shhs"))


def recordings(folder: Path) -> list[Path]:
    return sorted((folder / "polysomnography" / "edfs" / "shhs2").glob("*.edf"))


def features(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("prepared/*/*")}


def test_the_dataset_is_whole(prepared: Path) -> None:
    dataset = make(prepared)
    assert isinstance(dataset, Dataset)
    assert isinstance(dataset, Preparable)
    report = dataset.check()
    assert report.problems == ()
    assert "stand-in" in report.facts["list"]
    assert report.facts["left out, no score"].startswith("1 (99")
    assert "no airflow" in report.facts["notes on recordings in use"]
    data = dataset.load()
    assert report.label_counts is not None
    bins = TargetBins.regular(0, 100, 1)
    np.testing.assert_array_equal(report.label_counts(bins), data.train.label_counts(bins))
    assert dict(data.backbone_kwargs) == {
        "eeg_bins": 64, "ecg_bins": 22, "breathing_channels": 3, "breathing_rate": 10
    }  # fmt: skip


def test_no_subject_is_in_two_splits_and_scores_are_those_of_the_table(prepared: Path) -> None:
    data = make(prepared).load()
    splits = (data.train, data.val, data.test)
    subjects = [{int(path.stem.split("-")[1]) for path in split.files} for split in splits]
    assert sum(map(len, subjects)) == len(set.union(*subjects)) == N - 1
    table = pd.read_csv(next(prepared.glob("datasets/shhs2-*.csv"))).drop_duplicates("nsrrid").set_index("nsrrid")
    for split in splits:
        expected = [table.loc[int(path.stem.split("-")[1]), "gh_s2"] for path in split.files]
        np.testing.assert_array_equal(split.targets, np.float32(expected))


def test_training_cuts_out_random_stretches_and_evaluation_has_whole_nights(prepared: Path) -> None:
    whole, cut = make(prepared).load(), make(prepared, crop_seconds=40).load()
    index = np.arange(4)
    nights, seconds = cut.train.fetch(index, np.random.default_rng(0))
    assert nights.shape == (4, 40, 116)
    assert nights.dtype == torch.float16
    assert seconds.tolist() == [40] * 4
    for row, path in zip(nights.numpy(), cut.train.files, strict=False):
        night = store.night(path)
        assert any(np.array_equal(row, night[start : start + 40]) for start in range(len(night) - 39))
    other, _ = cut.train.fetch(index, np.random.default_rng(1))
    assert not torch.equal(nights, other)
    assert cut.train.lengths.tolist() == [40] * len(cut.train)
    for split in (cut.test, whole.train):
        rows = np.arange(min(3, len(split)))
        nights, seconds = split.fetch(rows, None)
        assert seconds.tolist() == split.seconds[rows].tolist()
        assert nights.shape[1] == seconds.max()
        shortest = int(seconds.argmin())
        assert not nights[shortest, seconds[shortest] :].any()


def test_preparing_again_makes_nothing_and_goes_on_where_it_was_stopped(folder: Path) -> None:
    dataset = make(folder)
    first, rest = recordings(folder)[:4], recordings(folder)[4:]
    assert store.prepare(first, dataset.prepared, dataset.settings, 1) == []
    times = {path: path.stat().st_mtime_ns for path in dataset.prepared.iterdir()}
    (dataset.prepared / f"{rest[0].stem}.npy").write_bytes(b"half a file, its description never came")
    with pytest.raises(UserError, match=rf"{N - 1 - 4} of {N - 1} recordings .* are not prepared"):
        dataset.load()
    dataset.prepare()
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    assert len(dataset.load().train) > 0


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_features_do_not_depend_on_the_number_of_processes(folder: Path, prepared: Path) -> None:
    assert make(folder, processes=2).prepare()[1] == ()
    assert features(folder) == features(prepared)


def test_a_recording_that_cannot_be_used_is_counted_and_stops_nothing(folder: Path) -> None:
    bad = recordings(folder)
    bad[0].write_bytes(b"no EDF at all")
    bad[1].write_bytes(bad[1].read_bytes()[:100])
    summary, failures = make(folder).prepare()
    assert failures == ()
    assert "left out, truncated header: " in summary or "left out, unreadable: " in summary
    data = make(folder).load()
    assert len(data.train) + len(data.val) + len(data.test) == N - 3
    report = make(folder).check()
    assert report.problems == ()
    assert sum(key.startswith("left out") for key in report.facts) >= 3


def test_what_fails_otherwise_is_reported_and_tried_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extract = store.extract
    calls: list[int] = []

    def failing(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise ValueError("out of luck")
        return extract(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "extract", failing)
    _, failures = make(folder).prepare()
    assert len(failures) == 1
    assert "ValueError: out of luck" in failures[0]
    with pytest.raises(UserError, match="1 of"):
        make(folder).load()
    assert make(folder).prepare()[1] == ()
    make(folder).load()


def test_a_replaced_recording_and_other_settings_are_prepared_anew(folder: Path) -> None:
    dataset = make(folder)
    dataset.prepare()
    with pytest.raises(UserError, match="not prepared with these settings"):
        make(folder, features={"per_bin": True}).load()
    one, other = recordings(folder)[:2]
    one.write_bytes(other.read_bytes())
    with pytest.raises(UserError, match="1 of"):
        dataset.load()


def test_a_recording_mended_in_place_is_prepared_anew(folder: Path) -> None:
    dataset = make(folder)
    dataset.prepare()
    path = recordings(folder)[0]
    content = path.read_bytes()
    path.write_bytes(content[:-1000] + content[-1000:][::-1])  # as long as before
    with pytest.raises(UserError, match="1 of"):
        dataset.load()


def test_a_folder_is_prepared_by_one_process_at_a_time(folder: Path) -> None:
    dataset = make(folder)
    dataset.prepared.mkdir(parents=True)
    with FileLock(dataset.prepared / "prepare.lock"), pytest.raises(UserError, match="another process is preparing"):
        dataset.prepare()


@pytest.mark.usefixtures("forked_workers")
def test_a_killed_process_is_one_sentence_and_preparing_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as context:
        context.setattr(store, "_attempt", _die)
        with pytest.raises(UserError, match=r"was killed.*dataset\.source\.processes lower"):
            make(folder, processes=2).prepare()
    assert make(folder).prepare()[1] == ()


def _die(*_: object) -> list[str]:
    os._exit(9)


def test_a_moved_folder_takes_its_features_along(prepared: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(prepared, tmp_path / "elsewhere" / "shhs", copy_function=shutil.copy2))
    settings = config.compose(["dataset=shhs", f"paths.data={moved.parent}", "dataset.source.min_seconds=60"])
    assert len(config.build(settings.dataset.source).load().train) == len(make(prepared).load().train)


def test_damaged_features_are_found(folder: Path) -> None:
    dataset = make(folder)
    dataset.prepare()
    before = dataset.fingerprint()
    path = dataset.load().train.files[0]
    content = bytearray(path.read_bytes())
    content[-1] ^= 255
    path.write_bytes(content)
    (problem,) = dataset.check().problems
    assert path.name in problem
    about = path.with_suffix(".json")
    about.write_text(json.dumps(json.loads(about.read_text()) | {"sha256": "0"}))
    assert dataset.fingerprint() != before


def test_predictions_do_not_depend_on_batches_or_workers(prepared: Path, tmp_path: Path) -> None:
    outputs = []
    for size, workers in ((1, 0), (3, 0), (8, 2)):
        settings = config.compose(
            [
                "dataset=shhs", f"paths.data={prepared.parent}", "dataset.source.min_seconds=60", "backbone=psg_small",
                f"trainer.eval_batch_size={size}", f"trainer.workers={workers}", "trainer.accelerator=cpu",
            ]
        )  # fmt: skip
        data = config.build(settings.dataset.source).load()
        network = assembly.build_network(settings, data)
        trainer = assembly.build_trainer(
            assembly.build_fabric(settings, "auto", 1), settings, RunFolder(tmp_path), data,
            Task.of(settings, data.train.label_counts), network,
        )  # fmt: skip
        outputs.append(trainer.predict(data.train))
    for other in outputs[1:]:
        np.testing.assert_allclose(other, outputs[0], rtol=0, atol=1e-3)  # of 100: 1e-5 on the network's scale


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"visit": "shhs3"}, "did you mean 'shhs"),
        ({"channels": {"egg": ["EEG"]}}, "did you mean 'eeg'"),
        ({"required": ["ekg"]}, "there is no role 'ekg'"),
        ({"crop_seconds": 0}, "crop_seconds=0"),
    ],
)
def test_settings_without_sense_are_refused(tmp_path: Path, options: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        make(tmp_path, **options)


def test_missing_data_say_whom_to_ask(tmp_path: Path) -> None:
    for part in (
        "sleepdata.org/datasets/shhs",
        "agreement",
        "dir-bench data prepare shhs",
        "dir-bench data sample shhs",
    ):
        with pytest.raises(UserError, match=part):
            make(tmp_path / "nowhere").load()


def test_a_split_of_night_files_is_picklable(prepared: Path) -> None:
    split = make(prepared).load().train
    again: NightSplit = pickle.loads(pickle.dumps(split))
    assert torch.equal(again.fetch(np.array([0]), None)[0], split.fetch(np.array([0]), None)[0])
