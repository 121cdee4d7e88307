"""One or two texts in, one embedding out: the BiLSTM encoder of STS-B-DIR, which compares two."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from dir_bench.backbones.base import Backbone
from dir_bench.backbones.blending import Blend
from dir_bench.backbones.packed_lstm import packed_lstm
from dir_bench.errors import UserError
from dir_bench.tensors import sent

OFFICIAL_ENCODER = {
    "pair_encoder._text_field_embedder.token_embedder_words.": "embedding.",
    "pair_encoder._highway_layer._module._layers.": "highway.",
    "pair_encoder._phrase_layer._module.": "lstm.",
}
OFFICIAL_REGRESSOR = "sts-b_pred_layer."


class BiLSTMPair(Backbone):
    """Embedding, highway layers, a bidirectional LSTM and max pooling for each sentence; [u, v, |u − v|, u·v] for both.

    Of samples with one text, u. All texts of a batch go through the LSTM in one packed call, so no time is spent on
    padding.

    Args:
        vocab_size: Words, padding (0) and unknown (1) included.
        word_dim: Dimension of a word vector.
        hidden: LSTM units per direction; `feature_dim` is 8 × this for two texts, 2 × for one.
        layers: LSTM layers.
        dropout: Share dropped of the word vectors and of the LSTM's outputs, before pooling; none between its layers.
        highway_layers: Highway layers (Srivastava et al. 2015) over the word vectors.
        embedding: Word vectors, shape ``(vocab_size, word_dim)``; None: drawn at random.
        train_embedding: Whether word vectors learn; None: only if they were drawn at random.
        texts: Of a sample: 2, or 1.

    Source:
        Yang et al. 2021, App. B.3; behaviour of sts-b-dir/models.py; its key names are those of `from_official`.
    """

    mixable = ("",)
    """Layer 1 of manifold mixup: the pair embedding."""

    unmixable_input = "numbers of words"
    takes = ("texts",)

    def __init__(
        self,
        vocab_size: int,
        word_dim: int = 300,
        hidden: int = 1500,
        layers: int = 2,
        dropout: float = 0.2,
        highway_layers: int = 0,
        embedding: npt.NDArray[Any] | None = None,
        train_embedding: bool | None = None,
        texts: int = 2,
    ) -> None:
        super().__init__()
        if embedding is not None and embedding.shape != (vocab_size, word_dim):
            raise UserError(
                f"the word vectors are {embedding.shape[0]} × {embedding.shape[1]}, the network takes {vocab_size} × "
                f"{word_dim}: set backbone.word_dim={embedding.shape[1]}"
            )
        self.embedding = nn.Embedding(vocab_size, word_dim, padding_idx=0)
        if embedding is not None:
            self.embedding.weight.data.copy_(torch.from_numpy(embedding))
        self.embedding.weight.requires_grad_(embedding is None if train_embedding is None else train_embedding)
        self.highway = nn.ModuleList(nn.Linear(word_dim, 2 * word_dim) for _ in range(highway_layers))
        self.dropout = nn.Dropout(dropout)
        self.lstm = nn.LSTM(word_dim, hidden, layers, batch_first=True, bidirectional=True)
        self.texts = texts
        self.feature_dim = 8 * hidden if texts == 2 else 2 * hidden

    def forward(self, inputs: tuple[Any, ...]) -> Tensor:
        """Return embeddings, shape ``(b, feature_dim)``, of (tokens1, lengths1, tokens2, lengths2), or a Blend.

        Lengths lie on the host, so that nothing waits for the device.
        """
        words, lengths = self.embed(inputs)
        encoded = self.encode(words, lengths)
        if self.texts == 1:
            return encoded
        u, v = encoded.chunk(2)
        return torch.cat([u, v, (u - v).abs(), u * v], dim=1)

    def embed(self, inputs: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        """Return the word vectors of all first, then all second sentences, and their lengths on the CPU.

        Of a Blend, first sentences are mixed with first ones and second with second ones, word by word, to the length
        of the longer; the shorter goes on with zeros.

        Args:
            inputs: (tokens1, lengths1, tokens2, lengths2), without the last two of one text, or a `Blend` of two such.

        Returns:
            Shapes ``(texts * b, t, word_dim)`` and ``(texts * b,)``.
        """
        if not isinstance(inputs, Blend):
            tokens = torch.cat(_to_one_width(*inputs[0::2]))
            return self.embedding(tokens), torch.from_numpy(np.concatenate(inputs[1::2]))
        (words, lengths), (others, other_lengths) = self.embed(inputs.first), self.embed(inputs.second)
        pairs = zip(*(both.chunk(self.texts) for both in _to_one_width(words, others)), strict=True)
        mixed = [inputs.of(one, other, part) for part, (one, other) in enumerate(pairs)]
        return torch.cat(mixed), torch.maximum(lengths, other_lengths)

    def summarise(self, inputs: tuple[Any, ...]) -> Tensor:
        """Return the mean word vectors of a sample's texts side by side, ``(b, texts * word_dim)``: for distances."""
        words, lengths = self.embed(inputs)
        means = words.sum(1) / sent(lengths, words.device).to(words)[:, None]
        return torch.cat(means.chunk(self.texts), dim=1)

    def spread(self) -> Tensor:
        """Return the standard deviation of each number of a word vector over the vocabulary, shape ``(word_dim,)``."""
        return self.embedding.weight.detach()[1:].std(0)

    def encode(self, words: Tensor, lengths: Tensor) -> Tensor:
        """Return sentence embeddings, shape ``(n, 2 * hidden)``.

        Args:
            words: Word vectors, shape ``(n, t, word_dim)``; those beyond a sentence's length do not count.
            lengths: Words per sentence, shape ``(n,)``, on the CPU: packing reads them there.
        """
        for layer in self.highway:
            candidate, gate = layer(words).chunk(2, dim=-1)
            gate = torch.sigmoid(gate)
            words = gate * words + (1 - gate) * torch.relu(candidate)
        # Sorted here: torch would do it with two copies that the host waits for.
        descending, order = torch.sort(lengths, descending=True)
        sort, restore, counts = sent(torch.stack([order, order.argsort(), lengths]), words.device)
        packed = pack_padded_sequence(self.dropout(words).index_select(0, sort), descending, batch_first=True)
        encoded = packed_lstm(self.lstm, packed) if words.device.type == "cpu" else self.lstm(packed)[0]
        padded = pad_packed_sequence(encoded, batch_first=True, padding_value=0.0)[0]
        outputs = self.dropout(padded.index_select(0, restore))
        beyond = torch.arange(outputs.shape[1], device=outputs.device) >= counts[:, None]
        pooled: Tensor = outputs.masked_fill(beyond[:, :, None], -torch.inf).amax(dim=1)
        return pooled

    @classmethod
    def from_official(cls, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the state dicts of backbone and regressor from a published checkpoint, see `from_official`."""
        return from_official(state)


def _to_one_width(*parts: Tensor) -> list[Tensor]:
    """Return them with zeros appended along the second dimension, up to the longest."""
    width = max(part.shape[1] for part in parts)
    rest = (0, 0) * (parts[0].dim() - 2)
    return [nn.functional.pad(part, (*rest, 0, width - part.shape[1])) for part in parts]


def from_official(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Rename an official STS-B state dict to (backbone, regressor) state dicts; what belongs to neither is left out."""
    backbone = {
        ours + key.removeprefix(official): value
        for key, value in state.items()
        for official, ours in OFFICIAL_ENCODER.items()
        if key.startswith(official)
    }
    regressor = {k.removeprefix(OFFICIAL_REGRESSOR): v for k, v in state.items() if k.startswith(OFFICIAL_REGRESSOR)}
    return backbone, regressor
