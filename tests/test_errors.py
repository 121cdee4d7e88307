"""What the system refuses is a sentence that names the place and what to do."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dir_bench.errors import of_disk


def refused(act: Callable[[], object]) -> OSError:
    with pytest.raises(OSError) as caught:  # noqa: PT011
        act()
    return caught.value


def test_a_file_where_a_folder_is_wanted_is_named_and_not_what_lies_deep_in_it(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    error = of_disk(refused((tmp_path / "taken" / "gauge" / "vanilla").mkdir))
    assert str(error) == f"{tmp_path / 'taken'} is no folder, and gauge/vanilla is to be in it: name another"
    assert error.exit_code == 1


def test_of_a_file_that_could_not_be_renamed_the_one_to_replace_is_named(tmp_path: Path) -> None:
    (tmp_path / "new").write_text("")
    (tmp_path / "status.json").mkdir()
    error = of_disk(refused(lambda: os.replace(tmp_path / "new", tmp_path / "status.json")))
    assert str(error).endswith(f": {tmp_path / 'status.json'}")


def test_a_file_in_the_place_of_a_folder_is_said_to_be_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("")
    error = of_disk(refused((tmp_path / "checkpoints").mkdir))
    assert str(error) == f"{tmp_path / 'checkpoints'} is in the way, where a folder is wanted: move it away"


def test_a_name_that_is_too_long_is_shown_in_part(tmp_path: Path) -> None:
    error = of_disk(refused((tmp_path / ("x" * 300) / "y").mkdir))
    assert str(error) == f"the name '{'x' * 40}…' is too long for this disk: give a shorter one"
    assert error.exit_code == 1


def test_a_folder_that_is_gone_is_named_as_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert "the folder that this command runs in is gone" in str(of_disk(refused(os.getcwd)))


def test_what_names_no_file_is_told_in_the_systems_words() -> None:
    assert str(of_disk(OSError(errno.ENOSPC, "No space left on device"))) == "No space left on device"
