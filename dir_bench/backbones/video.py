"""Any video network of torchvision, without its classifier: volumes in, feature vectors out."""

from collections.abc import Sequence

from torch import Tensor
from torchvision import models

from dir_bench.backbones.base import Backbone
from dir_bench.backbones.pixels import scaled
from dir_bench.backbones.vision import check_shape, without_classifier
from dir_bench.backbones.weights import load_weights
from dir_bench.errors import UserError


class Video(Backbone):
    """What the last fully connected layer of a torchvision video network reads; a volume's depth is a video's time.

    Args:
        name: One of `torchvision.models.list_models(torchvision.models.video)`.
        weights: File of torchvision's weights for this network; None: drawn at random. Nothing is downloaded.
        in_channels: Channels of the data's volumes; a single one is repeated for the three that the networks take.
        size: Depth, height and width of the data's volumes, shape ``(b, in_channels, *size)``. The ResNets take any,
            the transformers (mvit, swin3d) what torchvision's pages say.

    Raises:
        UserError: If there is no such network, it has no single classifier to take off (s3d ends in a convolution), it
            cannot take the data's volumes, or the file of weights does not fit.

    Source:
        Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition", CVPR 2018 (r3d_18, mc3_18,
        r2plus1d_18).
    """

    takes = ("volumes",)

    def __init__(
        self,
        name: str = "r3d_18",
        weights: str | None = None,
        in_channels: int = 1,
        size: Sequence[int] = (16, 112, 112),
    ) -> None:
        super().__init__()
        if in_channels not in (1, 3):
            raise UserError(
                f"backbone.name={name} takes volumes of 1 or 3 channels and the data have {in_channels}: "
                f"choose a backbone that takes them, such as backbone=cnn3d"
            )
        self.network, classifier, self.feature_dim = without_classifier(name, models.video, "video network")
        blocks = [layer for layer, _ in self.network.named_children() if layer.startswith("layer")]
        self.mixable = tuple(f"network.{layer}" for layer in blocks)
        check_shape(self.network, name, size)
        if weights is not None:
            load_weights(self.network, weights, name, classifier)

    def forward(self, volumes: Tensor) -> Tensor:
        """Return features, shape ``(b, feature_dim)``; uint8 is scaled to [−0.5, 0.5]."""
        features: Tensor = self.network(scaled(volumes).expand(-1, 3, -1, -1, -1))
        return features
