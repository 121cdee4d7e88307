"""Random streams, one per purpose, all from one seed.

A stream is named by what it is for and where in training it is used, so nothing has to be stored to resume: at step
1,000 the same numbers come out whether the run was interrupted or not, and a method that draws more numbers for one
purpose does not shift the others.

The seeds are hashes by blake2b and not `numpy.random.SeedSequence`, which takes integers only, where a purpose is a
word, and would change the numbers of all finished runs.
"""

import hashlib

import numpy as np


def stream_seed(seed: int, purpose: str, *position: int) -> int:
    """Return a 63-bit seed for a purpose ("init", "order", "augment", "dropout", "fds") at a position in training."""
    text = ":".join([str(seed), purpose, *map(str, position)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def stream(seed: int, purpose: str, *position: int) -> np.random.Generator:
    """Return the NumPy generator of a purpose at a position in training."""
    return np.random.default_rng(stream_seed(seed, purpose, *position))
