"""Folders are taken as they are typed, by our own flags and as values of paths."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dir_bench import config
from dir_bench.config.words import as_typed, literal, quoted
from dir_bench.datasets.arrays import Arrays
from dir_bench.errors import UserError

NAMES = [
    "a=b", "a,b", "a#b", "o'brien", 'say "so"', "run(1)", "Käse", "日本", "two words", "2024_01", "1.50", "1e3", "true",
    "null", "~", "a\\", "a\\'b", "[a]", "{a}", "a:b", "100%", "-x", "a;b", "a&b", "*", "@here", "+1", "0x1f", "a.b.c",
]  # fmt: skip


@pytest.mark.parametrize("name", [*NAMES, "${x}", "a\\${x}", "$HOME"])
def test_a_value_of_ours_is_taken_as_it_is(name: str):
    assert config.compose([], values={"paths.data": name}).paths.data == name


@pytest.mark.parametrize("name", NAMES)
def test_a_path_is_taken_as_typed(name: str):
    assert config.compose([f"paths.outputs={name}"]).paths.outputs == name
    if "," not in name:
        (job,) = config.sweep_jobs(as_typed([f"paths.outputs={name}"], sweep=True))
        assert config.compose_all([job])[0].paths.outputs == name


def test_what_means_something_to_hydra_keeps_it():
    assert as_typed(["paths.data=data", "seed=0,1", "+x=a=b"]) == ["paths.data=data", "seed=0,1", "+x=a=b"]
    assert config.compose(["paths.outputs=x", "paths.data=${paths.outputs}/data"]).paths.data == "x/data"
    assert config.compose(["paths.data='a=b'"]).paths.data == "a=b"
    jobs = config.sweep_jobs(as_typed(["paths.outputs=a=b,1e3", "seed=0"], sweep=True))
    assert [made.paths.outputs for made in config.compose_all(jobs)] == ["a=b", "1e3"]
    assert len(config.sweep_jobs(as_typed(["paths.outputs=choice(a,b,c)"], sweep=True))) == 3
    assert len(config.sweep_jobs(as_typed(["paths.outputs='a,b'"], sweep=True))) == 1


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_any_text_survives_quoting(text: str):
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    parsed = OverridesParser.create().parse_override(f"key={quoted(text)}")
    node = OmegaConf.create({"key": parsed.value()})
    assert (parsed.is_sweep_override(), node.key) == (False, text) or text == "???"
    assert OmegaConf.create(literal({"key": [text]})).key[0] == text or text == "???"


@pytest.mark.parametrize("word", ["paths.data=a\nb", "paths.outputs=\x00"])
def test_a_control_character_is_refused(word: str):
    with pytest.raises(UserError, match="control character"):
        config.compose([word])


@pytest.mark.parametrize(
    ("override", "typed"),
    [
        ("dataset.title=a=b", "\"dataset.title='a=b'\""),
        ("dataset.title=o'brien", "dataset.title="),
        ("dataset.title=100$(x)", "dataset.title="),
        ("stages.from_run=run(1)", "\"stages.from_run='run(1)'\""),
    ],
)
def test_a_word_that_needs_quotes_is_shown_with_them(override: str, typed: str):
    with pytest.raises(UserError, match="type it in quotes of its own") as caught:
        config.compose([override])
    assert typed in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_commands_take_folders_as_typed(tmp_path: Path, commands):
    tiny = ["trainer.epochs=1", "backbone.hidden=[4]", "trainer.figures=false", "trainer.threads=1"]
    for name in ("a=b", "2024_01", "${x}"):
        commands(["data", "sample", "arrays", "--data", name, "--size", "200"])
        assert (tmp_path / name / "arrays" / "arrays.npz").is_file()
        commands(["data", "check", "arrays", "--data", name])
    commands(["train", "dataset=arrays", *tiny, "paths.data=a=b", "paths.outputs=o'ut (1), #2"])
    (done,) = (tmp_path / "o'ut (1), #2").glob("*/*/*/DONE")
    assert "equal to the recorded" in commands(["evaluate", str(done.parent)])


def test_a_folder_of_configs_may_have_any_name(tmp_path: Path):
    for name in ("c=d", "x,y (1)", "${z}", "ä'#"):
        own = tmp_path / name / "method"
        own.mkdir(parents=True)
        (own / "mine.yaml").write_text("# @package _global_\nseed: 7\n")
        assert config.compose(["method=mine"], str(own.parent)).seed == 7
        assert config.compose_all([["method=mine"]], str(own.parent))[0].seed == 7
    assert config.compose_job(["method=mine"], str(own.parent)).config.seed == 7


@pytest.mark.parametrize(
    "name", ["", "..", "../x", "a/b", "a\\b", "a..b", ".hidden", "a\x00b", "a\nb", "x" * 256, "ä" * 128]
)
def test_a_name_that_is_no_folder_is_refused(name: str):
    with pytest.raises(UserError, match=r"dataset\.name=.*folder"):
        config.compose([], values={"dataset.name": name})


def test_names_that_would_be_too_long_are_refused_before_any_work(tmp_path: Path):
    from dir_bench.resolved import resolve

    Arrays(str(tmp_path)).sample(tmp_path, n=100)
    for words in (["subset=fig2", f"subset.title={'x' * 250}"], [f"dataset.name={'x' * 250}", "subset=fig2"]):
        with pytest.raises(UserError, match="longer than the 255 bytes"):
            resolve(config.compose(words))
