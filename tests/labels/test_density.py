"""Kernel windows and LDS: by hand, against SciPy and against a plain loop."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal.windows import triang

from dir_bench.labels import kernel_window, lds_density
from dir_bench.labels.density import KERNELS

SIZES = st.integers(0, 15).map(lambda half: 2 * half + 1)
SIGMAS = st.floats(0.05, 30)


def test_triang_by_hand_and_by_scipy() -> None:
    assert np.allclose(kernel_window("triang", 5), [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3])
    for size in range(1, 60, 2):
        assert np.array_equal(kernel_window("triang", size, normalize=None), triang(size))


def test_laplace_by_hand() -> None:
    # exp(-|x| / 2) / 4 at -1, 0, 1
    assert np.allclose(kernel_window("laplace", 3, 2, normalize=None), [np.exp(-0.5) / 4, 0.25, np.exp(-0.5) / 4])


def test_published_gaussian_folds_its_tails_back() -> None:
    # The filter of sigma 2 reaches 8 bins. Mirrored at both ends of 5 bins (d c b a | a b c d | d c b a), the
    # impulse at 2 also stands at 7 and -3, and at all of these 10 k bins further on.
    taps = {x: np.exp(-x * x / 8) for x in range(-8, 9)}
    images = [place + 10 * k for place in (2, 7) for k in range(-2, 3)]
    folded = np.array([sum(taps.get(i - image, 0) for image in images) for i in range(5)])
    assert np.allclose(kernel_window("gaussian", 5, 2), folded / folded[2])
    assert np.allclose(kernel_window("gaussian", 5, 2)[:2], [0.8583, 0.9458], atol=5e-5)


def test_sampled_gaussian_by_hand() -> None:
    assert np.allclose(kernel_window("gaussian", 5, 2, tails="sampled"), np.exp([-0.5, -0.125, 0, -0.125, -0.5]))


def test_without_reach_the_outer_taps_are_zero() -> None:
    # radius int(4 * 0.3 + 0.5) = 1 is less than half the window
    assert kernel_window("gaussian", 9, 0.3)[[0, 1, 2]].tolist() == [0, 0, 0]
    assert kernel_window("gaussian", 3, 0.05).tolist() == [0, 1, 0]


def test_float32_window_sums_to_one() -> None:
    window = kernel_window("gaussian", 5, 2, normalize="sum", dtype=np.float32)
    assert window.dtype == np.float32
    assert abs(window.sum() - 1) < 1e-6


@pytest.mark.parametrize("tails", ["folded", "sampled"])
def test_a_window_of_any_spread_is_an_impulse_or_even_at_its_ends(tails: str) -> None:
    with np.errstate(all="raise", under="ignore"):
        narrow, wide = (kernel_window("gaussian", 5, sigma, tails=tails) for sigma in (1e-300, 1e9))
    np.testing.assert_array_equal(narrow, [0, 0, 1, 0, 0])
    np.testing.assert_allclose(wide, 1, rtol=1e-7)
    np.testing.assert_allclose(kernel_window("gaussian", 5, 5000, tails=tails), wide, rtol=1e-6)


@settings(deadline=None)
@given(kernel=st.sampled_from(KERNELS), size=SIZES, sigma=SIGMAS, tails=st.sampled_from(["folded", "sampled"]))
def test_windows_are_symmetric_and_normalised(kernel: str, size: int, sigma: float, tails: str) -> None:
    window = kernel_window(kernel, size, sigma, tails=tails)
    assert window.shape == (size,)
    assert np.allclose(window, window[::-1])
    assert window.max() == 1
    if kernel == "gaussian" and tails == "folded" and sigma > size / 2:
        assert window[size // 2] > 0.99  # nearly flat; as tails are cut at 4 sigma, another may be highest
    else:
        assert window[size // 2] == 1
    assert (window >= 0).all()
    assert np.isclose(kernel_window(kernel, size, sigma, tails=tails, normalize="sum").sum(), 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gaussian", 4), "odd"),
        (("gaussian", -3), "odd"),
        (("gaussian", 2.5), "odd"),
        (("gaussian", 5, 0), "sigma"),
        (("laplace", 5, -1), "sigma"),
        (("laplace", 5, np.nan), "sigma"),
        (("gausian", 5), "did you mean 'gaussian'"),
    ],
)
def test_bad_windows_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kernel_window(*arguments)


def test_smoothing_by_hand() -> None:
    # triang 3 is 1/2, 1, 1/2; nothing beyond the ends
    smoothed = lds_density([2.0, 0.0, 4.0, 1.0], kernel="triang", kernel_size=3)
    assert np.allclose(smoothed, [2, 3, 4.5, 3])


def test_integers_are_cut_unless_asked_otherwise() -> None:
    cut = lds_density([2, 0, 4, 1], kernel="triang", kernel_size=3)
    assert cut.tolist() == [2, 3, 4, 3]  # 4.5 is cut to 4
    assert cut.dtype == np.int64
    exact = lds_density([2, 0, 4, 1], kernel="triang", kernel_size=3, integers="exact")
    assert np.allclose(exact, [2, 3, 4.5, 3])


def test_reflection_repeats_the_end() -> None:
    # left of 2 stands 2 again, right of 1 stands 1: 2 + (2 + 0) / 2 and 1 + (4 + 1) / 2
    smoothed = lds_density([2.0, 0.0, 4.0, 1.0], kernel="triang", kernel_size=3, boundary="reflect")
    assert np.allclose(smoothed, [3, 3, 4.5, 3.5])


@settings(deadline=None)
@given(
    density=st.lists(st.floats(0, 1e4), min_size=1, max_size=25),
    kernel=st.sampled_from(KERNELS),
    size=SIZES,
    sigma=SIGMAS,
    boundary=st.sampled_from(["constant", "reflect"]),
)
def test_smoothing_agrees_with_a_loop(
    density: list[float], kernel: str, size: int, sigma: float, boundary: str
) -> None:
    window, n, half = kernel_window(kernel, size, sigma), len(density), size // 2

    def at(place: int) -> float:
        if boundary == "constant":
            return density[place] if 0 <= place < n else 0.0
        place %= 2 * n
        return density[place] if place < n else density[2 * n - 1 - place]

    expected = [sum(window[half + j] * at(i + j) for j in range(-half, half + 1)) for i in range(n)]
    smoothed = lds_density(density, kernel=kernel, kernel_size=size, sigma=sigma, boundary=boundary)
    assert np.allclose(smoothed, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("density", "arguments", "message"),
    [
        ([[1, 2]], {}, "one number per bin"),
        ([], {}, "one number per bin"),
        ([1, 2], {"boundary": "mirror"}, "boundary must be one of"),
        ([1, 2], {"integers": "exakt"}, "did you mean 'exact'"),
        ([1, 2], {"tails": "fold"}, "did you mean 'folded'"),
    ],
)
def test_bad_smoothing_is_refused(density: list, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lds_density(density, **arguments)
