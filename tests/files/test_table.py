from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dir_bench.datasets.table import Tabular
from dir_bench.datasets.tables.columns import columns_of
from dir_bench.errors import UserError
from dir_bench.files.table import read_table


def test_columns_by_name_numbers_and_gaps(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text("a\tb\n1\tx\nNA\t\n1e300\ty\n")
    table = read_table(path)
    assert table.missing("a").tolist() == [False, True, False]
    assert table.missing("b").tolist() == [False, True, False]
    assert np.isnan(table.numbers("a")).tolist() == [False, True, True]  # beyond float32
    assert table.targets("a", np.array([0])).tolist() == [1]
    with pytest.raises(UserError, match=r"x\.tsv, line 3: a 'NA' is not a number, so it is no target \(and 1 more\)"):
        table.targets("a", np.arange(3))
    with pytest.raises(UserError, match=r"x\.tsv, line 4: a '1e300' is beyond 32-bit floats.*, so it is no target"):
        table.targets("a", np.array([2]))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.csv", "a;b\n1;2\n", "has one column, 'a;b': separate columns by commas, not by ';'"),
        ("x.csv", "a;b\n1,5;2\n", "has one column, 'a;b': separate columns by commas, not by ';', decimals by a point"),
        ("x.tsv", "a,b\n1,2\n", "separate columns by tabs, not by ','"),
        ("x.csv", "a,a\n1,2\n", "has 2 columns 'a': rename all but one"),
        ("x.csv", "a,,b\n1,2,3\n", "column 2 has no name"),
        ("x.csv", "a,b\n", "has no row, only a header"),
        ("x.csv", "a,b\n1\n", "line 2: 1 fields, and the header has 2"),
        ("x.xlsx", "PK", "the name of a table ends in .csv, .tsv, .parquet"),
    ],
)
def test_what_is_no_table_is_said(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=said):
        read_table(tmp_path / name)


def test_parquet_takes_pyarrow(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1")
    try:
        import pyarrow  # type: ignore[import-not-found]  # noqa: F401
    except ImportError:
        with pytest.raises(UserError, match="reading parquet takes pyarrow"):
            read_table(path)
        return
    with pytest.raises(UserError, match="cannot be read as parquet"):
        read_table(path)
    pd.DataFrame({"a": [1.5, None], "b": ["x", "y"]}).to_parquet(path)
    assert read_table(path).missing("a").tolist() == [False, True]


@pytest.mark.parametrize(("value", "held"), [([1, 2], "lists"), ({"k": 1}, "structs"), (b"\xff", "bytes")])
def test_columns_of_other_things_are_refused_where_they_are_used(tmp_path: Path, value: object, held: str) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "x.parquet"
    pd.DataFrame({"v": [None, *[value] * 99], "a": np.arange(100), "y": np.arange(100) % 5}).to_parquet(path)
    said = rf"x\.parquet: v holds {held}.*: set dataset\.source\.ignore=\[v\]"
    with pytest.raises(UserError, match=said):
        Tabular(".", str(path), target="y").load()
    assert len(Tabular(".", str(path), target="y", ignore=["v"]).load().train)
    found = columns_of(read_table(path), [], "y")
    assert (found.names, found.inputs) == (("v",), ("a",))


def test_half_floats_are_read_and_names_that_come_twice_are_told(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    path = tmp_path / "x.parquet"
    pd.DataFrame({"v": np.arange(100, dtype=np.float16), "y": np.arange(100) % 5}).to_parquet(path)
    assert len(Tabular(".", str(path), target="y").load().train)
    write_table(pa.table([pa.array([1.0])] * 3, names=["a", "a", "y"]), path)
    with pytest.raises(UserError, match="has 2 columns 'a': rename all but one"):
        read_table(path)


def test_dates_that_are_missing_are_so_and_dates_are_no_targets(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    days = pd.Series(["2020-01-01", None, "2020-01-03"])
    frame = pd.DataFrame({"y": [1.0, 2.0, 3.0], "day": pd.to_datetime(days)})
    frame["took"] = frame["day"] - frame["day"][0]
    frame.to_parquet(tmp_path / "x.parquet")
    table = read_table(tmp_path / "x.parquet")
    for name in ("day", "took"):
        assert table.missing(name).tolist() == np.isnan(table.numbers(name)).tolist() == [False, True, False]
        with pytest.raises(UserError, match=rf"x\.parquet: {name} holds dates or durations, so it is no target"):
            table.targets(name, np.array([0]))
        with pytest.raises(UserError, match="so it is no target"):
            columns_of(table, [], name)
    assert columns_of(table, [], None).target == "y"
