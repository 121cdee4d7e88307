"""What a run may ask of any backbone: our own ones say it, and those of others need only `feature_dim`."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dir_bench.backbones.base import Backbone, as_backbone
from dir_bench.backbones.depth import DepthNet
from dir_bench.backbones.linear import Linear
from dir_bench.errors import UserError


class Theirs(nn.Module):
    """A network of someone who never heard of `Backbone`."""

    def __init__(self, feature_dim: int | None = 3) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)
        if feature_dim is not None:
            self.feature_dim = feature_dim

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs)  # type: ignore[no-any-return]


class TheirsMixable(Theirs):
    mixable = ("layer",)


def test_a_foreign_module_gets_the_defaults_and_keeps_what_it_has() -> None:
    module, mixable = Theirs(), TheirsMixable()
    keys = module.state_dict().keys()
    backbone = as_backbone(module)
    assert backbone is module  # so the keys of its checkpoints stay
    assert backbone.state_dict().keys() == keys
    assert (backbone.mixable, backbone.unmixable_input, backbone.refit) == ((), None, ())
    regressor = backbone.make_regressor(2)
    assert regressor(backbone(torch.zeros(5, 2))).shape == (5, 2)
    assert as_backbone(mixable).mixable == ("layer",)
    with pytest.raises(UserError, match="backbone Theirs has no published checkpoints"):
        backbone.from_official({})


def test_a_copy_of_a_foreign_module_is_its_own() -> None:
    backbone = as_backbone(Theirs())
    twin = copy.deepcopy(backbone)
    twin.feature_dim = 7
    assert (twin.make_regressor().in_features, backbone.make_regressor().in_features) == (7, 3)


def test_a_module_that_does_not_say_its_width_is_refused() -> None:
    with pytest.raises(UserError, match="backbone Theirs does not say how wide its features are"):
        as_backbone(Theirs(None))


def test_own_backbones_are_taken_as_they_are() -> None:
    network = Linear(in_features=4)
    assert as_backbone(network) is network
    assert isinstance(network, Backbone)
    assert network.make_regressor(3)(torch.zeros(1, 4)).shape == (1, 3)
    assert (Linear.refit, DepthNet.refit) == ((), ("refine",))
    with pytest.raises(UserError, match="backbone Linear has no published checkpoints"):
        Linear.from_official({})


def test_backbones_know_no_method() -> None:
    """Methods import backbones, to mix in them; the other way round would be a cycle."""
    folder = Path(__file__).parents[2] / "dir_bench" / "backbones"
    modules = list(folder.glob("*.py"))
    assert len(modules) > 10
    assert [path.name for path in modules if "dir_bench.methods" in path.read_text(encoding="utf-8")] == []
