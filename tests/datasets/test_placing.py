"""Stand-ins appear whole or not at all, whatever ends their making."""

import os
import subprocess
from pathlib import Path

import pytest

from dir_bench.datasets.placing import placed_whole
from dir_bench.errors import UserError


def write(folder: Path, stop: BaseException | None = None) -> None:
    with placed_whole(folder, "list.csv", "pictures") as made:
        (made / "pictures").mkdir()
        (made / "pictures" / "a.jpg").write_text("a")
        if stop is not None:
            raise stop
        (made / "list.csv").write_text("path")


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError("full")])
def test_nothing_is_left_of_what_was_interrupted_and_the_same_goes_again(tmp_path: Path, stop: BaseException) -> None:
    folder = tmp_path / "data"
    with pytest.raises(type(stop)):
        write(folder, stop)
    assert not folder.exists()
    write(folder)
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*")) == ["list.csv", "pictures/a.jpg"]


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    dead = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True).stdout.strip()
    (tmp_path / f".sampling-{dead}" / "pictures").mkdir(parents=True)
    (tmp_path / f".sampling-{dead}" / "pictures" / "old.jpg").write_text("")
    write(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.jpg", "list.csv", "pictures"]


def test_what_another_process_is_making_is_left_to_it(tmp_path: Path) -> None:
    (tmp_path / f".sampling-{os.getppid()}").mkdir()
    write(tmp_path)
    assert (tmp_path / f".sampling-{os.getppid()}").is_dir()


def test_other_files_stay_and_folders_are_filled(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "pictures").mkdir()  # empty
    write(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "pictures" / "a.jpg").exists()
    for name in ("list.csv", "pictures"):
        with pytest.raises(UserError, match=rf"{name} exists and is left as it is"):
            write(tmp_path)
        (tmp_path / "list.csv").unlink(missing_ok=True)
