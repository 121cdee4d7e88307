"""The stand-in of SHHS: files are as NSRR's are, and the score is in the signals alone."""

import warnings
from itertools import chain
from pathlib import Path

import edfio
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy.signal import find_peaks, welch

from dir_bench.datasets.sleep.sample import is_made_up, write_sample
from dir_bench.datasets.sleep.tables import read_scores, split_scores
from dir_bench.errors import UserError

N = 16


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("shhs"), n=N, minutes=(0.5, 1))


def edf(folder: Path, visit: str, i: int) -> Path:
    return folder / "polysomnography" / "edfs" / visit / f"{visit}-{990_001 + i}.edf"


def channels(path: Path) -> list[tuple[str, float, str]]:
    return [(s.label, s.sampling_frequency, s.physical_dimension) for s in edfio.read_edf(path).signals]


def test_visit_1_has_the_channels_of_a_real_file(sample: Path) -> None:
    # As public programs find them in shhs1-200001.edf.
    assert channels(edf(sample, "shhs1", 0)) == [
        ("SaO2", 1, ""),
        ("H.R.", 1, ""),
        ("EEG(sec)", 125, "uV"),
        ("ECG", 125, "mV"),
        ("EMG", 125, "uV"),
        ("EOG(L)", 50, "uV"),
        ("EOG(R)", 50, "uV"),
        ("EEG", 125, "uV"),
        ("THOR RES", 10, ""),
        ("ABDO RES", 10, ""),
        ("POSITION", 1, ""),
        ("LIGHT", 1, ""),
        ("NEW AIR", 10, "uV"),
        ("OX stat", 1, ""),
    ]
    assert [label for label, *_ in channels(edf(sample, "shhs1", 2))][2::10] == ["EEG2", "AIRFLOW"]


def test_visit_2_has_its_channels_at_both_sets_of_rates(sample: Path) -> None:
    labels = "SaO2 PR EEG(sec) ECG EMG EOG(L) EOG(R) EEG AIRFLOW THOR-RES ABDO-RES POSITION LIGHT OX-STAT"
    for i, rates in ((0, (1, 1, 125, 250, 125, 50, 50, 125, 10, 10, 10, 1, 1, 1)), (2, (1, 1, 128, 256, 128, 64, 64))):
        found = channels(edf(sample, "shhs2", i))
        assert [label.replace(" ", "-") for label, *_ in found] == labels.split()
        assert tuple(rate for _, rate, _ in found)[: len(rates)] == rates
    assert [rate for _, rate, _ in found[8:]] == [8, 8, 8, 1, 1, 1]


def test_header_is_anonymous_and_lengths_differ(sample: Path) -> None:
    files = [edfio.read_edf(edf(sample, "shhs2", i)) for i in range(N - 3)]
    assert {f.local_patient_identification for f in files} == {"X X X X"}
    assert {f.local_recording_identification for f in files} == {"Startdate X X X X"}
    assert len({f.duration for f in files}) > N // 2
    assert all(30 <= f.duration <= 60 and f.data_record_duration == 1 for f in files)
    assert all(s.data.shape == (f.duration * s.sampling_frequency,) for f in files for s in f.signals)


def test_signals_lie_within_what_is_usual(sample: Path) -> None:
    signals = {s.label: s for s in edfio.read_edf(edf(sample, "shhs2", 1)).signals}
    assert signals["SaO2"].data.mean() == pytest.approx(95, abs=3)
    assert 50 < signals["PR"].data.mean() < 95
    assert 5 < signals["EEG"].data.std() < 60
    # Few of the 256 steps are clipped, and most are in use.
    for label in ("EEG", "ECG", "AIRFLOW", "THOR RES"):
        digital = signals[label].digital
        assert np.isin(digital, (-128, 127)).mean() < 0.01
        assert np.ptp(digital) > 80
    assert signals["THOR RES"].physical_range == (1, -1)  # as in real files: minimum above maximum


def test_one_file_breaks_off_inside_a_record_and_one_has_no_airflow(sample: Path) -> None:
    broken = edf(sample, "shhs1", N - 2)
    header = broken.read_bytes()[:256]
    records, header_size = int(header[236:244]), int(header[184:192])
    record_size = 2 * (4 * 125 + 2 * 50 + 3 * 10 + 5)
    whole, rest = divmod(broken.stat().st_size - header_size, record_size)
    assert 0.4 * records < whole < 0.8 * records
    assert rest
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        edfio.read_edf(broken)
    assert any("header indicates" in str(warning.message) for warning in caught)
    for visit in ("shhs1", "shhs2"):
        assert not any("AIR" in label for label, *_ in channels(edf(sample, visit, N - 3)))


@pytest.mark.parametrize("visit", ["shhs1", "shhs2"])
def test_tables_have_the_flaws_that_are_promised(sample: Path, visit: str) -> None:
    scores = read_scores(sample, visit)  # type: ignore[arg-type]
    assert scores.rows["subject"].tolist() == list(range(990_001, 990_001 + N - 1))
    assert scores.excluded.subjects == {"no score": ["990016"], "no recording": ["990017"]}
    assert scores.repeated == (990_001,)
    assert (scores.rows["score"] % 5 == 0).all()
    table = pd.read_csv(scores.csv)
    s = f"_s{visit[-1]}"
    assert {"nsrrid", "visitnumber", f"age{s}", "gender"} <= set(table)
    assert set(table["visitnumber"]) == {int(visit[-1])}
    known = table.dropna()
    assert np.allclose((known[f"rawgh{s}"] - 5) * 5, known[f"gh{s}"])


def test_stand_ins_are_known_by_their_ids(sample: Path) -> None:
    assert is_made_up(read_scores(sample, "shhs2").rows["subject"])
    assert not is_made_up([200_001, 205_804])


@pytest.mark.parametrize("n", [16, 24, 36])
def test_what_the_flaws_leave_can_be_split(tmp_path: Path, n: int) -> None:
    write_sample(tmp_path, n=n, minutes=(0.05, 0.05), visits=("shhs2",))
    usable = read_scores(tmp_path, "shhs2").rows[: n - 3]
    assert {"train", "val", "test"} == set(split_scores(usable))


def test_few_scores_are_low(tmp_path: Path) -> None:
    write_sample(tmp_path, n=60, minutes=(0.05, 0.05), visits=("shhs2",))
    scores = read_scores(tmp_path, "shhs2").rows["score"]
    assert scores.skew() < 0
    assert scores.between(60, 95).sum() > 2 * (scores < 50).sum() > 0


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_same_seed_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    once, again, other = (
        contents(write_sample(tmp_path / name, n=N, seed=seed, minutes=(0.1, 0.2)))
        for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert once == again
    assert once.keys() == other.keys()
    assert all(once[name] != other[name] for name in once)


def test_nothing_is_overwritten_and_too_few_are_refused(sample: Path, tmp_path: Path) -> None:
    before = contents(sample)
    with pytest.raises(UserError, match=r"shhs1-dataset-0\.21\.0\.csv exists"):
        write_sample(sample, n=N)
    assert contents(sample) == before
    real = tmp_path / "polysomnography" / "edfs" / "shhs2" / "shhs2-200077.edf"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"real")
    with pytest.raises(UserError, match="exists"):
        write_sample(tmp_path, n=N)
    assert list(tmp_path.rglob("*.*")) == [real]
    with pytest.raises(UserError, match="too few"):
        write_sample(tmp_path / "new", n=N - 1)


def statistics(path: Path) -> dict[str, list[float]]:
    """Measure band powers of the EEG, the heart's rate and its spread, and rate and pauses of the breath."""
    signals = {s.label: s for s in edfio.read_edf(path).signals}
    frequency, power = welch(signals["EEG"].data, signals["EEG"].sampling_frequency, nperseg=512)
    bands = [power[(frequency >= low) & (frequency < high)].sum() for low, high in ((0.5, 3), (8, 11), (12.5, 15))]
    delta, alpha, sigma = np.log(bands)
    rate = signals["ECG"].sampling_frequency
    peaks = find_peaks(signals["ECG"].data, height=0.4, distance=int(0.4 * rate))[0]
    beats = np.diff(peaks) / rate
    flow, rate = signals["AIRFLOW"].data, signals["AIRFLOW"].sampling_frequency
    frequency, power = welch(flow, rate, nperseg=int(40 * rate))
    size = np.abs(flow[: len(flow) // int(5 * rate) * int(5 * rate)].reshape(-1, int(5 * rate))).mean(axis=1)
    return {
        "brain": [delta - alpha, sigma - alpha],
        "heart": [np.median(beats), np.log(beats.std())],
        "breath": [frequency[power.argmax()], (size < 0.5 * np.median(size)).mean(), size.std() / size.mean()],
    }


def gain_over_mean(features: npt.NDArray[np.float64], scores: npt.NDArray[np.float64]) -> float:
    """Return by which part ridge regression, each subject held out in turn, lowers the MAE of the others' mean."""
    errors = []
    for i in range(len(scores)):
        rest = np.arange(len(scores)) != i
        mean, spread = features[rest].mean(0), features[rest].std(0)
        x, y = (features[rest] - mean) / spread, scores[rest] - scores[rest].mean()
        weights = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ y)
        target = scores[i] - scores[rest].mean()
        errors.append((abs((features[i] - mean) / spread @ weights - target), abs(target)))
    ridge, by_mean = np.mean(errors, axis=0)
    return 1 - float(ridge / by_mean)


@pytest.mark.parametrize("seed", [0, 1])
def test_score_can_be_told_from_brain_heart_and_breath(tmp_path: Path, seed: int) -> None:
    write_sample(tmp_path, n=36, seed=seed, minutes=(4, 5), visits=("shhs2",))
    rows = read_scores(tmp_path, "shhs2").rows[:-2]  # without the two flawed recordings
    found = [statistics(Path(path)) for path in rows["recording"]]
    scores = rows["score"].to_numpy(np.float64)
    gains = {part: gain_over_mean(np.array([f[part] for f in found]), scores) for part in found[0]}
    together = gain_over_mean(np.array([[*chain.from_iterable(f.values())] for f in found]), scores)
    assert together > 0.4, (together, gains)
    assert all(gain > 0.15 for gain in gains.values()), gains
    length = np.array([[edfio.read_edf(path).duration] for path in rows["recording"]])
    assert gain_over_mean(length, scores) < 0.1  # the header does not tell
