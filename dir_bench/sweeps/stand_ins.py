"""Stand-ins for datasets that a sweep names and this machine lacks, so that it runs anywhere with nothing to fetch."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from dir_bench import config as configs
from dir_bench.errors import UserError
from dir_bench.schema import Config


def write(sizes: Mapping[str, int], jobs: Sequence[Sequence[str]], extra_dir: str | None = None) -> None:
    """Write the stand-ins that are missing, each where the dataset's first job looks for its files.

    Args:
        sizes: The dataset's name → the number of its samples.
        jobs: Overrides of the sweep's jobs; what none of them needs is not written.
        extra_dir: A folder of configs of one's own.

    Raises:
        UserError: A config is wrong, or what is there is no such dataset.
    """
    for name, size in sizes.items():
        job = next((job for job in jobs if f"dataset={name}" in job), None)
        if job is not None:
            _provide(configs.compose(job, extra_dir), size)


def _provide(config: Config, size: int) -> None:
    from dir_bench.datasets.base import Dataset, Preparable

    dataset: Dataset = configs.build(config.dataset.source)
    folder = Path(str(config.dataset.source["data_dir"]))
    if not folder.exists():
        print(f"writing a stand-in for {config.dataset.title} to {folder}", file=sys.stderr, flush=True)
        part = folder.with_name(f".{folder.name}.part")  # what a killed sweep leaves is taken for no dataset
        shutil.rmtree(part, ignore_errors=True)
        dataset.sample(part, n=size)
        part.rename(folder)
    try:
        dataset.fingerprint()
    except UserError:
        if not isinstance(dataset, Preparable):
            raise
        dataset.prepare()
