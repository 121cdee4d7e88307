"""Time the features of one night and weigh the process that makes them: `python scripts/bench_psg.py`, on the CPU.

The night is made up: eight hours in 7 channels, EEG at 125 Hz twice, ECG, three breathing signals, SaO2. Each run is a
process of its own with one thread, so that its peak memory includes all imports.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import edfio
import numpy as np

HOURS = 8
RATES = {
    "SHHS1": {"EEG": 125, "EEG(sec)": 125, "ECG": 125, "NEW AIR": 10, "ABDO RES": 10, "THOR RES": 10, "SaO2": 1},
    "SHHS2": {"EEG": 125, "EEG(sec)": 125, "ECG": 250, "AIRFLOW": 10, "ABDO RES": 10, "THOR RES": 10, "SaO2": 1},
    "SHHS2 v4": {"EEG": 128, "EEG(sec)": 128, "ECG": 256, "AIRFLOW": 8, "ABDO RES": 8, "THOR RES": 8, "SaO2": 1},
}
CHILD = """
import resource, sys, time
from pathlib import Path
from dir_bench.datasets.sleep.signals import extract, read_recording
start = time.perf_counter()
recording = read_recording(Path(sys.argv[1]))
read = time.perf_counter()
features = extract(recording)
done = time.perf_counter()
kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(read - start, done - read, kib / 1024, *features.shape)
"""


def write_night(path: Path, rates: dict[str, int], hours: float) -> None:
    """Write one EDF file of noise over a slow swing."""
    rng = np.random.default_rng(0)
    seconds = round(hours * 3600)
    signals = []
    for label, rate in rates.items():
        swing = 800 * np.sin(2 * np.pi * 0.25 * np.arange(seconds * rate) / rate)
        digital = (swing + 200 * rng.standard_normal(len(swing))).astype(np.int16)
        signals.append(edfio.EdfSignal.from_digital(digital, rate, label=label, physical_dimension="uV"))
    edfio.Edf(signals, data_record_duration=1).write(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=HOURS, help="length of the night")
    parser.add_argument("--repeats", type=int, default=3, help="best of so many")
    args = parser.parse_args()
    one_thread = os.environ | {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
    print(f"one night of {args.hours:g} h, 7 channels, one thread; best of {args.repeats}")
    print(f"{'layout':<10}{'file MB':>9}{'read s':>9}{'extract s':>11}{'peak MiB':>10}  features")
    with tempfile.TemporaryDirectory() as folder:
        for layout, rates in RATES.items():
            path = Path(folder) / "night.edf"
            write_night(path, rates, args.hours)
            runs = []
            for _ in range(args.repeats):
                command = [sys.executable, "-c", CHILD, str(path)]
                output = subprocess.run(command, env=one_thread, check=True, capture_output=True, text=True).stdout
                runs.append(tuple(map(float, output.split())))
            read, extracted, _, rows, columns = min(runs, key=lambda run: run[0] + run[1])
            peak = max(run[2] for run in runs)
            megabytes = path.stat().st_size / 1e6
            shape = f"{rows:.0f} × {columns:.0f}"
            print(f"{layout:<10}{megabytes:>9.1f}{read:>9.2f}{extracted:>11.2f}{peak:>10.0f}  {shape}")


if __name__ == "__main__":
    main()
