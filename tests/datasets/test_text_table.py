"""Texts of one's own, from one command to a run and to new texts: columns, splits, words, mistakes in a sentence."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from dir_bench import config
from dir_bench.backbones.bilstm import BiLSTMPair
from dir_bench.datasets.text import TextSplit, encoders
from dir_bench.datasets.text_table import TextTable
from dir_bench.errors import UserError

SHORT = ["trainer.max_steps=2", "trainer.figures=no", "trainer.feature_statistics=no", "trainer.batch_size=16"]
TINY = ["backbone.hidden=4", "backbone.word_dim=4"]


def write(path: Path, rows: int = 60, **columns: list[object]) -> Path:
    """Write a table of two texts and a target of five whole numbers; columns given replace or join them."""
    made: dict[str, list[object]] = {
        "y": [i % 5 for i in range(rows)],
        "text": [f"word{i % 5} of {i}" for i in range(rows)],
        "other": [f"another {i % 7}" for i in range(rows)],
    }
    made |= columns
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writerow(made)
        writer.writerows(zip(*made.values(), strict=True))
    return path


def loads(path: Path, **settings: object) -> TextTable:
    settings.setdefault("target", "y")
    return TextTable(str(path.parent), path=path.name, **settings)  # type: ignore[arg-type]


def test_the_example_trains_and_its_test_rows_are_predicted_as_recorded(
    commands: Callable[..., str], tmp_path: Path
) -> None:
    commands(["data", "sample", "text_table", "--size", "120"])
    assert "stand-in data: good for a trial" in commands(["data", "check", "text_table"])
    commands(["train", "dataset=text_table", "method=sqinv_lds_fds", *TINY, *SHORT])
    (folder,) = tmp_path.glob("outputs/text_texts/sqinv_lds_fds/*")
    rows = csv.DictReader((tmp_path / "data/text_table/texts.csv").read_text().splitlines())
    texts = [row["text"] for row in rows if row["split"] == "test"]
    (tmp_path / "new.tsv").write_text("who\ttext\n" + "".join(f"x\t{text}\n" for text in texts))
    shown = commands(["predict", "RUN", "new.tsv"])
    found = [float(row["prediction"]) for row in csv.DictReader(io.StringIO(shown))]
    assert found == pytest.approx(np.load(folder / "predictions.npz")["prediction"], rel=1e-5)
    (tmp_path / "gap.csv").write_text("text\nfine\n  \n")
    said = commands(["predict", "RUN", "gap.csv"], code=2)
    assert "gap.csv, line 3: text '  ' is no text: mend or drop the line" in said
    assert "dataset.source.missing" not in said


def test_words_are_those_of_training_and_two_columns_are_a_pair(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tsv", split=["train"] * 40 + ["val"] * 10 + ["test"] * 10)
    data = loads(path, text=["text", "other"], max_tokens=2).load()
    # Two special ones, word0 … word4, of, another, and 0 … 6 behind it.
    assert data.backbone_kwargs == {"vocab_size": 2 + 5 + 1 + 1 + 7, "texts": 2}
    tokens, lengths, others, _ = data.test.fetch(np.array([0, 1]), None)
    assert (tokens.shape, lengths.tolist(), others.shape) == ((2, 2), [2, 2], (2, 2))
    whole = loads(path).load()
    assert isinstance(whole.test, TextSplit)
    # Numbers from 40 on are in no training text.
    assert (whole.test.columns[0].flat == 1).sum() == len(whole.test)
    assert loads(path).check().problems == ()


def test_equal_texts_are_in_one_split(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x.csv", 200, text=[f"text {i // 4}" for i in range(200)], y=[i // 4 % 5 for i in range(200)]
    )
    texts = loads(path)._texts
    held = [set(part.columns[0]) for part in texts.values()]
    assert sum(map(len, held)) == len(set.union(*held)) == 50
    assert min(map(len, held)) > 0


def test_one_text_is_encoded_as_the_first_of_two_is() -> None:
    torch.manual_seed(0)
    pair = BiLSTMPair(9, 3, 2).eval()
    one = BiLSTMPair(9, 3, 2, texts=1).eval()
    one.load_state_dict(pair.state_dict())
    tokens, lengths = torch.tensor([[3, 4, 5], [6, 7, 0]]), np.array([3, 2])
    u = one((tokens, lengths))
    assert u.shape == (2, one.feature_dim) == (2, 4)
    assert torch.equal(u, pair((tokens, lengths, tokens.flip(0), lengths[::-1].copy()))[:, :4])


@pytest.mark.parametrize(
    ("columns", "settings", "said"),
    [
        ({}, {"target": "Y"}, r"has no column 'Y'.*; it has: y, text, other: set dataset.source.target"),
        ({}, {"text": "txt"}, r"has no column 'txt' \(did you mean 'text'\?\).*: set dataset.source.text"),
        ({}, {"id_column": "txt"}, r"has no column 'txt' \(did you mean 'text'\?\).*: set dataset.source.id_column"),
        ({}, {"text": "y"}, r"dataset.source.text=y is the target"),
        ({}, {"text": ["text", "other", "y"]}, r"must name one column, or two"),
        ({}, {"missing": "mean"}, r"texts have no mean"),
        ({}, {"max_tokens": 0}, r"max_tokens=0 and max_words=30000 must be at least 1"),
        ({}, {"encoder": "minilmm"}, r"encoder=minilmm is none of .* \(did you mean 'minilm'\?\)"),
        ({"text": [" "] + ["a"] * 59}, {}, r"line 2: text ' ' is no text: .*missing=drop"),
        ({"text": [""] * 60}, {"missing": "drop"}, r"every row has a missing value"),
        ({"y": ["nan"] * 60}, {}, r"line 2: y 'nan' is not a number, so it is no target \(and 59 more\)"),
        ({}, {"rows": 1}, r"has one row of data"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, columns: dict, settings: dict, said: str) -> None:
    path = write(tmp_path / "x.csv", settings.pop("rows", 60), **columns)
    with pytest.raises(UserError, match=said):
        loads(path, **settings).load()


def test_an_encoder_that_is_not_installed_is_named_with_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = encoders.Encoder("minilm", "no-such-package-as-this", 384, encoders.ENCODERS["minilm"].start)
    monkeypatch.setitem(encoders.ENCODERS, "minilm", lacking)
    with pytest.raises(UserError, match=r"encoder=minilm needs the package no-such-package.*'dir-bench\[text\]'"):
        loads(write(tmp_path / "x.csv"), encoder="minilm").fingerprint()


@pytest.mark.parametrize("name", ["text_embedded", "sts_b_minilm", "vader_wordllama"])
def test_pretrained_features_are_a_track_of_their_own(name: str) -> None:
    base = config.compose([f"dataset={name.rpartition('_')[0].replace('text', 'text_table')}"]).dataset
    plain, rrt, ridge = config.compose_all([[f"dataset={name}", f"method={m}"] for m in ("vanilla", "rrt", "ridge")])
    made = plain.dataset
    assert "[PRETRAINED FEATURES: " in made.title
    assert made.name != base.name
    assert made.note
    assert (made.bins, made.regions, made.published) == (base.bins, base.regions, base.published)
    assert (rrt.stages.epochs, rrt.stages.max_steps) == (10, None)
    assert ridge.backbone["features"] is False
