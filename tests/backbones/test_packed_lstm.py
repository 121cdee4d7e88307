"""The LSTM over packed texts: it says what torch's own says, and so do its gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from dir_bench.backbones.packed_lstm import mirrored, packed_lstm


def packed_of(lengths: list[int], width: int = 3) -> PackedSequence:
    generator = torch.Generator().manual_seed(len(lengths))
    words = torch.randn(len(lengths), max(lengths), width, generator=generator, dtype=torch.float64)
    return pack_padded_sequence(words.requires_grad_(), torch.tensor(lengths), batch_first=True, enforce_sorted=False)


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5), layers=st.integers(1, 2))
def test_it_equals_torchs_and_so_do_its_gradients(lengths: list[int], layers: int) -> None:
    torch.manual_seed(0)
    lstm = nn.LSTM(3, 4, layers, batch_first=True, bidirectional=True).double()
    packed = packed_of(lengths)
    weights = torch.randn(len(packed.data), 8, dtype=torch.float64)
    said = []
    for outputs in (packed_lstm(lstm, packed), lstm(packed)[0]):
        gradients = torch.autograd.grad((outputs.data * weights).sum(), [packed.data, *lstm.parameters()])
        said.append([outputs.data, *gradients])
        assert outputs.unsorted_indices.equal(packed.unsorted_indices)
    torch.testing.assert_close(said[0], said[1], rtol=1e-12, atol=1e-14)


def test_in_single_precision_a_step_differs_by_rounding_alone() -> None:
    torch.manual_seed(0)
    lstm = nn.LSTM(3, 4, batch_first=True, bidirectional=True)
    packed = packed_of([9, 2, 7, 30])
    packed = PackedSequence(packed.data.float(), *packed[1:])
    ours, torchs = packed_lstm(lstm, packed).data, lstm(packed)[0].data
    assert float((ours - torchs).norm().detach()) <= 1e-6 * float(torchs.norm().detach())


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([1], [0]),
        ([3], [2, 1, 0]),
        # Packed: the first words of texts of 3, 2 and 1 words, then two second ones, then the third one.
        ([1, 3, 2], [5, 4, 2, 3, 1, 0]),
    ],
)
def test_a_words_mirror_image_is_as_far_from_the_end(lengths: list[int], expected: list[int]) -> None:
    assert mirrored(packed_of(lengths).batch_sizes).tolist() == expected
