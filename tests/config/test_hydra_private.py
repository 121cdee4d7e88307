"""Hydra's private parts are as this package expects them; where not, one sentence names what changed."""

import ast
from pathlib import Path

import pytest
import yaml

import dir_bench
from dir_bench import config
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


def test_a_file_is_read_again_when_it_has_changed(tmp_path):
    shipped = (config.config_dir() / "lds" / "gaussian.yaml").read_text(encoding="utf-8")
    (tmp_path / "lds").mkdir()
    for sigma in (3.0, 4.0):
        (tmp_path / "lds" / "mine.yaml").write_text(shipped.replace("sigma: 2.0", f"sigma: {sigma}"))
        assert config.compose(["reweight=inv", "lds=mine"], str(tmp_path)).lds.sigma == sigma


def test_choices_that_refer_to_others_are_as_hydra_makes_them(monkeypatch):
    words = ["dataset=sts_b", "backbone=bilstm_small", "method=rrt_lds_fds"]  # a preset of `${dataset}_${backbone}`
    ours = config.compose_job(words).config
    monkeypatch.setattr(hydra_private.defaults_list, "_create_interpolation_map", hydra_private._all_choices)
    assert config.compose_job(words).config == ours


def test_yaml_is_read_as_omegaconf_alone_reads_it():
    plain, fast = hydra_private._plain_loader(), hydra_private._fast_loader()
    texts = [path.read_text(encoding="utf-8") for path in config.config_dir().rglob("*.yaml")]
    texts += ["{a: 1e-3, b: 2024-01-01, c: 1_000, d: .5, e: '12:30', f: 0x1f, g: .inf, h: no, i: ~, j: 1:30:00}"]
    for text in texts:
        assert repr(yaml.load(text, Loader=fast)) == repr(yaml.load(text, Loader=plain))
    with pytest.raises(yaml.YAMLError, match="duplicate key"):
        yaml.load("a: 1\na: 2", Loader=fast)
