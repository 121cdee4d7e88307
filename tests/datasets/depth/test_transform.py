"""The batched NYUD2 transforms against SciPy and Pillow, picture by picture."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch
from lightning_fabric.utilities.apply_func import move_data_to_device
from PIL import Image
from scipy import ndimage
from torch import Tensor

from dir_bench.datasets.depth.transform import (
    GREY,
    MEAN,
    PCA_VALUES,
    PCA_VECTORS,
    STD,
    Augmentation,
    Draws,
    augment,
    draw,
    prepare,
    upsample,
)

UInt8 = npt.NDArray[np.uint8]
STILL = Augmentation(flip=0.0, angle=0.0, lighting=0.0, brightness=0.0, contrast=0.0, saturation=0.0)


def scenes(b: int, seed: int = 0) -> tuple[UInt8, UInt8]:
    """Return pictures and depth codes with smooth parts, fine grain, sharp edges, and plain black and white."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(b, 240, 320, 4))
    mixed = ndimage.gaussian_filter(noise, (0, 6, 6, 0)) + 0.3 * ndimage.gaussian_filter(noise, (0, 1, 1, 0))
    scaled = (mixed - mixed.min()) / np.ptp(mixed)
    codes = (scaled * 380 - 60).clip(0, 255).astype(np.uint8)
    codes[:, 60:140, 50:200] //= 3
    return codes[..., :3].copy(), codes[..., 3].copy()


def rotated(picture: UInt8, flip: bool, angle: float, order: Literal[1, 2]) -> UInt8:
    """Flip, rotate and crop one picture or depth map."""
    turned = ndimage.rotate(picture[:, ::-1] if flip else picture, angle, reshape=False, order=order)
    cropped: UInt8 = turned[6:234, 8:312]
    return cropped


def halved(codes: UInt8) -> UInt8:
    return np.asarray(Image.fromarray(codes).resize((152, 114)))


def recoloured(picture: UInt8, lighting: Tensor, jitter: Tensor, order: npt.NDArray[np.int64]) -> Tensor:
    """Light, jitter in the given order and normalise one picture, step by step as published; [3, 228, 304]."""
    image = torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 255
    image = image + (torch.tensor(PCA_VECTORS) @ (lighting * torch.tensor(PCA_VALUES)))[:, None, None]

    def grey(of: Tensor) -> Tensor:
        return (GREY[0] * of[0] + GREY[1] * of[1] + GREY[2] * of[2]).expand_as(of)

    others: tuple[Callable[[Tensor], Tensor], ...] = (
        torch.zeros_like,
        lambda of: torch.full_like(of, float(grey(of).mean())),
        grey,
    )
    for step in order:
        image = image.lerp(others[step](image), float(jitter[step]))
    return (image - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def still(b: int) -> Draws:
    return draw(np.random.default_rng(0), b, STILL)


def on_device(images: UInt8, codes: UInt8) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(images), torch.from_numpy(codes)


@pytest.mark.parametrize("order", [2, 1])
def test_rotation_is_scipys_to_one_grey_level(order: Literal[1, 2]) -> None:
    images, codes = scenes(6)
    draws = draw(np.random.default_rng(1), 6, Augmentation(lighting=0, brightness=0, contrast=0, saturation=0))
    pictures, _ = augment(*on_device(images, codes), draws, rotation_order=order)
    levels = (pictures * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]) * 255
    assert draws.flip.any()
    assert not draws.flip.all()
    for picture, flip, angle, ours in zip(images, draws.flip, draws.angle, levels, strict=True):
        difference = np.abs(ours.permute(1, 2, 0).numpy() - rotated(picture, bool(flip), float(angle), order))
        assert difference.max() < 1.01  # borders too
        assert (difference > 0.5).mean() < 1e-3  # where SciPy's value lies at a half


def test_all_of_training_is_the_published_steps_one_by_one() -> None:
    images, codes = scenes(6, seed=2)
    rng = np.random.default_rng(3)
    draws = draw(rng, 6)
    pictures, depth = augment(*on_device(images, codes), draws)
    assert pictures.shape == (6, 3, 228, 304)
    assert depth.shape == (6, 1, 114, 152)
    assert pictures.dtype == depth.dtype == torch.float32
    assert pictures.is_contiguous(memory_format=torch.channels_last)
    for i in range(6):
        flip, angle = bool(draws.flip[i]), float(draws.angle[i])
        expected = recoloured(
            rotated(images[i], flip, angle, 2), draws.lighting[i], draws.jitter[i], rng.permutation(3)
        )
        difference = (pictures[i] - expected).abs()
        level = 1.4**3 / 255 / min(STD)  # one grey level after the strongest jitter
        assert difference.max() < level * 1.01
        assert (difference > 0.1 * level).float().mean() < 2e-3
        code = halved(rotated(codes[i], flip, angle, 2)).astype(np.float32)
        assert np.abs(depth[i, 0].numpy() * 25.5 - code).max() < 1.01


def test_order_of_the_jitter_makes_no_difference() -> None:
    images, _ = scenes(1, seed=4)
    draws = draw(np.random.default_rng(5), 1)
    orders = ([0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0])
    first, *others = (
        recoloured(images[0], draws.lighting[0], draws.jitter[0], np.array(order)) for order in orders
    )  # fmt: skip
    for other in others:
        torch.testing.assert_close(other, first, rtol=0, atol=1e-5)


def test_depth_is_resized_exactly_as_pillow_does() -> None:
    codes = np.random.default_rng(6).integers(0, 256, (3, 240, 320), dtype=np.uint8)  # overshoots at both ends
    images = np.zeros((3, 240, 320, 3), np.uint8)
    _, depth = prepare(*on_device(images, codes), train_resolution=True)
    expected = np.stack([halved(code[6:234, 8:312]) for code in codes]).astype(np.float32)
    np.testing.assert_array_equal(depth[:, 0], expected / np.float32(255) * np.float32(10))


def test_nothing_drawn_is_the_deterministic_transform() -> None:
    images, codes = on_device(*scenes(5))
    drawn = augment(images, codes, still(5))
    torch.testing.assert_close(drawn, prepare(images, codes, train_resolution=True), rtol=0, atol=1e-6)


def test_flip_alone_mirrors_picture_and_depth() -> None:
    images, codes = on_device(*scenes(2))
    flipped = still(2)._replace(flip=torch.tensor([True, False]))
    (plain, plain_depth), (mirrored, mirrored_depth) = augment(images, codes, still(2)), augment(images, codes, flipped)
    torch.testing.assert_close(mirrored[0], plain[0].flip(-1), rtol=0, atol=1e-6)
    torch.testing.assert_close(mirrored_depth[0], plain_depth[0].flip(-1))
    torch.testing.assert_close(mirrored[1], plain[1])


def test_what_was_outside_is_black_and_of_depth_zero() -> None:
    images, codes = torch.full((1, 240, 320, 3), 255, dtype=torch.uint8), torch.full((1, 240, 320), 255).byte()
    pictures, depth = augment(images, codes, still(1)._replace(angle=torch.tensor([5.0])))
    for corner in (pictures[0, :, 0, 0], pictures[0, :, -1, -1]):
        torch.testing.assert_close(corner, -torch.tensor(MEAN) / torch.tensor(STD))
    assert depth[0, 0, 0, 0] == depth[0, 0, -1, -1] == 0
    assert (depth[0, 0, 40:70, 50:100] == 10).all()


def test_unknown_depth_stays_unknown() -> None:
    images, codes = on_device(*scenes(2))
    _, depth = augment(images, torch.zeros_like(codes), draw(np.random.default_rng(0), 2))
    assert (depth == 0).all()


def test_result_does_not_depend_on_the_rest_of_the_batch() -> None:
    images, codes = on_device(*scenes(5))
    draws = draw(np.random.default_rng(7), 5)
    pictures, depth = augment(images, codes, draws)
    alone = augment(images[4:], codes[4:], Draws(*(values[4:] for values in draws)))
    torch.testing.assert_close((pictures[4:], depth[4:]), alone, rtol=0, atol=1e-5)


def test_extreme_draws_stay_finite() -> None:
    images, codes = on_device(*scenes(4))
    images[0], images[1] = 0, 255
    draws = Draws(
        torch.tensor([True, False, True, False]), torch.tensor([5.0, -5.0, 0.0, 1e-6]),
        torch.full((4, 3), 0.5), torch.full((4, 3), -0.4),
    )  # fmt: skip
    for tensor in augment(images, codes, draws):
        assert tensor.isfinite().all()


def test_autocast_rounds_nothing() -> None:
    images, codes = on_device(*scenes(2))
    draws = draw(np.random.default_rng(8), 2)
    plain = augment(images, codes, draws)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(augment(images, codes, draws), plain, rtol=0, atol=0)


def test_test_depth_keeps_its_size_and_its_millimetres() -> None:
    images, _ = scenes(2)
    millimetres = np.random.default_rng(9).integers(0, 10_000, (2, 240, 320), dtype=np.int32)
    pictures, depth = prepare(torch.from_numpy(images), torch.from_numpy(millimetres), train_resolution=False)
    expected = millimetres[:, 6:234, 8:312].astype(np.float32) / np.float32(1000)
    np.testing.assert_array_equal(depth[:, 0], expected)
    expected_picture = (images[:, 6:234, 8:312] / 255 - MEAN) / STD
    np.testing.assert_allclose(pictures.permute(0, 2, 3, 1), expected_picture, rtol=0, atol=1e-5)


def test_draws_have_the_published_distributions() -> None:
    draws = draw(np.random.default_rng(10), 20_000)
    assert draws.flip.float().mean() == pytest.approx(0.5, abs=0.015)
    assert draws.angle.abs().max() <= 5
    assert draws.angle.std() == pytest.approx(5 / 3**0.5, rel=0.02)
    assert draws.lighting.std() == pytest.approx(0.1, rel=0.02)
    assert draws.lighting.mean() == pytest.approx(0, abs=0.003)
    assert draws.jitter.abs().max() <= 0.4
    for column in draws.jitter.T:
        assert column.std() == pytest.approx(0.4 / 3**0.5, rel=0.02)
    assert torch.corrcoef(draws.jitter.T).triu(1).abs().max() < 0.03


def test_draws_repeat_with_the_seed_and_move_with_the_batch() -> None:
    first, again = (draw(np.random.default_rng(11), 3) for _ in range(2))
    torch.testing.assert_close(tuple(first), tuple(again), rtol=0, atol=0)
    moved = move_data_to_device((torch.zeros(1), first), torch.device("meta"))[1]
    assert isinstance(moved, Draws)
    assert {values.device.type for values in moved} == {"meta"}


def test_upsampling_keeps_corners_and_slopes() -> None:
    ramp = torch.linspace(1, 3, 152).expand(2, 1, 114, 152)
    upsampled = upsample(ramp.bfloat16())
    assert upsampled.shape == (2, 1, 228, 304)
    assert upsampled.dtype == torch.float32
    torch.testing.assert_close(upsample(ramp)[0, 0, 5], torch.linspace(1, 3, 304))


def test_wrong_input_is_refused() -> None:
    images, codes = on_device(*scenes(1))
    with pytest.raises(ValueError, match="8-bit codes"):
        augment(images, codes.int(), still(1))
    with pytest.raises(ValueError, match="rotation_order"):
        augment(images, codes, still(1), rotation_order=3)
