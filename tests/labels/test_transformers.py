"""Weights by `fit` and `transform`: those of the functions they stand for; arrays, tensors, several outputs."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dir_bench import DenseWeights, LDSWeights, TargetBins, bin_weights
from dir_bench.labels.dense import dense_weights

BINS = TargetBins.regular(0, 10, 1)
TARGETS = np.concatenate([np.full(60, 2.5), np.full(20, 3.5), np.arange(10) + 0.2])


def test_lds_weights_are_the_table_of_bins_at_each_target():
    table = bin_weights(BINS.counts(TARGETS), "sqrt_inv", lds={"kernel": "gaussian", "kernel_size": 5, "sigma": 2})
    weights = LDSWeights(BINS).fit(TARGETS)
    np.testing.assert_array_equal(weights.transform(TARGETS), table[BINS.index(TARGETS)])
    np.testing.assert_array_equal(weights.transform([-3.0, 42.0]), table[[0, 9]])
    plain = LDSWeights(BINS, "inv", kernel=None).fit(TARGETS)
    np.testing.assert_allclose(plain.transform([2.1, 3.1]), [90 / 10 / 61, 90 / 10 / 21], rtol=1e-6)  # by hand


def test_dense_weights_are_those_of_the_grid():
    grid, table = dense_weights(TARGETS, alpha=0.7)
    weights = DenseWeights(alpha=0.7).fit(TARGETS)
    asked = np.concatenate([TARGETS, [-1.0, 99.0], grid[[0, 7, -1]]])
    expected = table[(np.searchsorted(grid, asked, side="right") - 1).clip(0, len(grid) - 1)]
    np.testing.assert_allclose(weights.transform(asked), expected, rtol=1e-6)


@pytest.mark.parametrize("weights", [LDSWeights(), LDSWeights(BINS, "inv"), DenseWeights()], ids=repr)
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 999))
def test_training_targets_weigh_1_on_average_and_tensors_as_much_as_arrays(weights, seed):
    targets = np.random.default_rng(seed).gamma(2, 2, 200)
    made = weights.fit_transform(targets)
    assert made.dtype == np.float32
    assert made.mean() == pytest.approx(1, rel=1e-4)
    for shape in (200,), (200, 1), (2, 1, 10, 10):
        tensor = weights.transform(torch.from_numpy(targets).reshape(shape))
        assert tensor.shape == shape
        np.testing.assert_array_equal(tensor.numpy().ravel(), made)


@pytest.mark.parametrize(
    "weights", [LDSWeights(), LDSWeights([BINS, BINS]), DenseWeights()], ids=["own", "given", "dense"]
)
def test_outputs_are_weighted_one_by_one(weights):
    rng = np.random.default_rng(0)
    targets = np.stack([rng.gamma(2, 1, 300), rng.normal(5, 1, 300)], 1)
    together = weights.fit(targets).transform(targets)
    np.testing.assert_array_equal(weights.transform(torch.from_numpy(targets)).numpy(), together)
    for place in range(2):
        alone = copy.deepcopy(weights)
        alone.bins = BINS if getattr(weights, "bins", None) else None
        np.testing.assert_array_equal(together[:, place], alone.fit_transform(targets[:, place]))


@pytest.mark.parametrize("make", [copy.deepcopy, lambda weights: pickle.loads(pickle.dumps(weights))])
def test_copies_carry_what_was_fitted(make):
    weights = LDSWeights().fit(TARGETS)
    weights.transform(torch.from_numpy(TARGETS))
    twin = make(weights)
    assert twin._on_device == {}
    np.testing.assert_array_equal(twin.transform(TARGETS), weights.transform(TARGETS))


def test_a_loss_with_weights_compiles_and_runs_in_half_precision():
    weights, targets = LDSWeights().fit(TARGETS), torch.from_numpy(TARGETS).float()

    def loss(outputs):
        return (weights.transform(targets) * (outputs - targets).abs()).mean()

    outputs = torch.zeros(len(targets))
    assert torch.compile(loss, backend="eager")(outputs) == loss(outputs)
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(outputs.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize(
    ("weights", "targets", "said"),
    [
        (LDSWeights(), [], "the shape"),
        (LDSWeights(), np.zeros((2, 2, 2)), "the shape"),
        (LDSWeights(), [1.0, np.nan, np.inf], "2 training targets are not finite"),
        (LDSWeights([BINS]), np.ones((5, 2)), "1 bins for 2 outputs"),
        (DenseWeights(), [3.0, 3.0], "two labels"),
    ],
)
def test_what_cannot_be_fitted_is_said(weights, targets, said):
    with pytest.raises(ValueError, match=said):
        weights.fit(targets)


def test_what_cannot_be_weighted_is_said():
    with pytest.raises(ValueError, match="call fit first"):
        LDSWeights().transform([1.0])
    with pytest.raises(ValueError, match="NaN"):
        DenseWeights().fit(TARGETS).transform([np.nan])
    with pytest.raises(ValueError, match=r"shape \(…, 2\), not \(3,\)"):
        LDSWeights().fit(np.stack([TARGETS, TARGETS], 1)).transform([1.0, 2.0, 3.0])
