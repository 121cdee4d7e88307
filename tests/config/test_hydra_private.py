"""Hydra's private parts are as this package expects them; where not, one sentence names what changed."""

import ast
from pathlib import Path

import dir_bench
from dir_bench.config import hydra_private


def test_hydra_is_as_expected():
    assert hydra_private.changed() == []


def test_what_changed_is_named(monkeypatch):
    changes = {"hydra._internal.utils.gone": (), "hydra.core.utils.setup_globals": ("more",)}
    monkeypatch.setattr(hydra_private, "USED", hydra_private.USED | changes)
    gone, other = hydra_private.changed()
    assert "setup_globals takes nothing instead of more" in gone + other
    assert "Hydra has no hydra._internal.utils.gone any more" in gone + other
    assert all("\n" not in said and said.endswith("mend dir_bench/config/hydra_private.py") for said in (gone, other))


def test_no_other_module_uses_what_is_private():
    package = Path(dir_bench.__file__).parent
    found = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            if any(name.startswith("hydra") and "._" in name for name in names):
                found.add(path.relative_to(package).as_posix())
    assert found == {"config/hydra_private.py"}
