"""A bidirectional LSTM over texts of any lengths, quick on a CPU: what `torch.nn.LSTM` says, with less work."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

DIRECTIONS = ("", "_reverse")
"""What the names of an LSTM's weights end in: of those that read forth, and of those that read back."""


def packed_lstm(lstm: nn.LSTM, packed: PackedSequence) -> PackedSequence:
    """Return the outputs ``lstm(packed)[0]``, but for rounding.

    torch's own CPU loop slices each word's gates from those of all words, and each slice's gradient is as long as all
    of them: quadratic in the length. Here they are split once, and both directions take their steps in one batched
    product: read back, a text has as many words as read forth, so both are packed alike. There is no padding.

    Args:
        lstm: Bidirectional, with biases, without projections and without dropout between its layers.
        packed: Texts of at least one word; ``data`` has shape ``(words, lstm.input_size)``.
    """
    sizes, mirror = packed.batch_sizes.tolist(), mirrored(packed.batch_sizes)
    data = packed.data
    for layer in range(lstm.num_layers):
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        of_input, of_state, bias, other_bias = (
            torch.stack([getattr(lstm, f"{kind}_l{layer}{end}") for end in DIRECTIONS]) for kind in kinds
        )
        both_ways = torch.stack([data, data.index_select(0, mirror)])
        gates = torch.baddbmm((bias + other_bias)[:, None], both_ways, of_input.mT)
        forth, back = steps(gates, of_state.mT, sizes)
        data = torch.cat([forth, back.index_select(0, mirror)], dim=1)
    return PackedSequence(data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)


def steps(gates: Tensor, weight: Tensor, sizes: list[int]) -> Tensor:
    """Return the states after each word, shape ``(directions, words, hidden)``.

    Args:
        gates: What the words add to the gates, in torch's order (input, forget, cell, output), shape
            ``(directions, words, 4 * hidden)``.
        weight: Of the state, shape ``(directions, hidden, 4 * hidden)``.
        sizes: Texts that have a first word, a second one, …: never more than before.
    """
    state = memory = gates.new_zeros(len(gates), sizes[0], weight.shape[1])
    states = []
    for here in torch.split(gates, sizes, dim=1):
        running = here.shape[1]
        state, memory = state[:, :running], memory[:, :running]
        let_in, keep, new, let_out = torch.baddbmm(here, state, weight).chunk(4, dim=2)
        memory = keep.sigmoid() * memory + let_in.sigmoid() * new.tanh()
        state = let_out.sigmoid() * memory.tanh()
        states.append(state)
    return torch.cat(states, dim=1)


def mirrored(batch_sizes: Tensor) -> Tensor:
    """Return for each place of a packed sequence that of the word as far from its text's end as this from its start."""
    step = torch.repeat_interleave(torch.arange(len(batch_sizes)), batch_sizes)
    starts = batch_sizes.cumsum(0) - batch_sizes
    text = torch.arange(len(step)) - starts[step]
    lengths = (batch_sizes[:, None] > torch.arange(int(batch_sizes[0]))).sum(0)
    return starts[lengths[text] - 1 - step] + text
