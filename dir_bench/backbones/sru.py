"""The simple recurrent unit, whose recurrence is a parallel scan: no loop over time, on any device."""

import math
from typing import Any

import torch
from torch import Tensor, nn


def masked(sequences: Tensor, lengths: Tensor) -> Tensor:
    """Return sequences, shape ``(b, t, c)``, with zeros from each one's length on; lengths stay on their device."""
    beyond = torch.arange(sequences.shape[1], device=lengths.device) >= lengths[:, None]
    return sequences.masked_fill(beyond[:, :, None], 0)


def linear_recurrence(decay: Tensor, update: Tensor) -> Tensor:
    """Return c with c_t = decay_t ⊙ c_{t−1} + update_t and c_{−1} = 0, all of shape ``(b, t, c)``.

    Computed in 2·log₂(t) steps over whole tensors and O(t) work. Only products of decays are formed, so decays in
    [0, 1] are safe however long the sequence; nothing is divided and no logarithm taken.

    Source:
        Blelloch 1990, Prefix Sums and Their Applications, §1.4 (first-order recurrences).
    """
    states: Tensor = _LinearRecurrence.apply(decay, update)
    return states


class _LinearRecurrence(torch.autograd.Function):
    """The gradient of a linear recurrence is one that runs backward, so the steps of the scan need not be kept."""

    @staticmethod
    def forward(ctx: Any, decay: Tensor, update: Tensor) -> Tensor:
        states = _scan(decay, update)
        ctx.save_for_backward(decay, states)
        return states

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        decay, states = ctx.saved_tensors
        following = torch.cat([decay[:, 1:], torch.zeros_like(decay[:, :1])], dim=1)
        grad_update = linear_recurrence(following.flip(1), grad.flip(1)).flip(1)
        previous = torch.cat([torch.zeros_like(states[:, :1]), states[:, :-1]], dim=1)
        return grad_update * previous, grad_update


def _scan(decay: Tensor, update: Tensor) -> Tensor:
    """Merge steps 2i and 2i + 1, scan the half as long sequence of odd steps, and fill in the even steps from it."""
    steps = decay.shape[1]
    if steps == 1:
        return update
    paired = steps // 2 * 2
    odd = _scan(
        decay[:, 1::2] * decay[:, 0:paired:2],
        torch.addcmul(update[:, 1::2], decay[:, 1::2], update[:, 0:paired:2]),
    )
    states = torch.empty_like(update)
    states[:, 0] = update[:, 0]
    states[:, 1::2] = odd
    states[:, 2::2] = torch.addcmul(update[:, 2::2], decay[:, 2::2], odd[:, : (steps - 1) // 2])
    return states


class SRU(nn.Module):
    """One layer of simple recurrent units; all its matrix products are taken over the whole sequence at once.

    f = σ(W_f x + b_f), r = σ(W_r x + b_r), c_t = f_t ⊙ c_{t−1} + (1 − f_t) ⊙ W x_t, h = r ⊙ c + (1 − r) ⊙ α x: the
    paper's form without v ⊙ c_{t−1} in the gates, since gates that read the state could not be scanned. x passes the
    highway through a matrix of its own where its width is not `units`.

    Args:
        in_channels: Width of the input.
        units: Width of the output, both directions together.
        bidirectional: Whether the second half of the units runs from the end to the beginning.

    Source:
        Lei et al. 2018, arXiv:1709.02755: eq. 1–4 with v = 0; α = √3 and the initial weights from its §3.2.
    """

    def __init__(self, in_channels: int, units: int, bidirectional: bool = True) -> None:
        super().__init__()
        self.bidirectional = bidirectional
        self.candidate = nn.Linear(in_channels, units, bias=False)
        self.gates = nn.Linear(in_channels, 2 * units)
        self.highway = nn.Identity() if in_channels == units else nn.Linear(in_channels, units, bias=False)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.uniform_(parameter, -math.sqrt(3 / in_channels), math.sqrt(3 / in_channels))

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Return h, shape ``(b, t, units)``, zero beyond each length.

        Args:
            inputs: Sequences, zero beyond each length, shape ``(b, t, in_channels)``.
            lengths: Valid steps, shape ``(b,)``.
        """
        # Many steps multiply up: half precision would lose the state.
        dtype = torch.promote_types(inputs.dtype, torch.float32)
        forget, reset = self.gates(inputs).to(dtype).sigmoid().chunk(2, dim=2)
        update = (1 - forget) * self.candidate(inputs).to(dtype)
        if self.bidirectional:
            # W has no bias, so padding updates nothing: going backward, the state is still zero at the true end.
            states = _flip_half(linear_recurrence(_flip_half(forget), _flip_half(update)))
        else:
            states = linear_recurrence(forget, update)
        return masked(torch.lerp(math.sqrt(3) * self.highway(inputs).to(dtype), states, reset), lengths)


def _flip_half(sequences: Tensor) -> Tensor:
    """Reverse the second half of the channels in time, so that one scan serves both directions."""
    forward, backward = sequences.tensor_split(2, dim=2)
    return torch.cat([forward, backward.flip(1)], dim=2)
