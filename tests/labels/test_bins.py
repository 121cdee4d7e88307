"""Binning: every published edge case, and one answer for NumPy and torch."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dir_bench.labels import TargetBins

AGE = TargetBins.regular(0, 121, 1, rule="truncate")
STSB = TargetBins.regular(0, 5, 0.1, precision="float32")
NYUD2 = TargetBins.regular(0, 10, 0.1, first=7, rule="truncate", precision="float32")
SHHS = TargetBins.regular(0, 100, 1)
SIGNED = TargetBins(np.array([-3.5, -1.0, 0.0, 0.25, 7.0]))
ALL = {"age": AGE, "sts_b": STSB, "nyud2": NYUD2, "shhs": SHHS, "signed": SIGNED}


def test_published_sizes() -> None:
    assert [len(bins) for bins in ALL.values()] == [121, 50, 100, 100, 4]
    assert NYUD2.first == 7
    assert np.allclose(NYUD2.centers[:2], [0.05, 0.15])
    assert np.allclose(SIGNED.widths, [2.5, 1.0, 0.25, 6.75])


def test_ages_are_cut_to_years_and_end_at_120() -> None:
    ages = [0, 0.99, 1, 33.999, 119.5, 120, 120.5, 121, 186, -3]
    assert AGE.index(ages).tolist() == [0, 0, 1, 33, 119, 120, 120, 120, 120, 0]


def test_a_score_on_an_edge_is_in_the_upper_bin_and_5_in_the_last() -> None:
    # float32(0.3) is 0.300000012, float32(3 * 0.1) the same number: on the edge, so bin 3.
    # 0.3 in float64 is below that edge, but targets are compared as float32.
    assert STSB.index([0, 0.1, 0.3, 0.29999, 4.9, 4.999, 5.0, 5.5, -1]).tolist() == [
        0,
        1,
        3,
        2,
        49,
        49,
        49,
        49,
        0,
    ]


def test_every_score_edge_is_in_its_own_bin() -> None:
    edges = np.array([i * 0.1 for i in range(51)], dtype=np.float32)
    assert STSB.index(edges).tolist() == [*range(50), 49]
    below = np.nextafter(edges[1:], np.float32(0))
    assert STSB.index(below).tolist() == list(range(50))


def test_depth_is_multiplied_in_float32() -> None:
    def published(depth: float) -> int:
        return min(int(np.float32(depth) * np.float32(10)), 99)

    depths = [0.0, 0.05, 0.7, 0.69999999, 4.1, 2.3, 1.1, 9.95, 10.0, 12.5, 0.29999998]
    assert NYUD2.index(depths).tolist() == [published(depth) for depth in depths]
    # 0.7 in float64 times 10 is 7.000000000000001 or 6.99...: float32(0.7) * float32(10) is exactly 7
    assert NYUD2.index(0.7).tolist() == 7


def test_truncating_differs_from_comparing_with_edges() -> None:
    # float64: 0.3 * 10 is exactly 3.0, while the edge 3 * 0.1 is 0.30000000000000004, above 0.3
    cut = TargetBins.regular(0, 1, 0.1, rule="truncate")
    compared = TargetBins(np.arange(11) * 0.1)
    assert (cut.index(0.3).tolist(), compared.index(0.3).tolist()) == (3, 2)


def test_uneven_real_valued_edges() -> None:
    assert SIGNED.index([-9, -3.5, -1.0001, -1, -0.1, 0.24, 0.25, 7, 8]).tolist() == [
        0,
        0,
        0,
        1,
        1,
        2,
        3,
        3,
        3,
    ]


def test_regular_bins_may_start_below_zero() -> None:
    bins = TargetBins.regular(-2, 2, 0.5)
    assert len(bins) == 8
    assert bins.index([-2, -0.25, 0, 0.5, 1.99, 2]).tolist() == [0, 3, 4, 5, 7, 7]
    cut = TargetBins.regular(-2, 2, 0.5, rule="truncate")
    assert cut.index([-2, -0.25, 0, 0.5, 1.99, 2]).tolist() == [0, 3, 4, 5, 7, 7]


def test_shape_and_type_are_kept() -> None:
    depth = np.full((2, 1, 3, 4), 3.14, dtype=np.float32)
    index = NYUD2.index(depth)
    assert index.shape == depth.shape
    assert index.dtype == np.int64
    assert AGE.index(7).shape == ()
    assert AGE.index([]).tolist() == []
    assert AGE.index(np.array([3, 200], dtype=np.uint8)).tolist() == [3, 120]


def test_infinite_targets_are_in_the_end_bins() -> None:
    for bins in ALL.values():
        assert bins.index([-np.inf, np.inf]).tolist() == [0, len(bins) - 1]


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        AGE.index([1.0, np.nan])


def test_counts_hold_every_target() -> None:
    ages = [1, 1, 1.5, 119, 150, 200]
    counts = AGE.counts(ages)
    assert (counts[1], counts[119], counts[120], counts.sum()) == (3, 1, 2, 6)
    assert counts.dtype == np.int64
    assert AGE.counts(torch.tensor(ages)).tolist() == counts.tolist()
    assert AGE.counts([]).sum() == 0


def test_tensors_stay_tensors() -> None:
    target = torch.rand(2, 3, 4, requires_grad=True) * 5
    index = STSB.index(target)
    assert isinstance(index, torch.Tensor)
    assert index.dtype == torch.int64
    assert index.shape == target.shape
    assert not index.requires_grad


def test_edges_are_made_once_per_device() -> None:
    bins = TargetBins.regular(0, 5, 0.1)
    bins.index(torch.rand(3))
    (kept,) = bins._on_device.values()
    bins.index(torch.rand(4, dtype=torch.float64))
    assert list(bins._on_device.values()) == [kept]


def test_a_copy_carries_no_tensor() -> None:
    bins = TargetBins.regular(0, 5, 0.1, first=3, precision="float32")
    bins.index(torch.rand(3))
    for twin in (pickle.loads(pickle.dumps(bins)), copy.deepcopy(bins)):
        assert twin._on_device == {}
        assert (twin.first, twin.precision, len(twin)) == (3, "float32", 50)


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(sorted(ALL)),
    width=st.sampled_from([32, 64]),
    seed=st.integers(0, 2**32 - 1),
)
def test_numpy_and_torch_agree(name: str, width: int, seed: int) -> None:
    bins, random = ALL[name], np.random.default_rng(seed)
    span = bins.edges[-1] - bins.edges[0]
    anywhere = random.uniform(bins.edges[0] - span / 4, bins.edges[-1] + span / 4, 300)
    on_edges = random.choice(bins.edges, 100)
    targets = np.concatenate([anywhere, on_edges, np.nextafter(on_edges, np.inf)]).astype(f"float{width}")
    expected = bins.index(targets)
    assert torch.equal(bins.index(torch.from_numpy(targets)), torch.from_numpy(expected))
    assert ((expected >= 0) & (expected < len(bins))).all()


@settings(deadline=None, max_examples=60)
@given(targets=st.lists(st.floats(-10, 10, width=32), max_size=30))
def test_index_agrees_with_a_loop_over_edges(targets: list[float]) -> None:
    def bin_of(target: float) -> int:
        above = [i for i, edge in enumerate(SIGNED.edges) if edge > target]
        return min(max((above[0] if above else 5) - 1, 0), 3)

    assert SIGNED.index(targets).tolist() == [bin_of(target) for target in targets]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"edges": [0, 1, 1, 2]}, "increase"),
        ({"edges": [0, np.nan]}, "finite"),
        ({"edges": [0]}, "two or more"),
        ({"edges": [[0, 1], [2, 3]]}, "two or more"),
        ({"edges": [0, 1, 2], "first": 2}, "first must be one of the 2 bins"),
        ({"edges": [0, 1, 3], "rule": "truncate"}, "equal width"),
        ({"edges": [0, 1], "rule": "trunkate"}, "did you mean 'truncate'"),
        ({"edges": [0, 1], "precision": "float16"}, "precision must be one of"),
        ({"edges": [0, 1, 1 + 1e-12], "precision": "float32"}, "increase"),
    ],
)
def test_bad_bins_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TargetBins(**arguments)


@pytest.mark.parametrize("range_", [(0, 5, 0.3), (0, 5, 0), (5, 0, 1), (0, 5, -1), (0, 1, 3), (0, np.nan, 1)])
def test_regular_refuses_what_does_not_fit(range_: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="bins"):
        TargetBins.regular(*range_)


def test_edges_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        STSB.edges[0] = 3


def test_labels_need_no_torch() -> None:
    script = "import sys, dir_bench.labels, dir_bench.evaluation; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("rule", ["edges", "truncate"])
def test_what_is_no_number_falls_in_an_end_bin_of_a_tensor(rule):
    torch = pytest.importorskip("torch")
    bins = TargetBins.regular(0, 10, 1, rule=rule)
    found = bins.index(torch.tensor([torch.nan, torch.inf, -torch.inf, 3.5]))
    assert found[0] in (0, 9)
    assert found[1:].tolist() == [9, 0, 3]
