"""Time what a sweep of many jobs does before its first run: expand, compose, check, compare with the disk.

    python scripts/bench_sweep.py --jobs 200

Prints the wall and processor seconds of `dir-bench sweep … --dry-run`, a fresh interpreter each time, for few and for
all method presets: each set of group choices is composed once, so their number counts more than the jobs'.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time

from dir_bench import config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    every = config.options("method")
    print(f"{'jobs':>5} {'methods':>8} {'wall s':>8} {'cpu s':>8}   (best of {asked.repeats})")
    with tempfile.TemporaryDirectory() as folder:
        for methods in (every[:4], every[:10], every):
            seeds = -(-asked.jobs // len(methods))
            line = [sys.executable, "-m", "dir_bench.cli", "sweep", f"method={','.join(methods)}"]
            line += [f"seed=range({seeds})", "--dry-run"]
            walls, spent = [], []
            for _ in range(asked.repeats):
                before = resource.getrusage(resource.RUSAGE_CHILDREN)
                began = time.perf_counter()
                subprocess.run(line, cwd=folder, env=os.environ, check=True, stdout=subprocess.DEVNULL)
                walls.append(time.perf_counter() - began)
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
            print(f"{seeds * len(methods):>5} {len(methods):>8} {min(walls):>8.1f} {min(spent):>8.1f}")


if __name__ == "__main__":
    main()
