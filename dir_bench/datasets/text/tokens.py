"""Sentences to words, as the published code splits them: nltk's `word_tokenize`, without its download.

It first cuts a text into sentences by Punkt (Kiss and Strunk, "Unsupervised Multilingual Sentence Boundary Detection",
Computational Linguistics 2006), since a full stop is cut off a word at the end of a sentence alone; then each into
words by the rules of the Penn Treebank. Punkt's rules come with nltk, what it learnt from English newspapers does not.
Of that STS-B-DIR's texts need the few facts below: with them all 14,498 are split as with the whole model (54 otherwise
than without Punkt), and the vocabulary has the published 17,008 words.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nltk.tokenize.punkt import PunktSentenceTokenizer

ABBREVIATIONS = frozenset(
    "a.m a.m.e aug bros calif co colo corp d.c dec dr feb fla gen inc jan jr maj minn mr ms n.c n.j nov oct okla p.m "
    "rep s.s sen sept st u.k u.n u.s vs wash".split()
)
"""What a full stop after it does not end a sentence by itself."""
STARTERS = frozenset({"he"})
"""What begins a sentence if it is capitalised after an abbreviation."""
COMMON = frozenset({"circuit", "mask", "votes"})
"""What is never capitalised within a sentence, and so begins one if it is."""
_SEEN_LOWER = 1 << 5
"""Punkt's mark of a word met in small letters within a sentence, and never in capitals."""
_INNER_END = re.compile(r"[.?!].*\w", re.DOTALL)


def tokenize(sentences: Iterable[str], max_tokens: int) -> list[list[str]]:
    """Split texts into words, case kept, at most `max_tokens` each.

    Source: YyzHarry/imbalanced-regression, sts-b-dir/preprocess.py, which calls nltk's `word_tokenize` (behaviour).
    """
    from nltk.tokenize import NLTKWordTokenizer

    words, cut = NLTKWordTokenizer().tokenize, _punkt().tokenize
    return [[word for part in cut(text) for word in words(part)][:max_tokens] for text in sentences]


def holds_several(texts: Iterable[str]) -> bool:
    """Tell whether any of these texts is more than one sentence, so that its words depend on Punkt."""
    return any(len(_punkt().tokenize(text)) > 1 for text in texts if _INNER_END.search(text))


@cache
def _punkt() -> "PunktSentenceTokenizer":
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

    learnt = PunktParameters()
    learnt.abbrev_types, learnt.sent_starters = set(ABBREVIATIONS), set(STARTERS)
    learnt.ortho_context = defaultdict(int, dict.fromkeys(COMMON, _SEEN_LOWER))
    return PunktSentenceTokenizer(learnt)
