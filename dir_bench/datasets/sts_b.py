"""STS-B-DIR: how alike are two sentences, 0 to 5 (Yang et al. 2021, App. B.3; STS Benchmark, Cer et al. 2017).

Labels are averages of human scores. Training pairs 5,249, validation and test 1,000 each, balanced in 20 bins. The
split files are shipped by the authors (YyzHarry/imbalanced-regression, sts-b-dir/glue_data/STS-B, MIT licence); the
sentences have licences of their own.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dir_bench.atomic import write_text
from dir_bench.datasets.base import STAND_IN, CheckReport, Data, IntArray, file_hash
from dir_bench.datasets.download.remote import AUTHORS, Remote
from dir_bench.datasets.recognition import Found, Place
from dir_bench.datasets.splits import split_pairs
from dir_bench.datasets.text import Sentences, TextSplit, build_vocabulary, holds_several, read_glove, tokenize
from dir_bench.errors import UserError
from dir_bench.files.plain import is_plain
from dir_bench.files.text import one_csv, read_text
from dir_bench.labels import TargetBins

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("dir_bench")

COLUMNS = ("index", "genre", "filename", "year", "old_index", "source1", "source2", "sentence1", "sentence2", "score")
FILES = {"train": "train_new.tsv", "val": "dev_new.tsv", "test": "test_new.tsv"}
PUBLISHED = {
    "train": (5249, "4da3322ae29f7ad1b7d03cdeafcb2480c276e5df1d08737678a7856697218a9a"),
    "val": (1000, "9ec12d785aa817ffe4b0f88fde442d3bf57161d8cbeaa84aaa1fdf764cca6dd6"),
    "test": (1000, "55f90b3c5a0b2947d5ff64c41536191e9e1ba3bb5ffe64aca5465ab25fa8e94c"),
}
"""Pairs and SHA-256 of the published split files."""
RANKSIM = {
    "cc71336eb2061891c3f165fa9f812c780f1e86eca0f81e62b4da49ecb9dfb3d1",
    "e5b56cd14e68a5d02ec2a05bfe11d1a45d74582170e61e679c1288f05aa82535",
    "8fd7e51459a3deb30adedde0d6a777fea60d2f8a4c65ac86c76d25ca560f3bc8",
}
"""SHA-256 of the files of the same names in BorealisAI/ranksim-imbalanced-regression: another draw of the splits."""
MAX_SCORE = 5.0
WHERE_FROM = (
    "`dir-bench data fetch sts_b` takes the split files from the authors' repository "
    "(github.com/YyzHarry/imbalanced-regression, sts-b-dir/glue_data/STS-B), and `dir-bench data sample sts_b` writes "
    "a small stand-in"
)
REMOTES = (
    Remote(
        f"{AUTHORS}/sts-b-dir/glue_data/STS-B/train_new.tsv",
        "train_new.tsv",
        size=915_210,
        sha256="4da3322ae29f7ad1b7d03cdeafcb2480c276e5df1d08737678a7856697218a9a",
        git_sha1="d8a1c71a19ed595ddefa0d7af2edb5d53fb2e54f",
    ),
    Remote(
        f"{AUTHORS}/sts-b-dir/glue_data/STS-B/dev_new.tsv",
        "dev_new.tsv",
        size=171_688,
        sha256="9ec12d785aa817ffe4b0f88fde442d3bf57161d8cbeaa84aaa1fdf764cca6dd6",
        git_sha1="8f1e6c311fbe8529ab6a7d1159e592af2cb4fa8a",
    ),
    Remote(
        f"{AUTHORS}/sts-b-dir/glue_data/STS-B/test_new.tsv",
        "test_new.tsv",
        size=173_097,
        sha256="55f90b3c5a0b2947d5ff64c41536191e9e1ba3bb5ffe64aca5465ab25fa8e94c",
        git_sha1="ce71c5455c44aec9e518b05672f9d8888b0b035e",
    ),
    Remote(
        "https://dl.fbaipublicfiles.com/glue/data/STS-B.zip",
        "STS-B.zip",
        subfolder="raw",
        size=802_872,
        sha256="e60a6393de5a8b5b9bac5020a1554b54e3691f9d600b775bd131e613ac179c85",
        members=("train.tsv", "dev.tsv", "test.tsv"),
        strip=1,  # STS-B/
    ),
)
"""The splits, and GLUE's own files (Wang et al. 2019) that they were drawn from; digest: tensorflow/datasets, glue."""
RAW = ("raw/train.tsv", "raw/dev.tsv")
"""GLUE's files, which the published splits pool."""
MADE_UP = "made-up"
"""The genre of stand-in pairs."""
SLOTS = (
    ("young", "old", "tall", "small", "happy", "tired", "quiet", "famous", "busy", "clever"),
    ("man", "woman", "boy", "girl", "chef", "singer", "farmer", "teacher", "sailor", "dancer"),
    ("plays", "paints", "carries", "watches", "cleans", "finds", "holds", "draws", "buys", "sells"),
    ("guitar", "ball", "boat", "melon", "piano", "horse", "bicycle", "kite", "basket", "mirror"),
    ("on the beach", "in the park", "at home", "by the river", "near a station", "under a tree", "on a hill"),
)
"""What a made-up sentence is put together from, one of each."""


@dataclass(frozen=True)
class Pairs:
    """One split as read: sentences and scores, in the file's order."""

    first: list[str]
    second: list[str]
    scores: npt.NDArray[np.float32]


@dataclass(frozen=True)
class TokenPairs:
    """One split as words; pairs of which a sentence has none are left out."""

    first: list[list[str]]
    second: list[list[str]]
    scores: npt.NDArray[np.float32]


class STSB:
    """STS-B-DIR from the published split files.

    Args:
        data_dir: Folder of train_new.tsv, dev_new.tsv and test_new.tsv.
        glove: A local GloVe file (.txt or .zip) for frozen word vectors; None: embeddings are trained from scratch.
        word_dim: Dimension of the GloVe vectors.
        max_tokens: Words kept of a sentence.
        max_words: Size of the vocabulary.
        cache_dir: Where word vectors, once read, are kept; None: `data_dir`/cache.
    """

    looks_for = f"a folder with {', '.join(FILES.values())}"

    @classmethod
    def recognise(cls, place: Place) -> Found | None:
        """See whether the three files are there, with the columns of pairs and scores."""
        if not place.is_folder or not all(is_plain(place.path / name) for name in FILES.values()):
            return None
        rows = {split: len(read_pairs(place.path / name).scores) for split, name in FILES.items()}
        what = f"pairs of sentences as STS-B-DIR has them, {' + '.join(map(str, rows.values()))} ({', '.join(rows)})"
        notes = ("without a GPU, add backbone=bilstm_small to the commands: a small network",)
        return Found(what, {"data_dir": str(place.path)}, place.stem, fits=4, notes=notes)

    def __init__(
        self,
        data_dir: str,
        glove: str | None = None,
        word_dim: int = 300,
        max_tokens: int = 40,
        max_words: int = 30000,
        cache_dir: str | None = None,
    ) -> None:
        self.data_dir = Path(data_dir)
        self.glove = None if glove is None else Path(glove)
        self.word_dim, self.max_tokens, self.max_words = word_dim, max_tokens, max_words
        self.cache_dir = self.data_dir / "cache" if cache_dir is None else Path(cache_dir)

    @property
    def remotes(self) -> tuple[Remote, ...]:
        """The authors' splits, and GLUE's files."""
        return REMOTES

    def write_split(self, seed: int | None = None) -> Path:
        """Draw splits from GLUE's training and development pairs as the authors did, 50 pairs of each 0.25 held out.

        Args:
            seed: Of the draw; the authors had none. None: 0.

        Raises:
            UserError: If a split file is there (it counts), or GLUE's files are missing or too small.
        """
        for name in FILES.values():
            if (self.data_dir / name).exists():
                raise UserError(f"{self.data_dir / name} is there already and counts: move it away to have it rebuilt")
        rows: list[str] = []
        scores = []
        for name in RAW:
            path = self.data_dir / name
            if not is_plain(path):
                raise UserError(f"{path} is missing: `dir-bench data fetch sts_b` takes GLUE's STS-B into raw/")
            scores.append(read_pairs(path).scores)
            header, *lines = _lines(path)
            rows += lines
        split = split_pairs(np.concatenate(scores), seed=0 if seed is None else seed)
        for part, name in FILES.items():
            chosen = [rows[i] for i in np.flatnonzero(split == part)]
            write_text(self.data_dir / name, "\n".join([header, *chosen]) + "\n")
        return self.data_dir

    @property
    def requirements(self) -> str:
        """What has to be on disk, and where it comes from."""
        return f"{', '.join(FILES.values())} in {self.data_dir}; {WHERE_FROM}"

    def fingerprint(self) -> str:
        """Return the hash of the three files; another one where Punkt cuts a text, which it once was not asked."""
        self.require()
        paths = [self.data_dir / name for name in FILES.values()]
        digest = file_hash(*paths)
        pairs = map(read_pairs, paths)
        if holds_several(text for part in pairs for column in (part.first, part.second) for text in column):
            digest = hashlib.sha256(f"{digest} punkt".encode()).hexdigest()
        return digest

    def load(self) -> Data:
        """Read, tokenise and number the three splits.

        Raises:
            UserError: If a file is missing, or a line is not as published; the message names file and line.
        """
        words, vocabulary = self._words()
        train, val, test = (
            TextSplit((Sentences.of(part.first, vocabulary), Sentences.of(part.second, vocabulary)), part.scores)
            for part in words.values()
        )
        kwargs: dict[str, Any] = {"vocab_size": len(vocabulary)}
        if self.glove is not None:
            kwargs["embedding"] = read_glove(self.glove, vocabulary, self.word_dim, self.cache_dir)
        return Data(train, val, test, backbone_kwargs=kwargs, kind="texts")

    def _words(self) -> tuple[dict[str, TokenPairs], dict[str, int]]:
        """Return the three splits as words, and the vocabulary that they make."""
        self.require()
        words = {split: self._tokenize(self.data_dir / name) for split, name in FILES.items()}
        corpus = (sentence for part in words.values() for column in (part.first, part.second) for sentence in column)
        return words, build_vocabulary(corpus, self.max_words)

    def new_samples(self, files: Sequence[Path]) -> tuple[pd.DataFrame, TextSplit]:
        """Read one csv with the columns sentence1 and sentence2; words that the splits lack are unknown ones."""
        table = one_csv(files)
        _, vocabulary = self._words()
        columns = []
        for name in ("sentence1", "sentence2"):
            if name not in table:
                raise UserError(f"{files[0]} has no column '{name}': it needs sentence1 and sentence2")
            sentences = tokenize(table[name].tolist(), self.max_tokens)
            if empty := [line for line, words in zip(table.index, sentences, strict=True) if not words]:
                raise UserError(f"{files[0]}, line {empty[0]}: {name} holds no word")
            columns.append(Sentences.of(sentences, vocabulary))
        return table, TextSplit(tuple(columns), np.full(len(table), np.nan, np.float32))

    def _tokenize(self, path: Path) -> TokenPairs:
        pairs = read_pairs(path)
        first, second = tokenize(pairs.first, self.max_tokens), tokenize(pairs.second, self.max_tokens)
        kept = [i for i, (one, two) in enumerate(zip(first, second, strict=True)) if one and two]
        if not kept:
            raise UserError(f"{path} has no pair of which both sentences hold a word")
        if len(kept) < len(first):
            log.warning("%s: %d pair(s) with an empty sentence left out", path, len(first) - len(kept))
        return TokenPairs([first[i] for i in kept], [second[i] for i in kept], pairs.scores[kept])

    def require(self) -> None:
        """Say what to get if a split file is missing."""
        missing = [name for name in FILES.values() if not is_plain(self.data_dir / name)]
        if missing:
            raise UserError(f"STS-B-DIR lacks {', '.join(missing)} in {self.data_dir}; {WHERE_FROM}")

    def stands_in(self) -> str:
        """Say whether the pairs are made up, or others than the published ones."""
        files = [(self.data_dir / name, PUBLISHED[split][1]) for split, name in FILES.items()]
        if any(f"\t{MADE_UP}\t".encode() in path.read_bytes() for path, _ in files):
            return STAND_IN
        differs = any(file_hash(path) != digest for path, digest in files)
        return "other pairs than the published ones" if differs else ""

    def check(self) -> CheckReport:
        """Compare counts, ranges and SHA-256 with the published files."""
        facts: dict[str, Any] = {}
        problems: list[str] = []
        targets: dict[str, npt.NDArray[np.float32]] = {}
        for split, name in FILES.items():
            path = self.data_dir / name
            if not is_plain(path):
                problems.append(f"{path} is missing; {WHERE_FROM}")
                continue
            try:
                scores = read_pairs(path).scores
            except UserError as error:
                problems.append(str(error))
                continue
            targets[split] = scores
            verdict = _compare(path, len(scores), *PUBLISHED[split])
            facts[name] = (
                f"{len(scores)} pairs, scores {scores.min():g} to {scores.max():g}, "
                f"SHA-256 {'NOT ' if verdict else ''}as published"
            )
            if verdict:
                problems.append(f"{path} {verdict}")
        counted = partial(TargetBins.counts, targets=targets["train"]) if "train" in targets else None
        return CheckReport(facts, tuple(problems), counted, targets)

    def sample(self, folder: Path, n: int = 400, seed: int = 0) -> Path:
        """Write a stand-in in the published format: made-up sentences whose score grows with the words in common.

        Args:
            folder: Where the three files go.
            n: Training pairs, skewed like the real ones; validation and test get a quarter each, evenly spread.
            seed: Of the sentences.

        Raises:
            UserError: If one of the files exists: nothing is overwritten.
        """
        for name in FILES.values():
            if (folder / name).exists():
                raise UserError(f"{folder / name} exists and is left as it is: sample into another folder (--data DIR)")
        if n < 1:
            raise UserError(f"{n} training pairs cannot be made: ask for 1 or more (--size)")
        rng = np.random.default_rng(seed)
        for split, name in FILES.items():
            rows = ["\t".join(COLUMNS)]
            for i in range(n if split == "train" else max(n // 4, 20)):
                common = rng.binomial(len(SLOTS), 0.55) if split == "train" else rng.integers(len(SLOTS) + 1)
                one, two, score = _made_up_pair(rng, int(common))
                rows.append(f"{i}\t{MADE_UP}\tsample\t2026\t{i}\tnone\tnone\t{one}\t{two}\t{score:.3f}")
            write_text(folder / name, "\n".join(rows) + "\n")
        return folder


def read_pairs(path: Path) -> Pairs:
    """Read one split file; UserError with file and line if it is not as published.

    Quotation marks mean nothing in it, and no field holds a tab or a line end.
    """
    lines = _lines(path)
    header, *rows = (line.split("\t") for line in lines)
    lacking = [name for name in ("sentence1", "sentence2", "score") if name not in header]
    if lacking:
        raise UserError(f"{path}, line 1: no column {', '.join(lacking)}; published: {' '.join(COLUMNS)}, tabs between")
    if not rows:
        raise UserError(f"{path} holds no pair, only a header: fetch it again")
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise UserError(
                f"{path}, line {number}: {len(row)} columns, the header has {len(header)}; fetch the file again, or "
                "mend the line (a tab too many, or a line cut short)"
            )
    first, second, score = (header.index(name) for name in ("sentence1", "sentence2", "score"))
    scores = np.array([_score(row[score], path, number) for number, row in enumerate(rows, 2)], np.float32)
    return Pairs([row[first] for row in rows], [row[second] for row in rows], scores)


def _lines(path: Path) -> list[str]:
    return read_text(path).replace("\r\n", "\n").rstrip("\n").split("\n")


def _score(text: str, path: Path, line: int) -> float:
    try:
        score = float(text)
    except ValueError:
        score = float("nan")
    if not 0 <= score <= MAX_SCORE:  # NaN too
        raise UserError(
            f"{path}, line {line}: the score '{text}' is not a number from 0 to {MAX_SCORE:g}: mend or drop the line"
        )
    return score


def _compare(path: Path, pairs: int, published_pairs: int, published_digest: str) -> str:
    """Say how a file differs from the published one, "" if it does not."""
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest == published_digest:
        return ""
    if digest in RANKSIM:
        return "is RankSim's split under the same name, which mixes the official training and test pairs: fetch ours"
    if f"\t{MADE_UP}\t".encode() in content:
        return f"is a made-up stand-in of {pairs} pairs: good for a trial, not for results"
    if pairs != published_pairs:
        return f"has {pairs} pairs, the published file {published_pairs}"
    return "is not the published file (its SHA-256 differs): another version of the splits?"


def _made_up_pair(rng: np.random.Generator, common: int) -> tuple[str, str, float]:
    """Return two sentences with `common` of their five parts the same, and a score within 0.5 of 5 × their share."""
    same = rng.permutation(len(SLOTS)) < common
    one = np.array([rng.integers(len(words)) for words in SLOTS])
    other = np.array([(i + 1 + rng.integers(len(words) - 1)) % len(words) for i, words in zip(one, SLOTS, strict=True)])
    score = np.clip(common / len(SLOTS) * MAX_SCORE + rng.uniform(-0.5, 0.5), 0, MAX_SCORE)
    return _sentence(one), _sentence(np.where(same, one, other)), float(score)


def _sentence(choice: IntArray) -> str:
    which, who, does, what, where = (words[i] for i, words in zip(choice, SLOTS, strict=True))
    return f"The {which} {who} {does} a {what} {where}."
