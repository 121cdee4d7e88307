"""VADER-DIR: reading, splitting and standing in for the published files; the real ones where they are at hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dir_bench.datasets.base import Fetchable
from dir_bench.datasets.vader import FILES, Vader
from dir_bench.errors import UserError

REAL = Path(__file__).parents[3] / "shared" / "data" / "vader"


def test_the_stand_in_is_told_apart_and_the_archive_is_known(commands: Callable[..., str], tmp_path: Path) -> None:
    assert "VADER-DIR lacks movieReviewSnippets_GroundTruth.txt and nyt" in commands(["data", "check", "vader"], code=1)
    commands(["data", "sample", "vader", "--size", "30"])
    assert "(stand-in data)" in commands(["data", "check", "vader"])
    dataset = Vader(str(tmp_path / "data/vader"))
    assert isinstance(dataset, Fetchable)
    (remote,) = dataset.remotes
    assert remote.members == tuple(FILES)
    data = dataset.load()
    assert data.train.targets.min() < 0
    assert np.any(data.train.targets % 1)
    assert "is not the published file, but a stand-in" in commands(["data", "fetch", "vader"], code=2)
    assert "is left as it is" in commands(["data", "sample", "vader"], code=2)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("7\t1.5", "line 3: 2 fields, not id, rating and text"),
        ("7\t1.5\ta\tb", "line 3: 4 fields"),
        ("7\t4.5\ta", "line 3: rating '4.5' is not a number from −4 to 4"),
        ("7\tnan\ta", "line 3: rating 'nan' is not a number from −4 to 4"),
        ("7\t1\t ", "line 3: text ' ' is no text"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    for name in FILES:
        (tmp_path / name).write_bytes(f'1\t-0.5\t"Good" as far\r\n2\t3\tfine\r\n{line}'.encode())
    with pytest.raises(UserError, match=f"movie.*{said}"):
        Vader(str(tmp_path)).load()


@pytest.mark.data
@pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/data/vader beside the checkout")
def test_the_published_files_split_as_recorded() -> None:
    dataset = Vader(str(REAL))
    parts = dataset._parts
    assert [len(part.rows) for part in parts.values()] == [12645, 1574, 1576]
    assert dataset.stands_in() == ""
    bins = Vader.split_bins
    assert bins is not None
    train, val, test = (bins.counts(part.targets) for part in parts.values())
    # As many of common as of rare ones, where a third of a bin allows it.
    assert test.max() <= test[train > 200].min() + 3
    assert np.abs(val - test).max() <= 3
    texts = [set(part.table.frame["text"].iloc[part.rows]) for part in parts.values()]
    assert not texts[0] & texts[2]
