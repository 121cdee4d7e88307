"""What every backbone is: a network from inputs to features, and what the rest of a run may ask of it."""

from collections.abc import Mapping, Sequence
from types import MethodType
from typing import cast

from torch import Tensor, nn

from dir_bench.errors import UserError


class Backbone(nn.Module):
    """A network whose `forward` returns features, shape ``(b, feature_dim)``, or ``(b, feature_dim, h, w)`` if dense.

    All but `feature_dim` has a default. A module that is no subclass serves as well: see `as_backbone`. That a network
    learns no features (FDS has then nothing to calibrate) is said in its YAML, `features: false`, since that decides
    what may be combined before anything is built.

    Attributes:
        feature_dim: Numbers of a feature vector.
        mixable: Names of the submodules whose outputs are layers 1, 2, … of manifold mixup; "" is the whole.
        unmixable_input: What the inputs are, if their mean makes no sense ("numbers of words"); None: it does.
        refit: Names of the submodules that a second stage (RRT) trains anew beside the regressor.
        takes: What inputs may be, as `Data.kind` says it ("vectors", "sequences", "pictures", "volumes"); empty: that
            is for `forward` to see.
    """

    feature_dim: int
    mixable: Sequence[str] = ()
    unmixable_input: str | None = None
    refit: Sequence[str] = ()
    takes: Sequence[str] = ()

    def make_regressor(self, outputs: int = 1) -> nn.Module:
        """Return a new last layer, from features to this many outputs."""
        return nn.Linear(self.feature_dim, outputs)

    @classmethod
    def from_official(cls, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Rename a published state dict to those of backbone and regressor; UserError if none was published."""
        raise UserError(f"the backbone {cls.__name__} has no published checkpoints: choose another backbone")


def as_backbone(module: nn.Module) -> Backbone:
    """Return the module itself, with the defaults of `Backbone` for what it has not.

    Raises:
        UserError: If it does not say its `feature_dim`.
    """
    if not isinstance(getattr(module, "feature_dim", None), int):
        raise UserError(
            f"the backbone {type(module).__name__} does not say how wide its features are: give it an attribute "
            f"feature_dim, a whole number"
        )
    if isinstance(module, Backbone):
        return module
    defaults = {
        "mixable": Backbone.mixable,
        "unmixable_input": Backbone.unmixable_input,
        "refit": Backbone.refit,
        "takes": Backbone.takes,
        "make_regressor": MethodType(Backbone.make_regressor, module),
        "from_official": MethodType(Backbone.from_official.__func__, type(module)),  # type: ignore[attr-defined]
    }
    for name, value in defaults.items():
        if not hasattr(module, name):
            setattr(module, name, value)
    return cast(Backbone, module)
