"""Weights per bin: by hand, against the published recipe sample by sample, and their properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import convolve1d

from dir_bench.labels import bin_weights, kernel_window
from dir_bench.labels.weights import effective_number

LDS = {"kernel": "gaussian", "kernel_size": 5, "sigma": 2.0}
COUNTS = st.lists(st.integers(0, 2000), min_size=1, max_size=40).filter(any)


def test_inverse_by_hand() -> None:
    # counts 1 and 4: 1/1 and 1/4; their sum over the 5 samples is 1 + 4/4 = 2, so the scale is 5/2
    assert np.allclose(bin_weights([1, 4], "inv"), [2.5, 0.625])


def test_square_root_inverse_by_hand() -> None:
    # 1/1 and 1/2; sum over the samples 1 + 4/2 = 3, scale 5/3
    assert np.allclose(bin_weights([1, 4], "sqrt_inv"), [5 / 3, 5 / 6])


def test_clipping_by_hand() -> None:
    # 1, 10, 4000 are clipped to 5, 10, 1000; 1/5 + 10/10 + 4000/1000 = 5.2 over 4011 samples
    weights = bin_weights([1, 10, 4000], "inv", clip=(5, 1000))
    assert np.allclose(weights, np.array([1 / 5, 1 / 10, 1 / 1000]) * 4011 / 5.2)
    assert np.array_equal(
        bin_weights([1, 10, 4000], "sqrt_inv", clip=(5, 1000)), bin_weights([1, 10, 4000], "sqrt_inv")
    )


def test_clipping_lifts_empty_bins() -> None:
    weights = bin_weights([0, 5, 50], "inv", clip=(5, 1000))
    assert weights[0] == weights[1]


def test_clipping_to_a_real_number_keeps_integers() -> None:
    counts = np.arange(1, 60) ** 2
    assert np.array_equal(
        bin_weights(counts, "inv", lds=LDS, clip=(5.0, 1000.0)),
        bin_weights(counts, "inv", lds=LDS, clip=(5, 1000)),
    )


def test_an_empty_bin_gets_the_largest_weight() -> None:
    assert np.allclose(bin_weights([1, 0, 4], "inv"), [2.5, 2.5, 0.625])


def test_none_is_all_ones_and_takes_no_lds() -> None:
    assert bin_weights([3, 0, 9], "none").tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="reweight 'none'"):
        bin_weights([3, 9], "none", lds=LDS)


def test_bins_before_the_first_get_its_weight() -> None:
    weights = bin_weights([0, 0, 4, 1], "inv", first=2)
    assert np.allclose(weights, [0.625, 0.625, 0.625, 2.5])
    smoothed = bin_weights([0, 0, 0, 40, 10, 20], "inv", first=3, lds=LDS | {"boundary": "reflect"})
    assert smoothed[0] == smoothed[1] == smoothed[2] == smoothed[3]
    assert np.allclose(smoothed[3:], bin_weights([40, 10, 20], "inv", lds=LDS | {"boundary": "reflect"}))


def published_sample_weights(labels: np.ndarray, n: int, reweight: str, clip: bool, lds: dict) -> list[float]:
    """NOTES A1 and A2 as one would write them down: a dictionary of counts, one weight a sample, mean 1."""
    counts = dict.fromkeys(range(n), 0)
    for label in labels:
        counts[min(n - 1, int(label))] += 1
    if reweight == "sqrt_inv":
        values: list = [np.sqrt(count) for count in counts.values()]
    else:
        values = [np.clip(count, 5, 1000) if clip else count for count in counts.values()]
    window = kernel_window(lds["kernel"], lds["kernel_size"], lds["sigma"])
    values = list(convolve1d(np.asarray(values), weights=window, mode="constant"))
    weights = [np.float32(1 / values[min(n - 1, int(label))]) for label in labels]
    scale = len(weights) / np.sum(weights)
    return [scale * weight for weight in weights]


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 10**6),
    reweight=st.sampled_from(["inv", "sqrt_inv"]),
    clip=st.booleans(),
    kernel=st.sampled_from(["gaussian", "triang", "laplace"]),
    size=st.sampled_from([1, 3, 5, 9, 21]),
    sigma=st.sampled_from([0.4, 1, 2, 7.5]),
)
def test_published_recipe_sample_by_sample(
    seed: int, reweight: str, clip: bool, kernel: str, size: int, sigma: float
) -> None:
    random = np.random.default_rng(seed)
    labels = random.gamma(3, 5, 400)  # real-valued, some beyond the last of 30 bins
    lds = {"kernel": kernel, "kernel_size": size, "sigma": sigma}
    index = np.minimum(labels.astype(int), 29)
    table = bin_weights(np.bincount(index, minlength=30), reweight, lds=lds, clip=(5, 1000) if clip else None)
    expected = published_sample_weights(labels, 30, reweight, clip, lds)
    assert np.allclose(table[index], expected, rtol=1e-5)


@settings(deadline=None)
@given(
    counts=COUNTS,
    reweight=st.sampled_from(["inv", "sqrt_inv", "none"]),
    smooth=st.booleans(),
    clip=st.sampled_from([None, (5, 1000)]),
)
def test_weights_average_one_over_the_training_samples(
    counts: list[int], reweight: str, smooth: bool, clip: tuple | None
) -> None:
    weights = bin_weights(counts, reweight, lds=LDS if smooth and reweight != "none" else None, clip=clip)
    assert weights.dtype == np.float32
    assert np.isfinite(weights).all()
    assert (weights > 0).all()
    assert np.isclose(np.average(weights, weights=counts), 1, rtol=1e-5)


@settings(deadline=None)
@given(
    level=st.integers(1, 5000),
    reweight=st.sampled_from(["inv", "sqrt_inv"]),
    kernel=st.sampled_from(["gaussian", "triang", "laplace"]),
    size=st.sampled_from([3, 5, 9]),
)
def test_equal_counts_give_equal_weights_away_from_the_ends(level: int, reweight: str, kernel: str, size: int) -> None:
    lds = {"kernel": kernel, "kernel_size": size, "sigma": 2}
    inner = bin_weights(np.full(40, level), reweight, lds=lds)[size // 2 : -(size // 2)]
    assert np.allclose(inner, inner[0], rtol=1e-6)
    reflected = bin_weights(np.full(40, level), reweight, lds=lds | {"boundary": "reflect"})
    assert np.allclose(reflected, 1, rtol=1e-6)


@settings(deadline=None)
@given(counts=COUNTS)
def test_rarer_never_weighs_less(counts: list[int]) -> None:
    weights = bin_weights(counts, "inv")
    assert (np.diff(weights[np.argsort(counts, kind="stable")]) <= 0).all()


@pytest.mark.parametrize(
    ("counts", "arguments", "message"),
    [
        ([0, 0], {}, "some above 0"),
        ([1, -1], {}, "counts must be"),
        ([[1, 2]], {}, "counts must be"),
        ([1, 2], {"first": 2}, "first must be"),
        ([1, 0, 0], {"first": 1}, "no bin with training samples"),
        ([1, 2], {"reweight": "sqr_inv"}, "did you mean 'sqrt_inv'"),
        ([1, 2], {"lds": {"kernel_size": 4}}, "odd"),
    ],
)
def test_bad_weights_are_refused(counts: list, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bin_weights(counts, **arguments)


# ---- class-balanced -------------------------------------------------------------------------------------------


def test_effective_number_by_hand() -> None:
    # 1 + 0.5 + 0.25 = 1.75 for three samples at beta 0.5; none is worth none
    assert effective_number([0, 1, 2, 3], 0.5).tolist() == [0, 1, 1.5, 1.75]
    assert effective_number([0, 1, 9], 0).tolist() == [0, 1, 1]
    assert effective_number([0, 1, 9], 1).tolist() == [0, 1, 9]
    with pytest.raises(ValueError, match=r"beta must lie in \[0, 1\]"):
        effective_number([1], 1.5)


def test_class_balanced_by_hand() -> None:
    # effective numbers 1 and 1.5 at beta 0.5: 1 and 2/3; sum over 1 + 2 samples 1 + 4/3 = 7/3, scale 9/7
    assert np.allclose(bin_weights([1, 2], "class_balanced", beta=0.5), [9 / 7, 6 / 7])


@settings(deadline=None)
@given(COUNTS, st.floats(0, 0.99999))
def test_class_balanced_follows_its_formula_and_averages_1(counts: list[int], beta: float) -> None:
    weights = bin_weights(counts, "class_balanced", beta=beta).astype(np.float64)
    held = np.array(counts, float)
    full = held > 0
    formula = (1 - beta) / (1 - np.power(beta, held[full]))
    assert np.allclose(weights[full] / weights[full].max(), formula / formula.max(), rtol=1e-5)
    assert np.isclose((weights * held).sum() / held.sum(), 1)
    assert (weights[~full] == weights.max()).all()


@settings(deadline=None)
@given(COUNTS)
def test_class_balanced_ends_in_equal_weights_and_in_the_inverse(counts: list[int]) -> None:
    full = np.array(counts) > 0
    assert np.allclose(bin_weights(counts, "class_balanced", beta=0)[full], 1)
    assert np.array_equal(bin_weights(counts, "class_balanced", beta=1), bin_weights(counts, "inv"))


def test_class_balanced_is_smoothed_by_lds_and_not_clipped() -> None:
    counts = np.arange(1, 40) ** 2
    smooth = bin_weights(counts, "class_balanced", lds=LDS, clip=(5, 100))
    density = convolve1d(effective_number(counts, 0.9999), kernel_window(**LDS), mode="constant")
    assert np.allclose(smooth / smooth.max(), density.min() / density, rtol=1e-5)
