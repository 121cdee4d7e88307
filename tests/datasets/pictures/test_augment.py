"""Crops, mirror images and normalisation, against torchvision's transforms picture by picture."""

import numpy as np
import pytest
import torch
from torchvision.transforms import functional as reference

from dir_bench.datasets.pictures import augment
from dir_bench.datasets.pictures.augment import crop_and_flip, draw_crop_and_flip, to_float


def pictures(b: int, height: int, width: int, channels: int = 3) -> torch.Tensor:
    return torch.randint(1, 256, (b, height, width, channels), dtype=torch.uint8)


def one_by_one(pixels: torch.Tensor, shift: torch.Tensor, flip: torch.Tensor, padding: int) -> torch.Tensor:
    """Do what RandomCrop(padding) and RandomHorizontalFlip do once their numbers are drawn."""
    _, height, width, _ = pixels.shape
    results = []
    for picture, (down, right), mirrored in zip(pixels.permute(0, 3, 1, 2), shift.tolist(), flip.tolist(), strict=True):
        crop = reference.crop(reference.pad(picture, [padding]), down, right, height, width)
        results.append(reference.hflip(crop) if mirrored else crop)
    return torch.stack(results).permute(0, 2, 3, 1)


@pytest.mark.parametrize("method", [augment._by_windows, augment._by_gather, crop_and_flip])
@pytest.mark.parametrize(
    ("b", "height", "width", "channels", "padding"),
    [(37, 24, 20, 3, 5), (3, 8, 9, 1, 9), (16, 12, 12, 3, 0), (1, 7, 5, 4, 2)],
)
def test_crops_and_flips_are_torchvisions(method, b: int, height: int, width: int, channels: int, padding: int) -> None:
    pixels = pictures(b, height, width, channels)
    before = pixels.clone()
    shift, flip = draw_crop_and_flip(np.random.default_rng(b), b, padding)
    result = method(pixels, shift, flip, padding)
    assert torch.equal(result, one_by_one(pixels, shift, flip, padding))
    assert result.dtype == torch.uint8
    assert torch.equal(pixels, before)
    assert result.data_ptr() != pixels.data_ptr()


@pytest.mark.parametrize("method", [augment._by_windows, augment._by_gather])
def test_one_crop_by_hand(method) -> None:
    # 1 2   with a black border, from row 0 and column 1:   0 0   mirrored: 0 0
    # 3 4                                                   1 2             2 1
    pixels = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8).reshape(1, 2, 2, 1)
    result = method(pixels, torch.tensor([[0, 1]]), torch.tensor([True]), 1)
    assert result.reshape(2, 2).tolist() == [[0, 0], [2, 1]]


@pytest.mark.parametrize("method", [augment._by_windows, augment._by_gather])
def test_both_methods_take_batches_that_are_not_contiguous(method) -> None:
    pixels = pictures(20, 10, 10)[::2]
    shift, flip = draw_crop_and_flip(np.random.default_rng(0), 10, 3)
    assert torch.equal(method(pixels, shift, flip, 3), one_by_one(pixels, shift, flip, 3))


def test_draws_are_uniform_over_every_place_and_half_are_mirrored() -> None:
    n, padding = 90_000, 4
    shift, flip = draw_crop_and_flip(np.random.default_rng(0), n, padding)
    assert shift.shape == (n, 2)
    places = 2 * padding + 1
    counts = torch.bincount(shift[:, 0] * places + shift[:, 1], minlength=places**2).numpy()
    assert len(counts) == places**2  # both ends included, nothing beyond
    expected = n / places**2
    chi_squared = ((counts - expected) ** 2 / expected).sum()  # 80 degrees of freedom: mean 80, sd 12.6
    assert 80 - 5 * 12.6 < chi_squared < 80 + 5 * 12.6
    assert abs(flip.float().mean() - 0.5) < 5 * 0.5 / n**0.5
    # A mirrored picture is cropped like any other.
    assert abs(shift[flip].float().mean() - padding) < 0.05


def test_draws_depend_on_the_generator_alone() -> None:
    one, other = (draw_crop_and_flip(np.random.default_rng(7), 9, 16) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("mean", "std"),
    [((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ([0.0] * 3, [1.0] * 3)],
)
def test_floats_are_to_tensors_and_normalizes(mean, std) -> None:
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3 * 4).reshape(4, 16, 16, 3)
    expected = torch.stack(
        [reference.normalize(reference.to_tensor(picture.numpy()), list(mean), list(std)) for picture in pixels]
    )
    result = to_float(pixels, mean, std)
    assert (result - expected).abs().max() < 1e-6
    assert result.shape == (4, 3, 16, 16)
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_a_buffer_is_filled_and_returned() -> None:
    pixels = pictures(5, 6, 7)
    out = torch.full((5, 3, 6, 7), torch.nan).to(memory_format=torch.channels_last)
    assert to_float(pixels, (0.5,) * 3, (0.5,) * 3, out=out) is out
    assert torch.equal(out, to_float(pixels, (0.5,) * 3, (0.5,) * 3))
    part = to_float(pixels[:2], (0.5,) * 3, (0.5,) * 3, out=out[:2])  # the last, smaller batch
    assert torch.equal(part, out[:2])


def test_narrower_floats_are_rounded_once() -> None:
    pixels = pictures(2, 9, 9)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    result = to_float(pixels, mean, std, dtype=torch.bfloat16)
    assert torch.equal(result, to_float(pixels, mean, std).bfloat16())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_cpus_pixels() -> None:
    pixels = pictures(19, 32, 32)
    shift, flip = draw_crop_and_flip(np.random.default_rng(0), 19, 4)
    result = crop_and_flip(pixels.cuda(), shift.cuda(), flip.cuda(), 4)
    assert torch.equal(result.cpu(), crop_and_flip(pixels, shift, flip, 4))
    floats = to_float(result, (0.5,) * 3, (0.5,) * 3)
    torch.testing.assert_close(floats.cpu(), to_float(result.cpu(), (0.5,) * 3, (0.5,) * 3), rtol=0, atol=1e-6)
