"""Words, vocabulary, padded batches and word vectors, by hand and against plain loops."""

import logging
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dir_bench.datasets.text import PADDING, UNKNOWN, Sentences, build_vocabulary, read_glove, tokenize
from dir_bench.errors import UserError


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("A man isn't here.", ["A", "man", "is", "n't", "here", "."]),
        ('He said "no", twice.', ["He", "said", "``", "no", "''", ",", "twice", "."]),
        ("3.5% of the U.S. vote", ["3.5", "%", "of", "the", "U.S.", "vote"]),
        ("Where? There!", ["Where", "?", "There", "!"]),
        ("Mr. Smith left. He ran.", ["Mr.", "Smith", "left", ".", "He", "ran", "."]),
        ("In the U.S. Circuit judges", ["In", "the", "U.S", ".", "Circuit", "judges"]),  # a word not capitalised within
        ("In the U.S. Senate", ["In", "the", "U.S.", "Senate"]),
        ("", []),
        (" \u00a0 ", []),
    ],
)
def test_tokens_are_nltks(sentence: str, words: list[str]) -> None:
    assert tokenize([sentence], 40) == [words]


def test_long_sentences_are_cut() -> None:
    assert tokenize(["a b c d", "e"], 3) == [["a", "b", "c"], ["e"]]


def test_vocabulary_goes_by_frequency_then_first_appearance() -> None:
    # b 3×; a and C 2×, a first; d and c once, d first. Case is kept.
    corpus = [["b", "a", "d"], ["C", "b", "C"], ["a", "b", "c"]]
    expected = [PADDING, UNKNOWN, "b", "a", "C", "d", "c"]
    assert build_vocabulary(corpus, 30000) == {word: i for i, word in enumerate(expected)}


def test_vocabulary_is_capped_without_counting_the_special_words() -> None:
    assert list(build_vocabulary([["b", "a", "b", "c"]], 2)) == [PADDING, UNKNOWN, "b", "a"]


def test_special_words_in_a_text_get_no_second_number() -> None:
    vocabulary = build_vocabulary([[PADDING, "a", UNKNOWN]], 10)
    assert vocabulary == {PADDING: 0, UNKNOWN: 1, "a": 2}


def test_words_outside_the_vocabulary_are_unknown() -> None:
    sentences = Sentences.of([["a", "x"], ["a"]], {PADDING: 0, UNKNOWN: 1, "a": 2})
    assert sentences.flat.tolist() == [2, 1, 2]
    assert sentences.lengths.tolist() == [2, 1]


@settings(deadline=None)
@given(st.data())
def test_batch_equals_padding_one_by_one(data: st.DataObject) -> None:
    texts = data.draw(st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=9), min_size=1, max_size=8))
    vocabulary = build_vocabulary(texts, 4)  # two of the words may be unknown
    indices = data.draw(st.lists(st.integers(0, len(texts) - 1), min_size=1, max_size=10))
    tokens, lengths = Sentences.of(texts, vocabulary).batch(np.array(indices))
    longest = max(len(texts[i]) for i in indices)
    rows = [[vocabulary.get(word, 1) for word in texts[i]] for i in indices]
    assert tokens.dtype == np.int64
    assert tokens.tolist() == [row + [0] * (longest - len(row)) for row in rows]
    assert lengths.tolist() == [len(row) for row in rows]


WORDS = {word: i for i, word in enumerate([PADDING, UNKNOWN, "cat", ".", "Zürich", "absent"])}
GLOVE = (
    "the 9 9 9\n"
    ". . . 8 8 8\n"  # a word of the 840B file that holds spaces and begins with a word of ours
    "cat 1 2 3\n"
    ". 0.5 -1e-3 4\n"
    "Zürich 7 8 9\n"
    "dog 9 9 9\n"
)


def glove_file(folder: Path, text: str = GLOVE, name: str = "glove.txt") -> Path:
    path = folder / name
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("glove.txt", text)
    else:
        path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["glove.txt", "glove.zip"])
def test_vectors_of_our_words_are_read(tmp_path: Path, name: str) -> None:
    matrix = read_glove(glove_file(tmp_path, name=name), WORDS, 3, tmp_path)
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix[[0, 2, 3, 4]], np.float32([[0, 0, 0], [1, 2, 3], [0.5, -1e-3, 4], [7, 8, 9]]))
    assert (matrix[[1, 5]] != 0).all()  # drawn at random


@pytest.mark.parametrize(("old", "new"), [(" ", "\t"), ("\n", " \n"), ("\n", "\t\r\n")])
def test_tabs_and_blanks_at_the_end_mean_nothing(tmp_path: Path, old: str, new: str) -> None:
    matrix = read_glove(glove_file(tmp_path, GLOVE.replace(". . .", "x").replace(old, new)), WORDS, 3, tmp_path)
    np.testing.assert_array_equal(matrix[[2, 3, 4]], np.float32([[1, 2, 3], [0.5, -1e-3, 4], [7, 8, 9]]))


def test_hidden_files_of_a_zip_are_left_out(tmp_path: Path) -> None:
    path = glove_file(tmp_path, name="glove.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("__MACOSX/._glove.txt", "x")
    assert read_glove(path, WORDS, 3, tmp_path)[2].tolist() == [1, 2, 3]


def test_unknown_words_are_normal_and_go_by_the_seed(tmp_path: Path) -> None:
    many = WORDS | {f"w{i}": len(WORDS) + i for i in range(40)}
    path = glove_file(tmp_path, GLOVE + "".join(f"w{i} 5 5 5\n" for i in range(4)))
    one, again = (read_glove(path, many, 3, tmp_path / str(i)) for i in range(2))
    other = read_glove(path, many, 3, tmp_path, seed=1)
    np.testing.assert_array_equal(one, again)
    drawn = one[len(WORDS) + 4 :]
    assert (drawn != other[len(WORDS) + 4 :]).all()
    assert abs(drawn.mean()) < 0.35  # 108 draws: more than 3 standard errors
    assert 0.75 < drawn.std() < 1.25


def test_cache_spares_the_file_until_file_or_vocabulary_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = glove_file(tmp_path)
    caplog.set_level(logging.INFO, "dir_bench")
    first = read_glove(path, WORDS, 3, tmp_path / "cache")
    assert len(caplog.records) == 1
    np.testing.assert_array_equal(read_glove(path, WORDS, 3, tmp_path / "cache"), first)
    assert len(caplog.records) == 1  # nothing was read
    read_glove(path, WORDS | {"dog": 6}, 3, tmp_path / "cache")
    glove_file(tmp_path, GLOVE.replace("cat 1", "cat 10"))
    assert read_glove(path, WORDS, 3, tmp_path / "cache")[2, 0] == 10
    assert len(list((tmp_path / "cache").iterdir())) == 3  # and no temporary left behind


def test_a_spoilt_cache_is_made_again(tmp_path: Path) -> None:
    path = glove_file(tmp_path)
    first = read_glove(path, WORDS, 3, tmp_path / "cache")
    (cached,) = (tmp_path / "cache").iterdir()
    cached.write_bytes(cached.read_bytes()[:50])
    np.testing.assert_array_equal(read_glove(path, WORDS, 3, tmp_path / "cache"), first)


def test_without_a_place_for_the_cache_vectors_are_still_given(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    assert read_glove(glove_file(tmp_path), WORDS, 3, tmp_path / "file" / "cache")[2, 0] == 1
    assert "not kept" in caplog.text


def test_missing_file_says_where_to_get_it_and_how_to_name_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.zip.*Stanford.*dataset\.source\.glove=PATH"):
        read_glove(tmp_path / "nowhere.zip", WORDS, 3, tmp_path)


@pytest.mark.parametrize(
    ("text", "dim", "says"),
    [
        (GLOVE, 4, "line 1"),  # more numbers wanted than there are
        (GLOVE, 2, "line 1"),  # fewer
        ("400000 3\n" + GLOVE, 3, "line 1"),  # word2vec's header
        (GLOVE[:-4], 3, "line 6"),  # cut within the last line
        (GLOVE.replace("cat 1 2", "cat 1 x"), 3, "line 3"),
        (GLOVE.replace("cat 1 2", "cat 1 nan"), 3, "line 3: 'nan' is no finite 32-bit float"),
        (GLOVE.replace("cat 1 2", "cat 1 -1e39"), 3, "line 3: '-1e39' is no finite 32-bit float"),
        ("\x00\x01 some bytes\n", 3, "line 1"),
        ("", 3, "holds 0 of the 6 words"),
        ("der 1 2 3\ndie 1 2 3\n", 3, "holds 0 of the 6 words"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, dim: int, says: str) -> None:
    with pytest.raises(UserError, match=says):
        read_glove(glove_file(tmp_path, text), WORDS, dim, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_damaged_zip_is_refused(tmp_path: Path) -> None:
    path = glove_file(tmp_path, "".join(f"w{i} {i} {i + 1} {i + 2}\n" for i in range(9999)), name="glove.zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])  # a download cut short: its directory, at the end, is lost
    with pytest.raises(UserError, match="damaged or cut short"):
        read_glove(path, WORDS, 3, tmp_path)
    path.write_bytes(whole[:500] + b"\0" * 200 + whole[700:])
    with pytest.raises(UserError, match="damaged or cut short"):
        read_glove(path, WORDS, 3, tmp_path)


def test_a_zip_of_several_texts_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "glove.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("glove.50d.txt", GLOVE)
        archive.writestr("glove.100d.txt", GLOVE)
    with pytest.raises(UserError, match=r"2 \.txt files"):
        read_glove(path, WORDS, 3, tmp_path)
