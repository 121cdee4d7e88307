"""Heads: cross-entropy against torch, decoding by hand, and that regression is left as it is."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from dir_bench.labels import TargetBins
from dir_bench.methods.heads import Classification, Regression, class_values
from dir_bench.methods.losses import l1

AGES = TargetBins.regular(0, 121, 1, rule="truncate")
DEPTHS = TargetBins.regular(0, 10, 0.1, first=7, rule="truncate", precision="float32")


def head(bins: TargetBins, value: str = "center", expected: bool = False) -> Classification:
    return Classification(bins, torch.from_numpy(class_values(bins, value)), expected)


def test_a_class_stands_for_the_middle_of_its_bin_or_its_lower_edge():
    bins = TargetBins.regular(0, 5, 1, first=2)
    assert class_values(bins, "center").tolist() == [2.5, 3.5, 4.5]
    assert class_values(bins, "edge").tolist() == [2, 3, 4]


@pytest.mark.parametrize("expected", [False, True])
def test_whole_years_decode_to_themselves(expected):
    years = torch.arange(121.0)
    certain = 1e4 * nn.functional.one_hot(AGES.index(years)).float()
    assert torch.equal(head(AGES, "edge", expected).decode(certain), years[:, None])


def test_decoding_by_hand():
    bins = TargetBins.regular(0, 3, 1)  # middles 0.5, 1.5, 2.5
    output = torch.tensor([[0.2, 0.3, 0.5]]).log()
    assert head(bins).decode(output).tolist() == [[2.5]]
    # 0.2 · 0.5 + 0.3 · 1.5 + 0.5 · 2.5 = 1.8
    torch.testing.assert_close(head(bins, expected=True).decode(output), torch.tensor([[1.8]]))


@pytest.mark.parametrize("expected", [False, True])
def test_maps_decode_pixel_by_pixel(expected):
    torch.manual_seed(0)
    output = torch.randn(2, 93, 3, 4)
    depth = head(DEPTHS, expected=expected)
    assert depth.outputs == 93
    rows = depth.decode(output.movedim(1, -1).reshape(-1, 93))
    torch.testing.assert_close(depth.decode(output), rows.reshape(2, 1, 3, 4), rtol=1e-6, atol=1e-6)


def test_losses_are_the_cross_entropy_of_the_bin_for_numbers_and_for_maps():
    torch.manual_seed(0)
    ages, scores = torch.tensor([[0.0], [37.0], [120.0], [130.0]]), torch.randn(4, 121)
    expected = nn.functional.cross_entropy(scores, torch.tensor([0, 37, 120, 120]), reduction="none")
    torch.testing.assert_close(head(AGES).losses(scores, ages), expected[:, None])
    depths, scores = torch.tensor([[[[0.2, 0.75], [3.0, 9.99]]]]), torch.randn(1, 93, 2, 2)
    # below the first bin in use, its own bin, 30 − 7, 99 − 7
    classes = torch.tensor([[[0, 0], [23, 92]]])
    by_hand = -scores.log_softmax(1).gather(1, classes[:, None])
    torch.testing.assert_close(head(DEPTHS).losses(scores, depths), by_hand)


def test_targets_on_an_edge_are_classified_in_their_own_precision():
    bins = TargetBins.regular(0, 1, 0.1)
    below = torch.tensor([[np.nextafter(bins.edges[3], 0)]], dtype=torch.float64)  # in float32 it would be bin 3
    scores = torch.arange(10.0)[None]
    expected = nn.functional.cross_entropy(scores, torch.tensor([2]), reduction="none")
    torch.testing.assert_close(head(bins).losses(scores, below), expected[:, None])


@settings(deadline=None)
@given(st.lists(st.floats(-50, 50, width=32), min_size=6, max_size=6), st.floats(-20, 20, width=32))
def test_an_expectation_lies_within_the_labels_and_ignores_a_common_shift(scores, shift):
    bins = TargetBins.regular(-1, 2, 0.5)
    output = torch.tensor([scores])
    found = head(bins, expected=True).decode(output)
    assert -0.75 - 1e-5 <= found.item() <= 1.75 + 1e-5
    torch.testing.assert_close(head(bins, expected=True).decode(output + shift), found, rtol=1e-3, atol=1e-3)


def test_regression_is_the_loss_in_network_units_and_the_output_itself():
    regression = Regression(l1, target_scale=5.0)
    output, targets = torch.tensor([[0.5], [0.1]]), torch.tensor([[5.0], [0.5]])
    assert regression.outputs == 1
    torch.testing.assert_close(regression.losses(output, targets), torch.tensor([[0.5], [0.0]]))
    assert regression.decode(output) is output
