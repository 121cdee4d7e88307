"""STS-B-DIR: reading, checking and standing in for the split files; the real ones where they are at hand."""

import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest

from dir_bench.datasets.base import Data, Dataset, file_hash
from dir_bench.datasets.sts_b import COLUMNS, FILES, PUBLISHED, STSB, read_pairs
from dir_bench.errors import UserError
from dir_bench.labels import TargetBins

BINS = TargetBins.regular(0, 5, 0.1, precision="float32")

SHARED = Path(__file__).parents[3] / "shared"
REAL = SHARED / "data" / "sts_b"
needs_real = [
    pytest.mark.data,
    pytest.mark.skipif(not (REAL / "train_new.tsv").is_file(), reason="no ../shared/data/sts_b beside the checkout"),
]


def write(path: Path, pairs: list[tuple[str, str, str]], columns: tuple[str, ...] = COLUMNS) -> Path:
    rows = [["0", "news", "file", "2012", "7", "none", "none", *pair] for pair in pairs]
    lines = ["\t".join(row) for row in [list(columns), *rows]]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_splits(folder: Path, **changed: list[tuple[str, str, str]]) -> Path:
    splits = {
        "train": [("b a b", "a c", "0.5"), ("b é", "d", "5.000")],
        "val": [("a d.", "e", "2.2")],
        "test": [("b", "f g", "0")],
    } | changed
    for split, name in FILES.items():
        write(folder / name, splits[split])
    return folder


def test_splits_are_read_and_numbered_by_hand(tmp_path: Path) -> None:
    data = STSB(str(write_splits(tmp_path))).load()
    # b 4×, a 3×, d 2×; then once each in order: é (train, first sentences), c (second), "." e (val), f g (test).
    words = ["b", "a", "d", "é", "c", ".", "e", "f", "g"]
    number = {word: i for i, word in enumerate(words, 2)}
    assert data.backbone_kwargs == {"vocab_size": 11}
    tokens1, lengths1, tokens2, lengths2 = (part.tolist() for part in data.train.fetch(np.array([1, 0]), None))
    assert tokens1 == [[number["b"], number["é"], 0], [number["b"], number["a"], number["b"]]]
    assert tokens2 == [[number["d"], 0], [number["a"], number["c"]]]
    assert (lengths1, lengths2) == ([2, 3], [1, 2])
    assert data.train.targets.dtype == np.float32
    assert data.train.targets.tolist() == [0.5, 5.0]
    assert data.train.lengths is not None
    assert data.train.lengths.tolist() == [3, 2]
    assert data.val.fetch(np.array([0]), None)[0].tolist() == [[number["a"], number["d"], number["."]]]
    assert [len(split) for split in (data.train, data.val, data.test)] == [2, 1, 1]


def test_quotation_marks_mean_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tsv", [('"open', "it's 5\" long", "1"), ('a "b" c', "d\u2028e\x85f", "2")])
    pairs = read_pairs(path)
    assert pairs.first == ['"open', 'a "b" c']
    assert pairs.second == ["it's 5\" long", "d\u2028e\x85f"]


def test_windows_line_ends_and_byte_order_mark_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tsv", [("a", "b", "1")])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_pairs(path).scores.tolist() == [1.0]


def test_columns_go_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text("score\tsentence2\tsentence1\n1.5\tb\ta\n", encoding="utf-8")
    pairs = read_pairs(path)
    assert (pairs.first, pairs.second, pairs.scores.tolist()) == (["a"], ["b"], [1.5])


@pytest.mark.parametrize("score", ["", "x", "nan", "inf", "-0.1", "5.001"])
def test_bad_score_is_named_with_its_line(tmp_path: Path, score: str) -> None:
    path = write(tmp_path / "x.tsv", [("a", "b", "1"), ("a", "b", score)])
    with pytest.raises(UserError, match=rf"x\.tsv, line 3: the score '{re.escape(score)}'"):
        read_pairs(path)


def test_bad_number_of_columns_is_named_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tsv", [("a", "b", "1"), ("a", "b\tb", "1")])
    with pytest.raises(UserError, match=r"x\.tsv, line 3: 11 columns, the header has 10"):
        read_pairs(path)
    path.write_text(path.read_text(encoding="utf-8").replace("b\tb", "b")[:-5], encoding="utf-8")  # cut short
    with pytest.raises(UserError, match=r"x\.tsv, line 3: 8 columns"):
        read_pairs(path)


def test_blank_line_within_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tsv", [("a", "b", "1")])
    path.write_text(path.read_text(encoding="utf-8").replace("\n", "\n\n", 1), encoding="utf-8")
    with pytest.raises(UserError, match=r"line 2: 1 columns"):
        read_pairs(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"a\tb\n", "no column sentence1, sentence2, score"),
        ("\t".join(COLUMNS).replace("sentence2", "sentence3").encode() + b"\n", "no column sentence2;"),
        ("\t".join(COLUMNS).encode() + b"\n", "only a header"),
        (b"\xff\xfe\x00", "is UTF-16"),
        (b"\xe9\n", "not UTF-8"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "x.tsv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=says):
        read_pairs(path)


def test_missing_files_message_tells_what_where_and_how(tmp_path: Path) -> None:
    write_splits(tmp_path)
    (tmp_path / "dev_new.tsv").unlink()
    with pytest.raises(UserError) as caught:
        STSB(str(tmp_path)).load()
    for part in (
        "lacks dev_new.tsv in",
        str(tmp_path),
        "YyzHarry/imbalanced-regression",
        "dir-bench data sample sts_b",
    ):
        assert part in str(caught.value)


def test_pairs_with_an_empty_sentence_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_splits(tmp_path, val=[("a", "b", "1"), (" ", "lost", "2"), ("a", "", "3")])
    data = STSB(str(folder)).load()
    assert data.val.targets.tolist() == [1.0]
    assert data.backbone_kwargs["vocab_size"] == 9  # "lost" is in no pair that is kept
    assert "2 pair(s) with an empty sentence left out" in caplog.text


def test_a_split_without_words_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"test_new\.tsv has no pair"):
        STSB(str(write_splits(tmp_path, test=[("", "a", "1")]))).load()


def test_long_sentences_and_rare_words_are_capped(tmp_path: Path) -> None:
    data = STSB(str(write_splits(tmp_path)), max_tokens=2, max_words=1).load()
    assert data.backbone_kwargs == {"vocab_size": 3}  # padding, unknown, b
    tokens1, lengths1, *_ = data.train.fetch(np.array([0]), None)
    assert (tokens1.tolist(), lengths1.tolist()) == ([[2, 1]], [2])


def test_one_line_says_that_embeddings_start_at_random(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dir_bench")
    STSB(str(write_splits(tmp_path))).load()
    assert [record.message for record in caplog.records] == [
        "no GloVe file given (dataset.source.glove): word embeddings start at random"
    ]


def test_glove_vectors_go_to_the_backbone(tmp_path: Path) -> None:
    folder = write_splits(tmp_path)
    glove = tmp_path / "glove.txt"
    glove.write_text("a 1 2\nb 3 4\n", encoding="utf-8")
    data = STSB(str(folder), glove=str(glove), word_dim=2).load()
    embedding = data.backbone_kwargs["embedding"]
    assert embedding.shape == (11, 2)
    assert embedding[[0, 2, 3]].tolist() == [[0, 0], [3, 4], [1, 2]]
    assert list((folder / "cache").glob("*.npy"))


def test_stand_in_is_written_checked_and_loaded(tmp_path: Path) -> None:
    dataset = STSB(str(tmp_path))
    assert isinstance(dataset, Dataset)
    assert dataset.sample(tmp_path, n=200, seed=1) == tmp_path
    header, first, *_ = (tmp_path / "train_new.tsv").read_text(encoding="utf-8").splitlines()
    assert tuple(header.split("\t")) == COLUMNS
    assert len(first.split("\t")) == len(COLUMNS)
    report = dataset.check()
    assert set(report.facts) == set(FILES.values())
    assert [problem.split(" is a ")[1][:17] for problem in report.problems] == ["made-up stand-in "] * 3
    data = dataset.load()
    assert [len(split) for split in (data.train, data.val, data.test)] == [200, 50, 50]
    assert report.label_counts is not None
    np.testing.assert_array_equal(report.label_counts(BINS), data.train.label_counts(BINS))
    assert 0 <= data.train.targets.min() < data.train.targets.max() <= 5


def test_stand_in_goes_by_its_seed_and_never_overwrites(tmp_path: Path) -> None:
    texts = []
    for seed, folder in ((0, "a"), (0, "b"), (1, "c")):
        STSB(str(tmp_path)).sample(tmp_path / folder, n=30, seed=seed)
        texts.append((tmp_path / folder / "train_new.tsv").read_bytes())
    assert texts[0] == texts[1] != texts[2]
    (tmp_path / "d").mkdir()
    write(tmp_path / "d" / "test_new.tsv", [("a", "b", "1")])
    with pytest.raises(UserError, match=r"test_new\.tsv exists and is left as it is"):
        STSB(str(tmp_path)).sample(tmp_path / "d")
    assert len(list((tmp_path / "d").iterdir())) == 1
    with pytest.raises(UserError, match="0 training pairs"):
        STSB(str(tmp_path)).sample(tmp_path / "e", n=0)


def test_stand_in_scores_can_be_learnt_from_the_words_in_common(tmp_path: Path) -> None:
    STSB(str(tmp_path)).sample(tmp_path)
    pairs = read_pairs(tmp_path / "test_new.tsv")
    common = [len(set(one.split()) & set(two.split())) for one, two in zip(pairs.first, pairs.second, strict=True)]
    assert np.corrcoef(common, pairs.scores)[0, 1] > 0.9


def test_check_names_every_fault(tmp_path: Path) -> None:
    write_splits(tmp_path, val=[("a", "b", "9")])
    (tmp_path / "test_new.tsv").unlink()
    report = STSB(str(tmp_path)).check()
    few, bad, missing = report.problems
    assert "has 2 pairs, the published file 5249" in few
    assert "line 2: the score '9'" in bad
    assert "test_new.tsv is missing" in missing
    assert report.label_counts is not None


def test_splits_are_rebuilt_from_glues_files_as_the_authors_drew_them(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    pairs = [(f"first {i}", f"second {i}", f"{5 * (i % 2600) / 2599:.3f}") for i in range(5200)]
    write(tmp_path / "raw" / "train.tsv", pairs[:4000])
    write(tmp_path / "raw" / "dev.tsv", pairs[4000:])
    STSB(str(tmp_path)).write_split()
    drawn = {name: (tmp_path / name).read_text(encoding="utf-8").splitlines()[1:] for name in FILES.values()}
    pooled = [
        line for name in ("train", "dev") for line in (tmp_path / "raw" / f"{name}.tsv").read_text().splitlines()[1:]
    ]
    assert sorted(line for lines in drawn.values() for line in lines) == sorted(pooled)
    data = STSB(str(tmp_path)).load()
    for split in (data.val, data.test):
        assert np.histogram(split.targets, 20, (0, 5))[0].tolist() == [50] * 20
    with pytest.raises(UserError, match=r"train_new\.tsv is there already and counts"):
        STSB(str(tmp_path)).write_split()


def test_rebuilding_splits_without_glues_files_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"raw/train\.tsv is missing: `dir-bench data fetch sts_b`"):
        STSB(str(tmp_path)).write_split()


def test_constructing_reads_nothing(tmp_path: Path) -> None:
    dataset = STSB(str(tmp_path / "nowhere"))
    assert "train_new.tsv, dev_new.tsv, test_new.tsv" in dataset.requirements


@pytest.fixture(scope="module")
def data() -> Data:
    return STSB(str(REAL)).load()


class TestRealFiles:
    pytestmark = needs_real

    def test_check_finds_the_published_files(self) -> None:
        report = STSB(str(REAL)).check()
        assert report.problems == ()
        assert report.facts["train_new.tsv"] == "5249 pairs, scores 0 to 5, SHA-256 as published"
        assert report.label_counts is not None
        assert report.label_counts(BINS).sum() == 5249

    def test_constants_are_the_published_facts(self) -> None:
        facts = json.loads((SHARED / "golden" / "dataset_facts.json").read_text(encoding="utf-8"))
        hashes = {Path(file["path"]).name: file["sha256"] for file in facts["published_files"]["present"]}
        counts = facts["sts_b_dir"]["counts"] | {"val": facts["sts_b_dir"]["counts"]["dev"]}
        assert {split: (counts[split], hashes[name]) for split, name in FILES.items()} == PUBLISHED
        assert list(COLUMNS) == facts["sts_b_dir"]["columns"]

    def test_another_version_of_a_file_is_noticed(self, tmp_path: Path) -> None:
        for name in FILES.values():
            (tmp_path / name).write_bytes((REAL / name).read_bytes())
        lines = (tmp_path / "dev_new.tsv").read_bytes().split(b"\n")
        (tmp_path / "dev_new.tsv").write_bytes(b"\n".join([lines[0], lines[2], lines[1], *lines[3:]]))
        (problem,) = STSB(str(tmp_path)).check().problems
        assert "dev_new.tsv is not the published file (its SHA-256 differs)" in problem

    def test_all_pairs_are_kept(self, data: Data) -> None:
        assert [len(split) for split in (data.train, data.val, data.test)] == [5249, 1000, 1000]
        assert data.train.lengths is not None
        assert data.train.lengths.max() == 40

    def test_vocabulary_has_the_published_words(self, data: Data) -> None:
        # Of nltk's word_tokenize with the whole Punkt model, the cut at 40 tokens and the two special words.
        assert data.backbone_kwargs["vocab_size"] == 17008

    def test_its_identity_tells_that_punkt_cuts_some_texts(self) -> None:
        assert STSB(str(REAL)).fingerprint() != file_hash(*(REAL / name for name in FILES.values()))

    def test_label_histograms_are_the_published_ones(self, data: Data) -> None:
        facts = json.loads((SHARED / "golden" / "dataset_facts.json").read_text(encoding="utf-8"))["sts_b_dir"]
        edges = np.float32(np.arange(51) * 0.1)
        for split, name in ((data.train, "train"), (data.val, "dev"), (data.test, "test")):
            place = np.minimum(np.searchsorted(edges, split.targets, side="right") - 1, 49)
            assert np.bincount(place, minlength=50).tolist() == facts["histogram"][name]

    def test_first_pair_is_the_published_one(self, data: Data) -> None:
        # "A woman is dancing." and "A man is eating."; the full stop is the commonest word.
        tokens1, _, tokens2, _ = (part[0].tolist() for part in data.train.fetch(np.array([0]), None))
        assert len(tokens1) == len(tokens2) == 5
        assert [one == two for one, two in zip(tokens1, tokens2, strict=True)] == [True, False, True, False, True]
        assert tokens1[-1] == 2
        assert data.train.targets[0] == np.float32(0.143)
