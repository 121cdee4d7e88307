"""A file is written whole or not at all, and JSON is JSON."""

import errno
import json
import math
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dir_bench import atomic
from dir_bench.errors import DiskFull


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_half(target: Path, error: BaseException) -> None:
    """Start to write `target`, and fail."""
    with atomic.replace_with(target) as temporary:
        temporary.write_text("half of it")
        raise error


def test_file_is_replaced_and_no_temporary_stays(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "note.txt"
    atomic.write_text(target, "one\n")
    atomic.write_text(target, "zwei – ü\n")
    assert target.read_bytes() == "zwei – ü\n".encode()
    assert files(target.parent) == ["note.txt"]


def test_temporary_lies_beside_the_target_and_keeps_its_suffix(tmp_path: Path) -> None:
    with atomic.replace_with(tmp_path / "last.pt") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".pt"
        temporary.write_bytes(b"x")
        assert not (tmp_path / "last.pt").exists()
    assert files(tmp_path) == ["last.pt"]


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt(), OSError(errno.EIO, "broken disk")])
def test_old_file_stays_when_writing_fails(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "a.json"
    atomic.write_text(target, "old")
    with pytest.raises(type(error)):
        write_half(target, error)
    assert target.read_text() == "old"
    assert files(tmp_path) == ["a.json"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, "The disk is full: .*free some space"),
        (errno.EDQUOT, "Your part of the disk is full: .*free some space"),
        (errno.EFBIG, "No file may be so large here: .*raise the limit"),
    ],
)
def test_full_disk_is_one_sentence_naming_the_file(tmp_path: Path, code: int, said: str) -> None:
    target = tmp_path / "last.pt"
    target.write_text("old")
    with pytest.raises(DiskFull, match=said) as caught:
        write_half(target, OSError(code, os.strerror(code)))
    assert str(target) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1  # nothing that was asked for is a mistake
    assert target.read_text() == "old"
    assert files(tmp_path) == ["last.pt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device without space")
def test_real_write_to_a_full_device_is_reported(tmp_path: Path) -> None:
    def write() -> None:
        with atomic.replace_with(tmp_path / "a") as temporary:
            temporary.symlink_to("/dev/full")
            temporary.write_bytes(b"x" * 100_000)

    with pytest.raises(DiskFull, match="disk is full"):
        write()
    assert files(tmp_path) == []


def test_another_error_of_a_writer_is_left_to_it(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="PytorchStreamWriter"):
        write_half(tmp_path / "a", RuntimeError("PytorchStreamWriter failed writing file"))


@pytest.mark.skipif(os.name != "posix", reason="needs a limit of the size of files")
def test_a_limit_hidden_in_the_error_of_torch_save_is_found(tmp_path: Path) -> None:
    code = f"""
import torch
from pathlib import Path
from dir_bench.errors import DiskFull
from dir_bench.training import checkpoint
try:
    checkpoint.save(Path({str(tmp_path / "last.pt")!r}), {{"network": {{"w": torch.zeros(10**6)}}}})
except DiskFull as error:
    print(error)
"""
    line = f"ulimit -f 1000; {shlex.quote(sys.executable)} -c {shlex.quote(code)}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"No file may be so large here: {tmp_path / 'last.pt'} could not be written")
    assert files(tmp_path) == []


def test_what_a_user_names_is_written_through_links_and_into_pipes(tmp_path: Path) -> None:
    (tmp_path / "table.md").write_text("old")
    (tmp_path / "link").symlink_to("table.md")
    (tmp_path / "dangling").symlink_to("new.md")
    atomic.write_named(tmp_path / "link", b"a")
    atomic.write_named(tmp_path / "dangling", b"b")
    assert [(tmp_path / name).read_text() for name in ("table.md", "new.md")] == ["a", "b"]
    assert (tmp_path / "link").is_symlink()
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE)
    atomic.write_named(tmp_path / "pipe", b"c")
    assert reader.communicate()[0] == b"c"
    assert (tmp_path / "pipe").is_fifo()
    atomic.write_named("/dev/null", b"d")
    assert Path("/dev/null").is_char_device()


def test_output_that_is_a_file_is_written_as_output(tmp_path: Path) -> None:
    code = "from dir_bench import atomic; atomic.write_named('/dev/stdout', b'a'); print('b')"
    (tmp_path / "out").write_text("kept\n")
    with (tmp_path / "out").open("ab") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    (tmp_path / "link").symlink_to("/dev/stdout")
    code = code.replace("/dev/stdout", str(tmp_path / "link"))
    with (tmp_path / "out").open("ab") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "kept\nab\nab\n"


def test_json_is_strict_ordered_and_full_precision(tmp_path: Path) -> None:
    value = {
        "z": np.float64(0.1) + np.float64(0.2),
        "a": np.int64(3),
        "nan": math.nan,
        "inf": [np.float32(np.inf), -math.inf],
        "array": np.array([[1.5, np.nan]]),
        "flag": np.bool_(True),
        "path": Path("data") / "x",
        "none": None,
        7: (1, 2),
    }
    atomic.write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text()
    assert text.endswith("}\n")
    read = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert list(read) == ["z", "a", "nan", "inf", "array", "flag", "path", "none", "7"]
    assert read["z"] == 0.1 + 0.2
    assert read["a"] == 3
    assert read["nan"] is None
    assert read["inf"] == [None, None]
    assert read["array"] == [[1.5, None]]
    assert read["flag"] is True
    assert read["path"] == os.path.join("data", "x")
    assert read["7"] == [1, 2]


def test_json_refuses_what_it_would_have_to_guess(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="set"):
        atomic.write_json(tmp_path / "a.json", {"a": {1, 2}})
    assert files(tmp_path) == []


def test_npz_round_trips_bit_for_bit_and_is_repeatable(tmp_path: Path) -> None:
    arrays = {"target": np.array([0.1, np.nan], np.float32), "index": np.arange(2), "name": np.array(["ä", "b"])}
    atomic.write_npz(tmp_path / "a.npz", **arrays)
    atomic.write_npz(tmp_path / "b.npz", **arrays)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz", allow_pickle=False) as read:
        for name, array in arrays.items():
            assert read[name].dtype == array.dtype
            np.testing.assert_array_equal(read[name], array)


def test_npz_refuses_python_objects(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="'a' holds Python objects"):
        atomic.write_npz(tmp_path / "a.npz", a=np.array([None, {}], dtype=object))
    assert files(tmp_path) == []


def test_leftovers_of_a_killed_writer_are_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".metrics.json.123-0a0b0c0d.tmp.json").write_text("half")
    (tmp_path / ".DONE.123-0a0b0c0d.tmp").write_text("")
    (tmp_path / "my.tmp").write_text("mine")
    (tmp_path / ".hidden").write_text("mine")
    atomic.remove_leftovers(tmp_path)
    assert files(tmp_path) == [".hidden", "my.tmp"]
