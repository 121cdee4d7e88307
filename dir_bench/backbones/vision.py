"""Any classification network of torchvision, without its classifier: pictures in, feature vectors out."""

from collections.abc import Mapping, Sequence
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torchvision import models

from dir_bench.backbones.base import Backbone
from dir_bench.backbones.pixels import scaled, sides
from dir_bench.backbones.weights import load_weights
from dir_bench.errors import UserError, nearest


class Vision(Backbone):
    """What the last fully connected layer of a torchvision network reads; `feature_dim` is its width.

    Initial weights are torchvision's. For ResNet they are the published ones: convolutions normal with variance
    2 / (k² × output channels), batch norms 1 and 0. At 224 pixels the average over all places is the published 7×7
    pooling.

    Args:
        name: One of `torchvision.models.list_models(torchvision.models)`.
        weights: File of torchvision's weights for this network; None: drawn at random. Nothing is downloaded.
        in_channels: Channels of the data's pictures; 3 is all that these networks take.
        size: Pixels of the data's pictures, shape ``(b, 3, size, size)``, or height and width. Transformers with
            learned positions take one size alone, 224.

    Raises:
        UserError: If there is no such network, it has no single classifier to take off (squeezenet ends in a
            convolution; googlenet and inception_v3 have auxiliary ones), it cannot take the data's pictures, or the
            file of weights does not fit.

    Source:
        He et al. 2016 (ResNet); Yang et al. 2021, App. B.1-B.2, whose ``imdb-wiki-dir/resnet.py`` has the same keys
        as torchvision's resnet50 but for `linear`: see `from_official`.
    """

    takes = ("pictures",)

    def __init__(
        self, name: str = "resnet50", weights: str | None = None, in_channels: int = 3, size: int | Sequence[int] = 224
    ) -> None:
        super().__init__()
        if in_channels != 3:
            raise UserError(
                f"backbone.name={name} takes pictures of 3 channels and the data have {in_channels}: "
                f"choose a backbone that takes them, such as backbone=cnn"
            )
        self.network, classifier, self.feature_dim = without_classifier(name)
        # For manifold mixup: the blocks of the ResNet family. Others number no layers but the input.
        blocks = [layer for layer, _ in self.network.named_children() if layer.startswith("layer")]
        self.mixable = tuple(f"network.{layer}" for layer in blocks)
        check_shape(self.network, name, sides(size))
        if weights is not None:
            load_weights(self.network, weights, name, classifier)

    def forward(self, images: Tensor) -> Tensor:
        """Return features, shape ``(b, feature_dim)``; uint8 pictures are scaled to [−0.5, 0.5] as by `SmallCNN`."""
        features: Tensor = self.network(scaled(images))
        return features

    @classmethod
    def from_official(cls, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Rename a published age state dict to (backbone, regressor) state dicts; FDS's buffers are left out."""
        plain = {key.removeprefix("module."): value for key, value in state.items()}
        backbone = {f"network.{k}": value for k, value in plain.items() if not k.startswith(("linear.", "FDS."))}
        regressor = {k.removeprefix("linear."): value for k, value in plain.items() if k.startswith("linear.")}
        return backbone, regressor


def without_classifier(
    name: str, module: ModuleType = models, what: str = "classification network"
) -> tuple[nn.Module, str, int]:
    """Build a torchvision network whose last fully connected layer does nothing.

    Args:
        name: Of the network.
        module: Where torchvision has such networks.
        what: They are, for errors.

    Returns:
        The network, the name of that layer, and how many features it read.
    """
    names = models.list_models(module=module)
    if name not in names:
        raise UserError(f"the backbone '{name}' is no {what} of torchvision{nearest(name, names)}")
    network: nn.Module = models.get_model(name, weights=None)
    linear = [(layer, module) for layer, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear or hasattr(network, "aux_logits"):
        raise UserError(f"the backbone '{name}' has no single classifier to take off: choose another, such as resnet50")
    classifier, last = linear[-1]
    network.set_submodule(classifier, nn.Identity())
    return network, classifier, last.in_features


def check_shape(network: nn.Module, name: str, size: Sequence[int]) -> None:
    """Let shapes alone pass through the network, on the meta device; UserError if it cannot take this size."""
    training = network.training
    state = {key: tensor.to("meta") for key, tensor in network.state_dict().items()}
    try:
        functional_call(network.eval(), state, torch.empty(1, 3, *size, device="meta"))
    except (AssertionError, RuntimeError, ValueError) as error:
        what = "volumes" if len(size) == 3 else "pictures"
        unit = "voxels" if len(size) == 3 else "pixels"
        raise UserError(
            f"backbone.name={name} cannot take {what} of {'×'.join(map(str, size))} {unit} "
            f"({str(error).splitlines()[0]}): choose another backbone or another size of the data"
        ) from error
    finally:
        network.train(training)
