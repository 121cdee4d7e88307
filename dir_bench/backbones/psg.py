"""A night of polysomnography in, one feature vector out: the network of SHHS-DIR."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from dir_bench.backbones.base import Backbone
from dir_bench.backbones.sru import SRU, masked
from dir_bench.errors import UserError, nearest


class PSGNet(Backbone):
    """Three encoders of one design, for EEG, ECG and breathing, and the hidden layers of the MLP over all three.

    The MLP's last layer is the regressor, a module apart, so FDS acts on what that layer reads. Nothing looks across
    the batch or into the padding, in training neither: a night's features do not depend on what it is batched with.

    Args:
        eeg_bins: Frequencies of the EEG spectrogram.
        ecg_bins: Frequencies of the ECG spectrogram.
        breathing_channels: Breathing signals.
        breathing_rate: Samples per second of each breathing signal.
        channels: Channels of the residual blocks; each block halves the sequence.
        downsample: Seconds per step at the end of the blocks; the first convolution's stride is what the blocks leave.
        kernel_size: Width of the convolutions in steps of what they give, odd.
        recurrent: "sru" or "gru".
        layers: Recurrent layers.
        encoder_dim: Width of each encoder's vector and of its recurrent layers, both directions together.
        bidirectional: Whether half of the recurrent units run from the end of the night to its beginning.
        feature_dim: Width of the MLP's two hidden layers.
        dropout: Share dropped of what recurrent layers (but the first) and the MLP's layers read.

    Raises:
        UserError: If `recurrent` is neither, if `downsample` is no multiple of what the blocks do, if `kernel_size` is
            even, or if an odd `encoder_dim` is to be halved.

    Source:
        Yang et al. 2021, App. B.5; sizes that it does not give are ours.
    """

    mixable = ("mlp.0", "mlp.3", "mlp")
    """Layers 1, 2, 3 of manifold mixup: the encoders' vectors, and the MLP's two hidden layers."""

    unmixable_input = "nights of different lengths"

    def __init__(
        self,
        eeg_bins: int,
        ecg_bins: int,
        breathing_channels: int,
        breathing_rate: int,
        channels: Sequence[int] = (64, 64, 128, 128, 256, 256),
        downsample: int = 64,
        kernel_size: int = 5,
        recurrent: str = "sru",
        layers: int = 2,
        encoder_dim: int = 256,
        bidirectional: bool = True,
        feature_dim: int = 256,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        _check(channels, downsample, kernel_size, recurrent, encoder_dim, bidirectional)
        self.sizes = [eeg_bins, ecg_bins, breathing_rate * breathing_channels]
        self.rates = [1, 1, breathing_rate]
        stride = downsample // 2 ** len(channels)

        def recurrent_layers() -> list[nn.Module]:
            widths = [channels[-1], *[encoder_dim] * layers]
            return [RECURRENT[recurrent](i, o, bidirectional) for i, o in pairwise(widths)]

        self.encoders = nn.ModuleList(
            Encoder(size // rate, channels, stride * rate, kernel_size, recurrent_layers(), dropout)
            for size, rate in zip(self.sizes, self.rates, strict=True)
        )
        self.mlp = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(len(self.encoders) * encoder_dim, feature_dim),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(feature_dim, feature_dim),
            nn.ReLU(),
        )
        self.feature_dim = feature_dim

    def forward(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        """Return features, shape ``(b, feature_dim)``, of (nights, lengths).

        Nights have the shape ``(b, t, columns)``, t seconds of float16 or float32; columns are the EEG's bins, the
        ECG's bins, and one second of breathing in the order (sample, channel). Lengths are the valid seconds, at least
        one, shape ``(b,)``, on the same device; what stands beyond them does not matter.
        """
        nights, lengths = inputs
        signals, vectors = torch.split(nights, self.sizes, dim=2), []
        for encoder, signal, rate in zip(self.encoders, signals, self.rates, strict=True):
            samples = signal.reshape(len(nights), nights.shape[1] * rate, signal.shape[2] // rate)
            vectors.append(encoder(samples, lengths * rate))
        features: Tensor = self.mlp(torch.cat(vectors, dim=1))
        return features


class Encoder(nn.Module):
    """One signal in, one vector out: a strided convolution, residual blocks, recurrent layers, and the mean over time.

    The mean, since it learns nothing that could depend on length: training may see crops, and evaluation whole nights.

    Args:
        in_channels: Channels of the signal.
        channels: Channels of the residual blocks.
        stride: Samples per step of the first convolution.
        kernel_size: Width of the convolutions in steps of what they give.
        recurrent: Layers that take sequences and their lengths.
        dropout: Share dropped between them.
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int],
        stride: int,
        kernel_size: int,
        recurrent: Sequence[nn.Module],
        dropout: float,
    ) -> None:
        super().__init__()
        self.stem = Convolution(in_channels, channels[0], (kernel_size - 1) * stride + 1, stride)
        widths = [channels[0], *channels]
        self.blocks = nn.ModuleList(Block(i, o, kernel_size) for i, o in pairwise(widths))
        self.recurrent = nn.ModuleList(recurrent)
        self.dropout = nn.Dropout(dropout)

    def forward(self, signal: Tensor, lengths: Tensor) -> Tensor:
        """Return vectors, shape ``(b, encoder_dim)``, of signals, shape ``(b, t, in_channels)``, and their lengths."""
        steps, lengths = self.stem(masked(signal.to(self.stem.norm.weight.dtype), lengths), lengths)
        steps = steps.relu()
        for block in self.blocks:
            steps, lengths = block(steps, lengths)
        for i, layer in enumerate(self.recurrent):
            steps = layer(self.dropout(steps) if i else steps, lengths)
        total: Tensor = steps.sum(dim=1, dtype=torch.promote_types(steps.dtype, torch.float32))
        return total / lengths[:, None]


class Convolution(nn.Module):
    """A convolution over time, layer norm over the channels of each step, and zeros beyond each length.

    Unlike batch norm, layer norm of a step knows neither other nights nor padding; with the zeros put back, the next
    convolution sees at a night's end what it would see if the batch ended there.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        # As a picture one pixel high, (b, t, c) is "channels last" in memory, which torch convolves without copying.
        self.convolution = nn.Conv2d(in_channels, out_channels, (1, kernel_size), (1, stride), (0, kernel_size // 2))
        self.norm = nn.LayerNorm(out_channels)

    def forward(self, steps: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return sequences, shape ``(b, ⌈t / stride⌉, out_channels)``, and their lengths, divided alike."""
        lengths = (lengths + self.stride - 1) // self.stride
        convolved = self.convolution(steps.transpose(1, 2).unsqueeze(2)).squeeze(2).transpose(1, 2)
        return masked(self.norm(convolved), lengths), lengths


class Block(nn.Module):
    """A basic residual block (He et al. 2016) over time that halves the sequence."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.first = Convolution(in_channels, out_channels, kernel_size, stride=2)
        self.second = Convolution(out_channels, out_channels, kernel_size)
        self.shortcut = Convolution(in_channels, out_channels, 1)

    def forward(self, steps: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return sequences, shape ``(b, ⌈t / 2⌉, out_channels)``, and their lengths."""
        halved = (lengths + 1) // 2
        # Every second step is taken here, not by a stride: at few channels oneDNN's gradient of a strided convolution
        # of width 1 writes beyond its memory (torch 2.15).
        shortcut, _ = self.shortcut(steps[:, ::2], halved)
        steps, _ = self.first(steps, lengths)
        steps, _ = self.second(steps.relu(), halved)
        return (steps + shortcut).relu(), halved


class GRU(nn.Module):
    """One layer of gated recurrent units that starts each direction at the true end; see `SRU` for its arguments.

    Sequences are reversed within their lengths rather than packed, as packing needs the lengths on the host.
    """

    def __init__(self, in_channels: int, units: int, bidirectional: bool = True) -> None:
        super().__init__()
        directions = 2 if bidirectional else 1
        self.directions = nn.ModuleList(
            nn.GRU(in_channels, units // directions, batch_first=True) for _ in range(directions)
        )

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Return outputs, shape ``(b, t, units)``, zero beyond each length."""
        outputs = [self.directions[0](inputs)[0]]
        if len(self.directions) == 2:
            time = torch.arange(inputs.shape[1], device=lengths.device)
            last = lengths[:, None] - 1
            order = torch.where(time <= last, last - time, time)[:, :, None]
            backward, _ = self.directions[1](inputs.take_along_dim(order, dim=1))
            outputs.append(backward.take_along_dim(order, dim=1))
        return masked(torch.cat(outputs, dim=2), lengths)


RECURRENT: dict[str, type[SRU] | type[GRU]] = {"sru": SRU, "gru": GRU}


def _check(
    channels: Sequence[int], downsample: int, kernel_size: int, recurrent: str, encoder_dim: int, bidirectional: bool
) -> None:
    """Refuse settings that do not fit together."""
    if recurrent not in RECURRENT:
        hint = nearest(recurrent, RECURRENT)
        raise UserError(f"backbone.recurrent must be one of {', '.join(RECURRENT)}, not '{recurrent}'{hint}")
    halved = 2 ** len(channels)
    if not channels or downsample < halved or downsample % halved:
        raise UserError(
            f"backbone.downsample={downsample} must be a multiple of {halved}: backbone.channels names {len(channels)} "
            "residual blocks (at least 1), and each halves the sequence"
        )
    if kernel_size % 2 == 0:
        raise UserError(f"backbone.kernel_size must be odd, not {kernel_size}: a convolution is centred on its step")
    if bidirectional and encoder_dim % 2:
        raise UserError(f"backbone.encoder_dim={encoder_dim} must be even, or set backbone.bidirectional=false")
