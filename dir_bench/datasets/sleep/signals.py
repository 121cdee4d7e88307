"""Polysomnography: from an EDF file to the features of SHHS-DIR (Yang et al. 2021, App. B.5).

The paper gives shapes alone: an EEG spectrogram of 64 × seconds, an ECG spectrogram of 22 × seconds, and the breathing
signals (airflow, abdomen, thorax) at 10 Hz. `FeatureSettings` says what is taken for all that it leaves open, and why.

Channel names, rates and the history of the airflow sensor: NSRR, "Montage and Sampling Rate Information" and "Technical
Notes" of SHHS1 and SHHS2 (sleepdata.org; repository nsrr/shhs-documentation, pages 08 to 11).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dir_bench.datasets.sleep.edf import TruncatedHeader, open_edf
from dir_bench.errors import UserError, nearest
from dir_bench.lazy import Lazy

if TYPE_CHECKING:
    import edfio
    from scipy import fft
    from scipy import signal as scipy_signal
else:
    fft, scipy_signal = Lazy("scipy.fft"), Lazy("scipy.signal")

FloatArray = NDArray[np.float32]

BREATHING = ("airflow", "abdomen", "thorax")
"""The order of the breathing channels in the features."""
ROLES = ("eeg", "ecg", *BREATHING)
CHANNELS: Mapping[str, Sequence[str]] = {
    "eeg": ("EEG", "EEG(sec)", "EEG 2"),  # C4-A1, the cleaner by NSRR's notes, before C3-A2
    "ecg": ("ECG", "EKG"),
    "airflow": ("NEW AIR", "NEW A/F", "AIRFLOW", "AUX"),
    "abdomen": ("ABDO RES", "ABDO"),
    "thorax": ("THOR RES", "THOR"),
}
"""Labels of each role in SHHS1 and SHHS2, the preferred one first. Only letters and digits count, in either case:
"EEG(sec)" stands for "EEG (SEC)", "EEG sec" and "EEG_SEC" too."""
LIVELIEST = frozenset({"airflow"})
"""Roles of which the signal that moves most is taken. The thermistor of SHHS1 was changed for one on another input, the
old input was still recorded, and sites named the new one as they liked (even "AIRFLOW", twice): labels cannot tell."""
REQUIRED = ("eeg", "ecg")
MICROVOLTS = {"v": 1e6, "mv": 1e3, "nv": 1e-3}
"""Factors of the units of voltage; any other unit is taken for microvolts."""
SMALLEST, LARGEST = 1e-9, 1e9
"""Physical ranges beyond these are errors of the header, and would not fit float32 when squared."""
MIN_SECONDS, MAX_SECONDS = 3600, 7 * 86400
IQR_OF_NORMAL = 1.349
"""Interquartile range of a standard normal variable: divided by it, an IQR estimates the standard deviation."""
POWER_FLOOR = 1e-6
"""Band powers below this share (−60 dB) of the night's median are raised to it, so that silence has a logarithm."""
BLOCK = 1024
"""Seconds whose spectra are computed at once."""


class ExcludedRecording(UserError):
    """A recording that cannot be used.

    Args:
        message: What is wrong with which file.
        reason: The same in a word or two, to be counted: "no ecg", "too short", "truncated header", "unreadable", ….
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message, reason)  # both, or it could not be sent from a worker process
        self.reason = reason

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Signal:
    """One channel from the start of the recording.

    Attributes:
        values: Physical units; EEG and ECG in microvolts where the file names a voltage.
        rate: Samples per second, exact.
        label: The name it has in the file.
    """

    values: FloatArray
    rate: Fraction
    label: str


@dataclass(frozen=True)
class Recording:
    """The used channels of one night.

    Attributes:
        seconds: Whole seconds that all signals have.
        signals: Role to signal.
        missing: Optional role that has no usable signal, to the sentence that says why.
        notes: Whatever else is unusual about the file, in sentences.
    """

    seconds: int
    signals: dict[str, Signal]
    missing: dict[str, str]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class FeatureSettings:
    """How signals become features.

    EEG: 64 bins of 0.5 Hz reach from delta to beta (0.5 to 32 Hz), short of the mains; a bin of 0.5 Hz takes a window
    of 2 s, the usual one of sleep staging (Phan et al. 2019, SeqSleepNet: 2 s, half overlapping). ECG: 22 bins of 1 Hz
    hold the energy of the QRS complex (most of it at 5 to 20 Hz), again short of the mains; with windows that overlap
    by half no beat falls between two columns. Signals are first brought to one rate by polyphase resampling, so that
    nights of different recorders (125, 128, 250, 256 Hz; 8, 10 Hz) are alike.

    Args:
        window: Seconds under the Hann window. That of column s is centred on the middle of second s.
        eeg_bins: Frequency bins of the EEG. Bin j holds the mean power above j·top/bins, up to and with (j+1)·top/bins.
        eeg_top: Highest frequency of the EEG, Hz.
        eeg_rate: The EEG is resampled to this many Hz; twice the Nyquist rate, so that `eeg_top` is well inside.
        ecg_bins: Frequency bins of the ECG.
        ecg_top: Highest frequency of the ECG, Hz.
        ecg_rate: The ECG is resampled to this many Hz.
        breathing_rate: Samples per second of the breathing signals.
        per_bin: Whether each frequency bin is normalised by its own median and spread over the night. That takes away
            the response of the recorder, but also the person's mean spectrum, which a score of the person may be read
            from; so one median and one spread for the whole spectrogram are the default.
        clip: Features are cut off at this many (robust) standard deviations from the median.

    Raises:
        UserError: If bins, window and rates do not fit each other.
    """

    window: float = 2.0
    eeg_bins: int = 64
    eeg_top: float = 32.0
    eeg_rate: int = 128
    ecg_bins: int = 22
    ecg_top: float = 22.0
    ecg_rate: int = 64
    breathing_rate: int = 10
    per_bin: bool = False
    clip: float = 10.0

    def __post_init__(self) -> None:
        if min(self.eeg_bins, self.ecg_bins, self.breathing_rate) < 1 or not self.clip > 0:
            raise UserError("bins, breathing_rate and clip must be positive")
        for name, bins, top, rate in (
            ("eeg", self.eeg_bins, self.eeg_top, self.eeg_rate),
            ("ecg", self.ecg_bins, self.ecg_top, self.ecg_rate),
        ):
            if self.window < 1 or (self.window - 1) * rate % 2:
                raise UserError(f"window={self.window} s: it must be 1 s or more, and even in samples beyond that")
            per_bin = self.window * top / bins
            if per_bin < 1 or per_bin % 1:
                raise UserError(
                    f"{name}: a window of {self.window} s resolves {1 / self.window:g} Hz; the width of a bin must be "
                    f"a multiple of that, and {bins} bins up to {top} Hz are not so wide"
                )
            if top > rate / 2:
                raise UserError(f"{name}_top={top} Hz needs {name}_rate={2 * top:g} Hz or more, and it is {rate}")


def feature_columns(settings: FeatureSettings) -> dict[str, slice]:
    """Return the columns of `extract` by name: "eeg", "ecg", "breathing"."""
    eeg, ecg = settings.eeg_bins, settings.eeg_bins + settings.ecg_bins
    end = ecg + settings.breathing_rate * len(BREATHING)
    return {"eeg": slice(0, eeg), "ecg": slice(eeg, ecg), "breathing": slice(ecg, end)}


def read_recording(
    path: Path,
    channels: Mapping[str, Sequence[str]] = CHANNELS,
    required: Sequence[str] = REQUIRED,
    *,
    min_seconds: int = MIN_SECONDS,
) -> Recording:
    """Read the used channels of an EDF file; all others are left alone.

    The size of the file decides how many records there are, not the header (as in MNE and edfio): a recorder that was
    cut off leaves a wrong number, or −1. A signal cannot be used if its sampling rate is zero, its header gives no
    scale, or it is constant; the next one of its role is then taken.

    Args:
        path: An EDF or EDF+ file.
        channels: Role to accepted labels, the preferred one first. A role without labels is missing.
        required: Roles without which the recording is excluded.
        min_seconds: Recordings shorter than this are excluded.

    Raises:
        ExcludedRecording: If the file cannot be read, is too short, or a required role has no usable signal.
        UserError: If a role is not one of `ROLES`.
    """
    for role in (*channels, *required):
        if role not in ROLES:
            raise UserError(f"no channel role {role!r}{nearest(role, ROLES)}: there are {', '.join(ROLES)}")
    edf, notes = _open(path)
    duration = _simple(edf.data_record_duration)
    seconds = int(edf.num_data_records * duration)
    if seconds < max(min_seconds, 1):
        raise ExcludedRecording(f"{path} lasts {seconds} s, and {min_seconds} s are the least", "too short")
    if seconds > MAX_SECONDS:
        raise ExcludedRecording(f"{path} claims to last {seconds} s, which is no night", "too long")
    signals: dict[str, Signal] = {}
    missing: dict[str, str] = {}
    for role in ROLES:
        labels = channels.get(role, ())
        found, faults = _choose(edf, role, labels, duration, seconds)
        if found is not None:
            signals[role] = found
            notes += [f"{fault}; {found.label} is taken instead" for fault in faults]
            continue
        why = "; ".join(faults) or f"no signal is labelled {' or '.join(labels)}"
        if role in required:
            raise ExcludedRecording(f"{path} has no usable {role}: {why}", f"no {role}")
        missing[role] = why
    return Recording(seconds, signals, missing, tuple(notes))


def _open(path: Path) -> tuple[edfio.Edf, list[str]]:
    """Return the file, its data not yet read, and what is unusual about its length."""
    try:
        opened = open_edf(path)
        edf = opened.edf
        if not 0 < edf.data_record_duration < float("inf"):
            raise ValueError(f"its records last {edf.data_record_duration} s")
    except TruncatedHeader as error:
        raise ExcludedRecording(f"{path} ends within its header: {error}", "truncated header") from error
    except UserError as error:  # not a plain file
        raise ExcludedRecording(str(error), "unreadable") from error
    except Exception as error:  # edfio meets damaged headers with whatever Python raises
        raise ExcludedRecording(f"{path} cannot be read as an EDF file: {error}", "unreadable") from error
    notes = []
    if opened.declared != edf.num_data_records:
        notes.append(f"the header claims {opened.declared} records and the file has {edf.num_data_records}")
    if opened.rest:
        notes.append(f"{opened.rest} bytes after the last whole record are left out")
    if edf.reserved.startswith("EDF+D"):
        notes.append("the recording has gaps, which are closed up")
    return edf, notes


def _simple(duration: float) -> Fraction:
    """Return a fraction near a duration that is as simple as drifting by less than half a second a night allows.

    The cost of polyphase resampling grows with numerator and denominator.
    """
    exact = Fraction(duration)
    candidates = (exact.limit_denominator(10**digits) for digits in range(7))
    return next((near for near in candidates if abs(near - exact) <= exact / 100_000), exact)


def _plain(label: str) -> str:
    return "".join(letter for letter in label.upper() if letter.isascii() and letter.isalnum())


def _choose(
    edf: edfio.Edf, role: str, labels: Sequence[str], duration: Fraction, seconds: int
) -> tuple[Signal | None, list[str]]:
    """Return the signal that stands for a role, and what is wrong with those that could not.

    Signals are read until one is usable. Where the liveliest is wanted all are: it has the greatest standard deviation
    for its digital range.
    """
    faults, candidates = [], []
    by_label = [(signal, _plain(signal.label)) for signal in edf.signals]
    for wanted in dict.fromkeys(map(_plain, labels)):
        for signal in (signal for signal, label in by_label if label == wanted):
            try:
                candidates.append((signal, *_scale(signal)))
            except ValueError as error:
                faults.append(f"{signal.label} {error}")
    if role in LIVELIEST and len(candidates) > 1:
        candidates.sort(key=lambda found: -found[0].digital.std() / np.ptp(found[0].digital_range))
    for signal, gain, offset in candidates:
        rate = signal.samples_per_data_record / duration
        digital = signal.digital[: ceil(seconds * rate)]
        if digital.min() == digital.max():
            faults.append(f"{signal.label} is constant")
            continue
        unit = MICROVOLTS.get(signal.physical_dimension.strip().lower(), 1.0) if role not in BREATHING else 1.0
        values = digital.astype(np.float32)
        values *= gain * unit
        values += offset * unit
        return Signal(values, rate, signal.label), faults
    return None, faults


def _scale(signal: edfio.EdfSignal) -> tuple[float, float]:
    """Return gain and offset from digital to physical values; a negative gain is an inverted sensor.

    Raises:
        ValueError: If there are no samples, or no physical range of a sensor; says what the signal "has".
    """
    if not signal.samples_per_data_record:
        raise ValueError("has a sampling rate of 0")
    try:
        physical, digital = signal.physical_range, signal.digital_range
    except ValueError as error:
        raise ValueError(f"has no scale: {error}") from error
    if digital.min == digital.max or not SMALLEST < abs(physical.max - physical.min) < LARGEST:
        raise ValueError(f"has no scale: {digital.min} to {digital.max} stands for {physical.min} to {physical.max}")
    gain = (physical.max - physical.min) / (digital.max - digital.min)
    return gain, physical.min - gain * digital.min


def extract(recording: Recording, settings: FeatureSettings | None = None) -> NDArray[np.float16]:
    """Return the features of a night, one row a second, [seconds, 64 + 22 + 30] with the default settings.

    Columns are the log power of the EEG and of the ECG, then the breathing signals as (sample, channel), channels in
    the order of `BREATHING`: ``x[:, 86:].reshape(-1, 3)`` is their series at 10 Hz. Each spectrogram and each breathing
    channel is centred on its median over the night and divided by its spread (`robust_scale`), which takes away the
    gain of the recorder. A missing signal is zero throughout. All values are finite.
    """
    settings = settings or FeatureSettings()
    columns = feature_columns(settings)
    features = np.zeros((recording.seconds, columns["breathing"].stop), np.float16)
    axis = 0 if settings.per_bin else None
    for role, bins, top, rate in (
        ("eeg", settings.eeg_bins, settings.eeg_top, settings.eeg_rate),
        ("ecg", settings.ecg_bins, settings.ecg_top, settings.ecg_rate),
    ):
        if signal := recording.signals.get(role):
            resampled = resample(signal, recording.seconds, rate)
            power = log_power(resampled, rate, bins=bins, top=top, window=settings.window)
            features[:, columns[role]] = robust_scale(power, clip=settings.clip, axis=axis)
    breathing = np.zeros((recording.seconds, settings.breathing_rate, len(BREATHING)), np.float16)
    for channel, role in enumerate(BREATHING):
        if signal := recording.signals.get(role):
            resampled = resample(signal, recording.seconds, settings.breathing_rate)
            breathing[..., channel] = robust_scale(resampled, clip=settings.clip).reshape(breathing.shape[:2])
    features[:, columns["breathing"]] = breathing.reshape(recording.seconds, -1)
    return features


def resample(signal: Signal, seconds: int, rate: int) -> FloatArray:
    """Return the first `seconds` of a signal at `rate` Hz, by a polyphase filter without delay, [seconds · rate].

    The ends are continued with the median, not zero, lest an offset ring there.

    Raises:
        ValueError: If the signal is shorter.
    """
    ratio = rate / signal.rate
    values = signal.values[: ceil(seconds * signal.rate)]
    if len(values) < seconds * signal.rate:
        raise ValueError(f"{signal.label} is shorter than {seconds} s")
    if ratio == 1:
        return values
    found: FloatArray = scipy_signal.resample_poly(values, ratio.numerator, ratio.denominator, padtype="median")
    return found[: seconds * rate].astype(np.float32, copy=False)


def log_power(values: FloatArray, rate: int, *, bins: int, top: float, window: float) -> FloatArray:
    """Return the logarithm of a signal's power by frequency, one row a second, [seconds, bins], in arbitrary units.

    The window of row s is centred on the middle of second s; the signal is mirrored at its ends. Each window's mean is
    taken off first, as in Welch's method: an offset would leak into the lowest bin.

    Args:
        values: Samples of whole seconds.
        rate: Samples per second.
        bins: Bands of equal width; band j holds the mean power above j·top/bins, up to and with (j+1)·top/bins.
        top: Highest frequency, Hz.
        window: Seconds under the Hann window.
    """
    length, margin = round(window * rate), round((window - 1) * rate / 2)
    padded = np.pad(values, margin, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, length)[::rate]
    used = slice(1, 1 + round(top * window))  # the frequencies are multiples of 1 / window
    taper = scipy_signal.windows.hann(length, sym=False).astype(np.float32)
    power = np.empty((len(windows), bins), np.float32)
    for start in range(0, len(windows), BLOCK):
        block = windows[start : start + BLOCK]
        spectrum = fft.rfft((block - block.mean(axis=1, keepdims=True)) * taper)[:, used]
        squared = spectrum.real**2 + spectrum.imag**2
        power[start : start + BLOCK] = squared.reshape(len(block), bins, -1).mean(axis=2)
    positive = power[power > 0]
    floor = POWER_FLOOR * np.median(positive) if positive.size else 1.0
    return np.log(np.maximum(power, np.float32(floor)))


def robust_scale(values: FloatArray, *, clip: float, axis: int | None = None) -> FloatArray:
    """Centre values on their median and divide by their spread, so that few artefacts do not set the scale.

    The spread is the interquartile range over that of a standard normal variable; where that is zero, the standard
    deviation. Values that are all the same become zero.

    Args:
        values: Any shape.
        clip: Greatest absolute value returned.
        axis: What median and spread are taken over; None: all values.
    """
    low, centre, high = np.percentile(values, (25, 50, 75), axis=axis, keepdims=True)
    spread = (high - low) / IQR_OF_NORMAL
    spread = np.where(spread > 0, spread, values.std(axis=axis, keepdims=True, dtype=np.float64))
    scaled: FloatArray = ((values - centre) / np.where(spread > 0, spread, 1)).astype(np.float32)
    return np.clip(scaled, -clip, clip)
