"""Columns as numbers: what is learned of the training rows, by hand, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from dir_bench.datasets.tables.encoding import fit
from dir_bench.errors import UserError
from dir_bench.files.table import Table, read_table


def table(tmp_path: Path, text: str) -> Table:
    path = tmp_path / "x.csv"
    path.write_text(text)
    return read_table(path)


def test_numbers_are_standardised_and_categories_one_hot_by_the_training_rows(tmp_path):
    held = table(tmp_path, "a,b,c\n1,red,7\n3,blue,7\n5,green,8\n,red,7\n")
    encoding = fit(held, np.arange(2), ["a", "b", "c"], categories=[], most_categories=30)
    assert encoding.constant == ("c",)
    # a: mean 2, deviation 1; a value that is missing is the mean. b: blue, red; green is unknown.
    expected = [[-1, 0, 1], [1, 1, 0], [3, 0, 0], [0, 0, 1]]
    assert encoding.encode(held, np.arange(4)).tolist() == expected
    assert "b (2 categories)" in str(encoding)


def test_a_gap_in_training_has_an_input_of_its_own(tmp_path):
    held = table(tmp_path, "a,b\n1,x\nNA,\n3,y\n?,x\n")
    encoding = fit(held, np.arange(3), ["a", "b"], categories=[], most_categories=30)
    assert encoding.encode(held, np.arange(4)).tolist() == [
        [-1, 0, 0, 1, 0],
        [0, 1, 1, 0, 0],
        [1, 0, 0, 0, 1],
        [0, 1, 0, 1, 0],
    ]


def test_rare_categories_and_numbers_that_are_categories(tmp_path):
    held = table(tmp_path, "zip\n" + "10\n" * 5 + "20\n" * 4 + "30\n")
    encoding = fit(held, np.arange(10), ["zip"], categories=["zip"], most_categories=2)
    assert encoding.width == 2
    assert encoding.encode(held, np.array([0, 5, 9])).tolist() == [[1, 0], [0, 1], [0, 0]]
    assert "2 categories and 1 rarer ones" in str(encoding)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\n" + "1\n2\n" * 10 + "1;5\n", r"line 22: a '1;5' is not a number, and the column is one of numbers: mend"),
        ("a\n" + "".join(f"name {i}\n" for i in range(60)), r"a holds 60 different texts in 60 .*id_column=a"),
        ("a,b\n,1\n,2\n", r"a has no value in training: set dataset.source.ignore=\[a\]"),
        ("a\n1\n1\n", r"no column that differs"),
    ],
)
def test_columns_that_are_no_inputs_are_named(tmp_path, text, said):
    held = table(tmp_path, text)
    names = list(held.frame.columns)
    with pytest.raises(UserError, match=said):
        fit(held, np.arange(len(held)), names, categories=[], most_categories=30).encode(held, np.arange(len(held)))
