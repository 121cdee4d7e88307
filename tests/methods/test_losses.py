"""Elementwise losses: hand values, gradients at zero, shapes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dir_bench.methods.losses import focal_l1, focal_mse, huber, l1, mse, weighted_mean

FOCAL = (focal_l1, focal_mse)
ALL = (l1, mse, huber, *FOCAL)


def of(loss, error: float, **settings) -> float:
    prediction = torch.tensor([10.0 + error], dtype=torch.float64)
    return loss(prediction, torch.tensor([10.0], dtype=torch.float64), **settings).item()


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(
    ("loss", "settings", "expected"),
    [
        (l1, {}, 2.0),
        (mse, {}, 4.0),
        (huber, {}, 1.5),  # 2 - 1/2
        (huber, {"beta": 2.0}, 1.0),  # at the joint, both forms: 4 / 4 = 2 - 1
        (huber, {"beta": 4.0}, 0.5),  # 4 / 8
        (focal_l1, {}, 2 * (2 / (1 + math.exp(-0.4)) - 1)),
        (focal_mse, {}, 4 * (2 / (1 + math.exp(-0.4)) - 1)),
        (focal_l1, {"activate": "tanh"}, 2 * math.tanh(0.4)),
        (focal_mse, {"activate": "tanh", "beta": 3.0, "gamma": 2.0}, 4 * math.tanh(6.0) ** 2),
        (focal_l1, {"beta": 1.0, "gamma": 0.5}, 2 * math.sqrt(2 / (1 + math.exp(-2)) - 1)),
        (focal_l1, {"gamma": 0.0}, 2.0),
    ],
)
def test_an_error_of_two_by_hand(loss, settings, expected, sign) -> None:
    assert of(loss, 2.0 * sign, **settings) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("loss", ALL)
def test_no_error_has_no_loss_and_no_gradient(loss) -> None:
    prediction = torch.zeros(3, 1, requires_grad=True)
    value = loss(prediction, torch.zeros(3, 1))
    value.sum().backward()
    assert (value == 0).all()
    assert (prediction.grad == 0).all()


@pytest.mark.parametrize("loss", FOCAL)
@pytest.mark.parametrize("activate", ["sigmoid", "tanh"])
@pytest.mark.parametrize("gamma", [0.0, 0.25, 1.0, 2.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_focal_gradient_is_finite_at_and_near_zero(loss, activate, gamma, dtype) -> None:
    prediction = torch.tensor([0.0, 1e-38, 1e-12, 1e-6, -1e-3, 1e4], dtype=dtype, requires_grad=True)
    value = loss(prediction, torch.zeros_like(prediction), beta=0.2, gamma=gamma, activate=activate)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(prediction.grad).all()
    assert prediction.grad[0] == 0


@settings(deadline=None)
@given(error=st.floats(0.01, 50), beta=st.floats(0.01, 5), gamma=st.floats(0.1, 3))
def test_focal_gradient_is_that_of_the_formula(error, beta, gamma) -> None:
    for loss, activate in ((loss, activate) for loss in FOCAL for activate in ("sigmoid", "tanh")):
        prediction = torch.tensor([error, -error], dtype=torch.float64, requires_grad=True)
        target = torch.zeros_like(prediction)
        assert torch.autograd.gradcheck(lambda p, t=target, f=loss, a=activate: f(p, t, beta, gamma, a), (prediction,))


@settings(deadline=None)
@given(error=st.floats(-100, 100), gamma=st.floats(0, 4))
def test_focal_is_at_most_the_plain_loss(error, gamma) -> None:
    assert 0 <= of(focal_l1, error, gamma=gamma) <= of(l1, error)
    assert 0 <= of(focal_mse, error, gamma=gamma) <= of(mse, error)


@pytest.mark.parametrize("loss", ALL)
@pytest.mark.parametrize("shapes", [((4, 1), (4,)), ((4,), (1,)), ((4, 2), (4, 1))])
def test_shapes_that_would_broadcast_are_refused(loss, shapes) -> None:
    with pytest.raises(ValueError, match="one shape"):
        loss(*(torch.zeros(shape) for shape in shapes))


@pytest.mark.parametrize("loss", ALL)
@pytest.mark.parametrize("shape", [(5,), (5, 1), (5, 3), (2, 1, 4, 3)])
def test_nothing_is_reduced(loss, shape) -> None:
    assert loss(torch.randn(shape), torch.randn(shape)).shape == shape


def test_mean_counts_elements_not_weights() -> None:
    # (1 * 0.5 + 2 * 4) / 2, whatever the weights sum to
    weighted = weighted_mean(torch.tensor([[1.0], [2.0]]), torch.tensor([[0.5], [4.0]]))
    assert weighted.item() == 4.25
    assert weighted_mean(torch.tensor([[1.0], [2.0]])).item() == 1.5


def test_a_weight_per_sample_goes_for_all_its_outputs() -> None:
    losses, weights = torch.tensor([[1.0, 3.0], [2.0, 2.0]]), torch.tensor([[1.0], [0.5]])
    assert weighted_mean(losses, weights).item() == (1 + 3 + 1 + 1) / 4


@pytest.mark.parametrize(("losses", "weights"), [((4, 1), (4,)), ((4,), (4, 1)), ((4, 2), (3, 1)), ((4, 1), (4, 2))])
def test_weights_that_do_not_fit_are_refused(losses, weights) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        weighted_mean(torch.zeros(losses), torch.zeros(weights))


@pytest.mark.parametrize(
    ("loss", "settings"),
    [
        (huber, {"beta": 0.0}),
        (focal_l1, {"beta": -1.0}),
        (focal_mse, {"gamma": -0.5}),
        (focal_l1, {"activate": "sigmoyd"}),
    ],
)
def test_a_wrong_setting_is_refused(loss, settings) -> None:
    with pytest.raises(ValueError, match=r"beta|did you mean 'sigmoid'"):
        loss(torch.zeros(2), torch.zeros(2), **settings)
