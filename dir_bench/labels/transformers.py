"""Weights of samples for training loops that are not ours: `fit` to training targets, `transform` any targets.

    weights = LDSWeights().fit(train_targets)
    model.fit(inputs, train_targets, sample_weight=weights.transform(train_targets))  # scikit-learn
    loss = (weights.transform(targets) * (outputs - targets).abs()).mean()  # PyTorch

Arrays give arrays, and tensors give tensors on their device, whatever the shape. Targets of several outputs, a row a
sample, are weighted output by output. What is fitted is copied and pickled with the object.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dir_bench.labels.bins import TargetBins, is_tensor
from dir_bench.labels.choice import choose_bins
from dir_bench.labels.dense import dense_weights
from dir_bench.labels.density import Kernel
from dir_bench.labels.weights import Reweight, bin_weights

Floats = NDArray[np.float64]


@dataclass(eq=False)
class _SampleWeights(ABC):
    """A table of weights by bin for each output.

    Attributes:
        bins_: The bins of each output; there once `fit` was called.
        weights_: The weight of each of them, float32, an array an output.
    """

    bins_: list[TargetBins] = field(default_factory=list, init=False, repr=False)
    weights_: list[NDArray[np.float32]] = field(default_factory=list, init=False, repr=False)
    _on_device: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def fit(self, targets: Any) -> Self:
        """Take up training targets, shape ``(n,)`` or ``(n, outputs)``; return the object itself.

        Raises:
            ValueError: If the targets have another shape, are too few or all alike, or one of them is not finite.
        """
        values = np.asarray(targets.detach().cpu() if is_tensor(targets) else targets, np.float64)
        if values.ndim not in (1, 2) or values.size == 0:
            raise ValueError(f"targets must have the shape (n,) or (n, outputs), not {values.shape}")
        if not np.isfinite(values).all():
            raise ValueError(f"{np.count_nonzero(~np.isfinite(values))} training targets are not finite: drop them")
        fitted = self._fit(list(values.reshape(len(values), -1).T))
        self.bins_, self.weights_ = [bins for bins, _ in fitted], [table.astype(np.float32) for _, table in fitted]
        self._on_device = {}
        return self

    def transform(self, targets: Any) -> Any:
        """Return the weight of each target, float32, of the targets' shape; that of training targets is 1 on average.

        Args:
            targets: An array or a tensor; of one output any shape, of several ``(…, outputs)``. Targets beyond those
                of the training have the weight of the nearest end.

        Raises:
            ValueError: If `fit` has not been called, the outputs are not as many, or a number of an array is NaN
                (tensors are not looked into, as the host would have to wait for the device).
        """
        if not self.weights_:
            raise ValueError(f"{type(self).__name__} knows no training targets yet: call fit first")
        values = targets if is_tensor(targets) else np.asarray(targets)
        if (number := len(self.weights_)) == 1:
            return self._of_output(0, values)
        if values.ndim == 0 or values.shape[-1] != number:
            shape = tuple(values.shape)
            raise ValueError(f"fitted to {number} outputs, so targets have the shape (…, {number}), not {shape}")
        each = [self._of_output(place, values[..., place]) for place in range(number)]
        return sys.modules["torch"].stack(each, -1) if is_tensor(values) else np.stack(each, -1)

    def fit_transform(self, targets: Any) -> Any:
        """Return the weights of the training targets themselves."""
        return self.fit(targets).transform(targets)

    @abstractmethod
    def _fit(self, targets: list[Floats]) -> list[tuple[TargetBins, Any]]:
        """Return bins and the weight of each bin, for the training targets of each output."""

    def _of_output(self, place: int, values: Any) -> Any:
        table: Any = self.weights_[place]
        if is_tensor(values):
            if (place, values.device) not in self._on_device:
                self._on_device[place, values.device] = sys.modules["torch"].as_tensor(table, device=values.device)
            table = self._on_device[place, values.device]
        return table[self.bins_[place].index(values)]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_on_device": {}}  # a worker process or a file wants no tensor of ours


@dataclass(eq=False)
class LDSWeights(_SampleWeights):
    """Inverse frequency of a target's bin, over smoothed frequencies: label distribution smoothing.

    Args:
        bins: Of the targets; one for each of several outputs. None: chosen from the training targets (`choose_bins`).
        reweight: See `bin_weights`.
        kernel: Of the smoothing, see `kernel_window`; None: frequencies are not smoothed.
        kernel_size: Its width in bins, odd.
        sigma: Its spread in bins.
        clip: See `bin_weights`.

    Source:
        Yang et al. 2021 (arXiv:2102.09554), section 3.1; see `bin_weights` and `lds_density`.
    """

    bins: TargetBins | Sequence[TargetBins] | None = None
    reweight: Reweight = "sqrt_inv"
    kernel: Kernel | None = "gaussian"
    kernel_size: int = 5
    sigma: float = 2.0
    clip: tuple[float, float] | None = None

    def _fit(self, targets: list[Floats]) -> list[tuple[TargetBins, Any]]:
        if self.bins is None:
            each: Sequence[TargetBins] = [TargetBins(choose_bins(column).edges) for column in targets]
        else:
            each = [self.bins] * len(targets) if isinstance(self.bins, TargetBins) else self.bins
        if len(each) != len(targets):
            raise ValueError(f"{len(each)} bins for {len(targets)} outputs: give one for each, or one for all")
        smoothing = {"kernel": self.kernel, "kernel_size": self.kernel_size, "sigma": self.sigma}
        lds = None if self.kernel is None else smoothing
        return [
            (bins, bin_weights(bins.counts(column), self.reweight, lds=lds, clip=self.clip))
            for bins, column in zip(each, targets, strict=True)
        ]


@dataclass(eq=False)
class DenseWeights(_SampleWeights):
    """Falling with the density of a target, by a kernel estimate: DenseWeight. Its "bins" are the steps of a fine grid.

    Args:
        alpha: See `dense_weights`.
        epsilon: See `dense_weights`.

    Source:
        Steininger et al. 2021; see `dense_weights`.
    """

    alpha: float = 1.0
    epsilon: float = 1e-6

    def _fit(self, targets: list[Floats]) -> list[tuple[TargetBins, Any]]:
        fitted = []
        for column in targets:
            grid, weights = dense_weights(column, self.alpha, self.epsilon)
            fitted.append((TargetBins(np.append(grid, 2 * grid[-1] - grid[-2])), weights))
        return fitted
