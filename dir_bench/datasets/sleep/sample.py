"""Made-up nights in the layout of the Sleep Heart Health Study: EDF recordings and tables, for tests and first trials.

Each subject has a health score that shows in the recording and nowhere in its header: the healthier, the more slow
waves and spindles and the less alpha in the EEG, the slower and more variable the heart, the slower and steadier the
breath, the fewer the pauses in it. None of that is medicine; it only gives a network something to find.

Channels and rates are those of nsrr/shhs-documentation (pages 10 and 11: SHHS1, SHHS2v3, SHHS2v4). Labels and their
order are as public programs find them in real files, with units in shhs1-200001, without in visit 2 (PyHealth's tests).
Not verified: units of visit 2, and all ranges and steps (8 bits). Belts have their minimum above their maximum; real
files do at times (NSRR's block-edf-loader is tested on one).
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from datetime import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from dir_bench.atomic import write_bytes
from dir_bench.datasets.base import IntArray
from dir_bench.datasets.placing import placed_whole
from dir_bench.datasets.sleep.tables import Visit, recordings_folder
from dir_bench.errors import UserError
from dir_bench.lazy import Lazy

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = Lazy("pandas")

FIRST_SUBJECT = 990_001
"""Stand-ins are numbered from here; NSRR's subjects are 200001 to about 206000."""
VERSION = "0.21.0"
FEWEST = 16
LEAST_SECONDS = 60
"""Length of a stand-in's recording from which on it is taken."""
BYTE, WORD = (-128, 127), (-32768, 32767)

HEART_WAVES = np.array(
    [(0.2, 0.025, 0.12), (0.365, 0.008, -0.12), (0.39, 0.010, 1.0), (0.415, 0.008, -0.2), (0.65, 0.05, 0.25)]
)
"""P, Q, R, S and T as bells: when and how wide, in parts of a beat, and how high, R being 1."""

FloatArray = npt.NDArray[np.float64]


class Channel(NamedTuple):
    """A channel of a recording; `source` is the signal of `_signals` that it shows."""

    label: str
    rate: int
    unit: str
    lowest: float
    highest: float
    source: str
    digital: tuple[int, int] = BYTE


_SHHS1 = (
    Channel("SaO2", 1, "", 0, 100, "saturation", WORD),
    Channel("H.R.", 1, "", 0, 250, "pulse", WORD),
    Channel("EEG(sec)", 125, "uV", -125, 125, "eeg2"),
    Channel("ECG", 125, "mV", -1.25, 1.25, "ecg"),
    Channel("EMG", 125, "uV", -31.5, 31.5, "emg"),
    Channel("EOG(L)", 50, "uV", -125, 125, "eye_left"),
    Channel("EOG(R)", 50, "uV", -125, 125, "eye_right"),
    Channel("EEG", 125, "uV", -125, 125, "eeg"),
    Channel("THOR RES", 10, "", 1, -1, "thorax"),
    Channel("ABDO RES", 10, "", 1, -1, "abdomen"),
    Channel("POSITION", 1, "", 0, 3, "position"),
    Channel("LIGHT", 1, "", 0, 1, "light"),
    Channel("NEW AIR", 10, "uV", -1, 1, "airflow"),
    Channel("OX stat", 1, "", 0, 3, "status"),
)
_SHHS2 = (
    _SHHS1[0],
    Channel("PR", 1, "", 0, 250, "pulse", WORD),
    _SHHS1[2],
    Channel("ECG", 250, "mV", -1.25, 1.25, "ecg"),
    *_SHHS1[4:8],
    Channel("AIRFLOW", 10, "", -1, 1, "airflow"),
    *_SHHS1[8:12],
    Channel("OX STAT", 1, "", 0, 3, "status"),
)
_OTHER_LABELS = {"EEG(sec)": "EEG2", "NEW AIR": "AIRFLOW"}
_OTHER_RATES = {125: 128, 250: 256, 50: 64, 10: 8}
LAYOUTS: dict[Visit, tuple[tuple[Channel, ...], tuple[Channel, ...]]] = {
    "shhs1": (_SHHS1, tuple(c._replace(label=_OTHER_LABELS.get(c.label, c.label)) for c in _SHHS1)),
    "shhs2": (_SHHS2, tuple(c._replace(rate=_OTHER_RATES.get(c.rate, c.rate)) for c in _SHHS2)),
}
"""The usual channels of each visit, and those of every third stand-in: other labels (SHHS1), other rates (SHHS2v4)."""


def is_made_up(subjects: Iterable[int]) -> bool:
    """Tell whether any of these subjects (`nsrrid`) is a stand-in."""
    return any(int(subject) >= FIRST_SUBJECT for subject in subjects)


def are_all_made_up(subjects: Iterable[int]) -> bool:
    """Tell whether all of these subjects are stand-ins, so that none of the nights is a whole one."""
    return all(int(subject) >= FIRST_SUBJECT for subject in subjects)


def write_sample(
    folder: Path,
    n: int = 36,
    seed: int = 0,
    minutes: tuple[float, float] = (6, 14),
    visits: Sequence[Visit] = ("shhs1", "shhs2"),
) -> Path:
    """Write recordings of `n` subjects in each visit, and the tables; the same arguments give the same bytes.

    As in real life, not all is well: in each visit the last subject has no score, the recording of the one before
    breaks off in the middle, that of the one before has no airflow; the first one's row is there twice, and one row
    more has no recording.

    Args:
        folder: The dataset's folder, with the layout that `sleep.tables` describes.
        n: Subjects in each visit, 16 or more.
        seed: Of all that is random.
        minutes: Shortest and longest length of a recording; a minute is about 80 kB.
        visits: Those to write.

    Returns:
        `folder`.

    Raises:
        UserError: If one of the tables or folders to write is there, or there are too few subjects.
    """
    if n < FEWEST:
        raise UserError(f"{n} recordings are too few for three splits: ask for {FEWEST} or more (--size)")
    tables = {visit: f"datasets/{visit}-dataset-{VERSION}.csv" for visit in visits}
    harmonized = f"datasets/shhs-harmonized-dataset-{VERSION}.csv"
    recordings = [str(recordings_folder(Path(), visit)) for visit in visits]
    with placed_whole(folder, *tables.values(), harmonized, *recordings) as made:
        rng = np.random.default_rng([seed, 0])
        people = _made_up_people(n + 1, rng)
        for visit in visits:
            scores = _made_up_scores(n + 1, int(visit[-1]), seed)
            for i in range(n):
                night = np.random.default_rng([seed, int(visit[-1]), i])
                channels = [c for c in LAYOUTS[visit][i % 3 == 2] if not (i == n - 3 and c.source == "airflow")]
                content = _recording(scores[i], round(60 * night.uniform(*minutes)), channels, night)
                if i == n - 2:
                    content = content[: len(content) * 3 // 5 | 1]  # an odd number: inside a value
                write_bytes(recordings_folder(made, visit) / f"{visit}-{people['nsrrid'][i]}.edf", content)
        for visit, path in tables.items():
            write_bytes(made / path, _table(people, _made_up_scores(n + 1, int(visit[-1]), seed), visit).encode())
        rows = pd.concat([people.assign(visitnumber=int(visit[-1])) for visit in visits])
        rows["nsrr_sex"] = rows["gender"].map({1: "male", 2: "female"})
        columns = ["nsrrid", "visitnumber", "age", "nsrr_sex"]
        write_bytes(made / harmonized, rows[columns].rename(columns={"age": "nsrr_age"}).to_csv(index=False).encode())
    return folder


def _made_up_people(n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Return columns nsrrid, pptid, age (years), gender (1 male, 2 female) and bmi, none of which tells the score."""
    return pd.DataFrame(
        {
            "nsrrid": FIRST_SUBJECT + np.arange(n),
            "pptid": 1 + rng.permutation(n),
            "age": rng.integers(40, 91, n),
            "gender": rng.integers(1, 3, n),
            "bmi": rng.normal(28, 4, n).round(2),
        }
    )


def _made_up_scores(n: int, visit: int, seed: int) -> IntArray:
    """Return scores from 0 to 100 in steps of 5 (of 10 where `n` is below 32), few of them low, most around 75.

    Those of visit 2 are the same ones, dealt anew so that whoever was well mostly still is.
    """
    rng = np.random.default_rng([seed, 1])
    steps = np.arange(0, 101, 5 if n >= 32 else 10)
    likely = (steps / 100 + 0.02) ** 3 * (1.02 - steps / 100) ** 0.8
    shares = (np.arange(n) + rng.random()) / n  # evenly spaced, so that the likeliest scores surely come several times
    scores = rng.permutation(steps[np.searchsorted(likely.cumsum() / likely.sum(), shares)])
    if visit == 1:
        return scores
    dealt = np.empty_like(scores)
    dealt[np.argsort(scores + rng.normal(0, 8, n))] = np.sort(scores)
    return dealt


def _table(people: pd.DataFrame, scores: IntArray, visit: Visit) -> str:
    """Return the csv of a visit: `people` with their scores but the last but one's, and the first one twice."""
    s = f"_s{visit[-1]}"
    rows = people.rename(columns={"age": f"age{s}", "bmi": f"bmi{s}"})
    rows.insert(2, "visitnumber", int(visit[-1]))
    known = pd.Series(scores, dtype=np.float64).where(np.arange(len(scores)) != len(scores) - 2)
    rows[f"rawgh{s}"], rows[f"gh{s}"] = 5 + known / 5, known
    return pd.concat([rows.iloc[[0]], rows]).to_csv(index=False)


def _recording(score: float, seconds: int, channels: Sequence[Channel], rng: np.random.Generator) -> bytes:
    """Return an EDF file of this length that shows these channels of a night of somebody with this score."""
    from edfio import Edf, EdfSignal

    night = _Night(score / 100, seconds, rng)
    signals = []
    for channel in channels:
        values = night.signal(channel.source, channel.rate)
        low, high = channel.digital
        steps = (values - channel.lowest) / (channel.highest - channel.lowest) * (high - low) + low
        signals.append(
            EdfSignal.from_digital(
                np.rint(steps).clip(low, high).astype(np.int16),
                channel.rate,
                label=channel.label,
                physical_dimension=channel.unit,
                physical_range=(channel.lowest, channel.highest),
                digital_range=channel.digital,
            )
        )
    start = time(21 + int(rng.integers(3)), int(rng.integers(60)), int(rng.integers(60)))
    file = io.BytesIO()
    # Patient and recording stay "X X X X", the date 01.01.85, as edfio and NSRR write where nothing may be told.
    Edf(signals, data_record_duration=1, starttime=start).write(file)
    return file.getvalue()


class _Night:
    """A body asleep for some seconds; what the organs share is drawn at once, each signal when it is asked for.

    `health` is 0 to 1. Rhythms are kept as cycles completed by each quarter of a second: any rate can show them.
    """

    def __init__(self, health: float, seconds: int, rng: np.random.Generator) -> None:
        self.rng, self.health, self.seconds = rng, health, seconds
        self.quarters = np.arange(4 * seconds + 1) / 4
        illness = 1 - health
        self.pause = self._pauses(rng.poisson(90 * illness * rng.uniform(0.8, 1.2) * seconds / 3600))
        # Arousal: a body that wakes a little, five seconds after each pause began to fade.
        self.arousal = np.convolve(self.pause, np.ones(12) / 12, "same") * (1 - self.pause)
        breaths = (20 - 7 * health + rng.normal(0, 0.5)) / 60
        self.breaths = self._cycles(breaths * (1 + (0.04 + 0.16 * illness) * self._slow(6)))
        breathing_in = np.sin(2 * np.pi * self.breaths)
        self.beats_per_minute = (
            (84 - 26 * health + rng.normal(0, 1.5))
            + (1 + 5 * health) * breathing_in
            + (1 + 2 * health) * self._slow(20)
            + 12 * self.arousal
        )
        self.beats = self._cycles(self.beats_per_minute / 60)
        self.depth = np.exp(0.25 * self._slow(60))
        self.gain: list[float] = np.exp(rng.normal(0, 0.15, 3)).tolist()  # of the amplifiers: EEG, ECG, breath
        self.brain: dict[int, FloatArray] = {}

    def signal(self, source: str, rate: int) -> FloatArray:
        """Return a signal in the unit of its channel, `rate` values a second."""
        values: FloatArray = getattr(self, f"_{source}")(rate)
        return values

    def _times(self, rate: int) -> FloatArray:
        return np.arange(self.seconds * rate) / rate

    def _at(self, rate: int, quarters: FloatArray) -> FloatArray:
        return np.interp(self._times(rate), self.quarters, quarters)

    def _noise(self, rate: int) -> FloatArray:
        return self.rng.standard_normal(self.seconds * rate)

    def _slow(self, every: float) -> FloatArray:
        """Return standard normal values that change over so many seconds, at each quarter."""
        knots = np.arange(0, self.seconds + 2 * every, every)
        return np.interp(self.quarters, knots, self.rng.standard_normal(len(knots)))

    def _cycles(self, per_second: FloatArray) -> FloatArray:
        return (per_second.cumsum() - float(per_second[0])) / 4

    def _pauses(self, number: int) -> FloatArray:
        """Return 1 where the breath stands still, else 0, with soft edges; pauses of 10 to 25 seconds."""
        starts = self.rng.uniform(0, self.seconds, number)
        ends = starts + self.rng.uniform(10, 25, number)
        change = np.zeros(len(self.quarters) + 1)
        np.add.at(change, (4 * starts).astype(int), 1)
        np.add.at(change, np.minimum(4 * ends, len(self.quarters)).astype(int), -1)
        return np.convolve(change.cumsum()[:-1] > 0, np.ones(8) / 8, "same")

    def _band(self, rate: int, centre: float, width: float) -> FloatArray:
        """Return noise of standard deviation 1 around a frequency; both in Hz."""
        spectrum = np.fft.rfft(self._noise(rate))
        spectrum *= np.exp(-(((np.fft.rfftfreq(self.seconds * rate, 1 / rate) - centre) / width) ** 2) / 2)
        band = np.fft.irfft(spectrum, self.seconds * rate)
        return band / float(band.std())

    def _cortex(self, rate: int) -> FloatArray:
        """What both EEG channels see, in uV."""
        if rate not in self.brain:
            well = self.health - 0.5
            depth, arousal = self._at(rate, self.depth), self._at(rate, self.arousal)
            spindles = (self._at(rate, self._slow(2)) > 1.5 - self.health) * self._band(rate, 13.5, 0.6)
            self.brain[rate] = (
                16 * np.exp(1.0 * well) * depth * self._band(rate, 1.2, 0.7)
                + 6 * self._band(rate, 5.5, 1.0)
                + 7 * np.exp(-1.2 * well) * (1 + 3 * arousal) * self._band(rate, 9.5, 1.0)
                + 9 * spindles
                + 4 * arousal * self._noise(rate)
            )
        return self.brain[rate]

    def _eeg(self, rate: int) -> FloatArray:
        return self.gain[0] * (self._cortex(rate) + 3 * self._noise(rate))

    _eeg2 = _eeg

    def _ecg(self, rate: int) -> FloatArray:
        cycle = np.linspace(0, 1, 1001)
        at, width, height = HEART_WAVES.T[:, :, None]
        beat = (height * np.exp(-(((cycle - at) / width) ** 2) / 2)).sum(axis=0)
        baseline = 0.05 * np.sin(2 * np.pi * self._at(rate, self.breaths))
        shown: FloatArray = np.interp(self._at(rate, self.beats) % 1, cycle, beat)
        return 0.8 * self.gain[1] * (shown + baseline) + 0.02 * self._noise(rate)

    def _breath(self, rate: int, effort: float, lag: float) -> FloatArray:
        """Return a breath that pauses leave at this part of its effort, and shift by this part of a cycle."""
        pause = self._at(rate, self.pause)
        breath = np.sin(2 * np.pi * (self._at(rate, self.breaths) - lag * pause))
        return 0.5 * self.gain[2] * (1 - (1 - effort) * pause) * breath + 0.02 * self._noise(rate)

    def _airflow(self, rate: int) -> FloatArray:
        return self._breath(rate, 0.05, 0.0)

    def _thorax(self, rate: int) -> FloatArray:
        return self._breath(rate, 0.5, 0.0)

    def _abdomen(self, rate: int) -> FloatArray:
        return self._breath(rate, 0.6, 0.4)

    def _saturation(self, rate: int) -> FloatArray:
        late = np.convolve(self.pause, np.ones(80) / 80)[: len(self.quarters)]
        return 97 - 8 * self._at(rate, late) + 0.3 * self._noise(rate)

    def _pulse(self, rate: int) -> FloatArray:
        return self._at(rate, self.beats_per_minute)

    def _emg(self, rate: int) -> FloatArray:
        return 3 * (1 + self._at(rate, self.arousal)) * self._noise(rate)

    def _eye_left(self, rate: int) -> FloatArray:
        return 20 * self._at(rate, self._slow(1.5)) + 3 * self._noise(rate)

    def _eye_right(self, rate: int) -> FloatArray:
        return -self._eye_left(rate)

    def _position(self, rate: int) -> FloatArray:
        return np.floor(1.5 + 0.6 * self._at(rate, self._slow(200))).clip(0, 3)

    def _light(self, rate: int) -> FloatArray:
        return (self._times(rate) < 20).astype(np.float64)

    def _status(self, rate: int) -> FloatArray:
        return np.zeros(self.seconds * rate)
