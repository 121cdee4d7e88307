"""A regulariser: neighbours in label are to lie as far apart in features as in label."""

import torch

from dir_bench import Facts, Part, Step


class Spread(Part):
    def __init__(self, facts: Facts, weight: float = 0.1) -> None:
        super().__init__()
        self.weight, self.scale = weight, float(facts.targets.std())

    def penalty(self, step: Step) -> torch.Tensor:
        order = step.targets.argsort()
        labels, features = step.targets[order] / self.scale, step.features[order].float()
        apart = (features[1:] - features[:-1]).norm(dim=1)
        return self.weight * (apart - (labels[1:] - labels[:-1])).square().mean()
