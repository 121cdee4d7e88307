"""Config: every file composes and binds, and every mistake meets one sentence that names what is near."""

import inspect
from pathlib import Path

import pytest

from dir_bench import config, schema
from dir_bench.errors import UserError

GROUPS = [
    "backbone", "dataset", "fds", "lds", "loss", "method", "optimizer", "preset",
    "reweight", "schedule", "semantics", "stages", "sweep", "trainer",
]  # fmt: skip
DATASETS = config.options("dataset")
CHOICES = [(group, name) for group in GROUPS for name in config.options(group)]


def test_the_groups_are_those_listed_here():
    assert config.groups() == GROUPS
    assert len(CHOICES) == len(list(config.config_dir().glob("*/*.yaml"))) > 50


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_choice_composes_and_binds(group, name):
    needs = {"lds": ["reweight=inv"], "stages": ["reweight=inv"]}.get(group, [])
    composed = config.compose([*needs, f"{'+' * (group == 'sweep')}{group}={name}"])
    config.check_targets(composed)


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("method", config.options("method"))
def test_every_method_composes_on_every_dataset(dataset, method):
    composed = config.compose([f"dataset={dataset}", f"method={method}"])
    assert (composed.lds.name != "none") == ("_lds" in method)
    assert (composed.fds.name != "none") == ("_fds" in method)


def test_vanilla_lds_is_the_weighting_of_the_paper_on_that_dataset():
    assert config.compose(["dataset=sts_b", "method=vanilla_lds"]).reweight.name == "inv"
    assert config.compose(["dataset=gauge", "method=vanilla_lds"]).reweight.name == "sqrt_inv"


def test_a_dataset_brings_its_recipe_and_the_command_line_wins():
    recipe = config.compose(["dataset=sts_b"])
    assert (recipe.loss.name, recipe.optimizer["lr"], recipe.trainer.batch_size) == ("mse", 1e-4, 128)
    assert recipe.backbone["hidden"] == 1500
    changed = config.compose(["dataset=sts_b", "loss=l1", "optimizer.lr=0.5", "backbone=bilstm_small"])
    assert (changed.loss.name, changed.optimizer["lr"]) == ("l1", 0.5)
    assert changed.backbone["hidden"] != 1500


def test_a_method_wins_over_the_recipe_of_its_dataset():
    focal = config.compose(["dataset=sts_b", "method=focal_r"]).loss
    assert (focal.name, focal.beta) == ("focal_mse", 20)


def test_one_quirk_can_be_set_alone():
    paper = config.compose(["dataset=sts_b", "semantics=paper", "semantics.fds_lag=alias"]).semantics
    assert (paper.fds_lag, paper.fds_empty, paper.zero_error) == ("alias", "exclude", 0.0)
    assert config.compose(["dataset=sts_b"]).semantics.fds_empty == "neighbours"


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["seeed=1"], ["seeed", "'seed'"]),
        (["trainer.epoch=1"], ["trainer.epoch", "'trainer.epochs'"]),
        (["+fds.sigmaa=1"], ["fds.sigmaa", "'fds.sigma'"]),
        (["+method.foo=1"], ["'method'"]),
        (["method=ldss"], ["method=ldss", "vanilla"]),
        (["dataset=stsb"], ["dataset=stsb", "'sts_b'"]),
        (["reweight=sqrtinv"], ["'sqrt_inv'"]),
        (["lds=gausian", "reweight=inv"], ["'gaussian'"]),
        (["trainer.epochs=many"], ["trainer.epochs", "many"]),
        (["lds=gaussian"], ["lds=gaussian", "reweight=sqrt_inv"]),
        (["method=sqinv_lds", "lds.kernel_size=4"], ["lds.kernel_size=4", "odd"]),
        (["fds=gaussian", "backbone=linear"], ["fds=gaussian", "backbone"]),
        (["fds=gaussian", "fds.kernel_size=301"], ["fds.kernel_size=301"]),
        (["fds=gaussian", "fds.statistics=streem"], ["'stream'"]),
        (["semantics.fds_lag=aliass"], ["'alias'"]),
        (["stages=rrt"], ["reweight=inv"]),
        (["trainer.epochs=null"], ["trainer.epochs", "trainer.max_steps"]),
        (["trainer.devices=0"], ["trainer.devices=0"]),
        (["seed=-1"], ["seed=-1"]),
        (["seed=1.5"], ["1.5"]),
        (["seed=0,1"], ["-m"]),
        (["optimizer.lr=-1"], ["optimizer.lr=-1"]),
        (["optimizer.lr=abc"], ["optimizer.lr=abc"]),
        (["~optimizer.lr"], ["optimizer.lr"]),
        (["optimizer.lrr=1"], ["'optimizer.lr'"]),
        (["semantics.inv_clip=5"], ["semantics.inv_clip", "[low, high]"]),
        (["schedule=cosine", "trainer.epochs=null", "trainer.max_steps=20"], ["T_max"]),
        (["dataset.fds_last=100", "fds=gaussian"], ["fds_last=100"]),
        (["dataset.regions.many=[1000]"], ["bin 1000"]),
        (["trainer.precision=64"], ["trainer.precision"]),
        (["stages=rrt", "reweight=inv", "stages.epochs=0"], ["stages.epochs=0"]),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_what_is_near(overrides, parts):
    with pytest.raises(UserError) as caught:
        config.compose(overrides)
    message = str(caught.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message


@pytest.mark.parametrize("key", ["backbone.hiden=3", "optimizer.lrr=1", "dataset.source.sed=1"])
def test_a_setting_that_its_target_does_not_take_is_refused(key):
    with pytest.raises(UserError, match=r"has no setting .* \(did you mean"):
        config.check_targets(config.compose(["backbone=mlp", f"+{key}"]))


def test_a_backbone_that_does_not_fit_the_data_is_refused():
    from dir_bench import experiment

    chosen = config.compose(["backbone=bilstm_small", "dataset.source.n_train=20"])
    with pytest.raises(UserError, match="the backbone for gauge has no setting"):
        experiment.build_network(chosen, config.build(chosen.dataset.source).load())


@pytest.mark.parametrize("text", ["just words", "a: [1", "- 1"])
def test_a_damaged_config_of_a_run_is_named(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"config\.yaml"):
        config.load(tmp_path / "config.yaml")


def test_a_glob_sweeps_over_choices():
    jobs = list(config.sweep_jobs(["method=glob(sqinv*)", "seed=0"]))
    assert [job[0] for job in jobs] == [f"method=sqinv{end}" for end in ("", "_fds", "_lds", "_lds_fds")]


def test_the_resolved_config_is_read_back_as_it_was(tmp_path: Path):
    import yaml

    made = config.compose(["dataset=sts_b", "method=sqinv_lds_fds"])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.to_dict(made)))
    assert config.load(tmp_path / "config.yaml") == made


def test_the_schema_is_documented_key_by_key_where_choices_are_words():
    for key, choices in schema.CHOICES.items():
        assert schema._get(config.compose([]), key) in choices
    assert inspect.getdoc(config)
