"""FDS for several outputs is FDS for each of them."""

import copy

import pytest
import torch

from dir_bench import FDS, FDSPerOutput, TargetBins

BINS = [TargetBins.regular(0, 10, 1), TargetBins.regular(-2, 2, 0.5)]


def epoch_of(number: int, n: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(number)
    labels = torch.rand(n, 2, generator=generator) * torch.tensor([10.0, 4.0]) - torch.tensor([0.0, 2.0])
    return torch.randn(n, 3, generator=generator), labels


def trained(fds: FDSPerOutput, first: int = 0, epochs: int = 3) -> FDSPerOutput:
    for epoch in range(first, first + epochs):
        features, labels = epoch_of(epoch)
        moments = fds.new_moments()
        for half in (slice(0, 20), slice(20, None)):
            fds.add(moments, features[half], labels[half])
        fds.end_epoch(moments, epoch)
    return fds


@pytest.mark.parametrize("first", [0, 1])
def test_each_output_has_an_fds_of_its_own(first):
    together = trained(FDSPerOutput(3, BINS), first)
    features, labels = epoch_of(9)
    calibrated = together(features, labels, first + 3)
    assert calibrated.shape == (40, 2, 3)
    for place, bins in enumerate(BINS):
        alone = FDS(3, bins=bins)
        for epoch in range(first, first + 3):
            seen, own = epoch_of(epoch)
            moments = alone.new_moments()
            moments.add(seen, own[:, place])
            alone.end_epoch(moments, epoch)
        torch.testing.assert_close(calibrated[:, place], alone(features, labels[:, place], first + 3))
        assert (calibrated[:, place] != features).any()
    assert together.eval()(features, labels, first + 3).equal(torch.stack([features, features], 1))


def test_it_is_copied_saved_compiled_and_run_in_half_precision_as_any_module():
    fds = trained(FDSPerOutput(3, BINS))
    features, labels = epoch_of(9)
    wanted = fds(features, labels, 3)
    restored = FDSPerOutput(3, BINS)
    restored.load_state_dict(fds.state_dict())
    for twin in (copy.deepcopy(fds), restored, torch.compile(fds, backend="eager")):
        torch.testing.assert_close(twin(features, labels, 3), wanted, rtol=0, atol=0)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(fds(features, labels, 3), wanted, rtol=0, atol=0)


def test_labels_of_another_shape_are_refused():
    fds = FDSPerOutput(3, BINS)
    with pytest.raises(ValueError, match=r"\(n, 2\), not \(5,\)"):
        fds(torch.zeros(5, 3), torch.zeros(5), 0)
    with pytest.raises(ValueError, match="one output at least"):
        FDSPerOutput(3, [])
