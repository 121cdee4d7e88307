"""docs/own_data.md says what works: each of its blocks is run as it is printed, one after the other in one folder."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

QUIET = {"train": ["trainer.figures=no", "trainer.feature_statistics=no"]}
"""Left out, as they say nothing here and take half of the time."""
GUIDE = Path(__file__).parents[1] / "docs" / "own_data.md"


def parts() -> list[tuple[str, list[tuple[str, str]]]]:
    """Return each part's heading, with the language and text of its blocks."""
    _, *found = re.split(r"^## ", GUIDE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [(part.splitlines()[0], re.findall(r"```(\w+)\n(.*?)```", part, flags=re.DOTALL)) for part in found]


@pytest.mark.slow
def test_every_block_runs_as_it_is_printed(
    commands: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for _, blocks in parts():
        for language, text in blocks:
            if language == "python":
                exec(compile(text, str(GUIDE), "exec"), names)
                continue
            for line in text.replace("\\\n", " ").replace("$PWD", str(tmp_path)).splitlines():
                program, *words = shlex.split(line, comments=True)
                assert program == "dir-bench"
                commands([*words, *QUIET.get(words[0], [])])
    assert "mae" in capsys.readouterr().out  # of the part without the command
    assert len(list(tmp_path.glob("outputs/*/*/*/DONE"))) == 7  # the sweep's four have the table's own among them


def test_parts_are_short_and_none_is_missing() -> None:
    found = {heading: [len(text.splitlines()) for _, text in blocks] for heading, blocks in parts()}
    assert [heading.split(",")[0] for heading in found] == [
        "Pictures",
        "A table",
        "Texts",
        "Volumes",
        "Your own network",
    ]
    assert all(lengths and max(lengths) < 15 for lengths in found.values())
