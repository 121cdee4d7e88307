"""VIR's probabilistic representation moments: FDS for features that are distributions, by mean and variance.

Source:
    Wang and Wang, "Variational Imbalanced Regression", NeurIPS 2023, arXiv:2306.06599. The authors' repository
    (Wang-ML-Lab/variational-imbalanced-regression, `prm.py`) has no licence; nothing here is taken from it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dir_bench.methods.fds import FDS
from dir_bench.methods.fds_calibration import Guard, calibration_table, smoothing_matrix
from dir_bench.tensors import wide_dtype

ZERO_VARIANCE = ("keep_columns", "end_batch")


def repeated_window(window: NDArray[np.floating[Any]], repeat: int) -> NDArray[np.floating[Any]]:
    """Return the window with each of its values `repeat` times over, each that much smaller.

    Raises:
        ValueError: If `repeat` is below 1.
    """
    if repeat < 1:
        raise ValueError(f"repeat={repeat} must be at least 1")
    return np.repeat(window, repeat) / np.asarray(repeat, window.dtype)


def prm_table(
    m1: Tensor, v1: Tensor, m2: Tensor, v2: Tensor, clip: tuple[float, float], guard: Guard = "nonzero_columns"
) -> tuple[Tensor, Tensor]:
    """Return scale and shift that carry [mean | variance] from the moments of a bin over to smoothed ones.

    Both halves are scaled by f = sqrt(clamp(v2 / v1, *clip)), of the first halves. Means become (x − m1) f + m2, and
    variances (x + s1) f + s2, where s1 and s2 are the second halves of m1 and m2; plus, as published.

    Args:
        m1: Moments the features have, [..., 2D]: mean of the means | its variance.
        v1: Their variances, [..., 2D]; the second half plays no part.
        m2: Smoothed `m1`.
        v2: Smoothed `v1`.
        clip: Lowest and highest ratio of variances.
        guard: See `calibration_table`; the two halves of a column go together.
    """
    (mean1, own1), (mean2, own2) = m1.chunk(2, -1), m2.chunk(2, -1)
    before, after = v1.chunk(2, -1)[0], v2.chunk(2, -1)[0]
    of_means = calibration_table(mean1, before, mean2, after, clip, guard)
    of_variances = calibration_table(-own1, before, own2, after, clip, guard)
    scale, shift = (torch.cat(halves, -1) for halves in zip(of_means, of_variances, strict=True))
    return scale, shift


class PRM(FDS):
    """FDS of [mean | variance] features: the moments of each bin are those of a mixture of its samples.

    Before there are moments, S is 1, and calibration adds 2 to each variance, as published. With `start_smooth` two
    epochs after `start_update` that does not happen.

    Of a bin with k samples: the mean M of their means, its variance S = Σ variance / k², the mean A of
    variance − S + mean² − M², and 2 A² / (k − 1). The running buffers hold [M | S] and [A | that]. Over bins, the
    first halves are smoothed with the window and the second ones with its square.

    Args:
        feature_dim: 2D, of means and variances together.
        repeat: Bins that share one value of the window, which so spans `kernel_size` · `repeat` bins; odd.
        zero_variance: Bins some of whose A are 0. "keep_columns": these columns of their samples stay as they are.
            "end_batch": published; there an error is swallowed, and all samples from the first such label on stay.
        settings: Those of `FDS`. `guard` is "nonzero_columns" unless given; the other defaults are those of `FDS`.

    Raises:
        ValueError: As `FDS`, or if feature_dim is odd, repeat even, or there is no such zero_variance.
    """

    _squared: Tensor
    _broken: Tensor

    def __init__(
        self, feature_dim: int, *, repeat: int = 1, zero_variance: str = "keep_columns", **settings: Any
    ) -> None:
        if feature_dim % 2:
            raise ValueError(f"PRM: features of {feature_dim} columns are no means and variances: an even number")
        if zero_variance not in ZERO_VARIANCE:
            raise ValueError(f"PRM: zero_variance must be one of {ZERO_VARIANCE}, not {zero_variance!r}")
        if repeat % 2 == 0:
            raise ValueError(f"PRM: repeat={repeat} must be odd, so that the window has a middle")
        super().__init__(feature_dim, **{"guard": "nonzero_columns", **settings})
        self.zero_variance = zero_variance
        window = repeated_window(self.kernel_window.numpy(), repeat)
        self.kernel_window = torch.from_numpy(window)
        self._window.copy_(torch.from_numpy(smoothing_matrix(window, self.slots.rows)))
        squared = torch.tensor(smoothing_matrix(window**2, self.slots.rows), dtype=torch.float32)
        self.register_buffer("_squared", squared, persistent=False)
        self.register_buffer("_broken", torch.zeros(self.slots.rows + 3, dtype=torch.bool), persistent=False)
        self._tabulate()

    def _register_statistics(self) -> None:
        super()._register_statistics()
        for table in (self.running_mean, self.running_mean_last_epoch, self.smoothed_mean_last_epoch):
            table[:, self.feature_dim // 2 :] = 1.0

    def smooth(self, features: Tensor, labels: Tensor, epoch: int) -> Tensor:
        """Return the features calibrated by the bin of their label; see `FDS.smooth`."""
        calibrated = super().smooth(features, labels, epoch)
        if calibrated is features or self.zero_variance == "keep_columns":
            return calibrated
        values, slot = self.slots.locate(self._matching_labels(features, labels))
        slot = self.slots.absorb(slot, self.slots.edge_counts(values))
        end = torch.where(self._broken[slot], slot, len(self._broken)).min()
        return torch.where((slot >= end).unsqueeze(1), features, calibrated)

    def reset(self) -> None:
        """Forget all statistics; `epoch` goes on, as published."""
        super().reset()
        for table in (self.running_mean, self.running_mean_last_epoch, self.smoothed_mean_last_epoch):
            table[:, self.feature_dim // 2 :] = 1.0
        self._tabulate()

    def _blend(self, rows: Tensor | slice, count: Tensor, mean: Tensor, variance: Tensor, epoch: int) -> None:
        """Turn the statistics of [mean | variance] columns into the moments of each row, and blend those."""
        k = count[:, None]
        (of_means, of_variances), spread = mean.chunk(2, 1), variance.chunk(2, 1)[0]
        own = of_variances / k
        total = of_variances - own + spread * (k - 1) / k
        of_total = torch.where(k > 1, 2 * total.square() / (k - 1).clamp(min=1), 0.0)
        super()._blend(rows, count, torch.cat([of_means, own], 1), torch.cat([total, of_total], 1), epoch)

    def _smoothed(self, table: Tensor, initial: float, seen: Tensor) -> Tensor:
        """Smooth both halves; where no row in the window counts, a row stays as it is."""
        wide = table.to(wide_dtype(table.device))
        window, squared = self._window.to(wide.dtype), self._squared.to(wide.dtype)
        if self.empty == "exclude":
            window, squared = window * seen, squared * seen
            share = window.sum(1, keepdim=True)
            window, squared = (
                part / power.where(share > 0, 1.0) for part, power in ((window, share), (squared, share.square()))
            )
        first, second = wide.chunk(2, 1)
        smoothed = torch.cat([window @ first, squared @ second], 1)
        return torch.where(window.sum(1, keepdim=True) > 0, smoothed, wide)

    def _tabulate(self) -> None:
        m1, v1 = self.running_mean_last_epoch, self.running_var_last_epoch
        scale, shift = prm_table(
            m1, v1, self.smoothed_mean_last_epoch, self.smoothed_var_last_epoch, self.clip, self.guard
        )
        if self.empty == "exclude":
            scale = torch.where(self.published[:, None], scale, 1.0)
            shift = torch.where(self.published[:, None], shift, 0.0)
        rows, total = self.slots.rows, v1.chunk(2, 1)[0]
        self._scale[:rows].copy_(scale)
        self._shift[:rows].copy_(shift)
        self._broken[:rows] = (total == 0).any(1) & (total.sum(1) >= 1e-10)
