"""Blended inputs: exact ends, noise that is a function of key and place alone, types that are kept."""

import numpy as np
import pytest
import torch
from scipy import stats

from dir_bench.backbones.blending import Blend, normal_noise


def blend(share: list[float], noisy: dict[int, int] | None = None, scale: float = 1.0) -> Blend:
    """Return a blend whose noisy samples, by number, have these keys."""
    rows = noisy or {}
    indices, keys = (torch.tensor(list(part), dtype=torch.int64) for part in (rows.keys(), rows.values()))
    return Blend(None, None, torch.tensor(share), indices, keys, torch.tensor(scale))


def test_a_share_moves_each_sample_along_its_segment() -> None:
    first, second = (
        torch.tensor([[0.0, 2.0], [4.0, 4.0], [1.0, 1.0]]),
        torch.tensor([[1.0, 4.0], [0.0, 8.0], [9.0, 9.0]]),
    )
    mixed = blend([0.5, 0.25, 0.0]).of(first, second)
    assert mixed.tolist() == [[0.5, 3.0], [3.0, 5.0], [1.0, 1.0]]


def test_a_share_of_nothing_leaves_every_digit() -> None:
    first, second = torch.randn(4, 3, 5), torch.randn(4, 3, 5) * 1e6
    assert torch.equal(blend([0.0] * 4).of(first, second), first)


def test_pictures_of_bytes_stay_bytes_and_in_range() -> None:
    first, second = torch.tensor([[10, 250]], dtype=torch.uint8), torch.tensor([[20, 251]], dtype=torch.uint8)
    assert blend([0.26]).of(first, second).tolist() == [[13, 250]]
    noisy = blend([0.0], {0: 3}, scale=1e6).of(first.repeat(1, 50), second.repeat(1, 50))
    assert noisy.dtype == torch.uint8
    assert set(noisy.flatten().tolist()) == {0, 255}


def test_noise_is_standard_normal_and_keys_are_independent() -> None:
    noise = normal_noise(torch.arange(400), torch.Size([500])).numpy().astype(np.float64)
    assert stats.kstest(noise.ravel(), "norm").pvalue > 0.001
    assert noise.std() == pytest.approx(1, abs=0.01)
    for other in (noise[1:] * noise[:-1], noise[:, 1:] * noise[:, :-1]):  # neighbouring keys, neighbouring places
        assert abs(other.mean()) < 4 / np.sqrt(other.size)


def test_noise_is_a_function_of_key_and_place_alone() -> None:
    keys = torch.tensor([7, 2**32 - 1, 5])
    whole = normal_noise(keys, torch.Size([6, 4]))
    assert torch.equal(normal_noise(keys[2:], torch.Size([6, 4])), whole[2:])
    assert torch.equal(normal_noise(keys, torch.Size([2, 4])), whole[:, :2])  # less padding
    assert torch.isfinite(whole).all()


def hashed(x: int) -> int:
    """Chris Wellons' lowbias32, in whole numbers."""
    x ^= x >> 16
    x = x * 0x7FEB352D % 2**32
    x ^= x >> 15
    x = x * 0x846CA68B % 2**32
    return x ^ (x >> 16)


def test_noise_is_the_quantile_of_a_hash_so_the_same_on_any_machine() -> None:
    places = [hashed(place + 0x9E3779B9) for place in range(3)]
    for key in (0, 1, 2**32 - 1):
        bits = [hashed((hashed(key) + place) % 2**32) >> 9 for place in places]
        expected = stats.norm.ppf((np.array(bits) + 0.5) / 2**23)
        assert normal_noise(torch.tensor([key]), torch.Size([3])).numpy()[0] == pytest.approx(expected, abs=1e-5)


def test_noise_lies_on_the_noisy_samples_with_the_scale_of_each_number() -> None:
    zeros, scale = torch.zeros(3, 2000), torch.cat([torch.zeros(1000), torch.full((1000,), 3.0)])
    mixed = blend([0.0, 0.0, 0.0], {1: 11})._replace(scale=scale).of(zeros, zeros)
    assert not mixed[[0, 2]].any()
    assert not mixed[1, :1000].any()
    assert mixed[1, 1000:].std() == pytest.approx(3, rel=0.1)


def test_parts_of_a_sample_have_noise_of_their_own() -> None:
    zeros, noisy = torch.zeros(1, 1000), blend([0.0], {0: 4})
    one, other = (noisy.of(zeros, zeros, part).numpy()[0] for part in (0, 1))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.15


def test_gradients_reach_both_ends_by_their_shares() -> None:
    first, second = torch.ones(2, 3, requires_grad=True), torch.ones(2, 3, requires_grad=True)
    blend([0.25, 0.0], {1: 9}).of(first, second).sum().backward()
    assert first.grad is not None
    assert second.grad is not None
    assert first.grad[:, 0].tolist() == [0.75, 1.0]
    assert second.grad[:, 0].tolist() == [0.25, 0.0]
