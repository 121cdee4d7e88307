"""Calibration from one mean and variance to another; smoothing and filling over bins."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dir_bench.methods.fds_calibration import (
    CalibrateBySlot,
    calibrate_mean_var,
    calibration_table,
    fill_from_neighbours,
    smoothing_matrix,
)

WIDE = (0.1, 10.0)


def row(*values: float) -> torch.Tensor:
    return torch.tensor(values)


def test_calibration_moves_mean_and_spread() -> None:
    # (7 - 5) * sqrt(9 / 4) + 1 = 4
    out = calibrate_mean_var(row(7.0)[None], row(5.0), row(4.0), row(1.0), row(9.0))
    torch.testing.assert_close(out, torch.tensor([[4.0]]))


def test_ratio_of_variances_is_clipped() -> None:
    # ratios 100 and 0.01 become 4 and 0.25, factors 2 and 0.5
    out = calibrate_mean_var(
        torch.ones(1, 2), row(0.0, 0.0), row(1.0, 1.0), row(0.0, 0.0), row(100.0, 0.01), clip=(0.25, 4.0)
    )
    torch.testing.assert_close(out, torch.tensor([[2.0, 0.5]]))


@pytest.mark.parametrize(
    ("guard", "v1", "v2", "changed"),
    [
        ("nonzero_columns", (0.0, 1.0), (4.0, 4.0), (False, True)),
        ("valid_columns", (0.0, 1.0), (4.0, 4.0), (False, True)),
        ("valid_rows", (0.0, 1.0), (4.0, 4.0), (False, False)),
        ("nonzero_columns", (-1.0, 2.0), (4.0, 4.0), (True, True)),
        ("valid_columns", (-1.0, 2.0), (4.0, 4.0), (False, True)),
        ("valid_rows", (-1.0, 2.0), (4.0, 4.0), (False, False)),
        ("nonzero_columns", (1.0, 1.0), (-4.0, 4.0), (True, True)),
        ("valid_columns", (1.0, 1.0), (-4.0, 4.0), (False, True)),
        ("valid_rows", (1.0, 1.0), (-4.0, 4.0), (False, False)),
        ("nonzero_columns", (4e-11, 5e-11), (1.0, 1.0), (False, False)),
        ("valid_columns", (4e-11, 5e-11), (1.0, 1.0), (False, False)),
        ("valid_rows", (4e-11, 5e-11), (1.0, 1.0), (False, False)),
    ],
)
def test_guard_leaves_columns_or_rows_alone(guard, v1, v2, changed) -> None:
    out = calibrate_mean_var(torch.ones(1, 2), row(0.0, 0.0), row(*v1), row(5.0, 5.0), row(*v2), WIDE, guard)
    assert torch.isfinite(out).all()
    assert tuple((out[0] != 1.0).tolist()) == changed


def test_equal_statistics_change_nothing() -> None:
    x, mean, var = torch.randn(50, 8), torch.randn(8) * 10, torch.rand(8) + 0.1
    torch.testing.assert_close(calibrate_mean_var(x, mean, var, mean, var), x, rtol=0, atol=0)


def test_shift_keeps_its_digits_where_means_are_large() -> None:
    mean, var = torch.tensor([1000.0]), torch.tensor([1.0])
    scale, shift = calibration_table(mean, var, torch.tensor([0.0]), torch.tensor([3.0]), WIDE, "valid_columns")
    exact = -1000.0 * float(scale)
    assert abs(float(shift) - exact) <= np.spacing(np.float32(abs(exact)))


def test_unknown_guard_is_refused() -> None:
    one = torch.ones(1)
    with pytest.raises(ValueError, match="guard must be one of"):
        calibrate_mean_var(one[None], one, one, one, one, WIDE, "none")  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 4, 2)])
def test_gradient_is_the_scale(shape) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=True)
    slot = torch.randint(0, 4, (shape[0], *shape[2:]), generator=generator)
    scale = torch.rand(4, 3, dtype=torch.float64, generator=generator)
    assert torch.autograd.gradcheck(lambda x: CalibrateBySlot.apply(x, slot, scale, -scale), (x,))
    (grad,) = torch.autograd.grad(CalibrateBySlot.apply(x, slot, scale, -scale).sum(), x)
    torch.testing.assert_close(grad, scale[slot].movedim(-1, 1))


def test_parts_of_a_large_batch_join_up() -> None:
    x, slot = torch.randn(300, 2048), torch.arange(300) % 7
    scale, shift = torch.rand(7, 2048), torch.rand(7, 2048)
    torch.testing.assert_close(CalibrateBySlot.apply(x, slot, scale, shift), x * scale[slot] + shift[slot])


@settings(deadline=None)
@given(half=st.integers(0, 4), extra=st.integers(1, 12), seed=st.integers(0, 99))
def test_smoothing_matrix_is_correlation_with_reflect_padding(half, extra, seed) -> None:
    rows = half + extra
    rng = np.random.default_rng(seed)
    window, table = rng.random(2 * half + 1), rng.random((rows, 3))
    padded = np.pad(table, ((half, half), (0, 0)), mode="reflect") if half else table
    expected = np.stack([window @ padded[i : i + len(window)] for i in range(rows)])
    np.testing.assert_allclose(smoothing_matrix(window, rows) @ table, expected, rtol=1e-12)


def test_too_few_rows_to_mirror_are_refused() -> None:
    with pytest.raises(ValueError, match=r"size 5 needs at least 3 bins, there are 2; .* at most 3"):
        smoothing_matrix(np.ones(5), 2)


def walk(table: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """Fill upward and in place, one bin after the other."""
    table, last = table.copy(), len(table) - 1
    for i in np.flatnonzero(empty):
        if i == 0:
            table[i] = table[1]
        elif i == last:
            table[i] = table[i - 1]
        else:
            table[i] = (table[i - 1] + table[i + 1]) / 2
    return table


def test_empty_rows_are_filled_upward() -> None:
    # row 0 <- old row 1 (1); row 1 <- (new 1 + old 4) / 2; row 3 <- (4 + old 9) / 2; row 4 <- new row 3
    table = torch.tensor([[7.0], [1.0], [4.0], [5.0], [9.0]])
    empty = torch.tensor([True, True, False, True, True])
    expected = torch.tensor([[1.0], [2.5], [4.0], [6.5], [6.5]])
    torch.testing.assert_close(fill_from_neighbours(table, empty), expected)


@settings(deadline=None)
@given(empty=st.lists(st.booleans(), min_size=2, max_size=40), seed=st.integers(0, 99))
def test_filling_at_once_equals_the_walk(empty, seed) -> None:
    table = np.random.default_rng(seed).normal(size=(len(empty), 3))
    filled = fill_from_neighbours(torch.from_numpy(table), torch.tensor(empty))
    np.testing.assert_allclose(filled.numpy(), walk(table, np.array(empty)), rtol=1e-12, atol=1e-14)


def test_a_single_row_has_no_neighbour() -> None:
    torch.testing.assert_close(fill_from_neighbours(torch.ones(1, 2), torch.tensor([True])), torch.ones(1, 2))
