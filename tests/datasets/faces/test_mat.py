from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import loadmat, savemat

from dir_bench.datasets.faces.mat import read_structure
from dir_bench.errors import UserError


def cells(*texts: object) -> np.ndarray:
    row = np.empty((1, len(texts)), object)
    row[0, :] = [np.array([text]) for text in texts]
    return row


FIELDS = {
    "f8": np.array([[1.5, np.nan, -np.inf]]),
    "i4": np.array([[1, -70000, 3]], np.int32),
    "u2": np.array([[1, 2, 65535]], np.uint16),
    "small": np.array([[1.0, 2.0, 3.0]]),  # stored as whole numbers of a byte
    "texts": cells("a.jpg", "é/ü.jpg", "☃"),
    "other": cells(np.array([1.0, 2.0]), "x", "y"),
}


@pytest.mark.parametrize("compressed", [False, True])
def test_fields_are_as_scipy_reads_them(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "a.mat"
    savemat(path, {"other": np.eye(3), "s": FIELDS}, do_compression=compressed)  # type: ignore[arg-type]
    found = read_structure(path, "s", FIELDS)
    assert found is not None
    theirs = loadmat(path)["s"]
    for name in ("f8", "i4", "u2", "small"):
        expected = theirs[name].item().ravel()
        np.testing.assert_array_equal(found[name], expected)
        assert found[name].dtype == expected.dtype  # type: ignore[union-attr]
    assert found["texts"] == [cell.item() for cell in theirs["texts"].item().ravel()]
    assert found["other"] == [None, "x", "y"]
    assert read_structure(path, "t", FIELDS) is None


@pytest.mark.parametrize("compressed", [False, True])
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cut=st.just(1.0) | st.floats(0, 1),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6),
)
def test_a_damaged_file_is_read_or_a_sentence(
    tmp_path: Path, compressed: bool, cut: float, changes: list[tuple[int, int]]
) -> None:
    path = tmp_path / "a.mat"
    if not path.exists():
        savemat(path, {"s": FIELDS}, do_compression=compressed)  # type: ignore[arg-type]
    content = bytearray(path.read_bytes())
    for place, value in changes:
        content[place % len(content)] = value
    damaged = tmp_path / "b.mat"
    damaged.write_bytes(bytes(content[: round(len(content) * cut)]))
    with suppress(UserError):
        read_structure(damaged, "s", FIELDS)
