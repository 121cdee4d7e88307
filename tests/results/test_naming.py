"""Names follow the paper's rows, and two configs share an identity only if they can give the same numbers."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import dir_bench
from dir_bench.results.naming import (
    Toggles,
    dataset_name,
    dataset_title,
    flatten,
    identity,
    method_name,
    method_slug,
    slug,
    subset_label,
    without,
)
from dir_bench.schema import Subset

FACES: dict[str, Any] = {"lds_reweight": "sqrt_inv"}
STS_B: dict[str, Any] = {"loss": "mse", "default_loss": "mse", "default_focal": "focal_mse"}

NAMES = [
    # (toggles, name, folder): the rows of Tables 1–5, then those of the ablations
    ({}, "VANILLA", "vanilla"),
    ({"fds": "gaussian"}, "VANILLA + FDS", "vanilla_fds"),
    ({"reweight": "inv"}, "INV", "inv"),
    ({"reweight": "sqrt_inv"}, "SQINV", "sqinv"),
    ({"reweight": "sqrt_inv", "lds": "gaussian"}, "SQINV + LDS", "sqinv_lds"),
    ({"reweight": "inv", "lds": "gaussian", "fds": "gaussian"}, "INV + LDS + FDS", "inv_lds_fds"),
    ({"loss": "focal_l1"}, "FOCAL-R", "focal_r"),
    (
        {"loss": "focal_l1", "reweight": "sqrt_inv", "lds": "gaussian", **FACES},
        "FOCAL-R + LDS",
        "focal_r_lds",
    ),
    (
        {**STS_B, "loss": "focal_mse", "reweight": "inv", "lds": "gaussian", "fds": "gaussian"},
        "FOCAL-R + LDS + FDS",
        "focal_r_lds_fds",
    ),
    ({"stages": "rrt", "reweight": "inv"}, "RRT", "rrt"),
    ({"stages": "rrt", "reweight": "inv", "lds": "gaussian", **FACES}, "RRT + LDS", "rrt_lds"),
    ({"resample": "smogn", "lds": "gaussian", "fds": "gaussian"}, "SMOGN + LDS + FDS", "smogn_lds_fds"),
    ({"resample": "smoter"}, "SMOTER", "smoter"),
    (
        {"resample": "smogn", "loss": "focal_l1", "lds": "gaussian", **FACES},
        "SMOGN + FOCAL-R + LDS",
        "smogn_focal_r_lds",
    ),
    ({"mixup": "manifold"}, "M-MIXUP", "m_mixup"),
    ({"mixup": "input"}, "MIXUP", "mixup"),
    ({"head": "classification"}, "CLS-VANILLA", "cls_vanilla"),
    ({"head": "classification", "reweight": "class_balanced"}, "CB", "cb"),
    ({"head": "classification", "reweight": "class_balanced", "stages": "crt"}, "CRT", "crt"),
    ({"parts": ("BMC",)}, "BMC", "bmc"),
    (
        {"reweight": "sqrt_inv", "fds": "gaussian", "parts": ("ranksim",)},
        "SQINV + FDS + RANKSIM",
        "sqinv_fds_ranksim",
    ),
    (
        {"fds": "triang"},
        "VANILLA + FDS [KERNEL=TRIANGULAR]",
        "vanilla_fds_kernel_triangular",
    ),
    (
        {"reweight": "inv", "lds": "gaussian", "lds_kernel_size": 9, "lds_sigma": 1.0},
        "INV + LDS [KS=9;SIGMA=1]",
        "inv_lds_ks9_sigma1",
    ),
    ({**STS_B, "loss": "huber", "fds": "gaussian"}, "VANILLA + FDS [LOSS=HUBER]", "vanilla_fds_loss_huber"),
    # not in the paper
    ({"semantics": "paper"}, "VANILLA [SEMANTICS=PAPER]", "vanilla_semantics_paper"),
    ({"loss": "focal_l1", "reweight": "inv"}, "FOCAL-R + INV", "focal_r_inv"),
    ({**STS_B, "loss": "focal_l1"}, "FOCAL-R [LOSS=FOCAL_L1]", "focal_r_loss_focal_l1"),
    ({"stages": "rrt", "reweight": "sqrt_inv"}, "RRT + SQINV", "rrt_sqinv"),
    ({"head": "classification", "fds": "gaussian"}, "CLS-VANILLA + FDS", "cls_vanilla_fds"),
    ({"head": "classification", "reweight": "inv", "lds": "gaussian"}, "CLS-INV + LDS", "cls_inv_lds"),
    ({"head": "classification", "reweight": "class_balanced", "resample": "smogn"}, "CLS-SMOGN + CB", "cls_smogn_cb"),
    ({"head": "classification", "decode": "expected"}, "CLS-VANILLA [DECODE=EXPECTED]", "cls_vanilla_decode_expected"),
    ({"reweight": "class_balanced"}, "CLASS-BALANCED", "class_balanced"),
    ({"stages": "rrt"}, "RRT [REWEIGHT=NONE]", "rrt_reweight_none"),
    ({"lds": "gaussian"}, "VANILLA + LDS [REWEIGHT=NONE]", "vanilla_lds_reweight_none"),
    (
        {"reweight": "inv", "lds": "laplace", "fds": "gaussian", "fds_sigma": 1.5},
        "INV + LDS + FDS [LDS.KERNEL=LAPLACIAN;FDS.KS=5;FDS.SIGMA=1.5]",
        "inv_lds_fds_lds.kernel_laplacian_fds.ks5_fds.sigma1.5",
    ),
    (
        {"reweight": "inv", "lds": "triang", "fds": "triang", "loss": "huber"},
        "INV + LDS + FDS [KERNEL=TRIANGULAR;LOSS=HUBER]",
        "inv_lds_fds_kernel_triangular_loss_huber",
    ),
]


@pytest.mark.parametrize(("toggles", "name", "folder"), NAMES, ids=[folder for *_, folder in NAMES])
def test_method_is_named_as_the_paper_prints_it(toggles: dict[str, Any], name: str, folder: str) -> None:
    assert method_name(Toggles(**toggles)) == name
    assert method_slug(Toggles(**toggles)) == folder


kernels = st.sampled_from(["none", "gaussian", "triang", "laplace"])
sizes = st.sampled_from([5, 9, 15])
sigmas = st.sampled_from([1.0, 1.5, 2.0])
any_toggles = st.builds(
    Toggles,
    reweight=st.sampled_from(["none", "inv", "sqrt_inv", "class_balanced"]),
    lds=kernels,
    lds_kernel_size=sizes,
    lds_sigma=sigmas,
    fds=kernels,
    fds_kernel_size=sizes,
    fds_sigma=sigmas,
    loss=st.sampled_from(["l1", "mse", "huber", "focal_l1", "focal_mse"]),
    stages=st.sampled_from(["none", "rrt"]),
    resample=st.sampled_from(["none", "smoter", "smogn"]),
    mixup=st.sampled_from(["none", "input", "manifold"]),
    head=st.sampled_from(["regression", "classification"]),
    parts=st.sampled_from([(), ("ranksim",), ("conr",), ("ranksim", "conr"), ("BMC",)]),
    semantics=st.sampled_from(["published", "paper", "custom"]),
)


def effective(toggles: Toggles) -> Toggles:
    """Forget the size and sigma of kernels that are off."""
    lds = {} if toggles.lds != "none" else {"lds_kernel_size": 5, "lds_sigma": 2.0}
    fds = {} if toggles.fds != "none" else {"fds_kernel_size": 5, "fds_sigma": 2.0}
    return replace(toggles, **lds, **fds)


@settings(deadline=None, max_examples=300)
@given(any_toggles, any_toggles, st.sampled_from(["inv", "sqrt_inv"]))
def test_different_toggles_of_a_dataset_never_share_a_name(a: Toggles, b: Toggles, coupled: str) -> None:
    a, b = (replace(toggles, lds_reweight=coupled) for toggles in (a, b))
    assert (method_name(a) == method_name(b)) == (effective(a) == effective(b))


@settings(deadline=None, max_examples=300)
@given(any_toggles, st.sampled_from(["inv", "sqrt_inv"]), st.data())
def test_one_changed_toggle_changes_the_name(toggles: Toggles, coupled: str, data: st.DataObject) -> None:
    a = effective(replace(toggles, lds_reweight=coupled))
    other = data.draw(any_toggles)
    field = data.draw(st.sampled_from(["reweight", "lds", "fds", "loss", "stages", "resample", "mixup"]))
    b = effective(replace(a, **{field: getattr(other, field)}))
    assert (method_name(a) == method_name(b)) == (a == b)


@settings(deadline=None)
@given(any_toggles)
def test_slug_is_a_plain_folder_name(toggles: Toggles) -> None:
    folder = method_slug(toggles)
    assert folder
    assert set(folder) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.")
    assert slug(folder) == folder


def test_every_name_of_the_paper_gets_a_slug_of_its_own() -> None:
    from dir_bench.results import published

    for title in {row.title for row in published.load()}:
        names = published.methods(title)
        assert len({slug(name) for name in names}) == len(names)


# ---- subsets of a dataset -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subset", "title", "name"),
    [
        (Subset(), "IMDB-WIKI-DIR", "imdb_wiki"),
        (Subset("skew_2", "2-PEAK SUBSET"), "IMDB-WIKI-DIR [2-PEAK SUBSET]", "imdb_wiki-2_peak_subset"),
        (
            Subset("test_as_train", "TEST=TRAIN DISTRIBUTION", test_share=0.1),
            "IMDB-WIKI-DIR [TEST=TRAIN DISTRIBUTION]",
            "imdb_wiki-test_train_distribution",
        ),
        (
            Subset("gaps", remove=[[20, 30.0], [45.5, 60]]),
            "IMDB-WIKI-DIR [REMOVE=20–30,45.5–60]",
            "imdb_wiki-remove20_30_45.5_60",
        ),
        (
            Subset("gaps", keep=[[0, 99]], remove=[[20, 30]]),
            "IMDB-WIKI-DIR [KEEP=0–99;REMOVE=20–30]",
            "imdb_wiki-keep0_99_remove20_30",
        ),
        (Subset("mine", fullest=9), "IMDB-WIKI-DIR [SUBSET=MINE]", "imdb_wiki-subset_mine"),
    ],
)
def test_a_subset_is_named_beside_its_dataset(subset: Subset, title: str, name: str) -> None:
    label = subset_label(subset)
    assert dataset_title("IMDB-WIKI-DIR", label) == title
    assert dataset_name("imdb_wiki", label) == name


def test_removed_ranges_that_differ_by_a_sign_have_names_of_their_own() -> None:
    ranges = [[[-20, -10]], [[-20, 10]], [[10, 20]], [[-2, 0], [1, 0.5]]]
    assert len({dataset_name("x", subset_label(Subset("gaps", remove=r))) for r in ranges}) == len(ranges)


# ---- identity -------------------------------------------------------------------------------------------------

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
keys = st.text("abcdef", min_size=1, max_size=3)
configs = st.dictionaries(
    keys,
    st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=5,
)


def reversed_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(item) for item in value] if isinstance(value, list) else value


@settings(deadline=None)
@given(configs)
def test_identity_is_ten_hex_digits_whatever_the_order_of_keys(config: dict[str, Any]) -> None:
    found = identity(config)
    assert len(found) == 10
    assert set(found) <= set("0123456789abcdef")
    assert identity(reversed_keys(config)) == found


@settings(deadline=None)
@given(configs, keys, leaves)
def test_ignored_keys_do_not_count(config: dict[str, Any], key: str, value: Any) -> None:
    config = {**config, "trainer": {"epochs": 9}}
    changed = {**config, key: value, "trainer": {"epochs": 9, "workers": value, "threads": {"a": value}}}
    ignore = [key, "trainer.workers", "trainer.threads", "not.there"]
    assert identity(changed, ignore) == identity(config, ignore)


@settings(deadline=None)
@given(configs, keys, leaves, leaves)
def test_changed_values_count(config: dict[str, Any], key: str, old: Any, new: Any) -> None:
    same = old == new and isinstance(old, bool) == isinstance(new, bool)
    assert (identity({**config, key: old}) == identity({**config, key: new})) == same


def test_whole_floats_are_integers_and_nothing_else_is_mixed_up() -> None:
    assert identity({"a": 1}) == identity({"a": 1.0}) == identity({"a": np.float32(1)})
    assert identity({"a": -0.0}) == identity({"a": 0})
    assert identity({"a": (1, 2)}) == identity({"a": [1, 2]})
    different: list[Any] = [1, True, "1", 1.5, None, "None", [1], {"1": 1}, [], {}, [[]], float("nan"), "nan"]
    assert len({identity({"a": value}) for value in different}) == len(different)
    assert identity({"a": 1}) != identity({"b": 1})
    assert identity({"a": {"b": 1}}) != identity({"a.b": 1})
    assert identity({"lr": 0.1}) != identity({"lr": np.nextafter(0.1, 1)})


def test_identity_is_the_same_in_another_process_and_for_good() -> None:
    config = {"seed": 0, "trainer": {"lr": 1e-3}}
    code = f"from dir_bench.results.naming import identity; print(identity({config!r}))"
    other = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(dir_bench.__file__).parents[1],
        env={"PYTHONHASHSEED": "7"},
    )
    # sha256 of '{"seed":0,"trainer":{"lr":0.001}}', computed with sha256sum
    assert identity(config) == other.stdout.strip() == "1a550cc188"


def test_without_leaves_the_config_as_it_was() -> None:
    config = {"a": {"b": 1, "c": 2}, "d": 3}
    assert without(config, ["a.b", "d", "a.b.c", "x.y"]) == {"a": {"c": 2}}
    assert config == {"a": {"b": 1, "c": 2}, "d": 3}


def test_flatten_keeps_empty_groups() -> None:
    assert dict(flatten({"a": {"b": 1, "c": {}}, "d": [1]})) == {"a.b": 1, "a.c": {}, "d": [1]}
