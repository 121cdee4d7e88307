"""Whether a dataset's files are there is told without reading them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dir_bench.datasets.arrays import Arrays
from dir_bench.datasets.base import Requiring
from dir_bench.datasets.sts_b import FILES, STSB
from dir_bench.datasets.table import Tabular
from dir_bench.datasets.vader import FILES as TEXTS
from dir_bench.datasets.vader import Vader
from dir_bench.errors import UserError


@pytest.mark.parametrize(
    ("make", "files"),
    [(Arrays, ["arrays.npz"]), (Tabular, ["sample.csv"]), (STSB, [*FILES.values()]), (Vader, [*TEXTS])],
)
def test_files_are_looked_for_and_not_read(tmp_path: Path, make: Callable[[str], object], files: list[str]) -> None:
    for name in files:
        dataset = make(str(tmp_path))
        assert isinstance(dataset, Requiring)
        with pytest.raises(UserError, match=name):
            dataset.require()
        (tmp_path / name).write_bytes(b"nothing that can be read")
    dataset.require()
