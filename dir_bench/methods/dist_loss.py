"""Dist Loss: the sorted predictions of a batch against the labels that such a batch should hold.

Source:
    Nie et al., "Dist Loss: Enhancing Regression in Few-Shot Region through Distribution Distance Constraint", ICLR
    2025, arXiv:2411.15216, section 3. Its soft sort (Blondel et al. 2020, quadratic, strength ε) equals sorting where
    neighbours differ by less than 1/ε, which predictions of ages do by far at the published ε (0.1 and 0.01), so
    predictions are sorted. Published: weight 1, L1, batches of 512, bandwidth 0.5 (scripts; 0.4 in the README), labels
    on a grid of step 1. The authors' code is MIT; nothing is taken from it. It multiplies sorted predictions by the
    weights of the unsorted ones: `aligned=False`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import gaussian_kde
from torch import Tensor

from dir_bench.errors import UserError
from dir_bench.labels import bin_weights
from dir_bench.methods.part import Facts, Part, Step, above_zero, not_negative, refuse_maps

if TYPE_CHECKING:
    from dir_bench.schema import Config


def expected_labels(grid: NDArray[np.float64], share: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Return the labels that a batch of `size` should hold, in increasing order, shape ``(size,)``.

    Each label of the grid is held share · size times, rounded. At either end, where labels deserve less than one sample
    each, those together that deserve one get it. What rounding leaves over goes to the labels around the most frequent
    one, a sample each; to all in proportion if it is more than half of the grid. Where rounding gives more than can be
    taken back so, or leaves over more than half of a batch, as of shares of less than a sample, the sums of shares are
    rounded in their place (no such batch is published: the most frequent label of 512 ages has a dozen).

    Args:
        grid: Labels in increasing order, shape ``(l,)``.
        share: Of each label, summing to 1.
        size: Samples of the batch.
    """
    wanted = share * size
    left = int(np.searchsorted(np.cumsum(wanted), 1 - 1e-9))
    right = len(grid) - 1 - int(np.searchsorted(np.cumsum(wanted[::-1]), 1 - 1e-9))
    counts = np.zeros(len(grid), dtype=np.int64)
    if left < right:
        counts[left : right + 1] = np.round(wanted[left : right + 1])
        counts[left], counts[right] = 1, 1
    else:  # fewer samples than that: around the middle of the distribution
        counts[int(np.searchsorted(np.cumsum(share), 0.5))] = size
    residual = size - int(counts.sum())
    if 2 * residual > size:
        return np.repeat(grid, np.diff(np.rint(np.cumsum(wanted)), prepend=0).astype(np.int64))
    if 0 < abs(residual) <= len(grid) // 2:
        start = int(np.clip(counts.argmax() - abs(residual) // 2, 0, len(grid) - abs(residual)))
        counts[start : start + abs(residual)] += np.sign(residual)
    elif residual:
        counts += np.floor(residual * share).astype(np.int64)
    counts = counts.clip(min=0)
    unplaced = size - int(counts.sum())
    if counts.max() + unplaced < 0:
        counts[:] = np.diff(np.rint(np.cumsum(wanted)), prepend=0)
    else:
        counts[counts.argmax()] += unplaced
    return np.repeat(grid, counts)


class DistLoss(Part):
    """The L1 distance between sorted predictions and the labels that the batch should hold.

    Args:
        facts: Of the training labels.
        weight: λ of the paper.
        bandwidth: Factor of the kernel estimate of the labels' density, as SciPy's `bw_method`.
        reweight: Weights of the samples in this distance, as `bin_weights` has them.
        aligned: Whether a weight goes with its own prediction, or stays at its place in the batch (the authors' code).
    """

    table: Tensor

    def __init__(
        self, facts: Facts, weight: float = 1.0, bandwidth: float = 0.5, reweight: Any = "none", aligned: bool = True
    ) -> None:
        super().__init__()
        not_negative(weight=weight)
        above_zero(bandwidth=bandwidth)
        self.weight, self.aligned, self.bins = weight, aligned, facts.bins
        self.target_scale, self.target_shift = facts.target_scale, facts.target_shift
        table = bin_weights(facts.counts, reweight, first=facts.bins.first)
        self.register_buffer("table", torch.from_numpy(table), persistent=False)
        self._grid = facts.bins.edges[facts.bins.first : -1]
        try:
            density = gaussian_kde(np.asarray(facts.targets, np.float64), bw_method=bandwidth)(self._grid)
        except (ValueError, np.linalg.LinAlgError) as error:
            raise UserError(f"Dist Loss cannot estimate the density of the training labels: {error}") from error
        self._share = density / density.sum()
        self._expected: dict[int, Tensor] = {}

    @classmethod
    def check(cls, config: Config) -> None:
        """It needs a label for each sample."""
        refuse_maps(config, "Dist Loss")

    def expected(self, like: Tensor) -> Tensor:
        """Return `expected_labels` for a batch, in network units; made once for each size."""
        if len(like) not in self._expected:
            labels = (expected_labels(self._grid, self._share, len(like)) - self.target_shift) / self.target_scale
            self._expected[len(like)] = torch.from_numpy(labels).to(like.device, like.dtype)
        return self._expected[len(like)]

    def penalty(self, step: Step) -> Tensor:
        """Return the weighted distance of the batch."""
        assert step.output is not None
        predictions = step.output[:, 0].float()
        found, order = predictions.sort(stable=True)
        weights = self.table[self.bins.index(step.targets)]
        weights = weights[order] if self.aligned else weights
        return self.weight * (weights * (found - self.expected(found)).abs()).mean()
