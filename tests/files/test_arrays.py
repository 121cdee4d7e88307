import io
import os
import pickle
import zipfile
from contextlib import nullcontext, suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dir_bench.errors import UserError
from dir_bench.files.arrays import Expect, map_npy, read_npy, read_npz, refuse_blurred

X = np.arange(12, dtype=np.float32).reshape(4, 3)
PLAIN = {"x": Expect(dims=2, finite=True, float32=True, filled=True)}


def saved(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def header(descr: str, shape: str) -> bytes:
    file = io.BytesIO()
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    file.write(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
    return file.getvalue()


def zipped(path: Path, content: bytes, **options: int) -> Path:
    with zipfile.ZipFile(path, "w", **options) as archive:  # type: ignore[arg-type]
        archive.writestr("x.npy", content)
    return path


def test_arrays_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    given = {"x": X, "f": np.asfortranarray(X), "big": X.astype(">f8"), "i": np.arange(3), "o": np.array([{}])}
    np.savez_compressed(path, **given)  # type: ignore[arg-type]
    numbers = Expect()
    found = read_npz(path, {"x": numbers, "f": numbers, "big": numbers, "i": Expect("whole numbers")})  # not "o"
    for name, array in found.items():
        np.testing.assert_array_equal(array, given[name])
        assert array.dtype.isnative
    assert read_npz(path, {"none": Expect(optional=True)}) == {}
    np.save(tmp_path / "a.npy", X)
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy", Expect(shape=(None, 3))), X)
    np.testing.assert_array_equal(map_npy(tmp_path / "a.npy"), X)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.array([["1.5"]]), "holds text: convert"),
        (np.array([[b"1.5"]]), "holds bytes"),
        (np.array([[1 + 2j]]), "holds complex numbers"),
        (np.array([["2020-01-01"]], "datetime64[D]"), "holds dates"),
        (np.array([[{}]], object), "holds Python objects"),
        (np.zeros((2, 2), [("a", "f4"), ("b", "f4")]), "records"),
        (np.array([[1.0, np.nan]]), r"x\[0, 1\] = nan is not a finite number \(1 such of 2\)"),
        (np.array([[np.inf]]), "not a finite number"),
        (np.array([[1e300]]), "beyond the range of float32"),
        (np.zeros(3), r"2 axes, and its shape is \(3,\)"),
        (np.array(3.0), "2 axes"),
        (np.zeros((0, 3)), "is empty"),
    ],
)
def test_an_array_that_does_not_fit_is_a_sentence(tmp_path: Path, array: np.ndarray, said: str) -> None:
    with pytest.raises(UserError, match=rf"a.npz: x.*{said}|a.npz: {said}"):
        read_npz(saved(tmp_path / "a.npz", x=array), PLAIN)


def test_a_missing_array_names_those_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no array 'x' \(did you mean 'xx'\?\); it holds xx"):
        read_npz(saved(tmp_path / "a.npz", xx=X), PLAIN)


def test_truth_values_are_bools_or_0_and_1(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npz", a=np.array([True]), b=np.array([0, 1]), c=np.array([0, 2]), d=np.array([1.0]))
    expect = Expect("truth values")
    read_npz(path, {"a": expect, "b": expect})
    for name in "cd":
        with pytest.raises(UserError, match=f"{name} must be truth values"):
            read_npz(path, {name: expect})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\x80\x04K\x01.", "a pickle"),
        (pickle.dumps({"x": X}), "a pickle"),
        (b"path,target\na.jpg,1\n", "no .npz"),
        (b"PK\x03\x04", "cut short or damaged"),
        (header("'<f4'", "(4, 3)") + X.tobytes(), "a single array"),
    ],
)
def test_another_file_is_named_for_what_it_is(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"a.npz .*{said}"):
        read_npz(path, PLAIN)


@pytest.mark.parametrize(
    "shape", ["(10**9, 10**6)", "(1000000000, 1000000)", "(-1, 3)", f"({2**70},)", "(4, 4)", "(3, 3)"]
)
def test_a_size_that_a_header_claims_is_not_believed(tmp_path: Path, shape: str) -> None:
    content = header("'<f8'", shape) + X.astype("<f8").tobytes()
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.npy"):
        read_npy(tmp_path / "a.npy", Expect())
    with pytest.raises(UserError, match=r"a\.npy"):
        map_npy(tmp_path / "a.npy")
    with pytest.raises(UserError, match=r"a\.npz"):
        read_npz(zipped(tmp_path / "a.npz", content), PLAIN)


@pytest.mark.parametrize("descr", ["'<f4', 1", "__import__('os').system('touch hit')", "[('a', '<f4')]", "'nonsense'"])
def test_a_header_is_data_and_never_run(tmp_path: Path, descr: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"a\.npz"):
        read_npz(zipped(tmp_path / "a.npz", header(descr, "(4, 3)") + X.tobytes()), PLAIN)
    assert not Path("hit").exists()


def test_a_member_that_claims_more_than_deflate_can_hold_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.npz", header("'<f4'", "(4, 3)") + X.tobytes(), compression=zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    central = content.rindex(b"PK\x01\x02")
    content[central + 24 : central + 28] = (2**31).to_bytes(4, "little")  # the size that it claims to unpack to
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match=r"a\.npz"):
        read_npz(path, PLAIN)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0, 1), flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), max_size=4))
def test_whatever_is_damaged_is_the_same_array_or_a_sentence(
    tmp_path: Path, cut: float, flips: list[tuple[int, int]]
) -> None:
    path = tmp_path / "a.npz"
    content = bytearray(saved(tmp_path / "good.npz", x=X).read_bytes())
    for place, change in flips:
        content[place % len(content)] ^= change
    path.write_bytes(bytes(content[: round(len(content) * cut)]))
    with suppress(UserError):
        np.testing.assert_array_equal(read_npz(path, PLAIN)["x"], X)


def test_only_plain_files_are_opened(tmp_path: Path) -> None:
    (tmp_path / "folder.npz").mkdir()
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "loop.npz").symlink_to("loop.npz")
    (tmp_path / "nothing.npz").symlink_to("elsewhere")
    said = {"folder": "a folder", "pipe": "a pipe", "loop": "leads back to itself", "nothing": "link to nothing"}
    for name, why in {**said, "gone": "is missing"}.items():
        with pytest.raises(UserError, match=f"{name}.npz .*{why}"):
            read_npz(tmp_path / f"{name}.npz", PLAIN)
    with pytest.raises(UserError, match="/dev/zero is a device"):
        read_npy(Path("/dev/zero"), Expect())


@pytest.mark.parametrize(
    ("targets", "fine"),
    [
        (1.7e9 + np.arange(100), False),
        (np.arange(100) + 200_000_000, False),
        (1.7e9 + 1e6 * np.arange(100), True),
        (np.full(100, 0.1), True),  # equal ones are another mistake
        (np.arange(100, dtype=np.float32) + 1e8, True),  # nothing is lost that was there
    ],
)
def test_targets_that_32_bits_would_blur_are_refused(targets: np.ndarray, fine: bool) -> None:
    with nullcontext() if fine else pytest.raises(UserError, match=r"x: targets from .* would move by up to"):
        refuse_blurred(targets, "x")
