"""The seam of methods: what may act between a sample and the update, as hooks with plain data in and out.

A method is a few parts. A part is a module, so what it learns or remembers is moved, trained, averaged over processes
and saved with the network. Every hook does nothing unless a part says otherwise. The trainer calls the hooks of all
parts, those of the config's groups first and then those of `parts` in their order, and knows none by name:

    samples ─► draw ─► batch ─► backbone ─► calibrate ─► head.losses · weigh + Σ penalty ─► gradients ─► after_step
                     epoch_begins … epoch_ends(walk, total) · report · open_state

A part of your own is one module anywhere on the path and one node of a YAML, `parts: {name: {_target_: …, …}}`. Its
constructor takes `facts` and the node's other keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from dir_bench.backbones.base import Backbone
from dir_bench.datasets.base import IntArray, Split
from dir_bench.errors import UserError
from dir_bench.labels import TargetBins

if TYPE_CHECKING:
    from dir_bench.schema import Config

Total = Callable[[Tensor], Tensor]
"""Returns the sum of a tensor over all processes; each of them has to call it."""


@dataclass(frozen=True)
class Facts:
    """What a part may know when it is built: the training labels, and the widths around it.

    Attributes:
        bins: Bins of the target, label units.
        counts: Training samples (or pixels) per bin, int64 of shape ``(b,)``.
        targets: Those of the training split as `Split.targets` has them; label units, shape ``(n,)``, for scalar ones.
        target_scale: Label units per network unit.
        target_shift: The label that is 0 in network units.
        feature_dim: Width of the features.
        backbone: The network before its last layer; not to be kept as a submodule, whose weights are its own.
        statistics_split: What the dataset names for statistics of features; None: the training split.
        dense: Each pixel has a target. `targets` are then what the split keeps, which need not be an array.
    """

    bins: TargetBins
    counts: IntArray
    targets: Any
    target_scale: float
    feature_dim: int
    backbone: Backbone
    statistics_split: Split | None = None
    target_shift: float = 0.0
    dense: bool = False


@dataclass
class Step:
    """One training step of one process.

    Attributes:
        epoch: From 0.
        number: Of the optimiser step, from 0.
        rng: From a purpose, and numbers if you like, to a random generator that this step alone has, the same on every
            process; add `rank` for one that is not.
        rank: Of this process.
        inputs: What the backbone takes.
        targets: Label units, shape ``(b,)`` or ``(b, 1, h, w)``; with several views, those of each one after the other.
        features: Of the backbone, shape ``(b, d)`` or ``(b, d, h, w)``; None before the forward pass.
        fed: What the regressor was given: the features after every part's `calibrate`.
        output: Of the regressor, shape ``(b, outputs)`` or ``(b, outputs, h, w)``.
        kept: By part, what it keeps of the forward pass until `after_step`, which comes behind the update.
    """

    epoch: int
    number: int
    rng: Callable[..., np.random.Generator]
    rank: int
    inputs: Any
    targets: Tensor
    features: Tensor | None = None
    fed: Tensor | None = None
    output: Tensor | None = None
    kept: dict[Part, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FeatureSet:
    """A split as a head sees it that is fitted at once; on the CPU, in the split's order.

    Attributes:
        features: What the backbone gives in evaluation, without augmentation; float32, shape ``(n, d)``.
        targets: Label units, shape ``(n,)``.
        weights: Of the loss, the product over all parts' `weigh`, shape ``(n,)``; None: all alike.
    """

    features: Tensor
    targets: Tensor
    weights: Tensor | None = None


Walk = Callable[..., Iterator[Step]]
"""walk(split=None, purpose="walk", shuffled=True): pass over a split in training mode, without gradients, as `Step`s.

None is the training split, each sample once, augmented and newly shuffled by a stream of the purpose's own. Another
split is not augmented, and comes in its own order unless `shuffled`.
"""


class Part(nn.Module):
    """One thing that a method does. With several processes, each sees its own part of a batch.

    What is a buffer is rank zero's at each forward pass, and part of the network's checkpoint.
    """

    views: int = 1
    """Augmented views of each sample that a batch holds, one after the other; targets are repeated."""
    settings: Mapping[str, Any] = {}
    """Of the optimiser, for the part's own parameters: {"lr": 1e-2}. Empty: those of the network."""

    of_features: ClassVar[bool] = False
    """Whether it works on features that are learned, which some backbones do not offer."""

    @classmethod
    def check(cls, config: Config) -> None:
        """Raise UserError if the part cannot go together with the rest of a config; before any data are read."""

    def samples(self, split: Split, device: torch.device) -> Split:
        """Return what is trained on in place of a training split; called once, before anything is trained."""
        return split

    def draw(self, rng: np.random.Generator) -> IntArray | None:
        """Return the samples of an epoch, with repetition, in the order in which they come; None: each once, shuffled.

        As many as a batch is long, or more. A function of the stream and of the part's state, which must not change
        within an epoch.
        """
        return None

    def batch(self, step: Step) -> AbstractContextManager[None]:
        """Change inputs and targets of a step; the network runs within the context."""
        return nullcontext()

    def calibrate(self, features: Tensor, targets: Tensor, epoch: int) -> Tensor:
        """Return what goes on to the regressor in place of the features; in training only."""
        return features

    def weigh(self, targets: Tensor) -> Tensor | None:
        """Return the weight of the loss of each target, of a shape that broadcasts to theirs; None: 1."""
        return None

    def penalty(self, step: Step) -> Tensor | None:
        """Return what is added to the mean loss of the batch, a scalar; None: nothing."""
        return None

    def gradients(self, backward: Callable[[], None], parameters: list[Tensor]) -> None:
        """Leave the gradients of a step in the parameters.

        `backward` adds them; it may be called more than once, and repeats the same batch with the same draws.
        """
        backward()

    def after_step(self, step: Step) -> None:
        """Look at a step whose update is done, at its first pass if there were more; nothing has to wait for it."""

    def begin_second_stage(self, first: Mapping[str, Tensor]) -> None:
        """Be told the state that the same part has in the selected checkpoint of stage one; empty if it had none."""

    def epoch_begins(self, epoch: int) -> None:
        """Be told of an epoch, or of what is left of one."""

    def epoch_ends(self, epoch: int, walk: Walk, total: Total) -> None:
        """Take up what an epoch gave, unless the run's last step came before its end."""

    def report(self) -> dict[str, float]:
        """Return numbers for the history and TensorBoard, at each evaluation."""
        return {}

    def open_state(self, total: Total | None) -> dict[str, Tensor]:
        """Return what an unfinished epoch has gathered beside parameters and buffers, over all processes.

        `total` is None where there is one process only.
        """
        return {}

    def load_open_state(self, state: Mapping[str, Tensor], first: bool) -> None:
        """Take up what `open_state` returned; `first`: this is the process that it counts for."""


def above_zero(**settings: float) -> None:
    """Raise ValueError for the first of these that is not above 0."""
    for name, value in settings.items():
        if not value > 0:
            raise ValueError(f"{name}={value} must be above 0")


def not_negative(**settings: float) -> None:
    """Raise ValueError for the first of these that is below 0."""
    for name, value in settings.items():
        if not value >= 0:
            raise ValueError(f"{name}={value} must not be negative")


def refuse_maps(config: Config, what: str) -> None:
    """Raise UserError if each pixel has a target of its own, and `what` needs one a sample."""
    if config.dataset.dense:
        raise UserError(f"{what} needs one target a sample, and {config.dataset.title} has one a pixel: drop it")


class Head(Part):
    """What the last layer's outputs mean: their losses in training, and the predictions that they stand for.

    There is one. A part of the config with the name `head` takes the place of the one that `head` and `loss` choose.

    A head that knows how sure it is has a `family`, and gives a column `std` for each prediction: its predictive
    distribution is of that family, has the prediction as its mean, and `std` as its standard deviation. "student" has a
    column `df` too, of degrees of freedom above 2: its scale is std · √((df − 2) / df). That of "laplace" is std / √2.

    Attributes:
        outputs: Of the last layer for each target.
        target_scale: Label units per unit of what `decode` returns.
        target_shift: The label that 0 of it stands for.
        trains_regressor: False where the losses are of features alone; the last layer then stays as initialised.
        family: Of the predictive distribution; None: the head gives none.
        unitless: Columns that are numbers without a unit.
        fitted: True where nothing takes a step: `fit` is called once, with the network as it begins.
    """

    outputs: int = 1
    target_scale: float = 1.0
    target_shift: float = 0.0
    trains_regressor: ClassVar[bool] = True
    family: ClassVar[Literal["laplace", "normal", "student"] | None] = None
    unitless: ClassVar[frozenset[str]] = frozenset({"df"})
    fitted: ClassVar[bool] = False

    def in_network_units(self, targets: Tensor) -> Tensor:
        """Return targets, given in label units, in the unit of what `decode` returns."""
        return (targets - self.target_shift) / self.target_scale

    def make_regressor(self, backbone: Backbone) -> nn.Module:
        """Return a new last layer, from features to `outputs`: of the backbone's kind unless a head says other.

        A module in it with a number `lr_factor` is trained at so many times the learning rate.
        """
        return backbone.make_regressor(self.outputs)

    def initialise(self, regressor: nn.Module) -> None:
        """Give the last layer the weights that it begins with, from torch's random numbers; else it keeps its own."""

    def fit(self, train: Callable[[], FeatureSet], val: Callable[[], FeatureSet]) -> None:
        """Learn from features, if `fitted`. Each call of `train` or `val` is a pass over that split.

        What is learned has to lie in buffers: the checkpoint has them, and nothing else.
        """

    def losses(self, output: Tensor, targets: Tensor, features: Tensor) -> Tensor:
        """Return the loss of each target, unweighted, of the shape of the targets: ``(b, 1)`` or ``(b, 1, h, w)``.

        Args:
            output: float32 at least, shape ``(b, outputs)`` or ``(b, outputs, h, w)``.
            targets: Label units.
            features: As the backbone gave them.
        """
        raise NotImplementedError(f"{type(self).__name__} has no losses")

    def decode(self, output: Tensor) -> Tensor:
        """Return the predictions, shape ``(b, 1)`` or ``(b, 1, h, w)``; the first output unless a head says other."""
        return output[:, :1]

    def columns(self, output: Tensor) -> dict[str, Tensor]:
        """Return what else a run keeps of each prediction, by name, of its shape and in its unit; such as `std`."""
        return {}
