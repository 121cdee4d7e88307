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


def test_one_value_and_gaps_in_training_are_no_spread(tmp_path):
    """The deviation of a hundred times 0.1 is 2.8e-17, by which other values were divided."""
    held = table(tmp_path, "a,b\n" + "0.1,1\n" * 100 + ",2\n" * 50 + "0.2,1\n")
    encoding = fit(held, np.arange(150), ["a"], categories=[], most_categories=30)
    assert encoding.encode(held, np.array([0, 120, 150])).tolist() == [[0, 0], [0, 1], pytest.approx([0.1, 0])]


def test_whole_numbers_are_the_same_categories_with_decimals(tmp_path):
    """As programs write them where one of a column is missing."""
    held = table(tmp_path, "a\n1\n20\n1.0\n20.00\n1.5\n+1.0x\n")
    encoding = fit(held, np.arange(2), ["a"], categories=["a"], most_categories=30)
    assert encoding.encode(held, np.arange(6)).tolist() == [[1, 0], [0, 1], [1, 0], [0, 1], [0, 0], [0, 0]]


def test_a_value_too_far_from_training_is_named(tmp_path):
    held = table(tmp_path, "a\n1e-30\n3e-30\n1e30\n")
    encoding = fit(held, np.arange(2), ["a"], categories=[], most_categories=30)
    assert encoding.encode(held, np.arange(2)).tolist() == [[-1], [1]]
    with pytest.raises(UserError, match=r"line 4: a '1e30' is too far from the training values \(about 2e-30\)"):
        encoding.encode(held, np.arange(3))


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
