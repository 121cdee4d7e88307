"""Kernel windows, and label distribution smoothing (LDS)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from dir_bench.errors import nearest

Kernel = Literal["gaussian", "triang", "laplace"]
Tails = Literal["folded", "sampled"]
Boundary = Literal["constant", "reflect"]
Integers = Literal["truncate", "exact"]
KERNELS = ("gaussian", "triang", "laplace")


def _one_of(what: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        hint = nearest(str(value), [str(choice) for choice in choices])
        raise ValueError(f"{what} must be one of {choices}, not {value!r}{hint}")


def kernel_window(
    kernel: Kernel,
    kernel_size: int,
    sigma: float = 2.0,
    *,
    normalize: Literal["max", "sum"] | None = "max",
    tails: Tails = "folded",
    dtype: DTypeLike = np.float64,
) -> NDArray[np.floating[Any]]:
    """Return a symmetric smoothing window, shape [kernel_size].

    Args:
        kernel: "gaussian", "triang" (1 at the middle, falling linearly to 0 one bin outside the window;
            sigma does not matter) or "laplace" (exp(-|x| / sigma) / (2 sigma)).
        kernel_size: Width in bins, odd.
        sigma: Spread in bins.
        normalize: "max" makes the largest value 1 (LDS, which so scales a density up), "sum" the sum (FDS).
        tails: For "gaussian". "folded", as published: a unit impulse no longer than the window, filtered by
            SciPy, so what falls outside is reflected back in (size 5, sigma 2: 0.858, 0.946, 1, ...).
            "sampled": the plain exp(-x^2 / (2 sigma^2)) (0.607, 0.882, 1, ...).
        dtype: Type of the result. The folded gaussian is filtered in it; FDS takes float32.

    Raises:
        ValueError: If the size is not odd and positive, sigma is not positive, or a name is unknown.

    Source:
        YyzHarry/imbalanced-regression, `agedb-dir/utils.py` get_lds_kernel_window (max) and
        `agedb-dir/fds.py` _get_kernel_window (sum).
    """
    _one_of("kernel", kernel, KERNELS)
    _one_of("tails", tails, ("folded", "sampled"))
    _one_of("normalize", normalize, ("max", "sum", None))
    if kernel_size != int(kernel_size) or kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be an odd number of bins, 1 or more, not {kernel_size}")
    if not (sigma > 0 and np.isfinite(sigma)):
        raise ValueError(f"sigma must be a finite number of bins above 0, not {sigma}")
    half = int(kernel_size) // 2
    distance = np.abs(np.arange(-half, half + 1))
    window: NDArray[np.floating[Any]]
    if kernel == "triang":  # in this order of operations, scipy.signal.windows.triang to the last bit
        window = 2.0 * (half + 1 - distance) / (kernel_size + 1.0)
    elif kernel == "laplace":
        window = np.exp(-distance / sigma) / (2.0 * sigma)
    elif tails == "sampled":
        window = np.exp(-0.5 * (distance / max(sigma, 1e-3)) ** 2)
    else:
        from scipy.ndimage import gaussian_filter1d

        # Below the first the window is an impulse, above the second as good as even (1e-8); SciPy would divide by 0, or
        # ask for all memory.
        window = gaussian_filter1d((distance == 0).astype(dtype), np.clip(sigma, 1e-3, 1e4 * kernel_size))
    if normalize is not None:
        window = window / (window.max() if normalize == "max" else window.sum())
    return window.astype(dtype)


def lds_density(
    density: ArrayLike,
    *,
    kernel: Kernel = "gaussian",
    kernel_size: int = 5,
    sigma: float = 2.0,
    boundary: Boundary = "constant",
    integers: Integers = "truncate",
    tails: Tails = "folded",
) -> NDArray[Any]:
    """Smooth a density over bins: label distribution smoothing.

    Args:
        density: One number per bin (counts, or their square roots), shape [n].
        kernel: See `kernel_window`, also for `kernel_size`, `sigma` and `tails`. The window's maximum is 1.
        kernel_size: Width in bins, odd.
        sigma: Spread in bins.
        boundary: Beyond the ends lies nothing ("constant", as published for ages and STS-B), or the density
            mirrored with its end value repeated ("reflect", as published for NYUD2).
        integers: "truncate", as published: integer counts come back as integers, cut toward zero.
            "exact": they are smoothed as real numbers.
        tails: See `kernel_window`.

    Returns:
        Smoothed density, shape [n]; int64 for integers under "truncate", else float64.

    Raises:
        ValueError: If density is not one-dimensional, or a setting is not valid.

    Source:
        Yang et al. 2021 (arXiv:2102.09554), section 3.1, equation 1; YyzHarry/imbalanced-regression,
        `agedb-dir/datasets.py`, `sts-b-dir/tasks.py`, `nyud2-dir/loaddata.py`.
    """
    _one_of("boundary", boundary, ("constant", "reflect"))
    _one_of("integers", integers, ("truncate", "exact"))
    window = kernel_window(kernel, kernel_size, sigma, normalize="max", tails=tails)
    values = np.asarray(density)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"density must hold one number per bin, not shape {values.shape}")
    whole = integers == "truncate" and np.issubdtype(values.dtype, np.integer)
    from scipy.ndimage import convolve1d  # a config is checked without

    smoothed: NDArray[Any] = convolve1d(
        values.astype(np.int64 if whole else np.float64), window, mode=boundary, cval=0.0
    )
    return smoothed


def label_density(counts: ArrayLike, first: int = 0, lds: Mapping[str, Any] | None = None) -> NDArray[np.float64]:
    """Return the density of each bin, shape ``(b,)``: its count, smoothed with these settings of `lds_density`.

    It is 0 before the first bin in use: those bins hold no samples, and are the rarest.
    """
    used = np.asarray(counts)[first:]
    density = np.zeros(len(used) + first)
    density[first:] = used if lds is None else lds_density(used, **lds)
    return density
