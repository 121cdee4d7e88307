"""SRL: the features of increasing labels trace a curve on the sphere, which is to reach around it, short and even.

Source:
    Dong, Wu et al., "Improve Representation for Imbalanced Regression through Geometric Constraints", CVPR 2025,
    arXiv:2503.00876, equations 1–11. Published: envelope and homogeneity 0.1 each; ages embedding 128, lr 2.5e-4, 120
    epochs, batch 64, AdamW, 2,000 points; STS-B a projector to 128, 1,000 points. The authors' repository
    (yilei-wu/imbalanced-regression) has no licence; nothing here is taken from it. Its scripts have other weights:
    STS-B contrast 1e-4, envelope 1e-2, homogeneity 1e-4, temperature 0.1; ages contrast 10, envelope 100, homogeneity
    1e-2, temperature 0.3. And another homogeneity, see `homogeneity`.

Not in the text, and ours: the momentum of the memory (0.9), which is normalised after each update; a weight of 1 for
the contrast, and a temperature of 1, which is none, as in the paper's formula.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from dir_bench.errors import nearest
from dir_bench.methods.part import Facts, Part, Step, Total, Walk, not_negative, refuse_maps
from dir_bench.tensors import wide_dtype

if TYPE_CHECKING:
    from dir_bench.schema import Config

EVENNESS = ("paper", "code_age", "code_sts_b")
"""What `homogeneity` may be."""


def envelope(centroids: Tensor, here: Tensor, points: Tensor) -> Tensor:
    """Return how far points of the sphere are from the curve, the mean of 1 − cosine to its nearest centroid.

    Args:
        centroids: Of unit length, shape ``(k, d)``, in the order of their labels.
        here: Which of them there are, bool of shape ``(k,)``.
        points: Of unit length, shape ``(n, d)``.
    """
    return 1 - (points @ centroids.T).masked_fill(~here, -torch.inf).amax(1).mean()


def homogeneity(centroids: Tensor, here: Tensor, labels: Tensor, kind: str = "paper") -> Tensor:
    """Return how long and uneven the curve is, from steps between neighbours in label.

    Args:
        centroids: Of unit length, shape ``(k, d)``, in the order of their labels.
        here: Which of them there are, bool of shape ``(k,)``; those left out make the step around them longer.
        labels: Increasing, shape ``(k,)``.
        kind: "paper": Σ ‖step‖² / difference of labels. "code_age", as the authors' code for ages: −Σ cos + 0.1 times
            the variance of cos over the steps, whatever the labels. "code_sts_b": the sum enters with a plus there.

    Returns:
        A scalar; 0 if there is no step.
    """
    place = torch.arange(len(here), device=here.device)
    before = torch.where(here, place, -1).cummax(0).values.roll(1)
    step = here & (before >= 0) & (place > 0)
    before = before.clamp(min=0)
    if kind == "paper":
        apart = torch.where(step, labels - labels[before], 1.0)
        return ((centroids - centroids[before]).square().sum(1) / apart * step).sum()
    cosine = (centroids * centroids[before]).sum(1) * step
    count = step.sum()
    off = (cosine - cosine.sum() / count.clamp(min=1)) * step
    variance = off.square().sum() / (count - 1).clamp(min=1)
    return (cosine.sum() if kind == "code_sts_b" else -cosine.sum()) + 0.1 * variance


def contrast(directions: Tensor, index: Tensor, centroids: Tensor, here: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the mean cross-entropy of samples to their own centroid among all.

    Args:
        directions: Of unit length, shape ``(n, d)``.
        index: Own centroid of each, shape ``(n,)``.
        centroids: Of unit length, shape ``(k, d)``.
        here: Which of them there are, bool of shape ``(k,)``.
        temperature: Divides cosines.
    """
    scores = (directions @ centroids.T / temperature).masked_fill(~here, -torch.inf)
    return nn.functional.cross_entropy(scores, index)


def sums_by_label(directions: Tensor, index: Tensor, labels: int) -> tuple[Tensor, Tensor]:
    """Return the sum of the directions of each label, shape ``(labels, d)``, and their number, shape ``(labels,)``."""
    total = directions.new_zeros(labels, directions.shape[1]).index_add(0, index, directions)
    count = directions.new_zeros(labels).index_add(0, index, torch.ones_like(directions[:, 0]))
    return total, count


class SRL(Part):
    """The three regularisers, of centroids of each bin: of the batch, or remembered of the last epochs.

    The first epoch is without them, since nothing is remembered. With several processes, centroids of the batch are
    those of each process, and what is remembered is of all.

    Args:
        facts: Of the training labels. Steps are set against differences in label units, as in the paper: another unit
            needs another weight of `homogeneity`.
        envelope: Weight.
        homogeneity: Weight.
        contrast: Weight.
        temperature: Of the contrast.
        momentum: Share of what is remembered when an epoch ends.
        points: On the sphere, drawn once.
        projector: Width of a hidden and an output layer between features and the sphere, in training; None: none.
        evenness: See `homogeneity`.

    Raises:
        ValueError: If an argument is not valid.
    """

    of_features = True
    memory: Tensor
    remembered: Tensor
    points: Tensor
    labels: Tensor

    def __init__(
        self,
        facts: Facts,
        envelope: float = 0.1,
        homogeneity: float = 0.1,
        contrast: float = 1.0,
        temperature: float = 1.0,
        momentum: float = 0.9,
        points: int = 2000,
        projector: int | None = None,
        evenness: str = "paper",
    ) -> None:
        super().__init__()
        if evenness not in EVENNESS:
            raise ValueError(f"evenness={evenness} is not one of {EVENNESS}{nearest(evenness, EVENNESS)}")
        if not (temperature > 0 and 0 <= momentum < 1 and points > 0):
            raise ValueError(
                f"temperature={temperature} and points={points} must be above 0, and momentum={momentum} in [0, 1)"
            )
        if projector is not None and projector < 1:
            raise ValueError(f"projector={projector} must be at least 1, or null")
        not_negative(envelope=envelope, homogeneity=homogeneity, contrast=contrast)
        self.weights = {"envelope": envelope, "homogeneity": homogeneity, "contrast": contrast}
        self.temperature, self.momentum, self.evenness, self.bins = temperature, momentum, evenness, facts.bins
        width = projector or facts.feature_dim
        self.projector = (
            nn.Sequential(nn.Linear(facts.feature_dim, width), nn.ReLU(), nn.Linear(width, width))
            if projector
            else None
        )
        edges = torch.tensor(facts.bins.edges[facts.bins.first : -1])
        self.register_buffer("labels", edges.float(), persistent=False)
        # Drawn from the run's seed, as weights are: the same when it is resumed.
        self.register_buffer("points", normalize(torch.randn(points, width), dim=1), persistent=False)
        self.register_buffer("memory", torch.zeros(len(edges), width))
        self.register_buffer("remembered", torch.zeros(len(edges), dtype=torch.bool))
        self._epoch: tuple[Tensor, Tensor] | None = None

    @classmethod
    def check(cls, config: Config) -> None:
        """It needs a label for each sample."""
        refuse_maps(config, "SRL")

    def directions(self, features: Tensor) -> Tensor:
        """Return features, projected, on the sphere: of the points' precision, shape ``(n, width)``."""
        features = features.to(self.points.dtype)
        return normalize(features if self.projector is None else self.projector(features), dim=1)

    def index(self, targets: Tensor) -> Tensor:
        """Return the place of each target's bin among those in use."""
        return (self.bins.index(targets) - self.bins.first).clamp(min=0)

    def penalty(self, step: Step) -> Tensor | None:
        """Return the weighted regularisers of the batch; nothing in the first epoch."""
        assert step.features is not None
        directions, index = self.directions(step.features), self.index(step.targets)
        step.kept[self] = directions.detach(), index
        if step.epoch == 0:
            # Where several processes run, each parameter has to have a gradient.
            return None if self.projector is None else 0 * directions.sum()
        total, count = sums_by_label(directions, index, len(self.labels))
        centroids = torch.where(count[:, None] > 0, normalize(total, dim=1), self.memory)
        here = self.remembered | (count > 0)
        return (
            self.weights["envelope"] * envelope(centroids, here, self.points)
            + self.weights["homogeneity"] * homogeneity(centroids, here, self.labels, self.evenness)
            + self.weights["contrast"] * contrast(directions, index, centroids, here, self.temperature)
        )

    def epoch_begins(self, epoch: int) -> None:
        """Begin to add up, unless a resumed epoch has begun already."""
        if self._epoch is None:
            self._epoch = self._nothing()

    def _nothing(self) -> tuple[Tensor, Tensor]:
        total = torch.zeros_like(self.memory, dtype=wide_dtype(self.memory.device))
        return total, torch.zeros_like(total[:, 0])

    @torch.no_grad()
    def after_step(self, step: Step) -> None:
        """Add the directions of a step."""
        assert self._epoch is not None
        (directions, index), (total, count) = step.kept.pop(self), self._epoch
        directions = directions.to(total.dtype)
        total.index_add_(0, index, directions)
        count.index_add_(0, index, torch.ones_like(directions[:, 0]))

    @torch.no_grad()
    def epoch_ends(self, epoch: int, walk: Walk, total: Total) -> None:
        """Blend the means of the epoch into what is remembered; what did not occur stays."""
        assert self._epoch is not None
        sums, count = (total(tensor) for tensor in self._epoch)
        mean = normalize(sums, dim=1).to(self.memory.dtype)
        blended = normalize(self.momentum * self.memory + (1 - self.momentum) * mean, dim=1)
        occurred = count > 0
        new = torch.where(self.remembered[:, None], blended, mean)
        self.memory.copy_(torch.where(occurred[:, None], new, self.memory))
        self.remembered.logical_or_(occurred)
        self._epoch = None

    def open_state(self, total: Total | None) -> dict[str, Tensor]:
        """Return the sums of the epoch so far."""
        if self._epoch is None:
            return {}
        sums, count = (tensor if total is None else total(tensor.clone()) for tensor in self._epoch)
        return {"sums": sums, "count": count}

    def load_open_state(self, state: Mapping[str, Tensor], first: bool) -> None:
        """Take up the sums of all processes in one of them."""
        self._epoch = self._nothing()
        if first:
            for own, saved in zip(self._epoch, (state["sums"], state["count"]), strict=True):
                own.copy_(saved)
