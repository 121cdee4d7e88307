"""Group-DIR by hand and against its three losses in plain loops."""

import numpy as np
import pytest
import torch
from torch import nn

from dir_bench import config
from dir_bench.errors import UserError
from dir_bench.labels import TargetBins
from dir_bench.methods.group_dir import GroupDIR
from dir_bench.methods.part import Facts

BINS = TargetBins.regular(0, 100, 1)


def head(**settings) -> GroupDIR:
    labels = np.array([20.0, 30, 59.5])  # bins 20 to 59: the range is [20, 60)
    return GroupDIR(Facts(BINS, BINS.counts(labels), labels, 10.0, 3, nn.Identity(), target_shift=5.0), **settings)


def test_groups_cut_the_range_of_the_training_labels_equally():
    part = head(groups=4)
    targets = torch.tensor([[3.0], [20], [29.9], [30], [59.9], [80]])
    assert part.group(targets).squeeze(1).tolist() == [0, 0, 0, 1, 3, 3]


def test_the_loss_is_contrast_squared_error_and_soft_labels():
    part = head(groups=4, beta=1.5, temperature=0.7, error=2.0, soft=3.0)
    rng = np.random.default_rng(0)
    targets = torch.tensor([[21.0], [22], [35], [55], [48]])
    group = [0, 0, 1, 3, 2]
    output, features = (torch.from_numpy(rng.normal(size=(5, width))).float() for width in (8, 3))
    found = part.losses(output, targets, features)
    assert found.shape == (5, 1)
    for i in range(5):
        others = [j for j in range(5) if j != i]
        cosine = [float(torch.cosine_similarity(features[i], features[j], dim=0)) / 0.7 for j in range(5)]
        away = [abs(group[i] - group[j]) for j in range(5)]
        contrast = [np.log(sum(np.exp(cosine[k]) for k in others if away[k] >= away[j])) - cosine[j] for j in others]
        error = (output[i, 4 + group[i]].item() - (targets[i].item() - 5) / 10) ** 2
        soft = np.exp([4 - 1.5 * abs(j - group[i]) for j in range(4)])  # as printed, with |G|
        entropy = -(soft / soft.sum() * output[i, :4].log_softmax(0).numpy()).sum()
        assert found[i].item() == pytest.approx(np.mean(contrast) + 2 * error + 3 * entropy, rel=1e-5)


def test_the_likeliest_group_answers():
    part = head(groups=3)
    assert part.decode(torch.tensor([[0.1, 0.9, 0.3, 7, 8, 9], [2, 1, 0, 7, 8, 9]])).tolist() == [[8], [7]]


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="groups=0"):
        head(groups=0)
    with pytest.raises(UserError, match="has one a pixel"):
        GroupDIR.check(config.compose(["dataset=nyud2", "method=group_dir"]))
    assert GroupDIR.views == 2
