"""Calibration of features from one mean and variance to another, and smoothing over bins: parts of FDS."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dir_bench.tensors import wide_dtype

Guard = Literal["nonzero_columns", "valid_columns", "valid_rows"]
GUARDS = ("nonzero_columns", "valid_columns", "valid_rows")


def calibration_table(
    m1: Tensor, v1: Tensor, m2: Tensor, v2: Tensor, clip: tuple[float, float], guard: Guard
) -> tuple[Tensor, Tensor]:
    """Return scale and shift such that `x * scale + shift` carries features of (m1, v1) over to (m2, v2).

    (x - m1) * sqrt(clamp(v2 / v1, *clip)) + m2, with the exceptions below as scale 1 and shift 0. The shift
    is computed in float64 with the scale as rounded, so that m1 goes to m2 to the last digit kept.

    Args:
        m1: Means the features have, [..., D].
        v1: Their variances.
        m2: Means they shall have.
        v2: Variances they shall have.
        clip: Lowest and highest ratio of variances.
        guard: What becomes of variances that are not positive. A vector whose v1 sum up to less than 1e-10 is
            left alone under all three. "nonzero_columns" (ages): columns of v1 == 0 are left alone.
            "valid_columns" (STS-B): columns of v1 <= 0 or v2 < 0 are. "valid_rows" (NYUD2): one such column
            and the whole vector is.

    Source:
        YyzHarry/imbalanced-regression, `calibrate_mean_var` in `agedb-dir/utils.py`, `sts-b-dir/util.py`
        and `nyud2-dir/util.py`. The text of the last two is the same; masks are integers on the torch that
        STS-B asks for and booleans on that of NYUD2.
    """
    if guard not in GUARDS:
        raise ValueError(f"guard must be one of {GUARDS}, not {guard!r}")
    dtype, wide = m1.dtype, wide_dtype(m1.device)
    m1, v1, m2, v2 = (table.to(wide) for table in (m1, v1, m2, v2))
    changes = v1 != 0 if guard == "nonzero_columns" else (v1 > 0) & (v2 >= 0)
    if guard == "valid_rows":
        changes = changes.all(-1, keepdim=True)
    changes = changes & (v1.sum(-1, keepdim=True) >= 1e-10)
    scale = (v2 / torch.where(changes, v1, 1.0)).clamp(*clip).sqrt()
    scale = torch.where(changes, scale, 1.0).to(dtype)
    shift = torch.where(changes, m2 - m1 * scale.to(wide), 0.0)
    return scale, shift.to(dtype)


def calibrate_mean_var(
    matrix: Tensor,
    m1: Tensor,
    v1: Tensor,
    m2: Tensor,
    v2: Tensor,
    clip: tuple[float, float] = (0.1, 10.0),
    guard: Guard = "valid_columns",
) -> Tensor:
    """Return features [N, D] carried over from mean m1, variance v1 to m2, v2 (each [D]); a new tensor.

    See `calibration_table` for the arguments.
    """
    scale, shift = calibration_table(m1, v1, m2, v2, clip, guard)
    return matrix * scale + shift


class CalibrateBySlot(torch.autograd.Function):
    """`features * scale[slot] + shift[slot]` and its gradient, without tables gathered for the whole batch.

    What autograd would keep is one more tensor of the size of the features (300 MB for a batch of NYUD2); here
    the gradient gathers again. Gathering goes in parts, of a size a CPU keeps in its cache.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, slot: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Return calibrated features.

        Args:
            ctx: Of autograd.
            features: [N, D] or [B, D, H, W].
            slot: Row of the tables for each feature vector, int64 [N] or [B, H, W].
            scale: [rows, D].
            shift: [rows, D].
        """
        ctx.save_for_backward(slot, scale)
        out = torch.empty_like(features)
        for part in _parts(features):
            terms = (_gather(shift, slot[part]), features[part], _gather(scale, slot[part]))
            torch.addcmul(*terms, out=out[part])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        slot, scale = ctx.saved_tensors
        out = torch.empty_like(grad)
        for part in _parts(grad):
            torch.mul(grad[part], _gather(scale, slot[part]), out=out[part])
        return out, None, None, None


def _parts(features: Tensor) -> list[slice]:
    elements = 2**17 if features.is_cpu else 2**24
    size = max(1, elements * len(features) // max(1, features.numel()))
    return [slice(start, start + size) for start in range(0, len(features), size)]


def _gather(table: Tensor, slot: Tensor) -> Tensor:
    return nn.functional.embedding(slot, table).movedim(-1, 1)


def smoothing_matrix(window: NDArray[np.floating[Any]], rows: int) -> NDArray[np.float64]:
    """Return the [rows, rows] matrix that smooths a table over its rows with a window.

    Beyond the ends the rows are mirrored without repeating the end row (torch's "reflect": row -1 is row 1).

    Raises:
        ValueError: If there are too few rows to mirror.
    """
    half = len(window) // 2
    if rows <= half:
        raise ValueError(
            f"FDS: a kernel of size {len(window)} needs at least {half + 1} bins, there are {rows}; "
            f"take a kernel_size of at most {2 * rows - 1}"
        )
    row = np.arange(rows)[:, None]
    source = np.abs(row + np.arange(-half, half + 1))
    source = (rows - 1) - np.abs((rows - 1) - source)
    matrix = np.zeros((rows, rows))
    np.add.at(matrix, (np.broadcast_to(row, source.shape), source), window)
    return matrix


def smoothed_table(table: Tensor, matrix: Tensor, initial: float, seen: Tensor | None = None) -> Tensor:
    """Return the table [rows, D] smoothed over its rows, in the type that sums are kept in.

    Args:
        table: Statistics of each row.
        matrix: See `smoothing_matrix`.
        initial: What a row becomes that has no row with samples in its window.
        seen: Which rows have samples, bool [rows]: the window is renormalised over them. None: all rows count.
    """
    wide = wide_dtype(table.device)
    window = matrix.to(wide)
    if seen is None:
        return window @ table.to(wide)
    window = window * seen
    share = window.sum(1, keepdim=True)
    return torch.where(share > 0, window @ table.to(wide) / share.where(share > 0, 1.0), initial)


def fill_from_neighbours(table: Tensor, empty: Tensor) -> Tensor:
    """Return the table [n, D] with its empty rows filled from their neighbours, as published for STS-B.

    Walking upward and in place there: the first row copies row 1 as it was, the last copies the new row
    before it, any other becomes the mean of the new row before and the old row after. Each new row thus
    depends on the one before alone, which makes one bidiagonal system, solved at once.

    Source:
        YyzHarry/imbalanced-regression, `sts-b-dir/fds.py`, end of `update_running_stats`.
    """
    if len(table) == 1:
        return table
    old = table.to(wide_dtype(table.device))
    after = torch.cat([old[1:], old[-1:]])
    weight_before = torch.full((len(old),), 0.5, dtype=old.dtype, device=old.device)
    weight_before[0], weight_before[-1] = 0.0, 1.0
    weight_before = torch.where(empty, weight_before, 0.0)
    weight_after = torch.where(empty, 1 - weight_before, 0.0)
    own = torch.where(empty, 0.0, 1.0)
    system = torch.eye(len(old), dtype=old.dtype, device=old.device) - torch.diag(weight_before[1:], -1)
    given = own[:, None] * old + weight_after[:, None] * after
    filled = torch.linalg.solve_triangular(system, given, upper=False, unitriangular=True)
    return torch.where(empty[:, None], filled.to(table.dtype), table)
