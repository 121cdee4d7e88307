"""Config: every file composes and binds, and every mistake meets one sentence that names what is near."""

import inspect
import json
from functools import cache
from pathlib import Path

import pytest
from run_helpers import recipes

from dir_bench import config, rules, schema
from dir_bench.errors import UserError
from dir_bench.results.naming import identity

GROUPS = [
    "backbone", "dataset", "fds", "head", "lds", "loss", "method", "mixup", "optimizer", "preset",
    "resample", "reweight", "schedule", "semantics", "stages", "subset", "sweep", "trainer",
]  # fmt: skip
DATASETS = [name for name in recipes() if name not in ("text_table", "vader")]  # whose recipe is that of `table`
CHOICES = [(group, name) for group in GROUPS for name in config.options(group)]
OF_EACH_KIND = ("imdb_wiki", "nyud2", "shhs", "sts_b")  # tests/contract trains each on arrays


def test_the_groups_are_those_listed_here():
    assert config.groups() == GROUPS
    assert len(CHOICES) == len(list(config.config_dir().glob("*/*.yaml"))) > 50


ELSEWHERE = ("method", "sweep")  # below, and tests/contract trains each; tests/sweeps composes the jobs of each


@pytest.mark.parametrize(("group", "name"), [choice for choice in CHOICES if choice[0] not in ELSEWHERE])
def test_every_choice_composes_and_binds(group, name):
    needs = {"lds": ["reweight=inv"], "stages": ["reweight=inv"]}.get(group, [])
    needs += ["head=classification"] if name == "crt" and group == "stages" else []
    if (group, name) == ("subset", "gaps"):
        needs = ["subset.remove=[[20,30]]"]
    words = [*needs, f"{group}={name}"]
    if group == "preset":  # it is chosen by a pair's names
        dataset = max((each for each in DATASETS if name.startswith(f"{each}_")), key=len)
        words = [f"dataset={dataset}", f"backbone={name.removeprefix(f'{dataset}_')}"]
    config.check_targets(config.compose(words))


@cache
def smoke():
    return config.sweep_jobs([], config.sweep_of(["+sweep=smoke"]).grids)


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_method_composes_on_every_dataset(dataset):
    methods = config.options("method") if dataset in OF_EACH_KIND else ["vanilla", "sqinv_lds_fds", "rrt", "uvote"]
    trained = [job for job in smoke() if f"dataset={dataset}" in job]  # by tests/sweeps/test_smoke.py
    methods = [method for method in methods if not any(f"method={method}" in job for job in trained)]
    if config.compose([f"dataset={dataset}"]).dataset.no_resampling:
        refused = [method for method in methods if method.startswith(("smoter", "smogn"))]
        methods = [method for method in methods if method not in refused]
        for method in refused:
            with pytest.raises(UserError, match="is not for"):
                config.compose([f"dataset={dataset}", f"method={method}"])
    composed = config.compose_all([[f"dataset={dataset}", f"method={method}"] for method in methods])
    assert [(made.lds.name != "none", made.fds.name != "none") for made in composed] == [
        ("_lds" in method, "_fds" in method) for method in methods
    ]


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


def test_a_class_stands_for_a_year_a_score_or_the_middle_of_its_bin():
    values = {name: config.compose([f"dataset={name}", "method=cls_vanilla"]).head.value for name in DATASETS}
    assert {name for name, value in values.items() if value == "edge"} == {"agedb", "imdb_wiki", "sts_b", "utk"}
    own = {"arrays", "images", "volumes", "table"}
    assert own <= {name for name, value in values.items() if value == schema.BY_TARGETS}
    assert set(values.values()) == {"edge", "center", schema.BY_TARGETS}


@pytest.mark.parametrize("dataset", DATASETS)
def test_parts_that_came_later_are_left_out_of_an_identity_while_they_are_off(dataset):
    composed = config.compose([f"dataset={dataset}", "method=inv"])
    chosen = {"semantics.stop_rule"} if composed.trainer.patience else set()  # the one that a run without parts reads
    chosen |= {"dataset.standardize"} if composed.dataset.standardize else set()  # own data, whose runs are new ones
    chosen |= set() if composed.dataset.bins.settled else {"dataset.bins.choose"}  # before its data are looked at
    assert set(schema.ADDED) - set(schema.left_out(composed)) == chosen
    before = {k: v for k, v in config.to_dict(composed).items() if k not in ("head", "mixup", "subset", "resample")}
    before |= {"reweight": {"name": "inv"}, "semantics": {"name": "published"}}
    assert set(schema.ADDED) - set(schema.unset(before)) == chosen - {"semantics.stop_rule"}
    assert set(schema.ADDED) - set(schema.unset(config.to_dict(config.compose(["method=m_mixup"])))) == {"mixup"}


def test_lds_goes_with_resampling_without_weights():
    composed = config.compose(["dataset=sts_b", "method=smogn_lds_fds"])
    assert (composed.resample.name, composed.reweight.name, composed.lds.name) == ("smogn", "none", "gaussian")
    assert (composed.resample.neighbours, composed.resample.perturbation) == (7, 0.1)
    assert config.compose(["dataset=agedb", "method=smoter"]).resample.neighbours == 5


def test_one_quirk_can_be_set_alone():
    paper = config.compose(["dataset=sts_b", "fds=gaussian", "semantics=paper", "semantics.fds_lag=alias"]).semantics
    assert (paper.fds_lag, paper.fds_empty, paper.zero_error) == ("alias", "exclude", 0.0)
    assert config.compose(["dataset=sts_b", "fds=gaussian"]).semantics.fds_empty == "neighbours"


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
        (["trainer.epochs=many"], ["trainer.epochs=many must be a whole number"]),
        (["trainer.loss_limit=x"], ["trainer.loss_limit=x must be a number"]),
        (["trainer.compile=maybe"], ["trainer.compile=maybe must be true or false"]),
        (["trainer.compile=null"], ["trainer.compile=null cannot be: it needs a value"]),
        (["dataset.title=[a]"], ["dataset.title=[a] must be text"]),
        (["dataset.table_metrics=mae"], ["dataset.table_metrics=mae must be a list"]),
        (["dataset.table_metrics={a:1}"], ["dataset.table_metrics={a:1} must be a list"]),
        (["dataset.bins=3"], ["dataset.bins=3 cannot be: it has keys of its own"]),
        (["parts=3"], ["parts=3 cannot be: it has keys of its own"]),
        (["lds=gaussian"], ["lds=gaussian", "reweight=sqrt_inv"]),
        (["method=sqinv_lds", "lds.kernel_size=4"], ["lds.kernel_size=4", "odd"]),
        (["fds=gaussian", "backbone=linear"], ["fds=gaussian", "backbone"]),
        (["fds=gaussian", "fds.kernel_size=301"], ["fds.kernel_size=301"]),
        (["fds=gaussian", "fds.statistics=streem"], ["'stream'"]),
        (["semantics.fds_lag=aliass"], ["'alias'"]),
        (["stages=rrt"], ["reweight=inv"]),
        (["stages=crt", "head=classification"], ["reweight=class_balanced"]),
        (["stages=crt", "reweight=inv"], ["head=regression", "stages=rrt"]),
        (["method=rrt", "head=classification"], ["stages=rrt", "stages=crt"]),
        (["method=focal_r", "head=classification"], ["loss=focal_l1", "cross-entropy"]),
        (["dataset=sts_b", "method=cb", "loss=l1"], ["loss=l1", "cross-entropy"]),
        (["method=cb", "mixup=input"], ["mixup=input", "class"]),
        (["mixup=manifold", "fds=gaussian", "fds.statistics=stream"], ["fds.statistics=pass", "mixed"]),
        (["mixup=manifold", "trainer.compile=true"], ["trainer.compile=false"]),
        (["optimizer.fused=true", "trainer.precision=16-mixed", "trainer.clip_norm=1"], ["optimizer.fused=null"]),
        (["mixup=input", "mixup.alpha=0"], ["mixup.alpha=0"]),
        (["mixup=manifold", "mixup.layers=[]"], ["mixup.layers=[]"]),
        (["mixup=manifold", "mixup.layers=[1,1]"], ["mixup.layers=[1, 1]", "twice"]),
        (["mixup=manifolt"], ["'manifold'"]),
        (["head=classification", "head.decode=argmaxx"], ["'argmax'"]),
        (["head=classification", "head.value=middle"], ["head.value=middle", "center"]),
        (["method=cb", "reweight.beta=1.5"], ["reweight.beta=1.5", "[0, 1]"]),
        (["trainer.epochs=null"], ["trainer.epochs", "trainer.max_steps"]),
        (["trainer.devices=0"], ["trainer.devices=0"]),
        (["seed=-1"], ["seed=-1"]),
        (["seed=1.5"], ["seed=1.5 must be a whole number"]),
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
        (["subset=skew2"], ["'skew_2'"]),
        (["subset.remove=[[20,30]]"], ["subset=gaps"]),
        (["subset=gaps"], ["subset.remove=[["]),
        (["subset=gaps", "subset.remove=[20,30]"], ["subset.remove=[20, 30]", "low < high"]),
        (["subset=gaps", "subset.remove=[[30,20]]"], ["subset.remove=[[30, 20]]", "low < high"]),
        (["subset=fig2", "subset.keep=x"], ["subset.keep=x"]),
        (["subset=fig2", "subset.fullest=0"], ["subset.fullest=0"]),
        (["subset=skew_1", "subset.seed=-1"], ["subset.seed=-1"]),
        (["subset=skew_1", "subset.peaks=[{location:1,scale:0,height:9,range:[0,9]}]"], ["scale=0"]),
        (["subset=skew_1", "subset.peaks=[{location:1,scale:1,range:[0,9]}]"], ["subset.peaks[0].height"]),
        (["subset=skew_1", "subset.peaks=[{locaton:1}]"], ["'locaton'", "subset.peaks"]),
        (["subset=test_as_train", "subset.test_share=1"], ["subset.test_share=1"]),
        (["subset=skew_2", "dataset=nyud2"], ["subset=skew_2", "NYUD2-DIR", "pixel"]),
        (["subset=skew_2", "dataset=table"], ["dataset.regions.many_over=null", "set dataset.regions.many_over and"]),
        (["resample=smote"], ["resample=smote", "'smoter'"]),
        (["resample=smogn", "reweight=inv"], ["resample=smogn", "reweight=inv", "twice"]),
        (["method=rrt", "resample=smoter"], ["resample=smoter", "twice"]),
        (["resample=smoter", "dataset=nyud2"], ["resample=smoter", "NYUD2-DIR", "a picture holds"]),
        (["method=smogn_lds", "dataset=shhs"], ["resample=smogn", "SHHS-DIR", "nights"]),
        (["resample=smogn", "resample.threshold=1"], ["resample.threshold=1"]),
        (["resample=smogn", "resample.neighbours=0"], ["resample.neighbours=0"]),
        (["resample=smogn", "resample.perturbation=0"], ["resample.perturbation=0"]),
        (["resample=smogn", "resample.over=-1"], ["resample.over=-1"]),
        (["resample=smogn", "resample.under=1.5"], ["resample.under=1.5"]),
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
    from dir_bench import assembly

    chosen = config.compose(["backbone=bilstm_small", "dataset.source.n_train=20"])
    with pytest.raises(UserError, match="is not for GAUGE-DIR, whose own take in_channels, size"):
        assembly.build_network(chosen, config.build(chosen.dataset.source).load())


@pytest.mark.parametrize("text", ["just words", "a: [1", "- 1"])
def test_a_damaged_config_of_a_run_is_named(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"config\.yaml"):
        config.load(tmp_path / "config.yaml")


def test_a_glob_sweeps_over_choices():
    jobs = list(config.sweep_jobs(["method=glob(sqinv*)", "seed=0"]))
    names = [name for name in config.options("method") if name.startswith("sqinv")]
    assert [job[0] for job in jobs] == [f"method={name}" for name in names]
    assert {"sqinv", "sqinv_fds", "sqinv_lds", "sqinv_lds_fds"} <= set(names)


def test_the_resolved_config_is_read_back_as_it_was(tmp_path: Path):
    import yaml

    made = config.compose(["dataset=sts_b", "method=sqinv_lds_fds"])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.to_dict(made)))
    assert config.load(tmp_path / "config.yaml") == made


def test_the_schema_is_documented_key_by_key_where_choices_are_words():
    composed = config.compose([])
    for key, choices in rules.CHOICES.items():
        assert schema.look_up(composed, key) in choices
    assert inspect.getdoc(config)


def test_the_hint_for_a_wrong_key_is_one_of_the_chosen_datasets() -> None:
    with pytest.raises(UserError, match=r"dataset\.source\.features\.eeg_topp' \(did you mean '.*eeg_top'"):
        config.compose(["dataset=shhs", "dataset.source.features.eeg_topp=16"])


def test_identities_of_runs_that_were_finished_before_stay_what_they_were():
    """`identities.json` was written before methods became parts, with "fixed" for the fingerprint of the data."""
    stored = json.loads((Path(__file__).parents[1] / "identities.json").read_text(encoding="utf-8"))
    found = {}
    for words, made in zip(stored, config.compose_all([words.split() for words in stored]), strict=True):
        plain = config.to_dict(made) | {"data": "fixed"}
        found[words] = identity(plain, schema.left_out(made))
    # Runs whose numbers changed: statistics of FDS taken over on faces, its subset in order, STS-B's batches and stop,
    # channels last in half precision. What classes of own data stand for is here still to be chosen.
    rrt_on_faces = {f"dataset={name} method=rrt_lds_fds" for name in ("agedb", "imdb_wiki")}
    fds_on_depth = {words for words in stored if words.startswith("dataset=nyud2") and "fds" in words}
    sts_b = {words for words in stored if words.startswith("dataset=sts_b") and "bilstm_small" not in words}
    half = {words for words in stored if "bf16" in words}
    classes = {f"dataset={name} method=crt" for name in ("arrays", "images")}
    assert {
        words for words in stored if found[words] != stored[words]
    } == rrt_on_faces | fds_on_depth | sts_b | half | classes


@pytest.mark.parametrize(
    ("overrides", "last"),
    [
        (["dataset=arrays"], False),
        (["dataset=arrays", "trainer.precision=bf16-mixed"], True),
        (["dataset=arrays", "trainer.precision=16-mixed"], True),
        (["dataset=arrays", "trainer.precision=64-true"], False),
        (["dataset=arrays", "trainer.precision=bf16-mixed", "trainer.channels_last=false"], False),
        (["dataset=agedb"], True),
    ],
)
def test_half_precision_has_channels_last_by_itself(overrides, last):
    assert config.compose(overrides).trainer.channels_last is last


@pytest.mark.parametrize(
    ("bins", "said"),
    [
        ("{start: 0, stop: inf, width: 1}", r"dataset\.bins\.stop=inf must be a finite number"),
        ("{start: inf, stop: null, width: 1, choose: width}", r"dataset\.bins\.start=inf must be a finite number"),
        ("{start: 0, stop: 1.0e+12, width: 1}", "more than 1,000,000 bins"),
    ],
)
def test_bins_without_number_are_refused_before_any_is_made(bins, said):
    with pytest.raises(UserError, match=said):
        config.compose(["dataset=arrays", f"dataset.bins={bins}"])


@pytest.mark.parametrize("overrides", [["own=a"], ["own=a", "seed=1"], ["+own=b"], ["dataset=c"]])
def test_a_choice_of_ones_own_that_cannot_be_composed_is_one_sentence(tmp_path, overrides):
    bad = "defaults:\n  - override /nothing: x\n"
    for group, name, text in (("own", "a", "x: 1\n"), ("own", "b", bad), ("dataset", "c", bad)):
        (tmp_path / group).mkdir(exist_ok=True)
        (tmp_path / group / f"{name}.yaml").write_text(text)
    for compose in (config.compose_job, lambda words, folder: config.compose_all([words], folder)):
        with pytest.raises(UserError) as caught:
            compose(overrides, str(tmp_path))
        assert "own" in str(caught.value) or "nothing" in str(caught.value)


def test_a_method_file_without_its_first_line_is_told_of_it(tmp_path):
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "own.yaml").write_text("# own.yaml\n# @package _global_\nparts: {}\n")
    with pytest.raises(UserError, match=r"the first line `# @package _global_`"):
        config.compose(["method=own"], str(tmp_path))


def test_a_loss_beside_a_methods_head_is_refused_unless_it_selects_the_epoch():
    composed = config.compose(["dataset=agedb", "method=bmc", "loss=mse"])
    assert composed.loss.monitor(composed) == "mse"
    with pytest.raises(UserError, match=r"loss=huber has no effect beside parts\.head"):
        config.compose(["dataset=agedb", "method=bmc", "loss=huber"])
