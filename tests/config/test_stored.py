"""A run folder may be somebody else's: nothing that its config names is imported or called, unless it is trusted."""

import copy
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml

from dir_bench import config
from dir_bench.cli import main
from dir_bench.config.build import ALLOWED
from dir_bench.datasets.arrays import Arrays
from dir_bench.errors import UserError

TINY = [
    "dataset=arrays", "trainer.epochs=1", "trainer.batch_size=64", "backbone.hidden=[4]", "trainer.threads=1",
    "trainer.figures=false", "schedule=cosine", "trainer.accelerator=cpu", "trainer.progress=false",
]  # fmt: skip
MINE = """
from pathlib import Path
Path({mark!r}).touch()
from dir_bench.backbones.mlp import MLP
from dir_bench.datasets.arrays import Arrays
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR
class Net(MLP): pass
class Data(Arrays): pass
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and one finished run."""
    folder = tmp_path_factory.mktemp("shared")
    Arrays(str(folder / "data" / "arrays")).sample(folder / "data" / "arrays", n=200)
    assert said(["train", *TINY, f"paths.data={folder}/data", f"paths.outputs={folder}/outputs"])[0] == 0
    return folder


@pytest.fixture
def run(shared: Path) -> Iterator[Path]:
    """The run, whose config a test may change."""
    (done,) = shared.glob("outputs/*/*/*/DONE")
    before = (done.parent / "config.yaml").read_bytes()
    yield done.parent
    (done.parent / "config.yaml").write_bytes(before)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module `mine_of_somebody` on the path, and the file that it writes when it is imported."""
    mark = tmp_path / "imported"
    (tmp_path / "mine_of_somebody.py").write_text(MINE.format(mark=str(mark)))
    monkeypatch.syspath_prepend(tmp_path)
    yield mark
    sys.modules.pop("mine_of_somebody", None)


def said(arguments: list[str]) -> tuple[int, str]:
    with redirect_stdout(StringIO()) as printed, redirect_stderr(printed):
        code = main(arguments)
    return code, printed.getvalue()


def rewrite(run: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    plain = yaml.safe_load((run / "config.yaml").read_text())
    change(plain)
    (run / "config.yaml").write_text(yaml.safe_dump(plain))


def put(where: str, node: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    def change(plain: dict[str, Any]) -> None:
        *parents, last = where.split(".")
        for key in parents:
            plain = plain.setdefault(key, {})
        plain[last] = copy.deepcopy(node)

    return change


NODES = ("dataset.source", "backbone", "optimizer", "schedule.source", "parts.mine", "stages.first.parts.mine")
HOSTILE: list[tuple[str, dict[str, Any]]] = [
    ("os.system", {"command": "touch {mark}"}),
    ("builtins.exec", {"source": "open('{mark}', 'w')"}),
    ("subprocess.run", {"args": ["touch", "{mark}"]}),
    ("subprocess.Popen", {"args": ["touch", "{mark}"]}),
    ("mine_of_somebody.Net", {}),
    ("pathlib.Path", {}),
    ("dir_bench.mine_of_somebody.Net", {}),
    ("dir_bench.config.build.import_module", {"name": "mine_of_somebody"}),
    ("dir_bench.config.build.import_module.__globals__", {}),
    ("dir_bench.sweeps.stand_ins.shutil.rmtree", {"path": "{mark}"}),
    ("dir_bench.sweeps.local.subprocess", {}),
    ("dir_bench.cli.main", {"arguments": ["data", "sample", "arrays"]}),
    ("dir_bench.atomic.write_text", {"path": "{mark}", "text": ""}),
    ("torch.optim.adam.torch", {}),
    ("torch.optim.adam.cast", {}),
    ("torchvision.models.get_weight", {"name": "ResNet50_Weights.DEFAULT"}),
    ("..os.system", {}),
    ("", {}),
]


@pytest.mark.parametrize("where", NODES)
def test_what_a_foreign_config_names_is_not_run(run: Path, mine: Path, where: str):
    for target, settings in HOSTILE:
        node = {"_target_": target, **{key: str(value).replace("{mark}", str(mine)) for key, value in settings.items()}}
        rewrite(run, put(where, {**node, "lr": 0.1} if where == "optimizer" else node))
        if where.startswith("stages.first") and target.startswith(ALLOWED):
            config.load(run / "config.yaml")  # nothing is built of it, and nothing was imported for it
        else:
            with pytest.raises(UserError) as caught:
                config.load(run / "config.yaml")
            assert target in str(caught.value)
            assert "\n" not in str(caught.value)
        if target in ("os.system", "builtins.exec", "subprocess.run", "mine_of_somebody.Net"):
            code, text = said(["evaluate", str(run)])
            assert (code, text.count("\n")) == (2, 1), (target, text)
            assert target in text
        assert not mine.exists(), target
        assert "mine_of_somebody" not in sys.modules


def test_a_target_among_the_settings_is_refused_too(run: Path, mine: Path):
    for where in ("optimizer.betas", "dataset.source.extra", "dataset.regions.many", "backbone.hidden"):
        before = (run / "config.yaml").read_bytes()
        rewrite(run, put(where, {"_target_": "os.system", "command": f"touch {mine}"}))
        code, text = said(["evaluate", str(run)])
        assert (code, text.count("\n")) == (2, 1), text
        assert not mine.exists()
        (run / "config.yaml").write_bytes(before)


@pytest.mark.parametrize("where", ["dataset.source", "backbone", "optimizer"])
def test_an_allowed_class_of_another_kind_is_refused(run: Path, where: str):
    others = {"dataset.source": "torch.optim.Adam", "backbone": "dir_bench.datasets.arrays.Arrays"}
    target = others.get(where, "dir_bench.backbones.mlp.MLP")
    rewrite(run, lambda plain: put(f"{where}._target_", target)(plain))  # type: ignore[arg-type]
    code, text = said(["evaluate", str(run)])
    assert code == 2
    assert f"{where} has to be" in text


def test_the_module_that_is_needed_is_named_and_can_be_trusted(run: Path, shared: Path, mine: Path):
    rewrite(run, put("backbone._target_", "mine_of_somebody.Net"))  # type: ignore[arg-type]
    assert "--trust mine_of_somebody" in said(["evaluate", str(run)])[1]
    assert said(["evaluate", str(run), "--trust", "mine"])[0] == 2  # a module's name, not its beginning
    assert not mine.exists()
    code, text = said(["evaluate", str(run), "--trust", "mine_of_somebody"])
    assert code == 0, text
    assert mine.exists()


def test_what_only_shows_runs_neither_imports_nor_runs_what_they_name(run: Path, shared: Path, mine: Path):
    for number, where in enumerate(NODES):
        target = ("os.system", "mine_of_somebody.Net")[number % 2]
        rewrite(run, put(where, {"_target_": target, "command": f"touch {mine}", "lr": 0.1}))
    outputs, settings = str(shared / "outputs"), [*TINY, f"paths.data={shared}/data"]
    assert said(["table", outputs])[0] == 0
    assert said(["report", str(shared / "page.html"), outputs, "--no-figures"])[0] == 0
    assert said(["plot", "labels", outputs, "--out", str(shared / "labels.png")])[0] == 0
    assert "nothing is left to do" in said(["sweep", *settings, f"paths.outputs={outputs}", "--dry-run"])[1]
    code, text = said(["train", *settings, "method=rrt", f"stages.from_run={run}"])
    assert code == 2
    assert "stages.from_run" in text
    assert not mine.exists()
    assert "mine_of_somebody" not in sys.modules


def test_own_classes_are_trained_with_and_taken_for_stage_one(
    shared: Path, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    own = [*TINY, "backbone._target_=mine_of_somebody.Net", "dataset.source._target_=mine_of_somebody.Data"]
    own += [f"paths.data={shared}/data"]
    assert said(["train", *own])[0] == 0
    (run,) = (path.parent for path in tmp_path.glob("outputs/*/*/*/DONE"))
    code, text = said(["train", *own, "method=rrt", f"stages.from_run={run}"])
    assert code == 0, text


@pytest.mark.parametrize(
    ("where", "target"),
    [
        ("dataset.source", "os.system"),
        ("dataset.source", "subprocess.Popen"),
        ("backbone", "builtins.exec"),
        ("backbone", "subprocess.run"),
        ("optimizer", "shutil.rmtree"),
        ("optimizer", "importlib.import_module"),
    ],
)
def test_a_config_of_ones_own_builds_nothing_of_another_kind(where: str, target: str):
    with pytest.raises(UserError, match=f"{where} has to be"):
        config.check_targets(config.compose([f"{where}._target_={target}"]))
    with pytest.raises(UserError, match="builds nothing else"):
        config.build({"_target_": target, "path": "/nowhere"})


def test_a_foreign_config_neither_reads_the_environment_nor_says_where_to_write(
    run: Path, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SECRET", "hidden")
    before = sorted(shared.rglob("*"))

    def change(plain: dict[str, Any]) -> None:
        plain["paths"]["outputs"] = str(tmp_path / "elsewhere")
        plain["dataset"]["title"] = "${oc.env:SECRET} ${nowhere} \\${x} ${"
        plain["dataset"]["name"] = "other"

    rewrite(run, change)
    assert config.read(run / "config.yaml").dataset.title == "${oc.env:SECRET} ${nowhere} \\${x} ${"
    assert said(["evaluate", str(run)])[0] == 0
    assert sorted(shared.rglob("*")) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "just words", "a: [1", "- 1", "", "dataset: 1", "a: &a [*a]\ndataset: {}", "dataset: {name: 2020-01-01}",
        "dataset: {source: " + "[" * 40 + "]" * 40 + "}", "dataset: {name: !!python/object/apply:os.system ['true']}",
        "dataset: {}\nx: " + "y" * 2**20, "\x00", "dataset:\n\t- 1", "{[1]: 2, dataset: {}}", "dataset: {1: 2}",
        "dataset: {}\nseed: !!bool x", 'dataset: {}\nseed: !!int ""', "dataset: {}\nseed: !!timestamp x",
    ],
)  # fmt: skip
def test_a_damaged_config_is_one_sentence(tmp_path: Path, text: str):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"config\.yaml") as caught:
        config.load(tmp_path / "config.yaml")
    assert "\n" not in str(caught.value)


def test_a_folder_of_configs_from_elsewhere_runs_nothing_through_hydra(
    shared: Path, tmp_path: Path, mine: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    call, callback = f"_target_: os.system, command: touch {mine}", "_target_: hydra.experimental.callback.Callback"
    nodes = [
        f"callbacks: {{own: {{{call}}}}}",
        f"callbacks: {{own: {{{callback}, x: {{{call}}}}}}}",
        f"job_logging: {{version: 1, handlers: {{own: {{class: subprocess.Popen, args: [touch, {mine}]}}}}}}",
        f"hydra_logging: {{version: 1, formatters: {{own: {{(): os.system, command: touch {mine}}}}}}}",
        f"job_logging: {{version: 1, handlers: {{own: {{class: logging.os.system, command: touch {mine}}}}}}}",
        f"job_logging: {{version: 1, handlers: {{own: {{class: logging.FileHandler, filename: '{mine}'}}}}}}",
        f"sweeper: {{grids: [{{seed: {{_target_: dir_bench.atomic.write_text, path: '{mine}', text: x}}}}]}}",
        "job: {env_set: {LD_PRELOAD: theirs.so}}",
    ]
    folder = tmp_path / "theirs" / "method"
    folder.mkdir(parents=True)
    for node in nodes:
        (folder / "theirs.yaml").write_text(f"# @package _global_\nhydra:\n  {node}\n")
        words = [*TINY, f"paths.data={shared}/data", "--config-dir", "theirs", "method=theirs"]
        for more in ([], ["-m"]) if node in (nodes[0], nodes[-2]) else ([],):
            code, text = said(["train", *words, *more])
            assert (code, text.count("\n")) == (2, 1), text
            assert "hydra." in text
            assert not mine.exists()
