"""The BiLSTM pair encoder: what padding, batching and order must not change, and its official names and sizes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dir_bench.backbones.bilstm import BiLSTMPair, from_official
from dir_bench.errors import UserError

MODEL_FACTS = Path(__file__).parents[3] / "shared" / "golden" / "model_facts.json"
Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def small(**kwargs: object) -> BiLSTMPair:
    torch.manual_seed(0)
    return BiLSTMPair(12, **{"word_dim": 5, "hidden": 4, "layers": 2, **kwargs}).eval()  # type: ignore[arg-type]


@pytest.fixture
def batch() -> Inputs:
    """Four pairs; each sentence fills its row up to its length, and one side's longest is longer."""
    lengths1, lengths2 = torch.tensor([3, 1, 5, 2]), torch.tensor([2, 7, 1, 4])
    generator = torch.Generator().manual_seed(1)

    def tokens(lengths: torch.Tensor) -> torch.Tensor:
        words = torch.randint(1, 12, (len(lengths), int(lengths.max())), generator=generator)
        return words * (torch.arange(words.shape[1]) < lengths[:, None])

    return tokens(lengths1), lengths1, tokens(lengths2), lengths2


@pytest.mark.parametrize("highway_layers", [0, 2])
def test_a_batch_of_one_equals_a_batch_of_many(batch: Inputs, highway_layers: int) -> None:
    network = small(highway_layers=highway_layers)
    tokens1, lengths1, tokens2, lengths2 = batch
    together = network(batch)
    for i in range(4):
        one, two = tokens1[i : i + 1, : lengths1[i]], tokens2[i : i + 1, : lengths2[i]]
        alone = network((one, lengths1[i : i + 1], two, lengths2[i : i + 1]))
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-6)


def test_what_stands_in_the_padding_does_not_matter(batch: Inputs) -> None:
    network = small()
    tokens1, lengths1, tokens2, lengths2 = batch
    dirty = torch.where(torch.arange(tokens1.shape[1]) < lengths1[:, None], tokens1, 7)
    torch.testing.assert_close(network((dirty, lengths1, tokens2, lengths2)), network(batch), rtol=0, atol=0)


def test_encoding_equals_the_lstm_run_sentence_by_sentence(batch: Inputs) -> None:
    network = small()
    tokens, lengths = batch[0], batch[1]
    for i, length in enumerate(lengths.tolist()):
        outputs, _ = network.lstm(network.embedding(tokens[i : i + 1, :length]))
        expected = outputs[0].max(dim=0).values
        torch.testing.assert_close(network.encode(network.embedding(tokens), lengths)[i], expected, rtol=0, atol=1e-6)


def test_pair_embedding_is_u_v_difference_and_product(batch: Inputs) -> None:
    network = small()
    u, v = (network.encode(network.embedding(tokens), lengths) for tokens, lengths in (batch[:2], batch[2:]))
    features = network(batch)
    assert features.shape == (4, network.feature_dim) == (4, 32)
    torch.testing.assert_close(features, torch.cat([u, v, (u - v).abs(), u * v], dim=1), rtol=0, atol=1e-6)


def test_swapped_sentences_swap_the_halves(batch: Inputs) -> None:
    network = small()
    there, back = network(batch), network((*batch[2:], *batch[:2]))
    torch.testing.assert_close(back, there[:, [*range(8, 16), *range(8), *range(16, 32)]], rtol=0, atol=1e-6)


def test_no_gradient_reaches_the_padding_row(batch: Inputs) -> None:
    network = small().train()
    network(batch).sum().backward()
    gradient = network.embedding.weight.grad
    assert gradient is not None
    assert not gradient[0].any()
    assert gradient[1:].any()


def test_dropout_acts_in_training_only(batch: Inputs) -> None:
    network = small(dropout=0.5)
    torch.testing.assert_close(network(batch), network(batch), rtol=0, atol=0)
    network.train()
    assert not torch.equal(network(batch), network(batch))


@pytest.mark.parametrize(
    ("given", "asked", "learns"), [(False, None, True), (True, None, False), (True, True, True), (False, False, False)]
)
def test_given_word_vectors_are_taken_over_and_frozen_unless_asked(
    given: bool, asked: bool | None, learns: bool
) -> None:
    vectors = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    network = small(embedding=vectors if given else None, train_embedding=asked)
    assert network.embedding.weight.requires_grad is learns
    assert np.array_equal(network.embedding.weight.detach().numpy(), vectors) is given


def test_word_vectors_of_another_size_are_refused() -> None:
    with pytest.raises(UserError, match=r"set backbone\.word_dim=6"):
        small(embedding=np.zeros((12, 6), np.float32))


def test_official_names_are_mapped_and_strangers_left_out() -> None:
    network, regressor = small(highway_layers=2), nn.Linear(32, 1)
    official = {
        "pair_encoder._text_field_embedder.token_embedder_words.weight": network.embedding.weight + 1,
        "FDS.running_mean": torch.zeros(50, 32),
        "sts-b_pred_layer.weight": regressor.weight + 1,
        "sts-b_pred_layer.bias": regressor.bias + 1,
    }
    for i, layer in enumerate(network.highway):
        official[f"pair_encoder._highway_layer._module._layers.{i}.weight"] = layer.weight + 1
        official[f"pair_encoder._highway_layer._module._layers.{i}.bias"] = layer.bias + 1
    for name, tensor in network.lstm.state_dict().items():
        official[f"pair_encoder._phrase_layer._module.{name}"] = tensor + 1
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    backbone, head = from_official(official)
    network.load_state_dict(backbone)
    regressor.load_state_dict(head)
    assert all(torch.equal(network.state_dict()[name], before[name] + 1) for name in before)
    assert torch.equal(regressor.bias, official["sts-b_pred_layer.bias"])


@pytest.mark.data
@pytest.mark.skipif(not MODEL_FACTS.is_file(), reason="no ../shared/golden beside the checkout")
def test_published_size_has_the_official_shapes_and_parameters() -> None:
    facts = json.loads(MODEL_FACTS.read_text(encoding="utf-8"))["stsb_pair_encoder"]
    with torch.device("meta"):
        network = BiLSTMPair(facts["vocab_size_here"], train_embedding=False)
        regressor = nn.Linear(network.feature_dim, 1)
        official = {
            key: torch.empty([facts["vocab_size_here"] if size == "V" else size for size in shape])
            for key, shape, _ in facts["state_dict"]
        }
    backbone, head = from_official(official)
    assert {k: v.shape for k, v in backbone.items()} == {k: v.shape for k, v in network.state_dict().items()}
    assert {k: v.shape for k, v in head.items()} == {k: v.shape for k, v in regressor.state_dict().items()}
    trained = sum(p.numel() for p in [*network.parameters(), *regressor.parameters()] if p.requires_grad)
    assert trained == facts["parameters_trainable"] == 75_660_001
