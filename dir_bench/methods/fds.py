"""Feature distribution smoothing (FDS): calibrate features by statistics smoothed over nearby labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from dir_bench.errors import nearest
from dir_bench.labels.bins import TargetBins
from dir_bench.labels.density import Kernel, Tails, kernel_window
from dir_bench.methods.fds_calibration import (
    GUARDS,
    CalibrateBySlot,
    Guard,
    calibration_table,
    fill_from_neighbours,
    smoothed_table,
    smoothing_matrix,
)
from dir_bench.methods.fds_moments import (
    Edges,
    GroupMoments,
    LabelSlots,
    Moments,
    feature_rows,
    labels_per_feature,
)

Empty = Literal["initial", "neighbours", "exclude"]
Lag = Literal["alias", "snapshot", "none"]
NewBins = Literal["blend", "overwrite"]
Groups = Literal["bins", "labels"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "edges": ("clamp", "absorb_if_present"),
    "empty": ("initial", "neighbours", "exclude"),
    "lag": ("alias", "snapshot", "none"),
    "guard": GUARDS,
    "new_bins": ("blend", "overwrite"),
    "groups": ("bins", "labels"),
}


SMALL = 2**16
"""Elements of a batch of features up to which calibration leaves the gradient to autograd."""


class FDS(nn.Module):
    """Calibrate the features of each label bin toward statistics smoothed over the neighbouring bins.

    Each training epoch: `smooth` the features of each batch, and gather their statistics with `new_moments`;
    at its end, `end_epoch`. Evaluation never smooths: calling the module does so in training mode only.

        fds = FDS(backbone.feature_dim, bins=TargetBins.regular(0, 100, 1))
        for epoch in range(epochs):
            moments = fds.new_moments()
            for inputs, labels in batches:
                features = backbone(inputs)
                moments.add(features, labels)
                predictions = regressor(fds(features, labels, epoch))
                ...
            fds.end_epoch(moments, epoch)

    Under torch.distributed, `end_epoch` pools the statistics of all processes.

    The published code differs by dataset, and from the paper. Each difference is an argument, whose default
    suits data of one's own; the benchmark's configs set them all.

    Args:
        feature_dim: Width D of the features.
        first: Bin (integer label, if `bins` is None) of the first row of the tables. None: `bins.first`.
        last: Bin of the last row. None: the last one of `bins`.
        bins: Turns labels into bin numbers. None: the bin is the integer part of the label.
        kernel: Window over bins, see `kernel_window`; it sums to 1. Beyond the ends, bins are mirrored.
        kernel_size: Its width in bins, odd.
        sigma: Its spread in bins.
        momentum: Share of the old statistics at each update, 0 … 1. None: mean over all updates, weighted by
            samples.
        start_update: First epoch whose statistics count; they replace what is there. None: the first that ends,
            whatever its number is.
        start_smooth: First epoch in which features are calibrated.
        clip: Lowest and highest ratio of variances in the calibration. Published: (0.1, 10) for ages,
            (0.2, 5) for NYUD2, (0.5, 2) for STS-B.
        tails: Of the gaussian window, see `kernel_window`.
        edges: Labels outside `first` … `last`. "clamp" (STS-B, NYUD2): they join the row at that end.
            "absorb_if_present" (ages): only if the label `first` (`last`) itself occurs in the same call;
            else they are not counted, not smoothed.
        empty: Bins without samples. "initial" (ages, NYUD2): keep mean 0, variance 1, and enter the
            smoothing. "neighbours" (STS-B): after each update, those that had none in it are filled, see
            `fill_from_neighbours`. "exclude" (the paper's reading): the window is renormalised over bins that
            have had samples; features of others are left alone.
        lag: "alias" (ages, STS-B): features have the statistics including the last epoch, and get smoothed
            ones of the epoch before it. "snapshot" (NYUD2 on a GPU): both are of the epoch before it. "none"
            (algorithm 2 of the paper): both include the epoch just ended.
        guard: Calibration where variances are not positive, see `calibration_table`.
        new_bins: A bin first met after `start_update`. "blend": with its initial 0 and 1, as published.
            "overwrite": it takes what it meets.
        groups: "bins": statistics are of bins. "labels" (ages; only `update_running_stats`): each distinct
            label makes an update of its bin, in increasing order. The same where labels are integers.
        feedback: Whether the trainer collects the features after smoothing (published for ages and STS-B) or
            before; kept here for it as `collects_smoothed`.
        in_turn: Refuse epochs out of turn in `end_epoch`. False: they change nothing, as published.

    Raises:
        ValueError: If an argument is not valid, or there are too few bins for the kernel.

    Source:
        Yang et al., "Delving into Deep Imbalanced Regression", ICML 2021, arXiv:2102.09554, section 3.2 and
        algorithm 2; YyzHarry/imbalanced-regression, `agedb-dir/fds.py`, `sts-b-dir/fds.py`,
        `nyud2-dir/models/fds.py`. Buffers have the names they have there, so the `FDS.*` entries of published
        checkpoints load. Departs from all three: `smooth` does not write into its input, and sums are in
        float64.
    """

    running_mean: Tensor
    running_var: Tensor
    running_mean_last_epoch: Tensor
    running_var_last_epoch: Tensor
    smoothed_mean_last_epoch: Tensor
    smoothed_var_last_epoch: Tensor
    num_samples_tracked: Tensor
    epoch: Tensor
    aliased: Tensor
    published: Tensor
    _window: Tensor
    _scale: Tensor
    _shift: Tensor

    def __init__(
        self,
        feature_dim: int,
        *,
        first: int | None = None,
        last: int | None = None,
        bins: TargetBins | None = None,
        kernel: Kernel = "gaussian",
        kernel_size: int = 5,
        sigma: float = 2.0,
        momentum: float | None = 0.9,
        start_update: int | None = None,
        start_smooth: int = 1,
        clip: tuple[float, float] = (0.1, 10.0),
        tails: Tails = "folded",
        edges: Edges = "clamp",
        empty: Empty = "exclude",
        lag: Lag = "none",
        guard: Guard = "valid_columns",
        new_bins: NewBins = "overwrite",
        groups: Groups = "bins",
        feedback: bool = False,
        in_turn: bool = True,
    ) -> None:
        super().__init__()
        given = {
            "edges": edges, "empty": empty, "lag": lag, "guard": guard, "new_bins": new_bins, "groups": groups
        }  # fmt: skip
        for name, value in given.items():
            if value not in _CHOICES[name]:
                hint = nearest(str(value), _CHOICES[name])
                raise ValueError(f"FDS: {name} must be one of {_CHOICES[name]}, not {value!r}{hint}")
        if momentum is not None and not 0 <= momentum <= 1:
            raise ValueError(f"FDS: momentum must be between 0 and 1, or None, not {momentum}")
        if not 0 < clip[0] <= clip[1]:
            raise ValueError(f"FDS: clip must be (lowest, highest) ratio of variances above 0, not {clip}")
        self.slots = LabelSlots.over(bins, first, last, edges)
        self.feature_dim = feature_dim
        self.momentum, self.start_smooth = momentum, start_smooth
        self.start_update, self._begun = start_update or 0, start_update is not None or not in_turn
        self.clip, self.feedback = (float(clip[0]), float(clip[1])), feedback
        self.in_turn = in_turn
        self.empty, self.lag, self.guard, self.new_bins, self.groups = empty, lag, guard, new_bins, groups
        window = kernel_window(kernel, kernel_size, sigma, normalize="sum", tails=tails, dtype=np.float32)
        self.kernel_window = torch.from_numpy(window)  # plain attribute, as published: not in state_dict
        matrix = torch.tensor(smoothing_matrix(window, self.slots.rows), dtype=torch.float32)
        self.register_buffer("_window", matrix, persistent=False)
        self._register_statistics()

    def _register_statistics(self) -> None:
        rows, shape = self.slots.rows, (self.slots.rows, self.feature_dim)
        for kind in ("running_{}", "running_{}_last_epoch", "smoothed_{}_last_epoch"):
            self.register_buffer(kind.format("mean"), torch.zeros(shape))
            self.register_buffer(kind.format("var"), torch.ones(shape))
        self.register_buffer("num_samples_tracked", torch.zeros(rows))
        self.register_buffer("epoch", torch.full((1,), float(self.start_update)))
        # Ours, and optional on loading: whether "last epoch" follows "running", and which rows had samples
        # when statistics were last published.
        self.register_buffer("aliased", torch.tensor(False))
        self.register_buffer("published", torch.zeros(rows, dtype=torch.bool))
        # Derived from the statistics; the last three rows are for labels that have none (LabelSlots).
        self.register_buffer("_scale", torch.ones(rows + 3, self.feature_dim), persistent=False)
        self.register_buffer("_shift", torch.zeros(rows + 3, self.feature_dim), persistent=False)

    @property
    def collects_smoothed(self) -> bool:
        """Whether the statistics to be added to `new_moments` are those of the features after smoothing."""
        return self.feedback

    def extra_repr(self) -> str:
        return (
            f"{self.feature_dim}, rows={self.slots.first}…{self.slots.last}, momentum={self.momentum}, "
            f"edges={self.slots.edges}, empty={self.empty}, lag={self.lag}"
        )

    def forward(self, features: Tensor, labels: Tensor, epoch: int) -> Tensor:
        """Return `smooth(...)` in training mode, the features themselves in evaluation."""
        return self.smooth(features, labels, epoch) if self.training else features

    def smooth(self, features: Tensor, labels: Tensor, epoch: int) -> Tensor:
        """Return the features calibrated by the bin of their label.

        The host never waits for the device. The statistics are constants: the gradient is the scale of the
        calibration, and 1 where there was none.

        Args:
            features: [N, D], or [B, D, H, W]; not modified.
            labels: In label units, [N] or [N, 1]; [B, H, W] or [B, 1, H, W]. NaN: no label, features unchanged.
            epoch: Number of the running epoch. Before `start_smooth` the features come back as the same tensor.

        Returns:
            A tensor of the shape and type of `features`; computed in float32 if they are half precision.

        Raises:
            ValueError: If the shapes do not belong together, or are not of this feature_dim.
        """
        labels = self._matching_labels(features, labels)
        if epoch < self.start_smooth:
            return features
        values, slot = self.slots.locate(labels)
        if self.slots.edges == "absorb_if_present":
            slot = self.slots.absorb(slot, self.slots.edge_counts(values))
        if features.dim() == 2 and features.numel() <= SMALL and features.dtype == self._scale.dtype:
            # What autograd keeps of a small batch costs less than a function of ours in Python.
            return torch.addcmul(self._shift.index_select(0, slot), features, self._scale.index_select(0, slot))
        calibrated: Tensor = CalibrateBySlot.apply(features, slot, self._scale, self._shift)
        return calibrated

    def new_moments(self) -> Moments:
        """Return empty statistics for the features of one epoch; add each batch to them."""
        return Moments(self.slots, self.feature_dim, self.running_mean.device)

    @torch.no_grad()
    def end_epoch(self, moments: Moments, epoch: int) -> None:
        """Take up the statistics of the epoch that ends, and publish what the next one smooths with.

        In the order that `lag` asks for: update, then publish for the next epoch ("none"); else publish what
        is there, then update, as in the published training loops. Where torch.distributed runs several processes,
        the moments of all are pooled first, unless `moments.reduce` has done so: each of them has to call this.

        Args:
            moments: Of the features of this epoch, from `new_moments`.
            epoch: Its number, from 0, 1 or any other on. Before a `start_update` nothing happens; after the first,
                epochs come one by one.

        Raises:
            ValueError: If this epoch is not the one that comes next: nothing would ever be published.
        """
        if epoch < self.start_update:
            return
        if not self._begun and not self.num_samples_tracked.any():  # nor in a state that was loaded
            self.start_update = epoch
            self.epoch.fill_(epoch)
        self._begun = True
        published = int(self.epoch.item())
        if self.in_turn and epoch not in (published, published if self.lag == "none" else published + 1):
            raise ValueError(
                f"FDS: epoch {epoch} ends, out of turn behind {published}: its statistics would never be used; count "
                f"epochs one by one from start_update={self.start_update} on, or make FDS(…, start_update={epoch}) if "
                f"{epoch} is the first"
            )
        moments.reduce_once()
        if self.lag == "none":
            self._update(moments, epoch)
            self.update_last_epoch_stats(epoch + 1)
        else:
            self.update_last_epoch_stats(epoch)
            self._update(moments, epoch)

    @torch.no_grad()
    def update_last_epoch_stats(self, epoch: int) -> None:
        """Publish the running statistics, and smooth them, if `epoch` is the one after the last published."""
        if epoch != self.epoch.item() + 1:
            return
        self.epoch += 1
        self.published.copy_(self.num_samples_tracked > 0)
        self.aliased.fill_(self.lag == "alias")
        self._copy_running_to_last()
        self.smoothed_mean_last_epoch.copy_(self._smoothed(self.running_mean, 0.0, self.published))
        self.smoothed_var_last_epoch.copy_(self._smoothed(self.running_var, 1.0, self.published))
        self._tabulate()

    @torch.no_grad()
    def update_running_stats(self, features: Tensor, labels: Tensor, epoch: int) -> None:
        """Update the running statistics from all features of an epoch at once, as the published code does.

        Nothing happens if `epoch` is before the last published one.

        Args:
            features: [N, D], or [B, D, H, W].
            labels: As for `smooth`.
            epoch: At `start_update`, the statistics replace what is there; else momentum applies.

        Raises:
            ValueError: As `smooth`.
        """
        labels = self._matching_labels(features, labels)
        if epoch < self.epoch.item():  # asked before there is work on a GPU that the answer would wait for
            return
        if self.groups == "bins":
            moments = self.new_moments()
            moments.add(features, labels)
            self._take_up(moments, epoch)
        else:
            self._update_by_label(feature_rows(features.detach()), labels.reshape(-1), epoch)

    @torch.no_grad()
    def smoothing_distance(self) -> Tensor:
        """Return how far the running means, and the running variances, are from themselves smoothed, [2].

        The mean absolute difference over features and the bins that have had samples; NaN if none has. It is of the
        running statistics whatever `lag` is, and does not change them (Yang et al. 2021, figure 8c).
        """
        seen = self.num_samples_tracked > 0
        tables = ((self.running_mean, 0.0), (self.running_var, 1.0))
        return torch.stack([(self._smoothed(t, initial, seen) - t)[seen].abs().mean() for t, initial in tables])

    @torch.no_grad()
    def reset(self) -> None:
        """Forget all statistics; `epoch` goes on, as published."""
        for name, initial in (("mean", 0.0), ("var", 1.0)):
            for table in ("running_{}", "running_{}_last_epoch", "smoothed_{}_last_epoch"):
                getattr(self, table.format(name)).fill_(initial)
        self.num_samples_tracked.zero_()
        self.published.zero_()
        self._tabulate()

    def _matching_labels(self, features: Tensor, labels: Tensor) -> Tensor:
        labels = labels_per_feature(features, labels)
        if features.shape[1] != self.feature_dim:
            raise ValueError(f"FDS was made for {self.feature_dim} features, not {features.shape[1]}")
        return labels

    def _update(self, moments: Moments, epoch: int) -> None:
        if epoch >= self.epoch.item():
            self._take_up(moments, epoch)

    def _take_up(self, moments: Moments, epoch: int) -> None:
        count, mean, variance = moments.by_row()
        self._blend(slice(None), count, mean, variance, epoch)
        self._after_update(count > 0)

    def _update_by_label(self, matrix: Tensor, labels: Tensor, epoch: int) -> None:
        slots = self.slots
        values, slot = slots.locate(labels)
        slot = slots.absorb(slot, slots.edge_counts(values))
        kept = slot < slots.rows
        distinct, group = torch.unique(values.clamp(slots.first, slots.last)[kept], return_inverse=True)
        moments = GroupMoments(len(distinct), self.feature_dim, matrix.device)
        moments.add_groups(matrix[kept], group)
        row = (distinct - slots.first).to(torch.int64)
        # Labels of one row update it one after the other: the loop is over their rank within the row.
        rank = torch.arange(len(row), device=row.device) - torch.searchsorted(row, row)
        count, mean, variance = moments.count, moments.mean, moments.variance
        for turn in range(int(rank.max()) + 1 if len(rank) else 0):
            now = rank == turn
            self._blend(row[now], count[now], mean[now], variance[now], epoch)
        seen = torch.zeros_like(self.published)
        seen[row] = True
        self._after_update(seen)

    def _blend(self, rows: Tensor | slice, count: Tensor, mean: Tensor, variance: Tensor, epoch: int) -> None:
        """Blend the statistics of distinct rows into the running ones; those without samples stay as they are."""
        before = self.num_samples_tracked[rows]
        tracked = before + count.to(before.dtype)
        if epoch == self.start_update:
            old_share = torch.zeros_like(count)
        elif self.momentum is None:
            old_share = 1 - count / tracked.to(count.dtype)
        else:
            old_share = torch.full_like(count, self.momentum)
        if self.new_bins == "overwrite":
            old_share = torch.where(before > 0, old_share, 0.0)
        old_share, seen = old_share[:, None], (count > 0)[:, None]
        for running, current in ((self.running_mean, mean), (self.running_var, variance)):
            blended = ((1 - old_share) * current + old_share * running[rows]).to(running.dtype)
            running[rows] = torch.where(seen, blended, running[rows])
        self.num_samples_tracked[rows] = tracked

    def _after_update(self, seen: Tensor) -> None:
        if self.empty == "neighbours":
            for running in (self.running_mean, self.running_var):
                running.copy_(fill_from_neighbours(running, ~seen))
        if self.aliased.item():
            self._copy_running_to_last()
            self._tabulate()

    def _copy_running_to_last(self) -> None:
        self.running_mean_last_epoch.copy_(self.running_mean)
        self.running_var_last_epoch.copy_(self.running_var)

    def _smoothed(self, table: Tensor, initial: float, seen: Tensor) -> Tensor:
        return smoothed_table(table, self._window, initial, seen if self.empty == "exclude" else None)

    @torch.no_grad()
    def _tabulate(self) -> None:
        """Compute scale and shift of each row anew, after any change of the published statistics."""
        scale, shift = calibration_table(
            self.running_mean_last_epoch,
            self.running_var_last_epoch,
            self.smoothed_mean_last_epoch,
            self.smoothed_var_last_epoch,
            self.clip,
            self.guard,
        )
        if self.empty == "exclude":
            scale = torch.where(self.published[:, None], scale, 1.0)
            shift = torch.where(self.published[:, None], shift, 0.0)
        rows = self.slots.rows
        self._scale[:rows].copy_(scale)
        self._shift[:rows].copy_(shift)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        tracked = state_dict.get(f"{prefix}num_samples_tracked")
        if tracked is not None:  # a published checkpoint: without our own two entries
            state_dict.setdefault(f"{prefix}published", tracked > 0)
            state_dict.setdefault(f"{prefix}aliased", torch.tensor(False))
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._tabulate()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FDS:
        def keep_precision(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return tensor.to(moved.device) if moved.dtype in (torch.float16, torch.bfloat16) else moved

        super()._apply(keep_precision, recurse)  # type: ignore[no-untyped-call]  # torch has no types there
        return self
