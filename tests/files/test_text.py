import csv
import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dir_bench.errors import UserError
from dir_bench.files.text import read_csv, read_text


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        b"path,target\na.jpg,1\nb.jpg,2\n",
        b"\xef\xbb\xbfpath,target\na.jpg,1\nb.jpg,2",  # a byte order mark
        b"path,target,\na.jpg,1,\nb.jpg,2,\n",  # trailing commas
        b"path,target\na.jpg,1,,\nb.jpg,2,\n",
        b"path,target\r\na.jpg,1\r\n\r\nb.jpg,2\r\n",
        b"path,target\ra.jpg,1\rb.jpg,2\r",
        b'"path","target"\n"a.jpg","1"\nb.jpg,2\n',
        b" path , target\na.jpg,1\nb.jpg,2\n",
    ],
)
def test_the_usual_spellings_are_read(tmp_path: Path, content: bytes) -> None:
    table = read_csv(written(tmp_path / "a.csv", content)).frame(["path", "target"])
    assert table.to_numpy().tolist() == [["a.jpg", "1"], ["b.jpg", "2"]]


def test_bytes_of_file_names_are_kept_and_lines_are_told(tmp_path: Path) -> None:
    table = read_csv(written(tmp_path / "a.csv", b"path,x\n\n\xe9.jpg,1\n")).frame(["path"])
    assert os.fsencode(table["path"].iloc[0]) == b"\xe9.jpg"
    assert table.index.tolist() == [3]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n\n", "no header"),
        (b",,\n", "no header"),
        ("path,target\na,1\n".encode("utf-16"), "UTF-16"),
        ("path,target\na,1\n".encode("utf-32"), "UTF-16"),
        ("path,target\na,1\n".encode("utf-16-le"), "line 1: a NUL byte"),
        (b"path,target\na,1\nb\0,2\n", "line 3: a NUL byte"),
        (b"path,target\na,1\nb\n", "line 3: 1 fields, and the header has 2"),
        (b"path,target\na,1,7\n", "line 2: 3 fields, and the header has 2"),
        (b"path,goal\na,1\n", "no column 'target'"),
        (b"path;target\na;1\n", "separate columns by commas, not by ';'"),
        (b"path;target\na;1,5\n", "separate columns by commas, not by ';'"),
        (b"path,target,path\na,1,b\n", "2 columns 'path'"),
        (b'path,target\n"a,1\n', "not csv"),
    ],
)
def test_what_is_no_such_csv_is_a_sentence(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(UserError, match=rf"a\.csv.*{said}"):
        read_csv(written(tmp_path / "a.csv", content)).frame(["path", "target"])


def test_a_field_may_be_of_any_length(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    held = read_csv(written(tmp_path / "a.csv", b"path,target\n" + b"a" * 200_000 + b",1\n"))
    assert [len(field) for field in held.rows[0]] == [200_000, 1]
    assert csv.field_size_limit() == before


def test_text_that_is_not_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.tsv, line 2: not UTF-8"):
        read_text(written(tmp_path / "a.tsv", b"a\nb\xff\n"))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_a_sentence(tmp_path: Path, content: bytes) -> None:
    with suppress(UserError):
        read_csv(written(tmp_path / "a.csv", b"path,target\na,1\n" + content)).frame(["path"])


def test_text_is_kept_by_pandas_itself_whatever_else_is_installed(tmp_path: Path) -> None:
    """Arrow's strings, which pandas takes by itself where pyarrow is installed, refuse names that are no UTF-8."""
    frame = read_csv(written(tmp_path / "a.csv", b"p\xe4th,target\n\xff,1\n")).frame(["p\udce4th", "target"])
    assert {dtype.storage for dtype in (*frame.dtypes, frame.columns.dtype)} == {"python"}
    assert frame.groupby("p\udce4th")["target"].count().tolist() == [1]
