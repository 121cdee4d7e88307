"""Made-up opinions: texts whose words tell a target from −4 to 4, skewed in training, for examples and stand-ins."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from dir_bench.errors import UserError

MADE_UP = "made_up"
"""Marks an example, so that its numbers are never taken for results."""
WORDS = (
    ("dreadful", "horrible"),
    ("awful", "painful"),
    ("bad", "boring"),
    ("weak", "dull"),
    ("plain", "usual"),
    ("fair", "decent"),
    ("good", "charming"),
    ("great", "lovely"),
    ("brilliant", "superb"),
)
"""Adjectives of −4, −3, … 4."""
THINGS = ("film", "story", "plot", "cast", "song", "ending", "camera", "script", "hero", "dialogue")
PLACES = ("throughout", "at first", "in the end", "as a whole", "for a debut", "this time")
REACH = (len(WORDS) - 1) / 2


def splits(n: int, seed: int) -> Iterator[tuple[str, npt.NDArray[np.float64], list[str]]]:
    """Yield name, targets and texts of the three splits: n skewed ones to train on, a quarter as many even ones else.

    Args:
        n: Training samples.
        seed: Of the draws.
    """
    if n < 2:
        raise UserError(f"{n} training text is too few for an example: ask for 2 or more (--size)")
    rng = np.random.default_rng(seed)
    held = max(n // 4, 4)
    skewed = np.where(rng.random(n) < 0.15, rng.uniform(-REACH, REACH, n), rng.normal(1, 0.8, n)).clip(-REACH, REACH)
    skewed[:2] = -REACH, REACH  # so that bins chosen from them hold all
    for name, values in (("train", skewed), ("val", rng.uniform(-REACH, REACH, held)),
                         ("test", rng.uniform(-REACH, REACH, held))):  # fmt: skip
        targets = values.round(1)
        yield name, targets, [_opinion(target, rng) for target in targets]


def _opinion(target: float, rng: np.random.Generator) -> str:
    """Return a sentence of two adjectives between whose values the target lies."""
    levels = int(np.floor(target + REACH)), int(np.ceil(target + REACH))
    one, other = (WORDS[level][rng.integers(len(WORDS[level]))] for level in levels)
    first, second = rng.permutation(len(THINGS))[:2]
    place = PLACES[rng.integers(len(PLACES))]
    return f"The {THINGS[first]} is {one} and the {THINGS[second]} {other}, {place}."
