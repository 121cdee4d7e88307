"""README shows what happens: its tour is run, and the table that it prints has to be the one that stands there."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from dir_bench import config

README = Path(__file__).parents[1] / "README.md"
QUIET = ["trainer.figures=no", "trainer.feature_statistics=no"]
"""Left out of the tour, as they change no number and take a third of its time."""


def tour() -> tuple[list[list[str]], list[str]]:
    """Return the commands of the tour, and the lines that README says they print, without the commit."""
    text = README.read_text(encoding="utf-8")
    found = re.search(r"```bash\n(dir-bench train [^\n]*)\n```.*?```text\n(.*?)```", text, re.DOTALL)
    assert found is not None
    commands = [shlex.split(command)[1:] for command in found[1].split(" && ")]
    return commands, lines(found[2])


def lines(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if not line.startswith("Code: ")]


@pytest.mark.slow
def test_the_tour_prints_what_readme_shows(commands: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    (train, table), shown = tour()
    assert train[0] == "train"
    assert table[0] == "table"
    monkeypatch.setenv("COLUMNS", "120")
    commands([*train, *QUIET])
    assert lines(commands(table)) == shown


def test_the_method_of_ones_own_composes_as_it_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = README.read_text(encoding="utf-8")
    module, config_file = re.search(
        r"`my_parts.py`:\n\n```python\n(.*?)```.*?```yaml\n(.*?)```", text, re.DOTALL
    ).groups()
    (tmp_path / "my_configs" / "method").mkdir(parents=True)
    (tmp_path / "my_configs" / "method" / "spread.yaml").write_text(config_file)
    (tmp_path / "my_parts.py").write_text(module)
    monkeypatch.syspath_prepend(str(tmp_path))
    words = shlex.split(re.search(r"PYTHONPATH=\. dir-bench train --config-dir my_configs ([^\n]*)", text)[1])
    settings = config.compose(words, str(tmp_path / "my_configs"))
    assert settings.parts["spread"] == {"_target_": "my_parts.Spread", "weight": 0.3}
    config.check_targets(settings)
