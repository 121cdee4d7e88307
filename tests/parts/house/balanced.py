"""A sampler: each bin that has samples is drawn as often as any other."""

import numpy as np

from dir_bench import Facts, Part


class Balanced(Part):
    def __init__(self, facts: Facts) -> None:
        super().__init__()
        share = 1 / facts.counts[facts.bins.index(facts.targets)]
        self.share = share / share.sum()

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        return rng.choice(len(self.share), len(self.share), p=self.share)
