"""What a config leaves to its data: settled by its targets, once; and how bins can be asked for."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dir_bench import config, rules
from dir_bench.chosen import settle
from dir_bench.errors import UserError
from dir_bench.schema import Bins, Config, Shots, without_unused
from dir_bench.task import target_bins


@pytest.fixture(scope="module")
def table() -> Config:
    return config.compose(["dataset=table"])


def asking(table: Config, bins: Bins | None = None, regions: Shots | None = None, **more: Any) -> Config:
    changes = {"bins": bins or table.dataset.bins, "regions": regions or table.dataset.regions, **more}
    return replace(table, dataset=replace(table.dataset, **changes))


class Targets:
    """Stands for a dataset that has nothing but training targets, and counts how often they are asked for."""

    def __init__(self, targets: Any) -> None:
        self.targets, self.asked = np.asarray(targets), 0

    def train_targets(self) -> Any:
        self.asked += 1
        return self.targets


OPEN = {"start": None, "stop": None, "width": None}


def test_what_is_open_is_filled_in_and_what_is_set_stays(table: Config) -> None:
    data, known = Targets(np.repeat(np.arange(8.0), 20)), {}
    settled, said = settle(table, data, known)  # type: ignore[arg-type]
    bins = settled.dataset.bins
    assert (bins.start, bins.stop, bins.width, bins.choose, bins.count) == (0, 8, 1, "none", 8)
    assert (settled.dataset.fds_last, settled.dataset.regions.many_over, settled.dataset.regions.few_under) == (
        7,
        17,
        4,
    )
    assert len(said) == 2
    assert settle(table, data, known)[0] == settled  # type: ignore[arg-type]
    assert settle(settled, data) == (settled, ())  # type: ignore[arg-type]
    assert data.asked == 1
    own = asking(table, Bins(0, 10, 5), Shots(None, 0.0), fds_last=1)
    kept = settle(own, data)[0].dataset  # type: ignore[arg-type]
    assert (kept.bins.width, kept.regions.few_under, kept.regions.many_over, kept.fds_last) == (5, 0, 67, 1)


@pytest.mark.parametrize(
    ("given", "becomes"),
    [
        (Shots(None, 20.0), (20, 20)),
        (Shots(0.0, None), (0, 1)),
        (Shots(None, 2.0), (17, 2)),
        (Shots(9.0, None), (9, 4)),
    ],
)
def test_a_threshold_that_is_chosen_beside_one_that_is_set_does_not_cross_it(table, given, becomes) -> None:
    data = Targets(np.repeat(np.arange(8.0), 20))
    regions = settle(asking(table, Bins(0, 8, 1), given), data)[0].dataset.regions  # type: ignore[arg-type]
    assert (regions.many_over, regions.few_under) == becomes


def test_bins_of_other_widths_are_a_list_of_edges(table: Config) -> None:
    data = Targets(np.random.default_rng(0).normal(0, 1, 400))
    settled = settle(asking(table, Bins(**OPEN, choose="quantiles", number=4)), data)[0]  # type: ignore[arg-type]
    assert settled.dataset.bins.count == len(target_bins(settled.dataset)) == 4
    assert settled.dataset.fds_last == 3
    assert without_unused(settled).dataset.bins == settled.dataset.bins
    with pytest.raises(UserError, match="no bins can be chosen for sample: all 9 training targets are equal"):
        settle(table, Targets(np.ones(9)))  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["cls_vanilla", "hca", "bni"])
def test_a_class_stands_for_the_edge_of_its_bin_where_targets_lie_on_edges(method: str) -> None:
    def value(targets: Any, *settings: str) -> str:
        composed = config.compose(["dataset=table", f"method={method}", *settings])
        settled, said = settle(composed, Targets(targets))  # type: ignore[arg-type]
        assert ("a class stands for" in " ".join(said)) == (not settings)
        assert settle(settled, Targets(targets)) == (settled, ())  # type: ignore[arg-type]
        return str(settled.parts["head"]["value"] if "head" in settled.parts else settled.head.value)

    whole = np.repeat(np.arange(8.0), 20)
    assert value(whole) == "edge"
    assert value(whole / 10) == "center"  # edges lie between the places
    assert value(np.random.default_rng(0).normal(0, 1, 400)) == "center"
    assert value(whole, "dataset.recipe.class_value=center") == "center"


def test_a_run_without_classes_asks_for_no_value_of_them(table: Config) -> None:
    settled, said = settle(table, Targets(np.repeat(np.arange(8.0), 20)))  # type: ignore[arg-type]
    assert (settled.head, len(said)) == (table.head, 2)


@pytest.mark.parametrize(
    ("bins", "said"),
    [
        (Bins(**OPEN), r"dataset.bins.start=None is for bins that are chosen from the targets"),
        (Bins(0, 1, 0.1, number=3), r"dataset.bins.number=3 is for bins that are chosen"),
        (Bins(None, None, 2.0, choose="width", number=3), r"number=3 .* takes the place of dataset.bins.width"),
        (Bins(0, None, None, choose="quantiles"), r"dataset.bins.start=0 has no effect with .*=quantiles"),
        (Bins(edges=[1, 1]), r"edges=\[1, 1\] must list two or more numbers that increase"),
        (Bins(edges=[1]), r"must list two or more"),
        (Bins(3, 2, None, choose="width"), r"stop=2 must lie above start=3"),
        (Bins(0, 1, 1e-9), r"more than 1,000,000 bins"),
    ],
)
def test_bins_that_cannot_be_are_refused(table: Config, bins: Bins, said: str) -> None:
    with pytest.raises(UserError, match=said):
        rules.check(asking(table, bins))


def test_bins_that_do_not_fit_and_depth_maps_are_refused(table: Config) -> None:
    with pytest.raises(UserError, match=r"dataset.bins: no whole number of bins of width 0.3"):
        target_bins(asking(table, Bins(0, 1, 0.3)).dataset)
    with pytest.raises(UserError, match=r"dataset.bins cannot be chosen from depth maps"):
        rules.check(asking(table, dense=True, standardize=False, regions=Shots()))
