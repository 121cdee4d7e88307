"""Features of SHHS-DIR from EDF files. No reference code was released: checked by hand and against SciPy."""

import pickle
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import edfio
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import spectrogram

from dir_bench.datasets.sleep import signals as module
from dir_bench.datasets.sleep.signals import (
    CHANNELS,
    ExcludedRecording,
    FeatureSettings,
    Recording,
    Signal,
    extract,
    feature_columns,
    log_power,
    read_recording,
    resample,
    robust_scale,
)
from dir_bench.errors import UserError

SECONDS = 60
NIGHT: dict[str, float] = {"EEG": 125, "ECG": 250, "AIRFLOW": 10, "ABDO RES": 10, "THOR RES": 10}
RECORDS_AT = slice(236, 244)
"""Bytes of the header that hold the number of records."""


def noise(rate: float, seconds: int = SECONDS, seed: int = 0) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-500, 500, round(rate * seconds)).astype(np.int16)


def write_edf(path: Path, signals: Mapping[str, float] | list[edfio.EdfSignal], record: float = 1) -> Path:
    """Write noise under each label at its rate, or the signals given."""
    if isinstance(signals, Mapping):
        signals = [
            edfio.EdfSignal.from_digital(noise(rate, seed=seed), rate, label=label, physical_dimension="uV")
            for seed, (label, rate) in enumerate(signals.items())
        ]
    edfio.Edf(signals, data_record_duration=record).write(path)
    return path


def patch(path: Path, at: int, text: bytes, width: int = 8) -> None:
    """Overwrite one field of the header."""
    content = bytearray(path.read_bytes())
    content[at : at + width] = text.ljust(width)
    path.write_bytes(content)


def field(signals: int, offset: int, width: int, which: int) -> int:
    """Return where a field of the header of signal `which` begins; `offset` as if there were one signal."""
    return 256 + offset * signals + width * which


def read(path: Path, **options: object) -> Recording:
    return read_recording(path, min_seconds=10, **options)  # type: ignore[arg-type]


def recording_of(seconds: int, **signals: tuple[NDArray[np.floating], float]) -> Recording:
    held = {
        role: Signal(values.astype(np.float32), Fraction(rate).limit_denominator(1000), role)
        for role, (values, rate) in signals.items()
    }
    return Recording(seconds, held, {}, ())


def sine(frequency: float, rate: float, seconds: int = SECONDS) -> NDArray[np.float64]:
    return np.asarray(np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate))


# --- features


@pytest.mark.parametrize("rate", [100, 125, 128, 250, 100.5])
def test_sine_peaks_in_its_frequency_bin_in_every_second(rate: float) -> None:
    signal = sine(10, rate) + np.random.default_rng(0).normal(0, 0.3, round(rate * SECONDS))
    features = extract(recording_of(SECONDS, eeg=(signal, rate), ecg=(signal, rate)))
    columns = feature_columns(FeatureSettings())
    # EEG bin j ends at (j + 1) / 2 Hz, ECG bin j at j + 1 Hz
    assert (features[:, columns["eeg"]].argmax(axis=1) == 19).all()
    assert (features[:, columns["ecg"]].argmax(axis=1) == 9).all()


def test_log_power_is_that_of_scipy() -> None:
    rate, values = 64, np.random.default_rng(0).normal(3, 1, 64 * SECONDS).astype(np.float32)
    found = log_power(values, rate, bins=22, top=22, window=2)
    # windows that lie within the signal begin 0.5 s into it; scipy's power per hertz differs by a factor
    _, _, expected = spectrogram(values[rate // 2 :], rate, window="hann", nperseg=2 * rate, noverlap=rate)
    expected = np.log(expected[1:45].reshape(22, 2, -1).mean(axis=1)).T
    difference = found[1:-1] - expected
    np.testing.assert_allclose(difference, difference.mean(), atol=1e-3)


def test_event_of_a_second_is_in_its_row() -> None:
    rng = np.random.default_rng(0)
    second = 17
    signals = {}
    for role, rate in {"eeg": 125, "ecg": 250, "airflow": 10, "abdomen": 8, "thorax": 4}.items():
        values = rng.normal(0, 1, rate * SECONDS)
        values[second * rate : (second + 1) * rate] *= 50
        signals[role] = (values, rate)
    features = extract(recording_of(SECONDS, **signals)).astype(np.float32)
    columns = feature_columns(FeatureSettings())
    assert features[:, columns["eeg"]].mean(axis=1).argmax() == second
    assert features[:, columns["ecg"]].mean(axis=1).argmax() == second
    breathing = features[:, columns["breathing"]].reshape(SECONDS, 10, 3)
    assert (np.square(breathing).mean(axis=1).argmax(axis=0) == second).all()


@pytest.mark.parametrize("rate", [10, 8, 4, 12.5, 50])
def test_breathing_survives_resampling(rate: float) -> None:
    features = extract(recording_of(120, abdomen=(3 + 0.1 * sine(0.25, rate, 120), rate)))
    series = features[:, 86:].reshape(-1, 3).astype(np.float32)
    # quartiles of a sine are ±1/√2, so its spread is √2 / 1.349
    expected = sine(0.25, 10, 120) * 1.349 / np.sqrt(2)
    np.testing.assert_allclose(series[40:-40, 1], expected[40:-40], atol=0.02)
    assert not series[:, [0, 2]].any()


def test_gain_and_sign_of_the_spectrum_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    values, breath = rng.normal(size=125 * SECONDS), rng.normal(size=10 * SECONDS)
    one = extract(recording_of(SECONDS, eeg=(values, 125), ecg=(values, 125), thorax=(breath, 10)))
    other = extract(recording_of(SECONDS, eeg=(-3.7 * values, 125), ecg=(1e-4 * values, 125), thorax=(9 * breath, 10)))
    np.testing.assert_allclose(one.astype(np.float32), other.astype(np.float32), atol=4e-3)


def test_shape_of_the_spectrum_is_kept_unless_bins_are_normalised_alone() -> None:
    values = np.cumsum(np.random.default_rng(0).normal(size=125 * SECONDS))  # falls with frequency
    night = recording_of(SECONDS, eeg=(values, 125))
    whole, alone = (extract(night, FeatureSettings(per_bin=per_bin))[:, :64] for per_bin in (False, True))
    slope = np.median(whole, axis=0)
    assert slope[:8].mean() > 1 + slope[-8:].mean()
    np.testing.assert_allclose(np.median(alone, axis=0), 0, atol=1e-3)


def test_blocks_do_not_change_results(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=128 * SECONDS).astype(np.float32)
    whole = log_power(values, 128, bins=64, top=32, window=2)
    monkeypatch.setattr(module, "BLOCK", 7)
    np.testing.assert_array_equal(log_power(values, 128, bins=64, top=32, window=2), whole)


def test_silence_and_artefacts_give_finite_features() -> None:
    eeg = np.zeros(125 * SECONDS)
    eeg[: 125 * 10] = sine(10, 125, 10)
    eeg[5000] = 1e12
    silent = np.full(125 * SECONDS, 7.0)
    airflow = np.zeros(10 * SECONDS)
    airflow[100:110] = 1e-9
    features = extract(recording_of(SECONDS, eeg=(eeg, 125), ecg=(silent, 125), airflow=(airflow, 10)))
    assert features.dtype == np.float16
    assert np.isfinite(features).all()
    assert np.abs(features).max() <= FeatureSettings().clip
    assert not features[:, 64:86].any()
    assert features[10, 86] > 0


def test_robust_scale_by_hand() -> None:
    # quartiles 1 and 3 around 2: the spread is 2 / 1.349
    scaled = robust_scale(np.array([0, 1, 2, 3, 1000], np.float32), clip=5)
    np.testing.assert_allclose(scaled, [-1.349, -0.6745, 0, 0.6745, 5], rtol=1e-6)


def test_resampling_refuses_a_short_signal() -> None:
    with pytest.raises(ValueError, match="shorter"):
        resample(Signal(np.zeros(99, np.float32), Fraction(10), "AIRFLOW"), 10, 8)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"eeg_bins": 50}, "64|50 bins"),
        ({"eeg_rate": 60}, "eeg_rate=64"),
        ({"window": 0.5}, "window"),
        ({"clip": 0}, "clip"),
    ],
)
def test_settings_that_do_not_fit_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        FeatureSettings(**wrong)  # type: ignore[arg-type]


def test_other_settings_give_other_shapes() -> None:
    settings = FeatureSettings(window=4, eeg_bins=32, ecg_bins=11, breathing_rate=5)
    night = recording_of(SECONDS, eeg=(sine(10, 125), 125), ecg=(sine(2, 125), 125), airflow=(sine(0.2, 10), 10))
    assert extract(night, settings).shape == (SECONDS, 32 + 11 + 15)
    assert feature_columns(settings)["breathing"] == slice(43, 58)


# --- reading


def test_physical_values_come_in_microvolts(tmp_path: Path) -> None:
    def signal(label: str, unit: str, physical: tuple[float, float]) -> edfio.EdfSignal:
        digital = np.tile(np.array([-100, 0, 50, 100], np.int16), SECONDS)
        return edfio.EdfSignal.from_digital(
            digital, 4, label=label, physical_dimension=unit, physical_range=physical, digital_range=(-100, 100)
        )

    path = write_edf(
        tmp_path / "a.edf",
        [signal("EEG", "mV", (-1, 1)), signal("ECG", "odd", (-2, 6)), signal("THOR RES", "mV", (1, -1))],
    )
    found = read(path).signals
    np.testing.assert_allclose(found["eeg"].values[:4], [-1000, 0, 500, 1000], rtol=1e-6)
    np.testing.assert_allclose(found["ecg"].values[:4], [-2, 2, 4, 6], rtol=1e-6)
    np.testing.assert_allclose(found["thorax"].values[:4], [1, 0, -0.5, -1], rtol=1e-6)  # an inverted sensor
    assert found["eeg"].values.dtype == np.float32


@pytest.mark.parametrize("eeg", ["EEG", "eeg", "EEG(sec)", "EEG (SEC)", "EEG sec", "EEG 2", "EEG2"])
@pytest.mark.parametrize("airflow", ["NEW AIR", "NEWAIR", "new A/F", "AUX", "airflow"])
def test_labels_of_both_visits_are_known(tmp_path: Path, eeg: str, airflow: str) -> None:
    path = write_edf(tmp_path / "a.edf", {"SaO2": 1, airflow: 8, eeg: 8, "ECG": 16, "Thor RES": 8, "ABDO.RES": 8})
    recording = read(path)
    assert [signal.label for signal in recording.signals.values()] == [eeg, "ECG", airflow, "ABDO.RES", "Thor RES"]
    assert recording.seconds == SECONDS
    assert not recording.missing
    assert not recording.notes


def test_preferred_label_wins_whatever_the_order(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "a.edf", {"EEG(sec)": 8, "EEG": 8, "ECG": 8})
    assert read(path).signals["eeg"].label == "EEG"
    assert read(path, channels={**CHANNELS, "eeg": ["EEG sec"]}).signals["eeg"].label == "EEG(sec)"


def test_livelier_airflow_is_taken(tmp_path: Path) -> None:
    def airflow(label: str, spread: int) -> edfio.EdfSignal:
        return edfio.EdfSignal.from_digital(noise(10, seed=spread) // np.int16(spread), 10, label=label)

    rest = [edfio.EdfSignal.from_digital(noise(8), 8, label=label) for label in ("EEG", "ECG")]
    for dead, live in (("NEW AIR", "AIRFLOW"), ("AIRFLOW", "AIRFLOW")):
        path = write_edf(tmp_path / "a.edf", [*rest, airflow(dead, 200), airflow(live, 1)])
        assert read(path).signals["airflow"].values.std() > 100


def test_only_used_channels_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_edf(tmp_path / "a.edf", NIGHT | {"EEG(sec)": 125, "EMG": 125, "SaO2": 1})
    was_read = []
    digital = edfio.EdfSignal.digital.fget  # type: ignore[attr-defined]

    def counted(signal: edfio.EdfSignal) -> NDArray[np.int16]:
        was_read.append(signal.label)
        return digital(signal)  # type: ignore[no-any-return]

    monkeypatch.setattr(edfio.EdfSignal, "digital", property(counted))
    read(path)
    assert sorted(was_read) == sorted(NIGHT)


@pytest.mark.parametrize("record", [0.5, 2, 30])
def test_length_of_records_does_not_matter(tmp_path: Path, record: float) -> None:
    signals = [
        edfio.EdfSignal.from_digital(noise(rate), rate, label=label)
        for label, rate in {"EEG": 128, "ECG": 64, "AIRFLOW": 8}.items()
    ]
    expected = extract(read(write_edf(tmp_path / "one.edf", signals)))
    np.testing.assert_array_equal(extract(read(write_edf(tmp_path / "other.edf", signals, record))), expected)


def test_part_of_a_second_at_the_end_is_left_out(tmp_path: Path) -> None:
    signals = [edfio.EdfSignal.from_digital(noise(12.5, 59), 12.5, label=label) for label in ("EEG", "ECG")]
    # 737 samples in records of 0.08 s are 58.96 s
    signals = [edfio.EdfSignal.from_digital(s.digital[:737], 12.5, label=s.label) for s in signals]
    recording = read(write_edf(tmp_path / "a.edf", signals, 0.08))
    assert recording.seconds == 58
    assert recording.signals["eeg"].rate == Fraction(25, 2)
    assert extract(recording).shape == (58, 116)


# --- what is wrong with files


def test_truncated_tail_is_used_as_far_as_it_goes(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "a.edf", NIGHT)
    whole = read(path)
    record = round(2 * sum(NIGHT.values()))
    path.write_bytes(path.read_bytes()[: -10 * record - 100])
    recording = read(path)
    assert recording.seconds == SECONDS - 11
    assert len(recording.notes) == 2
    assert "claims 60 records and the file has 49" in recording.notes[0]
    assert f"{record - 100} bytes" in recording.notes[1]
    for role, signal in recording.signals.items():
        np.testing.assert_array_equal(signal.values, whole.signals[role].values[: len(signal.values)])


@pytest.mark.parametrize("claim", [b"-1", b"99999", b"5"])
def test_number_of_records_in_the_header_is_not_trusted(tmp_path: Path, claim: bytes) -> None:
    path = write_edf(tmp_path / "a.edf", NIGHT)
    expected = extract(read(path))
    patch(path, RECORDS_AT.start, claim)
    recording = read(path)
    np.testing.assert_array_equal(extract(recording), expected)
    assert f"claims {int(claim)} records and the file has 60" in recording.notes[0]


def test_odd_header_and_trailing_bytes_change_nothing(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "a.edf", NIGHT)
    expected = extract(read(path))
    patch(path, 8, "Müller".encode("latin-1"), 80)
    patch(path, 168, b"00.00.00")
    patch(path, field(len(NIGHT), 96, 8, 0), "µV".encode("latin-1"))
    patch(path, field(len(NIGHT), 0, 16, 1), b"ECG\x00\xff", 16)
    path.write_bytes(path.read_bytes() + b"\xde\xad" * 30 + b"!")
    recording = read(path)
    np.testing.assert_array_equal(extract(recording), expected)
    assert recording.notes == ("61 bytes after the last whole record are left out",)


@pytest.mark.parametrize(
    ("offset", "text", "why"),
    [
        (104, b"32767", "stands for"),  # physical minimum, here the maximum
        (104, b"nan", "stands for"),
        (104, b"0;5", "has no scale"),
        (104, b"-1e30", "stands for"),
        (120, b"32767", "stands for"),  # digital minimum
    ],
)
def test_signal_without_a_scale_is_missing_with_its_reason(tmp_path: Path, offset: int, text: bytes, why: str) -> None:
    path = write_edf(tmp_path / "a.edf", NIGHT)
    patch(path, field(len(NIGHT), offset, 8, 2), text)
    recording = read(path)
    assert why in recording.missing["airflow"]
    assert "airflow" not in recording.signals
    features = extract(recording)
    assert not features[:, 86:].reshape(-1, 3)[:, 0].any()
    assert features[:, 86:].reshape(-1, 3)[:, 1:].any()


def test_sampling_rate_of_zero_is_missing_or_excludes(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "a.edf", NIGHT | {"EEG sec": 125})
    for which, samples in ((0, 125), (2, 10)):  # the bytes of these signals are taken out with their samples
        content = path.read_bytes()
        header, records = content[:1792], np.frombuffer(content[1792:], np.int16).reshape(SECONDS, -1)
        kept = [int(header[1552 + 8 * signal :][:8]) for signal in range(6)]
        start = sum(kept[:which])
        path.write_bytes(header + np.delete(records, range(start, start + samples), axis=1).tobytes())
        patch(path, field(6, 216, 8, which), b"0")
    recording = read(path)
    assert recording.missing == {"airflow": "AIRFLOW has a sampling rate of 0"}
    assert recording.notes == ("EEG has a sampling rate of 0; EEG sec is taken instead",)
    with pytest.raises(ExcludedRecording, match=r"a\.edf has no usable eeg: EEG has a sampling rate of 0") as caught:
        read(path, channels={**CHANNELS, "eeg": ["EEG"]})
    assert caught.value.reason == "no eeg"


def test_constant_signal_is_reported(tmp_path: Path) -> None:
    constant = np.full(SECONDS * 8, 5, np.int16)
    signals = [
        edfio.EdfSignal.from_digital(constant if label in ("EEG", "THOR RES") else noise(8), 8, label=label)
        for label in ("EEG", "EEG(sec)", "ECG", "THOR RES")
    ]
    recording = read(write_edf(tmp_path / "a.edf", signals))
    assert recording.notes == ("EEG is constant; EEG(sec) is taken instead",)
    assert recording.missing["thorax"] == "THOR RES is constant"
    assert recording.missing["abdomen"] == "no signal is labelled ABDO RES or ABDO"


def broken(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "empty":
        path.write_bytes(b"")
    elif how == "fixed header cut":
        path.write_bytes(content[:200])
    elif how == "signal headers cut":
        path.write_bytes(content[:700])
    elif how == "header alone":
        path.write_bytes(content[: 256 * (1 + len(NIGHT))])
    elif how == "part of a record":
        path.write_bytes(content[: 256 * (1 + len(NIGHT)) + 20])
    elif how == "other format":
        path.write_bytes(b"\xffBIOSEMI" + content[8:])
    elif how == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    elif how == "gone":
        path.unlink()
    elif how == "folder":
        path.unlink()
        path.mkdir()
    elif how == "header length":
        patch(path, 184, b"512")
    elif how == "record of 0 s":
        patch(path, 244, b"0")
    elif how == "record of nan s":
        patch(path, 244, b"nan")
    elif how == "number of signals":
        patch(path, 252, b"five", 4)
    elif how == "no signals":
        patch(path, 252, b"0", 4)
        patch(path, 184, b"256")
    elif how == "samples":
        patch(path, field(len(NIGHT), 216, 8, 3), b"-10")
    elif how == "ecg":
        patch(path, field(len(NIGHT), 0, 16, 1), b"EMG", 16)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        *(((how), "truncated header") for how in ("empty", "fixed header cut", "signal headers cut")),
        *(((how), "too short") for how in ("header alone", "part of a record")),
        *(((how), "unreadable") for how in ("other format", "noise", "gone", "folder", "header length", "samples")),
        *(((how), "unreadable") for how in ("record of 0 s", "record of nan s", "number of signals", "no signals")),
        ("ecg", "no ecg"),
    ],
)
def test_broken_file_is_excluded_with_a_countable_reason(tmp_path: Path, how: str, reason: str) -> None:
    path = write_edf(tmp_path / "subject-7.edf", NIGHT)
    broken(path, how)
    with pytest.raises(ExcludedRecording, match=r"subject-7\.edf") as caught:
        read(path)
    assert caught.value.reason == reason


def test_short_recording_is_excluded(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "a.edf", NIGHT)
    with pytest.raises(ExcludedRecording, match="60 s, and 3600 s are the least") as caught:
        read_recording(path)
    assert caught.value.reason == "too short"


def test_exclusion_survives_the_way_from_a_worker() -> None:
    error = pickle.loads(pickle.dumps(ExcludedRecording("a.edf has no ECG", "no ecg")))
    assert (str(error), error.reason) == ("a.edf has no ECG", "no ecg")


def test_unknown_role_is_refused(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "a.edf", NIGHT)
    with pytest.raises(UserError, match="did you mean 'thorax'"):
        read(path, channels={"thorx": ["THOR RES"]})


def test_an_odd_length_of_records_costs_no_precision_and_no_time(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "a.edf", {"EEG": 125, "ECG": 125}, record=1)
    patch(path, 244, b"1.000003")
    recording = read(path)
    assert recording.signals["eeg"].rate == 125
    patch(path, 244, b"0.9995")
    assert recording.seconds - 1 <= read(path).seconds <= recording.seconds
    assert float(read(path).signals["eeg"].rate) == pytest.approx(125 / 0.9995, rel=1e-5)
