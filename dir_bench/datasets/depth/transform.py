"""Transforms of NYUD2-DIR as batched tensor operations, on whatever device the batch is on.

They start from what the published `Scale(240)` gives, which is the same in every epoch: pictures and depth maps of
240 × 320. What is random in training is drawn on the host (`draw`), moves with the batch, and is applied on the device
(`augment`). Depth is stored as codes: 8 bit for training, code / 255 · 10 m; 16 bit for the test, in millimetres.

Source: YyzHarry/imbalanced-regression, `nyud2-dir/nyu_transform.py` and `nyud2-dir/loaddata.py`, for what happens in
which order; SciPy's `ndimage.rotate` and Pillow's `resize`, for what these two steps do to whole grey levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dir_bench.lazy import Lazy

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import functional as F
else:
    torch = Lazy("torch")
    F = Lazy("torch.nn.functional")

CROP = (228, 304)
"""Height and width of what the network sees, cut from the middle; test depth has this size too."""
HALF = (CROP[0] // 2, CROP[1] // 2)
"""Height and width of training depth, and of the network's output."""
GREY = (0.299, 0.587, 0.114)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PCA_VALUES = (0.2175, 0.0188, 0.0045)
PCA_VECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))
"""Principal components of ImageNet's colours: eigenvalues, and the red, green and blue rows of the eigenvectors."""
POLE = 8**0.5 - 3
"""Of the inverse filter of the quadratic B-spline, which is (1/8, 6/8, 1/8) at whole pixels."""
STEPS = (1, 2, 4, 8)
"""Shifts that make up the inverse filter: its response is cut off after 15 pixels, below 1e-11."""
CPU_IMAGES = 2
"""Pictures augmented at once on a CPU: what its cache holds. On a GPU it is the whole batch."""


@dataclass(frozen=True)
class Augmentation:
    """How strongly training pictures are varied; the defaults are the published ones.

    Args:
        flip: Probability of a left-right flip.
        angle: Largest rotation in degrees, either way.
        lighting: Standard deviation of the weights of the colour components that are added.
        brightness: Largest share, either way, of black that a picture is blended with.
        contrast: The same for its mean grey.
        saturation: The same for its own grey version.
    """

    flip: float = 0.5
    angle: float = 5.0
    lighting: float = 0.1
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4


class Draws(NamedTuple):
    """What was drawn for the b pictures of a batch; a tuple of tensors, which moves to a device with the batch.

    The published jitter blends in a random order. None is kept here, as the result is the same for all six: nothing
    is clipped in between, grey weights sum to 1, and so each of the three blends commutes with the others.
    """

    flip: Tensor
    """Whether to flip, bool [b]."""
    angle: Tensor
    """Rotation in degrees, [b]."""
    lighting: Tensor
    """Weights of the three colour components, [b, 3]."""
    jitter: Tensor
    """Shares of black, mean grey and own grey to blend with (negative: away from it), [b, 3]."""


def draw(rng: np.random.Generator, b: int, settings: Augmentation | None = None) -> Draws:
    """Draw what `augment` does to a batch of `b` pictures: CPU tensors. Without settings, as published."""
    how = settings or Augmentation()
    shares = (how.brightness, how.contrast, how.saturation)
    flip = rng.random(b) < how.flip
    floats = (
        rng.uniform(-how.angle, how.angle, b),
        rng.normal(0.0, how.lighting, (b, 3)),
        rng.uniform(-1.0, 1.0, (b, 3)) * shares,
    )
    return Draws(torch.from_numpy(flip), *(torch.from_numpy(values.astype(np.float32)) for values in floats))


def augment(images: Tensor, codes: Tensor, draws: Draws, *, rotation_order: int = 2) -> tuple[Tensor, Tensor]:
    """Return pictures and depth as the network is trained on them.

    Flip, rotate, cut out the middle, halve the depth map, add coloured light, jitter colours, normalise. Rotation and
    resizing give whole grey levels (depth codes), as published, where both happen on 8-bit pictures.

    Args:
        images: uint8 [b, 240, 320, 3].
        codes: Depth, uint8 [b, 240, 320]; 0 where it is not known.
        draws: From `draw`, on the same device.
        rotation_order: Of the spline that pictures are rotated with: 2 as published, 1 (bilinear) for less work.

    Returns:
        Pictures, float32 [b, 3, 228, 304] in channels-last memory, and depth in metres, float32 [b, 1, 114, 152]. What
        was outside before the rotation is black, and of depth 0.

    Raises:
        ValueError: If depth codes are not 8 bit, or there is no such order.
    """
    if codes.dtype != torch.uint8:
        raise ValueError(f"training depth has 8-bit codes, not {codes.dtype}: only test depth is in millimetres")
    if rotation_order not in (1, 2):
        raise ValueError(f"rotation_order is 2 (quadratic, as published) or 1 (bilinear), not {rotation_order}")
    size = CPU_IMAGES if images.is_cpu else len(images)
    parts = [slice(start, start + size) for start in range(0, len(images), size)]
    done = [_augment(images[part], codes[part], Draws(*(v[part] for v in draws)), rotation_order) for part in parts]
    pictures, depths = zip(*done, strict=True)
    return torch.cat(pictures), torch.cat(depths)


def prepare(images: Tensor, codes: Tensor, *, train_resolution: bool) -> tuple[Tensor, Tensor]:
    """Return pictures and depth without augmentation: for the test, and for the statistics of FDS.

    Args:
        images: uint8 [b, 240, 320, 3].
        codes: Depth [b, 240, 320]: uint8 in steps of 10/255 m, or any other integer type in millimetres.
        train_resolution: Whether depth is halved as in training.

    Returns:
        Pictures, float32 [b, 3, 228, 304] in channels-last memory, and depth in metres, float32 [b, 1, 114, 152] at the
        training resolution, else [b, 1, 228, 304].
    """
    whole = _centre(codes)[:, None].float()
    depth = _halve(whole, _largest(codes)) if train_resolution else whole
    pictures = _centre(images).permute(0, 3, 1, 2).float()
    return _normalise(pictures.div(255)), _metres(depth, codes)


def upsample(output: Tensor, size: Sequence[int] = CROP) -> Tensor:
    """Return the network's output [b, 1, 114, 152] at the size (height, width) of test depth, float32.

    Corner pixels stay at the corners (align_corners), as in the published evaluation.
    """
    return F.interpolate(output.float(), tuple(size), mode="bilinear", align_corners=True)


def _augment(images: Tensor, codes: Tensor, draws: Draws, order: int) -> tuple[Tensor, Tensor]:
    planes = torch.cat([images.permute(0, 3, 1, 2), codes[:, None]], dim=1).float()
    planes = _rotate(planes, draws.flip, draws.angle, order)
    depth = _halve(planes[:, 3:], _largest(codes))
    return _normalise(_recolour(planes[:, :3].div(255), draws.lighting, draws.jitter)), _metres(depth, codes)


def _rotate(planes: Tensor, flip: Tensor, angle: Tensor, order: int) -> Tensor:
    """Flip and rotate [b, c, h, w] about the middle, and return the CROP in whole grey levels.

    As `scipy.ndimage.rotate(flipped, angle, reshape=False, order=order)`; beyond the outermost pixels' centres all is
    0.
    """
    height, width = planes.shape[2:]
    coefficients = _spline_coefficients(planes) if order == 2 else F.pad(planes, (1, 1, 1, 1), mode="reflect")
    y, x = _sources(flip, angle, height, width)
    inside = (y >= 0) & (y <= height - 1) & (x >= 0) & (x <= width - 1)
    along = _quadratic if order == 2 else _linear
    rows, columns = along(y.clamp(0, height - 1)), along(x.clamp(0, width - 1))
    value = planes.new_zeros(*planes.shape[:2], *CROP)
    for row, of_row in rows:
        v = (row + 1) * (2 / (height + 1)) - 1  # the coefficients have one more at each end; grid_sample counts -1 … 1
        for column, of_column in columns:
            u = (column + 1) * (2 / (width + 1)) - 1
            sample = F.grid_sample(coefficients, torch.stack([u, v], dim=-1), padding_mode="border", align_corners=True)
            value.addcmul_(sample, (of_row * of_column)[:, None])
    return _whole(value, 255) * inside[:, None]


def _sources(flip: Tensor, angle: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the row and the column, [b, 228, 304] each, where the pixels of the CROP come from."""
    radians = torch.deg2rad(angle)[:, None, None]
    cos, sin = radians.cos(), radians.sin()
    y = torch.arange(CROP[0], device=angle.device)[:, None] - (CROP[0] - 1) / 2
    x = torch.arange(CROP[1], device=angle.device) - (CROP[1] - 1) / 2
    side = torch.where(flip, -1.0, 1.0)[:, None, None]
    return cos * y + sin * x + (height - 1) / 2, side * (cos * x - sin * y) + (width - 1) / 2


def _linear(position: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return where to sample linearly, and with which weight: for a linear spline, at the position itself."""
    return [(position, torch.ones_like(position))]


def _quadratic(position: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return where to sample the coefficients of a quadratic spline linearly, and with which weights.

    Its three taps come as two linear samples, each of which takes an outer tap and half of the middle one (Sigg and
    Hadwiger, GPU Gems 2, chapter 20, for cubic splines).
    """
    nearest = (position + 0.5).floor()
    offset = position - nearest
    before, middle, after = 0.5 * (0.5 - offset) ** 2, 0.75 - offset**2, 0.5 * (0.5 + offset) ** 2
    low, high = before + middle / 2, after + middle / 2
    return [(nearest - before / low, low), (nearest + after / high, high)]


def _spline_coefficients(planes: Tensor) -> Tensor:
    """Return the coefficients of the quadratic B-spline through [b, c, h, w], and those one further, [.., h+2, w+2].

    Pictures are mirrored about their outermost pixels. The inverse filter is one recursion forward and one backward
    (Unser 1999, "Splines: a perfect fit for signal and image processing"); here each, 1 / (1 - z s) with the pole z and
    the shift s, is unrolled as (1 + z s)(1 + z² s²)(1 + z⁴ s⁴) …, a few additions of whole pictures. No matrix product,
    which TF32 or autocast would round.
    """
    reach = sum(STEPS) + 1
    found = F.pad(planes, (reach,) * 4, mode="reflect")
    for dim in (2, 3):
        for forward in (True, False):
            for step in STEPS:
                rest = found.shape[dim] - step
                first, second = found.narrow(dim, 0, rest), found.narrow(dim, step, rest)
                own, neighbour = (second, first) if forward else (first, second)
                found = torch.add(own, neighbour, alpha=POLE**step)
    return found.mul_((8 * POLE) ** 2)


def _halve(planes: Tensor, largest: int) -> Tensor:
    """Return [b, c, h, w] at half the size in whole numbers, as Pillow's bicubic `resize`: first x, then y."""
    for _ in range(2):
        weights = _halving_weights(planes.shape[-1] // 2, planes.device)
        windows = F.pad(planes, (3, 3)).unfold(-1, 8, 2)
        planes = _whole((windows * weights).sum(-1), largest).transpose(-1, -2)
    return planes


@cache
def _halving_weights(length: int, device: torch.device) -> Tensor:
    """Return the weights of the eight pixels around each of `length` results: bicubic, a = -0.5, stretched by 2.

    Those beyond the ends count 0, and the others are scaled to sum 1.
    """
    x = np.abs(np.arange(8) - 3.5) / 2
    cubic = np.where(x < 1, 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2)
    pixel = 2 * np.arange(length)[:, None] - 3 + np.arange(8)
    weights = cubic * ((pixel >= 0) & (pixel < 2 * length))
    return torch.tensor(weights / weights.sum(axis=1, keepdims=True), dtype=torch.float32, device=device)


def _whole(values: Tensor, largest: int) -> Tensor:
    return (values + 0.5).floor().clamp(0, largest)


def _recolour(pictures: Tensor, lighting: Tensor, jitter: Tensor) -> Tensor:
    """Add light along ImageNet's colour components, then blend with black, mean grey and own grey; [b, 3, h, w], 0 … 1.

    Each blend is x + share (other - x). Together: k_b (k_c (k_s x + s grey(x)) + c mean(grey(x))), k being 1 - share.
    """
    vectors, spread, grey = (_constant(each, pictures.device) for each in (PCA_VECTORS, PCA_VALUES, GREY))
    light = (lighting[:, None] * spread * vectors).sum(-1)
    pictures = pictures + light[..., None, None]
    luma = (pictures * grey[:, None, None]).sum(1, keepdim=True)
    black, contrast, saturation = jitter[..., None, None, None].unbind(1)
    scale = (1 - black) * (1 - contrast)
    mean = luma.mean((2, 3), keepdim=True)
    return (scale * (1 - saturation)) * pictures + ((scale * saturation) * luma + (1 - black) * contrast * mean)


def _normalise(pictures: Tensor) -> Tensor:
    mean, std = (_constant(each, pictures.device)[:, None, None] for each in (MEAN, STD))
    return pictures.sub(mean).div_(std).contiguous(memory_format=torch.channels_last)


@cache
def _constant(values: tuple[float, ...] | tuple[tuple[float, ...], ...], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)


def _centre(batch: Tensor) -> Tensor:
    """Cut the CROP out of the middle of [b, h, w, …]."""
    top, left = (batch.shape[1] - CROP[0]) // 2, (batch.shape[2] - CROP[1]) // 2
    return batch[:, top : top + CROP[0], left : left + CROP[1]]


def _largest(codes: Tensor) -> int:
    return 255 if codes.dtype == torch.uint8 else 65535


def _metres(depth: Tensor, codes: Tensor) -> Tensor:
    # In these very steps: a metre that comes out one float32 step lower can fall in another bin.
    return depth.div(255).mul(10) if codes.dtype == torch.uint8 else depth.div(1000)
