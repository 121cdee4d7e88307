"""FDS for several targets a sample: features are calibrated once for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from dir_bench.labels.bins import TargetBins
from dir_bench.methods.fds import FDS
from dir_bench.methods.fds_moments import Moments


class FDSPerOutput(nn.Module):
    """Calibrates the features of a network with several outputs, for each output by the bins of its own label.

    The last layer of each output is given features of its own, calibrated by statistics over the bins of its labels.
    The loop is that of `FDS`, with labels of shape ``(n, outputs)`` and batches taken up by `add`.

        fds = FDSPerOutput(128, [TargetBins.regular(0, 100, 1), TargetBins.regular(0, 5, 0.1)])
        calibrated = fds(features, labels, epoch)                    # (n, outputs, 128)
        predictions = (calibrated * weight).sum(-1) + bias           # weight (outputs, 128), bias (outputs,)

    Args:
        feature_dim: Width D of the features.
        bins: Of each output's labels.
        settings: Of `FDS`, the same for each output.

    Raises:
        ValueError: If there are no bins, or a setting is not valid.

    Source:
        Ours: Yang et al. 2021 (arXiv:2102.09554) have one label a sample, and this is FDS for each label alone.
    """

    def __init__(self, feature_dim: int, bins: Sequence[TargetBins], **settings: Any) -> None:
        super().__init__()
        if not bins:
            raise ValueError("FDSPerOutput needs the bins of one output at least")
        self.each = nn.ModuleList(FDS(feature_dim, bins=own, **settings) for own in bins)

    def forward(self, features: Tensor, labels: Tensor, epoch: int) -> Tensor:
        """Return the features for each output, shape ``(n, outputs, D)``; in evaluation they are all the same.

        Args:
            features: Shape ``(n, D)``.
            labels: In label units, shape ``(n, outputs)``; NaN: no label of that output.
            epoch: Number of the running epoch.

        Raises:
            ValueError: If the labels have another shape.
        """
        columns = self._columns(labels)
        return torch.stack([fds(features, own, epoch) for fds, own in zip(self.each, columns, strict=True)], dim=1)

    def new_moments(self) -> list[Moments]:
        """Return empty statistics of one epoch; `add` each batch to them."""
        return [fds.new_moments() for fds in self._all()]

    def add(self, moments: list[Moments], features: Tensor, labels: Tensor) -> None:
        """Add a batch, of the shapes of `forward`, to the statistics of its epoch."""
        for own, column in zip(moments, self._columns(labels), strict=True):
            own.add(features, column)

    def end_epoch(self, moments: list[Moments], epoch: int) -> None:
        """Take up the statistics of the epoch that ends; see `FDS.end_epoch`, also for several processes."""
        for fds, own in zip(self._all(), moments, strict=True):
            fds.end_epoch(own, epoch)

    def _all(self) -> list[FDS]:
        return cast(list[FDS], list(self.each))

    def _columns(self, labels: Tensor) -> tuple[Tensor, ...]:
        if labels.dim() != 2 or labels.shape[1] != len(self.each):
            raise ValueError(f"labels must have the shape (n, {len(self.each)}), not {tuple(labels.shape)}")
        return labels.unbind(1)
