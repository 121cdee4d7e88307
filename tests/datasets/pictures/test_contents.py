import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from dir_bench.datasets.pictures import contents as module
from dir_bench.datasets.pictures.contents import contents
from dir_bench.errors import UserError


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(4):
        (folder / f"{i}.jpg").write_bytes(bytes([i]) * 100)
    return sorted(folder.iterdir())


def of(files: list[Path], memory: Path) -> bytes:
    return contents(files, memory, workers=0, title="").tobytes()


def test_digests_are_sha256_in_the_order_asked_and_go_with_the_files(files: list[Path], tmp_path: Path) -> None:
    import hashlib

    first = of(files, tmp_path / "memory")
    assert first == b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)
    assert of([files[1], files[0], files[1]], tmp_path / "memory") == first[32:64] + first[:32] + first[32:64]
    shutil.move(files[0].parent, tmp_path / "moved")
    assert of([tmp_path / "moved" / path.name for path in files], tmp_path / "elsewhere") == first


def test_a_file_is_read_again_only_if_it_changed(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, read = of(files, tmp_path), []
    digest = module._digest
    monkeypatch.setattr(module, "_digest", lambda path: read.append(path) or digest(path))
    assert of(files, tmp_path) == before
    assert read == []
    status = files[2].stat()
    files[2].write_bytes(b"\7" * 100)  # as large, and with the same time of change
    os.utime(files[2], ns=(status.st_atime_ns, status.st_mtime_ns))
    after = of(files, tmp_path)
    assert read == [files[2]]
    assert (after[:64], after[96:]) == (before[:64], before[96:])
    assert after[64:96] != before[64:96]


def test_damaged_memory_is_made_anew_and_a_folder_that_cannot_be_written_does_no_harm(
    files: list[Path], tmp_path: Path
) -> None:
    before = of(files, tmp_path / "memory")
    (kept,) = (tmp_path / "memory").iterdir()
    kept.write_bytes(b"PK\3\4")
    assert of(files, tmp_path / "memory") == before
    (tmp_path / "file").write_bytes(b"")
    assert of(files, tmp_path / "file") == before


def test_files_that_are_none_are_all_named(files: list[Path], tmp_path: Path) -> None:
    files[1].unlink()
    files[3].unlink()
    files[3].mkdir()
    with pytest.raises(UserError, match=r"(?s)1\.jpg is missing.*3\.jpg is a folder"):
        of(files, tmp_path)
    assert np.array_equal(contents([], tmp_path, workers=0, title="").shape, (0, 32))
