"""Plain baselines that any table may show: what is trivial, and what needs no training by steps.

The median of the training labels; and on fixed features, k nearest neighbours, ridge regression and gradient boosting.
The features are what the frozen backbone gives: the inputs themselves (`backbone=linear`), those of a first stage that
the run trains or is given (`stages.from_run`), or those of a network as it begins (pretrained weights). Fitted once, by
scikit-learn where it has the method; what was learned lies in the checkpoint as plain arrays. Weights of the loss are
weights of the samples. Epochs and learning rates have no effect, and without chance in it, neither has the seed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dir_bench.backbones.base import Backbone
from dir_bench.config import resolve_target
from dir_bench.errors import RunFailed, UserError
from dir_bench.methods.part import Facts, FeatureSet, Head, Part, refuse_maps
from dir_bench.tensors import wide_dtype

if TYPE_CHECKING:
    from dir_bench.schema import Config

log = logging.getLogger("dir_bench")

ALPHAS = (1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3, 1e4)


class Fitted(Head):
    """A head that is fitted at once, to features that nothing changes any more; it predicts from them itself.

    Args:
        facts: Of the training labels.
    """

    fitted = True
    heeds: ClassVar[frozenset[str]] = frozenset({"samples", "weigh"})
    """Hooks of other parts that have an effect: whether it may be given other samples, and weights for them."""
    reads_features: ClassVar[bool] = True
    """Whether it predicts from features at all."""

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        self.outputs = facts.feature_dim
        self.target_scale, self.target_shift = facts.target_scale, facts.target_shift

    @classmethod
    def check(cls, config: Config) -> None:
        """Nothing that acts in a training step makes sense here, nor do weights where none are taken."""
        if config.mixup.on:
            raise UserError(f"mixup={config.mixup.name} acts in training steps, and {cls.__name__} takes none: drop it")
        if config.fds.on and not config.stages.on:
            raise UserError(
                f"fds={config.fds.name} forms features while they are trained, and {cls.__name__} trains none: drop "
                "it, or learn them in a first stage (stages.name=vanilla)"
            )
        for name, hook in {"reweight": "weigh", "resample": "samples"}.items():
            if (group := getattr(config, name)).on and hook not in cls.heeds:
                raise UserError(f"{name}={group.name} has no meaning for {cls.__name__}: drop it")
        cls._check_parts(config)
        if config.backbone.get("features", True) and not config.stages.on and cls.reads_features:
            log.warning(
                "%s gets the features of %s as it begins: stages.name=vanilla trains it first (as method=vanilla_knn "
                "and vanilla_ridge do), backbone=linear takes the inputs themselves",
                cls.__name__,
                config.backbone["_target_"],
            )
        if config.trainer.devices > 1:
            raise UserError(
                f"trainer.devices={config.trainer.devices}: {cls.__name__} is fitted by one process; set it to 1, and "
                "name a finished run in stages.from_run if the first stage needs more"
            )

    @classmethod
    def _check_parts(cls, config: Config) -> None:
        """Each other part has to act, in a first stage or by a hook that is heeded here; none by one that is not."""
        for name, node in config.parts.items():
            part = resolve_target(node)
            if name == "head" or not (isinstance(part, type) and issubclass(part, Part)):
                continue
            own = {hook for hook in ("samples", "weigh") if getattr(part, hook) is not getattr(Part, hook)}
            if alien := sorted(own - cls.heeds):
                raise UserError(
                    f"parts.{name}: {part.__name__} acts by `{alien[0]}`, which has no meaning for {cls.__name__}: "
                    "drop it"
                )
            if not (own or config.stages.on):
                raise UserError(
                    f"parts.{name}: {part.__name__} acts in training steps, and {cls.__name__} takes none: drop it, or "
                    "learn features in a first stage (stages.name=vanilla)"
                )

    def make_regressor(self, backbone: Backbone) -> nn.Module:
        """Return what hands the features on."""
        return nn.Identity()

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        """Take up buffers of any length: how much there is to remember, the training set decides."""
        for name, buffer in self.named_buffers(recurse=False):
            held = state_dict.get(prefix + name)
            if isinstance(held, Tensor) and (held.dim(), held.dtype) == (buffer.dim(), buffer.dtype):
                setattr(self, name, buffer.new_empty(held.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _keep(self, **arrays: Any) -> None:
        """Put what was learned into the buffers of these names."""
        for name, values in arrays.items():
            buffer = getattr(self, name)
            setattr(self, name, torch.as_tensor(np.asarray(values)).to(buffer.device, buffer.dtype))


class TrainMedian(Fitted):
    """The median of the training labels, whatever the input: of all constants the one with the least MAE there.

    Where each pixel has a label, from the counts of bins, and between the edges of the middle one in proportion.
    """

    median: Tensor
    heeds = frozenset()
    reads_features = False

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        if not facts.dense:
            value = np.median(np.asarray(facts.targets, np.float64))
        else:
            below = np.concatenate([[0], np.cumsum(facts.counts)])
            value = np.interp(below[-1] / 2, below, facts.bins.edges)
        self.register_buffer("median", torch.tensor((float(value) - self.target_shift) / self.target_scale))

    def decode(self, output: Tensor) -> Tensor:
        """Return the median for all."""
        return self.median.expand_as(output[:, :1])


class _OnFeatures(Fitted):
    """A baseline on features with mean 0 and spread 1 over the training part; a feature of one value becomes 0."""

    mean: Tensor
    spread: Tensor

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self.register_buffer("mean", torch.zeros(facts.feature_dim))
        self.register_buffer("spread", torch.ones(facts.feature_dim))

    @classmethod
    def check(cls, config: Config) -> None:
        """It needs one vector a sample."""
        super().check(config)
        refuse_maps(config, f"{cls.__name__}, which is fitted to one vector a sample,")

    def _standardise(self, features: Tensor) -> None:
        """Learn mean and spread."""
        known = features.double()
        spread = known.std(0, correction=0)
        self._keep(mean=known.mean(0), spread=torch.where(spread > 1e-6 * known.abs().amax(0), spread, 1.0))

    def _standard(self, features: Tensor) -> Tensor:
        return (features.to(self.mean.device) - self.mean) / self.spread

    def _units(self, known: FeatureSet) -> NDArray[np.float64]:
        """Return targets in network units."""
        return self.in_network_units(known.targets.double()).numpy()

    def _error(self, features: Tensor, units: NDArray[np.float64]) -> float:
        """Return the MAE of predictions from features, network units."""
        predicted = torch.cat([self.decode(some.to(self.mean.device)).cpu() for some in torch.split(features, 4096)])
        return float(np.abs(predicted.squeeze(1).double().numpy() - units).mean())


class KNN(_OnFeatures):
    """The mean label of the k nearest training samples.

    All of them are compared, and remembered: n · d numbers in each checkpoint, and as many products a prediction.

    Args:
        facts: Of the training labels.
        k: How many.
    """

    features: Tensor
    targets: Tensor
    heeds = frozenset({"samples"})

    def __init__(self, facts: Facts, k: int = 5) -> None:
        super().__init__(facts)
        if k < 1:
            raise ValueError(f"k={k} must be at least 1")
        self.k = k
        self.register_buffer("features", torch.zeros(0, facts.feature_dim))
        self.register_buffer("targets", torch.zeros(0))

    def fit(self, train: Callable[[], FeatureSet], val: Callable[[], FeatureSet]) -> None:
        """Remember the training samples."""
        known = train()
        self._standardise(known.features)
        self._keep(features=self._standard(known.features).cpu(), targets=self._units(known))

    def decode(self, output: Tensor) -> Tensor:
        """Return the mean over neighbours."""
        # By products, which are quick; in single precision they cannot tell near samples apart if others lie far away.
        wide = wide_dtype(output.device)
        apart = torch.cdist(self._standard(output).to(wide), self.features.to(wide))
        nearest = apart.topk(min(self.k, len(self.targets)), largest=False).indices
        return self.targets[nearest].mean(1, keepdim=True)


class Ridge(_OnFeatures):
    """Linear regression with a penalty on squared weights; the intercept has none.

    Args:
        facts: Of the training labels.
        alpha: The penalty's weight against a sum of squared errors in network units; of several the one with the least
            validation MAE. 0: ordinary least squares.
    """

    weight: Tensor
    bias: Tensor
    alpha: Tensor

    def __init__(self, facts: Facts, alpha: float | Sequence[float] = ALPHAS) -> None:
        super().__init__(facts)
        self.alphas = [float(alpha)] if isinstance(alpha, (int, float)) else [float(each) for each in alpha]
        if not self.alphas or not all(0 <= each < np.inf for each in self.alphas):
            raise ValueError(f"alpha={alpha} must be 0 or more, or a list of such numbers")
        self.register_buffer("weight", torch.zeros(facts.feature_dim))
        self.register_buffer("bias", torch.zeros(()))
        self.register_buffer("alpha", torch.tensor(self.alphas[0]))

    def fit(self, train: Callable[[], FeatureSet], val: Callable[[], FeatureSet]) -> None:
        """Fit with each penalty, and keep the best on validation."""
        from sklearn import linear_model  # a second, which other methods do not need

        known = train()
        self._standardise(known.features)
        x, y = self._standard(known.features).cpu().double().numpy(), self._units(known)
        weights = None if known.weights is None else known.weights.double().numpy()
        judged = val() if len(self.alphas) > 1 else None
        fits = []
        for alpha in self.alphas:
            found = linear_model.Ridge(alpha).fit(x, y, sample_weight=weights)
            learned = {"weight": found.coef_, "bias": found.intercept_, "alpha": alpha}
            self._keep(**learned)
            error = 0.0 if judged is None else self._error(judged.features, self._units(judged))
            fits.append((error, learned))
        self._keep(**min(fits, key=lambda fit: fit[0])[1])

    def decode(self, output: Tensor) -> Tensor:
        """Return the linear predictions."""
        return (self._standard(output) @ self.weight + self.bias)[:, None]

    def report(self) -> dict[str, float]:
        """Return the penalty that was chosen."""
        return {"ridge/alpha": float(self.alpha)}


class GradientBoosting(_OnFeatures):
    """Regression trees, each fitted to what those before it left, by scikit-learn's HistGradientBoostingRegressor.

    Meant for tabular data. Squared error; of the rounds as many are kept as have the least validation MAE.

    Args:
        facts: Of the training labels.
        rounds: Trees at most.
        lr: What each tree counts.
        leaves: Of a tree, at most.
        min_leaf: Samples of a leaf, at least.
    """

    start: Tensor
    feature: Tensor
    threshold: Tensor
    below: Tensor
    value: Tensor

    def __init__(self, facts: Facts, rounds: int = 300, lr: float = 0.1, leaves: int = 31, min_leaf: int = 20) -> None:
        super().__init__(facts)
        if rounds < 1 or leaves < 2 or min_leaf < 1 or not lr > 0:
            raise ValueError(
                f"rounds={rounds} and min_leaf={min_leaf} must be at least 1, leaves={leaves} at least 2, and lr={lr} "
                "above 0"
            )
        self.settings_of_trees = {
            "max_iter": rounds,
            "learning_rate": lr,
            "max_leaf_nodes": leaves,
            "min_samples_leaf": min_leaf,
        }
        self.register_buffer("start", torch.zeros(()))
        self.register_buffer("feature", torch.zeros(0, 1, dtype=torch.int64))
        self.register_buffer("threshold", torch.zeros(0, 1))
        self.register_buffer("below", torch.zeros(0, 1, 2, dtype=torch.int64))
        self.register_buffer("value", torch.zeros(0, 1))

    def fit(self, train: Callable[[], FeatureSet], val: Callable[[], FeatureSet]) -> None:
        """Grow the trees, and take them over as arrays.

        Raises:
            RunFailed: If the arrays do not predict what scikit-learn does: its trees have another form than known here.
        """
        from sklearn.ensemble import HistGradientBoostingRegressor

        known, judged = train(), val()
        units = self._units(judged)
        weights = None if known.weights is None else known.weights.double().numpy()
        model = HistGradientBoostingRegressor(early_stopping=False, random_state=0, **self.settings_of_trees)
        model.fit(known.features.numpy(), self._units(known), sample_weight=weights)
        stages = [np.abs(predicted - units).mean() for predicted in model.staged_predict(judged.features.numpy())]
        rounds = int(np.argmin(stages)) + 1
        self._keep(**arrays_of(model, rounds))
        if not abs(self._error(judged.features, units) - stages[rounds - 1]) <= 1e-4 * (1 + stages[rounds - 1]):
            raise RunFailed(
                "the trees of this scikit-learn cannot be taken over as arrays: install the version of constraints.txt"
            )

    def decode(self, output: Tensor) -> Tensor:
        """Return the sum over trees: all samples go down all trees at once, a level at a time."""
        trees = torch.arange(len(self.value), device=output.device)
        node = torch.zeros(len(output), len(trees), dtype=torch.int64, device=output.device)
        for _ in range(self.value.shape[1]):
            sides = self.below[trees, node]
            right = output.gather(1, self.feature[trees, node]) > self.threshold[trees, node]
            node, before = torch.where(right, sides[..., 1], sides[..., 0]), node
            if torch.equal(node, before):
                break
        return self.start + self.value[trees, node].sum(1, keepdim=True)

    def report(self) -> dict[str, float]:
        """Return how many trees were kept."""
        return {"gradient_boosting/rounds": float(len(self.value))}


def arrays_of(model: Any, rounds: int) -> dict[str, NDArray[Any]]:
    """Return the first trees of a fitted HistGradientBoostingRegressor as arrays, its root being node 0.

    Node m of tree t asks whether feature[t, m] is above threshold[t, m] and goes on to below[t, m, 1] if so, else to
    below[t, m, 0]; a leaf goes on to itself, and has the value.

    Thresholds are rounded down to float32, which for features in float32 changes no answer.
    """
    trees = [predictors[0].nodes for predictors in model._predictors[:rounds]]  # there is no public way to them
    shape = (len(trees), max(len(nodes) for nodes in trees))
    feature, value, threshold = np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape, np.float32)
    below = np.zeros((*shape, 2), np.int64)
    for row, nodes in enumerate(trees):
        n, leaf, itself = len(nodes), nodes["is_leaf"].astype(bool), np.arange(len(nodes))
        feature[row, :n] = np.where(leaf, 0, nodes["feature_idx"])
        exact = np.where(leaf, 0.0, nodes["num_threshold"])
        near = exact.astype(np.float32)
        threshold[row, :n] = np.where(near > exact, np.nextafter(near, np.float32(-np.inf)), near)
        for side, name in enumerate(("left", "right")):
            below[row, :n, side] = np.where(leaf, itself, nodes[name])
        value[row, :n] = np.where(leaf, nodes["value"], 0)
    start = np.asarray(model._baseline_prediction).reshape(())
    return {"start": start, "feature": feature, "threshold": threshold, "below": below, "value": value}
