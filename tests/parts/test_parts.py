"""Six unlike methods, each one module and one YAML outside of the package, through the real command.

They stand for what is to come: a regulariser, a loss with a learned parameter, a stage of two views, a head of several
outputs, a sampler, and an optimiser step of two passes.
"""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from run_helpers import assert_same_run, history, stop_after, weights

from dir_bench import config, experiment
from dir_bench.datasets.arrays import Arrays
from dir_bench.errors import RunFailed, UserError
from dir_bench.interrupt import Interrupted
from dir_bench.results.store import RunFolder
from dir_bench.schema import Config
from dir_bench.training.trainer import Trainer

HERE = Path(__file__).resolve().parent
METHODS = sorted(path.stem for path in (HERE / "configs" / "method").glob("*.yaml"))
NAMES = {
    "balanced": "BALANCED",
    "closeness": "TWO-VIEWS",
    "experts": "EXPERTS",
    "laplace": "LAPLACE",
    "sharpness": "SHARPNESS",
    "spread": "SPREAD",
}
COUPLED = {"closeness", "spread"}
"""Their losses are of pairs within a process's part of a batch."""

SMALL = [
    *("dataset=arrays", "backbone.hidden=[16,8]", "trainer.epochs=2", "trainer.batch_size=32", "trainer.threads=1"),
    *("trainer.figures=false", "trainer.progress=false"),
]


@pytest.fixture(autouse=True)
def _house_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    Arrays(str(folder / "arrays")).sample(folder / "arrays", n=300)
    return folder


@pytest.fixture
def compose(data_dir: Path, tmp_path: Path) -> Callable[..., Config]:
    def make(*overrides: str, outputs: str = "outputs") -> Config:
        paths = [f"paths.data={data_dir}", f"paths.outputs={tmp_path / outputs}"]
        return config.compose([*SMALL, *paths, *overrides], str(HERE / "configs"))

    return make


@pytest.mark.parametrize("method", METHODS)
def test_a_part_from_outside_runs_by_its_yaml_and_is_cut_and_resumed_to_the_same_bits(compose, monkeypatch, method):
    straight = experiment.run(compose(f"method={method}", outputs="straight"))
    assert straight.metrics["method"] == NAMES[method]
    broken = compose(f"method={method}", outputs="broken")
    if broken.stages.on:
        experiment.run(experiment.stage_one_config(broken))
    stop_after(monkeypatch, 13)
    with pytest.raises(Interrupted):
        experiment.run(broken)
    assert_same_run(straight.folder, experiment.run(broken).folder)
    assert experiment.evaluate(straight.folder, trust=["house"])["test"] == straight.metrics["test"]


@pytest.mark.parametrize("method", METHODS)
def test_a_part_runs_in_half_precision(compose, method):
    outcome = experiment.run(compose(f"method={method}", "trainer.precision=bf16-mixed", "trainer.epochs=1"))
    assert np.isfinite(outcome.metrics["test"]["all"]["mae"])
    assert {tensor.dtype for tensor in weights(outcome.folder).values() if tensor.is_floating_point()} == {
        torch.float32
    }


def test_each_part_does_what_it_says(compose):
    plain = experiment.run(compose())
    runs = {method: experiment.run(compose(f"method={method}")) for method in METHODS}
    assert len({run.metrics["test"]["all"]["mae"] for run in (plain, *runs.values())}) == len(METHODS) + 1
    # a learned scale, by its own learning rate, in the history
    scales = [float(row["laplace/scale"]) for row in history(runs["laplace"].folder)]
    assert len(scales) == 2
    assert scales[0] != scales[1]
    groups = torch.load(runs["laplace"].folder / "checkpoints" / "last.pt", weights_only=True)["optimizer"]
    assert [group["lr"] for group in groups["param_groups"]] == [1e-3, 1e-2]
    # four outputs, one prediction, and how sure it is
    assert weights(runs["experts"].folder)["regressor.weight"].shape == (4, 8)
    saved = np.load(runs["experts"].folder / "predictions.npz")
    assert set(saved.files) == {"target", "index", "prediction", "scale"}
    assert (saved["scale"] > 0).all()
    # stage one moves the backbone alone, its last state is taken, and stage two the regressor alone
    folder = RunFolder(runs["closeness"].folder)
    first = experiment.run(experiment.stage_one_config(compose("method=closeness")))
    assert first.skipped
    one, two = weights(first.folder), weights(folder.path)
    assert first.metrics["monitor"]["epoch"] == 2
    assert {key for key in one if not torch.equal(one[key], two[key])} == {"regressor.weight", "regressor.bias"}
    start = weights(plain.folder)
    assert not torch.equal(start["backbone.layers.0.weight"], one["backbone.layers.0.weight"])


def test_the_command_kept_with_a_first_stage_makes_it(compose, tmp_path):
    run = compose("method=closeness")
    words = experiment.stage_one_command(run, (*SMALL, "method=closeness"))
    paths = [f"paths.data={run.paths.data}", f"paths.outputs={run.paths.outputs}"]
    again = config.compose([*words, *paths], str(HERE / "configs"))
    assert again == experiment.stage_one_config(run)


def test_an_absent_part_is_absent_from_the_identity(compose):
    plain = experiment.run_folder(compose()).path
    assert experiment.run_folder(compose("+parts.spread=null")).path == plain
    weak, strong = (compose("method=spread", f"+parts.spread.weight={weight}") for weight in (0.1, 0.2))
    assert len({plain, experiment.run_folder(weak).path, experiment.run_folder(strong).path}) == 3


def test_changed_code_of_ones_own_is_another_run(compose, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    module = tmp_path / "own_part.py"
    found = []
    for text in ("pass", "pass  # changed", "pass"):
        init = f"    def __init__(self, facts):\n        super().__init__()\n        {text}\n"
        module.write_text(f"from dir_bench import Part\nclass Mine(Part):\n{init}")
        sys.modules.pop("own_part", None)
        importlib.invalidate_caches()
        found.append(experiment.run_folder(compose("+parts.mine._target_=own_part.Mine")).path.name)
    assert found[0] == found[2] != found[1]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method=spread", "+parts.spread.wight=1"], "parts.spread has no setting 'wight'.*did you mean 'weight'"),
        (["+parts.fds._target_=house.spread.Spread"], "parts.fds: the name is taken"),
        (["+parts.train._target_=house.spread.Spread"], "parts.train: the name is taken"),
        (["+parts.mine=3"], "parts.mine=3 must be settings with a `_target_`"),
        (["+parts.mine._target_=house.spred.Spread"], "house.spred.Spread` cannot be imported"),
        (["+parts.mine._target_=torch.nn.Linear", "+parts.mine.in_features=3"], "parts.mine has to be a part"),
        (["+parts.head._target_=house.spread.Spread"], "parts.head must be a head"),
        (["method=spread", "+parts.spread.weight=abc"], "parts.spread.weight=abc must be a finite number"),
        (["+parts.mine._target_=dir_bench.methods.uvote.UVOTE"], "parts.mine is a head, of which there is one"),
        (["method=uvote", "loss=huber"], "loss=huber has no effect beside parts.head .*UVOTE"),
        (["method=uvote", "head=classification"], "head=classification has no effect beside parts.head"),
        (["method=conr", "backbone.features=false"], "parts.conr: ConR works on learned features, and the backbone"),
        (["method=rnc", "backbone.features=false"], "parts.head: RankNContrast works on learned features"),
        (["method=conr", "mixup=input"], "mixup=input mixes the two views of a sample"),
        (
            ["method=conr", "parts.conr.e=1e6"],
            r"is more than numbers hold, with e=1000000.0, labels over .* set e near",
        ),
        (["method=conr", "parts.conr.window=-1"], "window=-1 must not be negative"),
        (["method=ranksim", "parts.ranksim.interpolation=0"], "interpolation=0 must be above 0"),
        (["method=dense_weight", "parts.dense_weight.alpha=inf"], "alpha=inf must be a finite number"),
        (["method=rrt", "stages.lr=nan"], "stages.lr=nan must be a number above 0"),
        (["method=bni", "parts.head.value=nope"], "value=nope is not a choice.*center, edge or by_targets"),
        (["method=vir", "parts.head.statistics=nope"], "statistics=nope is not a choice: pass or stream"),
        (["method=srl", "+parts.srl.projector=-1"], "projector=-1 must be at least 1, or null"),
        (["method=uvote", "+parts.head.clip=[1000,5]"], r"clip=\[1000, 5\] must be two counts"),
        (["method=bmc", "trainer.batch_size=1"], "BMC compares the targets of a batch"),
        (["stages.from_run=x"], "stages.from_run=x has no effect without stages"),
        (["method=rnc", "resample=smoter"], "resample=smoter trains on other samples, and stages=rnc does not say"),
        (["resample=smogn", "resample.over=inf"], "resample.over=inf must be a number of 0 or more"),
        (["seed=9223372036854775808"], r"must be 0 or more, and less than 2\*\*63"),
        (["schedule=cosine", "schedule.source.T_max=0"], "T_max=0 must be at least 1"),
        (["semantics.zero_error=-1"], "semantics.zero_error=-1.0 must be 0 or a number above it"),
    ],
)
def test_a_part_that_cannot_be_is_refused_in_a_sentence(compose, overrides, message):
    with pytest.raises(UserError, match=message):
        experiment.run(compose(*overrides))


def test_names_of_ours_are_not_for_what_a_part_reports_or_a_head_keeps(compose, monkeypatch):
    from house.experts import Experts
    from house.laplace import Laplace

    monkeypatch.setattr(Laplace, "report", lambda self: {"loss": 0.0})
    with pytest.raises(UserError, match=r"Laplace.report gives 'loss'"):
        experiment.run(compose("method=laplace", "trainer.epochs=1"))
    monkeypatch.setattr(Experts, "columns", lambda self, output: {"target": output[:, :1]})
    with pytest.raises(UserError, match=r"Experts.columns gives 'target'"):
        experiment.run(compose("method=experts", "trainer.epochs=1"))


@pytest.mark.parametrize(
    ("owner", "hook", "made", "message"),
    [
        (
            "experts.Experts",
            "weigh",
            lambda self, targets: torch.ones(len(targets)),
            r"weigh gives shape \(\d+,\) for t",
        ),
        (
            "laplace.Laplace",
            "losses",
            lambda self, output, *_: output.new_zeros(len(output)),
            r"losses gives shape \(\d+,\) for t",
        ),
        (
            "laplace.Laplace",
            "decode",
            lambda self, output: output[:1, :1],
            r"decode gives shape \(1, 1\), and a number",
        ),
        ("laplace.Laplace", "columns", lambda self, output: {}, "takes a column 'std', and Laplace.columns gives none"),
        (
            "laplace.Laplace",
            "columns",
            lambda self, output: {"std": -output[:, :1].exp()},
            "Laplace.columns gives a negative standard deviation",
        ),
    ],
)
def test_what_a_hook_gives_in_another_shape_is_refused_and_not_stretched(
    compose, monkeypatch, owner, hook, made, message
):
    module, _, name = owner.partition(".")
    part = getattr(importlib.import_module(f"house.{module}"), name)
    monkeypatch.setattr(part, hook, made)
    if hook == "columns":
        monkeypatch.setattr(part, "family", "laplace")
    with pytest.raises(UserError, match=message):
        experiment.run(compose(f"method={module}", "trainer.epochs=1"))


def test_test_predictions_that_are_no_numbers_are_no_result(compose, monkeypatch):
    columns = Trainer.columns

    def lost(self: Trainer, split: Any) -> Any:
        found = columns(self, split)
        if split is not self.val:
            found["prediction"][3:5] = np.nan
        return found

    monkeypatch.setattr(Trainer, "columns", lost)
    with pytest.raises(RunFailed, match=r"prediction of test sample 3 is nan \(2 such\)"):
        experiment.run(compose("trainer.epochs=1"))
    assert experiment.run_folder(compose("trainer.epochs=1")).state == "failed"


def test_a_part_says_itself_what_it_cannot_go_with(compose, monkeypatch):
    from house.spread import Spread

    def check(settings: Config) -> None:
        if settings.fds.on:
            raise UserError("spread does not go with fds")

    monkeypatch.setattr(Spread, "check", check)
    assert experiment.run_folder(compose("method=spread"))
    with pytest.raises(UserError, match="does not go with fds"):
        experiment.run_folder(compose("method=spread", "fds=gaussian"))


def test_the_readme_shows_the_regulariser_as_it_is_tested():
    text = (HERE.parents[1] / "README.md").read_text(encoding="utf-8")
    code = (HERE / "house" / "spread.py").read_text(encoding="utf-8").split('"""', 2)[2].strip()
    assert f"```python\n{code}\n```" in text
    assert len(code.splitlines()) <= 20


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize("method", METHODS)
def test_a_part_on_two_processes_gives_the_numbers_of_one(compose, method):
    one, two = (
        experiment.run(compose(f"method={method}", *more, "trainer.accelerator=cpu", outputs=outputs))
        for outputs, more in (("one", []), ("two", ["trainer.devices=2"]))
    )
    errors = [run.metrics["test"]["all"]["mae"] for run in (one, two)]
    assert np.isfinite(errors).all()
    if method not in COUPLED:
        assert errors[0] == pytest.approx(errors[1], rel=1e-4)
