"""Statistics of features by label, gathered batch by batch: the first half of FDS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from dir_bench.labels.bins import TargetBins
from dir_bench.tensors import wide_dtype

Edges = Literal["clamp", "absorb_if_present"]


def labels_per_feature(features: Tensor, labels: Tensor) -> Tensor:
    """Return the labels in the shape of the features without their channel dimension.

    Args:
        features: [N, D], or [B, D, H, W] (any number of dimensions behind the channels).
        labels: [N] or [N, 1]; [B, H, W] or [B, 1, H, W].

    Raises:
        ValueError: If the shapes do not belong together.
    """
    shape = (*features.shape[:1], *features.shape[2:])
    if features.dim() < 2 or tuple(labels.shape) not in (shape, (*shape[:1], 1, *shape[1:])):
        raise ValueError(
            f"features [N, D] go with labels [N] or [N, 1], features [B, D, H, W] with labels [B, H, W] or "
            f"[B, 1, H, W]; got features {tuple(features.shape)} and labels {tuple(labels.shape)}"
        )
    return labels.detach().reshape(shape)


def feature_rows(features: Tensor) -> Tensor:
    """Return [N, D] as it is and [B, D, H, W] as one row per pixel, [B * H * W, D]."""
    return features if features.dim() == 2 else features.movedim(1, -1).reshape(-1, features.shape[1])


@dataclass(frozen=True, eq=False)
class LabelSlots:
    """Which row of the FDS tables a label belongs to.

    Slots 0 … rows - 1 are the rows, of the bins `first` … `last`. Three more take what belongs to none:
    labels below `first` (slot `rows`), above `last` (`rows + 1`), and NaN, which is no label (`rows + 2`).

    Args:
        first: Bin, or integer label, of row 0.
        last: Bin, or integer label, of the last row.
        bins: Turns labels into bin numbers. None: the bin is the integer part of the label.
        edges: "clamp": what lies outside joins the row at that end. "absorb_if_present": only if some label
            of the same call is exactly `first` (or `last`); otherwise it belongs to no row.
    """

    first: int
    last: int
    bins: TargetBins | None
    edges: Edges

    @classmethod
    def over(cls, bins: TargetBins | None, first: int | None, last: int | None, edges: Edges) -> LabelSlots:
        """Make slots for bins `first` … `last`, which default to those in use of `bins`.

        Raises:
            ValueError: If there is no such range.
        """
        if bins is not None:
            first = bins.first if first is None else first
            last = len(bins) - 1 if last is None else last
            if not 0 <= first <= last < len(bins):
                raise ValueError(f"FDS: first={first} and last={last} must be bins, 0 to {len(bins) - 1}")
        if first is None or last is None or first > last:
            raise ValueError(f"FDS needs bins, or first <= last; got first={first}, last={last}")
        return cls(first, last, bins, edges)

    @property
    def rows(self) -> int:
        return self.last - self.first + 1

    def locate(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the value that stands for each label (bin number, or the label itself), and its slot.

        Nothing here makes the host wait for the device.
        """
        values = labels if self.bins is None else self.bins.index(labels)
        if self.edges == "clamp":
            values = values.clamp(self.first, self.last)
        slot = (values - self.first).to(torch.int64)
        if self.edges == "absorb_if_present":
            slot = slot.masked_fill(values < self.first, self.rows)
            slot = slot.masked_fill(values > self.last, self.rows + 1)
        if labels.is_floating_point():
            slot = slot.masked_fill(labels.isnan(), self.rows + 2)
        return values, slot

    def edge_counts(self, values: Tensor) -> Tensor:
        """Return how many values are exactly `first` and exactly `last`, int64 [2]."""
        return torch.stack([values == self.first, values == self.last]).flatten(1).sum(1)

    def absorb(self, slot: Tensor, edge_counts: Tensor) -> Tensor:
        """Return the slots with the outer ones moved into the end rows, where those edge labels occur."""
        if self.edges == "clamp":
            return slot
        slot = slot.masked_fill((slot == self.rows) & (edge_counts[0] > 0), 0)
        return slot.masked_fill((slot == self.rows + 1) & (edge_counts[1] > 0), self.rows - 1)


CACHED = 2**18
"""Numbers to widen to float64 at once: what a CPU can cache."""
BY_PRODUCT = ("cuda",)
"""Kinds of device that add rows of the same group by a matrix product, see `GroupMoments`."""
PRODUCT_BYTES, MEMBERS_BYTES = 52 * 2**20, 4 * 2**20
"""What a product's factors take at a time, and the table of who is in which group."""
BEYOND = 1e150
"""Stands for what is not finite in a product: 0 times it is 0. Its square is finite, and neither is in float32."""


class GroupMoments:
    """Count, mean and unbiased variance of the feature vectors of each group, added up batch by batch.

    Memory is three float64 tables, whatever the number of samples. Sums are taken of differences to the
    group's first sample, so nothing cancels, and a column constant in its group has variance 0 exactly. What is not
    finite stays within its group, and nothing makes the host wait for a GPU.

    On a CPU `index_add_` is the fastest scatter of those tried (sorting, one-hot products, bags). On a GPU it adds
    atomically: in an order of chance, so that two runs may differ, and slowly where many rows are of one group. There
    the rows are multiplied by the table of who is in which group, in float64, which gives the same bits each time. For
    12,208 × 2048 features in 97 groups that is 10 GFLOP, 0.3 ms of an H100 (where float64 is slow, 10 to 20 ms). It
    takes three launches, and small batches wait to be added together, because launches are what they cost.

    Args:
        groups: Number of groups.
        feature_dim: Width of a feature vector.
        device: Where the tables lie, and the features will be.
    """

    def __init__(self, groups: int, feature_dim: int, device: torch.device | str | None = None) -> None:
        device = torch.empty(0, device=device).device
        self.count = torch.zeros(groups, dtype=wide_dtype(device), device=device)
        self.center, self.total, self.squares = self.count.new_zeros(3, groups, feature_dim).unbind()

    @torch.no_grad()
    def add_groups(self, matrix: Tensor, group: Tensor) -> None:
        """Add feature vectors [N, D] of the groups [N] (int64)."""
        if len(matrix) == 0:
            return
        add = self._add_by_product if self.count.device.type in BY_PRODUCT else self._add_by_index
        add(matrix, group)

    def _add_by_index(self, matrix: Tensor, group: Tensor) -> None:
        self._center_new_groups(matrix, group)
        self.count.index_add_(0, group, torch.ones_like(group, dtype=self.count.dtype))
        center = self.center.to(torch.promote_types(matrix.dtype, torch.float32))
        size = max(1, (CACHED if matrix.is_cpu else 2**24) // matrix.shape[1])
        for start in range(0, len(matrix), size):
            of = group[start : start + size]
            # Rounded relative to itself, not to the features, so float32 features need no wider difference.
            difference = (matrix[start : start + size] - center.index_select(0, of)).to(self.total.dtype)
            self.total.index_add_(0, of, difference)
            self.squares.index_add_(0, of, difference.square_())

    def _center_new_groups(self, matrix: Tensor, group: Tensor) -> None:
        position = torch.arange(len(group), device=group.device)
        first = torch.full(self.count.shape, len(group), device=group.device)
        first.scatter_reduce_(0, group, position, "amin")
        self._center((self.count == 0) & (first < len(group)), first.clamp(max=len(group) - 1), matrix)

    def _center(self, new: Tensor, first: Tensor, matrix: Tensor) -> None:
        """Let the differences of new groups be to these rows."""
        if new.is_cpu and not new.any():  # on a GPU, asking would make the host wait
            return
        self.center = torch.where(new[:, None], matrix[first].to(self.center.dtype), self.center)

    def _add_by_product(self, matrix: Tensor, group: Tensor) -> None:
        groups, width = self.total.shape
        own = torch.arange(groups, device=group.device)[:, None]
        at_once, in_a_product = max(1, MEMBERS_BYTES // groups), max(1, PRODUCT_BYTES // (8 * (width + groups)))
        for begin in range(0, len(matrix), at_once):
            rows, of = matrix[begin : begin + at_once], group[begin : begin + at_once]
            member = of == own
            seen, first = member.max(1)
            self._center(seen & (self.count == 0), first, rows)
            self.count += member.sum(1)
            for start in range(0, len(rows), in_a_product):
                part = slice(start, start + in_a_product)
                self._add_product(member[:, part].to(self.total.dtype), rows[part], of[part])

    def _add_product(self, member: Tensor, rows: Tensor, of: Tensor) -> None:
        difference = self.center.index_select(0, of)
        torch.sub(rows, difference, out=difference).nan_to_num_(BEYOND, BEYOND, -BEYOND)
        self.total.addmm_(member, difference)
        self.squares.addmm_(member, difference.square_())

    @property
    def mean(self) -> Tensor:
        """Mean of each group, [groups, D]; 0 where there are no samples."""
        return torch.addcdiv(self.center, self.total, self.count.clamp(min=1)[:, None])

    @property
    def spread(self) -> Tensor:
        """Sum of squared differences to the mean of the group, [groups, D]."""
        samples = self.count.clamp(min=1)[:, None]
        return torch.addcdiv(self.squares, self.total.square(), samples, value=-1).clamp_(min=0)

    @property
    def variance(self) -> Tensor:
        """Unbiased variance of each group, [groups, D]; 0 for one sample, and for none."""
        return unbiased_variance(self.count, self.mean, self.spread)


def unbiased_variance(count: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    """Return spread / (count - 1), and 0 for a single sample.

    What lies below the rounding of the mean itself, (8 eps mean)^2, is 0: merging two parts of a constant
    column may leave as much. Real spread of float32 features is far above it.
    """
    variance = spread / (count - 1).clamp(min=1)[:, None]
    floor = (8 * torch.finfo(mean.dtype).eps * mean).square()
    return variance.masked_fill(variance <= floor, 0.0)


class Moments(GroupMoments):
    """Statistics of one epoch's features for `FDS.end_epoch`, one row per bin. Made by `FDS.new_moments`.

    With edges "absorb_if_present" the call that has to hold an edge label is all that was added, not a batch.
    """

    KEYS = ("count", "center", "total", "squares", "edge_counts")
    WAITING: ClassVar[Mapping[str, int]] = {"cpu": 2**18, "cuda": 2**22}
    """Numbers that wait to be added together, at most: a small batch costs more to start on than to add."""

    def __init__(self, slots: LabelSlots, feature_dim: int, device: torch.device | str | None = None) -> None:
        super().__init__(slots.rows + 3, feature_dim, device)
        self.slots = slots
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._waiting_rows = 0
        self.edge_counts = torch.zeros(2, dtype=self.count.dtype, device=self.count.device)
        self.reduced = False

    @torch.no_grad()
    def add(self, features: Tensor, labels: Tensor) -> None:
        """Add one batch. Small ones are kept, up to `WAITING` numbers, to be added at once.

        Args:
            features: [N, D], or [B, D, H, W], of which each pixel counts. Not to be changed in place afterwards.
            labels: In label units, [N] or [N, 1]; [B, H, W] or [B, 1, H, W]. NaN: no label, not counted.

        Raises:
            ValueError: If the shapes do not belong together.
        """
        labels = labels_per_feature(features, labels).reshape(-1)
        self._waiting.append((feature_rows(features.detach()), labels))
        self._waiting_rows += len(labels)
        if self._waiting_rows * features.shape[1] >= self.WAITING.get(labels.device.type, 2**18):
            self.settle()

    @torch.no_grad()
    def settle(self) -> None:
        """Add what still waits."""
        if not self._waiting:
            return
        features, labels = self._all_waiting()
        self._waiting, self._waiting_rows = [], 0
        values, slot = self.slots.locate(labels)
        if self.slots.edges == "absorb_if_present":
            self.edge_counts += self.slots.edge_counts(values)
        self.add_groups(features, slot)

    def _all_waiting(self) -> tuple[Tensor, Tensor]:
        if len(self._waiting) == 1:  # a whole epoch at once, say: not to be copied
            return self._waiting[0]
        features, labels = zip(*self._waiting, strict=True)
        return torch.cat(features), torch.cat(labels)

    def reduce_once(self) -> None:
        """Pool the statistics of all processes of torch.distributed, if there are several and it was not done yet."""
        grouped = torch.distributed.is_available() and torch.distributed.is_initialized()
        if grouped and torch.distributed.get_world_size() > 1 and not self.reduced:

            def summed(tensor: Tensor) -> Tensor:
                torch.distributed.all_reduce(tensor)
                return tensor

            self.reduce(summed)

    @torch.no_grad()
    def reduce(self, all_reduce: Callable[[Tensor], Tensor]) -> None:
        """Pool the statistics of all processes; afterwards each of them holds those of all.

        Args:
            all_reduce: Returns the sum of a tensor over the processes. Called four times, by each of them.
        """
        self.settle()
        self.reduced = True
        own_count, own_mean, own_spread = self.count, self.mean, self.spread
        self.edge_counts = all_reduce(self.edge_counts.clone())
        self.count = all_reduce(own_count.clone())
        mean = all_reduce(own_count[:, None] * own_mean) / self.count.clamp(min=1)[:, None]
        self.squares = all_reduce(own_spread + own_count[:, None] * (own_mean - mean).square())
        self.center, self.total = mean, torch.zeros_like(mean)

    def by_row(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return count [rows], mean and unbiased variance [rows, D] of the rows of the FDS tables."""
        self.settle()
        rows = self.slots.rows
        count, mean, spread = self.count, self.mean, self.spread
        if self.slots.edges == "absorb_if_present":
            own = torch.arange(len(count), device=count.device)
            count, mean, spread = _merge(count, mean, spread, self.slots.absorb(own, self.edge_counts))
        return count[:rows], mean[:rows], unbiased_variance(count, mean, spread)[:rows]

    def state_dict(self) -> dict[str, Tensor]:
        """Return tables and what still waits, for a checkpoint in the middle of an epoch.

        What waits is not added for it: another order of additions would change last digits.
        """
        state = {key: getattr(self, key).clone() for key in self.KEYS}
        if self._waiting:
            features, labels = self._all_waiting()
            state |= {"waiting_features": features, "waiting_labels": labels}
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take up tables from `state_dict`.

        Raises:
            ValueError: If a table is missing, or is of another FDS.
        """
        for key in self.KEYS:
            own = getattr(self, key)
            if key not in state or state[key].shape != own.shape:
                found = tuple(state[key].shape) if key in state else "missing"
                raise ValueError(f"FDS moments to load: {key} is {found}, should be {tuple(own.shape)}")
            setattr(self, key, state[key].to(own, copy=True))
        device = self.count.device
        self._waiting, self._waiting_rows = [], 0
        if "waiting_features" in state:
            self._waiting = [(state["waiting_features"].to(device), state["waiting_labels"].to(device))]
            self._waiting_rows = len(state["waiting_labels"])


def _merge(count: Tensor, mean: Tensor, spread: Tensor, into: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pool groups: group i becomes part of group `into[i]`."""
    total = torch.zeros_like(count).index_add_(0, into, count)
    sums = torch.zeros_like(mean).index_add_(0, into, count[:, None] * mean)
    pooled = sums.div_(total.clamp(min=1)[:, None])
    parts = torch.addcmul(spread, count[:, None], (mean - pooled[into]).square_())
    return total, pooled, torch.zeros_like(spread).index_add_(0, into, parts)
