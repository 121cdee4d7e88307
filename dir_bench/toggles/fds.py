"""`fds`: feature distribution smoothing."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dir_bench.errors import UserError
from dir_bench.toggles.smoothing import KERNELS, Smoothing

if TYPE_CHECKING:
    from dir_bench.methods.part import Facts, Part
    from dir_bench.schema import Config


@dataclass
class FDSToggle(Smoothing):
    """See `methods.fds.FDS`; epochs count from 0."""

    momentum: float | None = 0.9
    start_update: int = 0
    start_smooth: int = 1
    statistics: str = "pass"

    choices: ClassVar = {
        "fds.name": KERNELS,
        "fds.statistics": ("pass", "stream"),
        "semantics.fds_edges": ("absorb_if_present", "clamp"),
        "semantics.fds_empty": ("initial", "neighbours", "exclude"),
        "semantics.fds_lag": ("alias", "snapshot", "none"),
        "semantics.fds_guard": ("nonzero_columns", "valid_columns", "valid_rows"),
        "semantics.fds_new_bins": ("blend", "overwrite"),
        "semantics.fds_second_stage": ("taken_over", "afresh"),
        "semantics.fds_subset_order": ("listed", "shuffled"),
    }
    semantics: ClassVar = (
        *("fds_edges", "fds_empty", "fds_lag", "fds_guard", "fds_new_bins", "fds_feedback", "fds_clip"),
        *("fds_second_stage", "fds_subset_order", "kernel_tails"),
    )

    def check(self, config: Config) -> None:
        """It needs features, bins to smooth over, and samples as they are."""
        self.check_window("fds")
        if self.momentum is not None and not 0 <= self.momentum <= 1:
            raise UserError(f"fds.momentum={self.momentum} must lie in [0, 1], or be null for a running average")
        if self.start_smooth < 0 or self.start_update < 0:
            raise UserError("fds.start_update and fds.start_smooth count epochs from 0 and cannot be negative")
        if not self.on:
            return
        if not config.backbone.get("features", True):
            raise UserError(
                f"fds={self.name} calibrates learned features, and the backbone {config.backbone.get('_target_')} "
                f"offers none: choose another backbone or fds=none"
            )
        dataset = config.dataset
        if not dataset.bins.settled or dataset.fds_last is None:
            return  # checked again once they are chosen
        count = dataset.bins.count
        if not 0 <= dataset.fds_first < dataset.fds_last < count:
            raise UserError(
                f"dataset.fds_first={dataset.fds_first} and dataset.fds_last={dataset.fds_last} must be two of the "
                f"{count} bins, 0 to {count - 1}, in this order"
            )
        rows = dataset.fds_last - dataset.fds_first + 1
        if self.kernel_size // 2 >= rows:
            raise UserError(f"fds.kernel_size={self.kernel_size} is too wide for the {rows} bins that FDS smooths")
        absorbs = config.semantics.fds_edges == "absorb_if_present"
        if absorbs and (dataset.bins.start, dataset.bins.width, dataset.bins.edges) != (0, 1, None):
            raise UserError(
                "semantics.fds_edges=absorb_if_present takes a label's whole part for its bin, and the bins of "
                f"{dataset.title} are {dataset.bins.width} wide and begin at {dataset.bins.start}: set "
                "semantics.fds_edges=clamp"
            )
        if self.statistics == "stream" and config.mixup.on:
            raise UserError(
                "fds.statistics=stream would gather the statistics of mixed features under mixed targets: take "
                "fds.statistics=pass, which passes over the samples as they are, or mixup=none"
            )

    def reads(self, config: Config) -> tuple[str, ...]:
        """Only a second stage can take over statistics, and only a pass has an order."""
        unread = {"fds_second_stage": not config.stages.on, "fds_subset_order": self.statistics != "pass"}
        return tuple(key for key in super().reads(config) if not unread.get(key))

    def part(self, config: Config, facts: Facts) -> Part | None:
        """Calibrate features, with the chosen semantics."""
        if not self.on:
            return None
        from dir_bench.methods.fds_part import FDSPart

        semantics = config.semantics
        absorbs = semantics.fds_edges == "absorb_if_present"
        if absorbs and np.any(np.trunc(facts.targets) != facts.targets):
            raise UserError(
                "semantics.fds_edges=absorb_if_present is for whole labels, and the training split has others: set "
                "semantics.fds_edges=clamp"
            )
        choices: dict[str, Any] = {
            "kernel": self.name,
            "tails": semantics.kernel_tails,
            **{key: getattr(semantics, f"fds_{key}") for key in ("edges", "empty", "lag", "guard", "new_bins")},
        }
        clip = semantics.fds_clip
        return FDSPart(
            facts.feature_dim,
            statistics=self.statistics,
            split=facts.statistics_split,
            shuffled=semantics.fds_subset_order == "shuffled",
            second_stage=semantics.fds_second_stage,
            first=config.dataset.fds_first,
            last=config.dataset.fds_last,
            # Absorbing goes by exact labels, and so has no use for bins.
            bins=None if absorbs else facts.bins,
            kernel_size=self.kernel_size,
            sigma=self.sigma,
            momentum=self.momentum,
            start_update=self.start_update,
            start_smooth=self.start_smooth,
            clip=(clip[0], clip[1]) if clip else (sys.float_info.min, math.inf),
            feedback=semantics.fds_feedback,
            in_turn=False,
            **choices,
        )
