"""FDS as a part of a method: which features it gathers, when, and what of it an unfinished epoch holds."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from dir_bench.datasets.base import Split
from dir_bench.errors import nearest
from dir_bench.methods.fds import FDS
from dir_bench.methods.fds_moments import Moments
from dir_bench.methods.part import Part, Step, Total, Walk


class FDSPart(FDS, Part):
    """Calibrates features, and gathers their statistics.

    Args:
        feature_dim: Width of the features.
        statistics: "pass": in a second pass at the end of an epoch, as published. "stream": from the steps themselves.
        split: What the second pass goes over, without augmentation; None: the training split, as it is trained.
        shuffled: Whether `split` is shuffled anew for each pass, or comes in its own order.
        second_stage: In the second of two stages, statistics begin "afresh", or are "taken_over" from the first, as
            published for ages: smoothing acts at once, and nothing is updated before the epoch that the first got to.
        settings: Those of `FDS`.
    """

    def __init__(
        self,
        feature_dim: int,
        *,
        statistics: str = "pass",
        split: Split | None = None,
        shuffled: bool = True,
        second_stage: str = "afresh",
        **settings: Any,
    ) -> None:
        for key, value, choices in (
            ("statistics", statistics, ("pass", "stream")),
            ("second_stage", second_stage, ("afresh", "taken_over")),
        ):
            if value not in choices:
                raise ValueError(f"{key}={value} is not a choice{nearest(value, choices)}: {' or '.join(choices)}")
        super().__init__(feature_dim, **settings)
        self.stream, self.split, self.shuffled = statistics == "stream", split, shuffled
        self.second_stage = second_stage
        self._moments: Moments | None = None

    def calibrate(self, features: Tensor, targets: Tensor, epoch: int) -> Tensor:
        """Return the features calibrated by the bin of their target."""
        return self.smooth(features, targets, epoch)

    def begin_second_stage(self, first: Mapping[str, Tensor]) -> None:
        """Take over all statistics of stage one, and how far it got, if that is asked for."""
        if self.second_stage == "taken_over" and first:
            self.load_state_dict(first)
            self.in_turn = False  # its epochs begin at 0 again, those of the statistics do not
            self.aliased.fill_(False)  # what is loaded into two tensors is two tensors, as published

    def epoch_begins(self, epoch: int) -> None:
        """Begin to gather from steps, unless a resumed epoch has begun already."""
        if self.stream and self._moments is None:
            self._moments = self.new_moments()

    def after_step(self, step: Step) -> None:
        """Gather from a step."""
        if self._moments is not None:
            self._gather(self._moments, step)

    def _gather(self, moments: Moments, step: Step) -> None:
        gathered = step.fed if self.collects_smoothed else step.features
        assert gathered is not None
        moments.add(gathered.detach(), step.targets)

    def epoch_ends(self, epoch: int, walk: Walk, total: Total) -> None:
        """Take up the statistics of the epoch: those gathered on the way, or from a second pass as published.

        In the pass, as in the published code, dropout acts and batch norm's running averages move once more.
        """
        if epoch >= self.start_update:
            moments = self.new_moments() if self._moments is None else self._moments
            if not self.stream:
                for step in walk(self.split, "fds", self.shuffled):
                    self._gather(moments, step)
            moments.reduce(total)
            self.end_epoch(moments, epoch)
        self._moments = None

    def report(self) -> dict[str, float]:
        """Return how far the statistics are from themselves smoothed, once there are some."""
        if not self.num_samples_tracked.any():
            return {}
        mean, variance = self.smoothing_distance().tolist()
        return {"fds/mean_distance": mean, "fds/variance_distance": variance}

    def open_state(self, total: Total | None) -> dict[str, Tensor]:
        """Return the statistics that steps have given so far."""
        if self._moments is None:
            return {}
        state = self._moments.state_dict()
        if total is not None:
            whole = self.new_moments()
            whole.load_state_dict(state)
            whole.reduce(total)
            state = whole.state_dict()
        return state

    def load_open_state(self, state: Mapping[str, Tensor], first: bool) -> None:
        """Take up the statistics of all processes in one of them."""
        self._moments = self.new_moments()
        if first:
            self._moments.load_state_dict(state)
