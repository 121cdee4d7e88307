"""ResNet-MLP against the formula of its paper, written out."""

import torch
from torch.nn.functional import batch_norm, linear, relu

from dir_bench.backbones.resnet_mlp import ResNetMLP


def test_it_is_the_formula_of_its_paper():
    torch.manual_seed(0)
    network = ResNetMLP(in_features=5, width=8, hidden=12, blocks=2, dropout=0.3, residual_dropout=0.1).eval()
    state = network.state_dict()
    for name, value in state.items():
        if "running" in name:
            value.copy_(torch.rand_like(value) + 0.5)

    def norm(x, name):
        statistics = (state[f"{name}.running_mean"], state[f"{name}.running_var"])
        return batch_norm(x, *statistics, state[f"{name}.weight"], state[f"{name}.bias"])

    inputs = torch.randn(7, 5)
    x = linear(inputs, state["first.weight"], state["first.bias"])
    for block in ("blocks.0.added", "blocks.1.added"):
        hidden = relu(linear(norm(x, f"{block}.0"), state[f"{block}.1.weight"], state[f"{block}.1.bias"]))
        x = x + linear(hidden, state[f"{block}.4.weight"], state[f"{block}.4.bias"])
    torch.testing.assert_close(network(inputs), relu(norm(x, "last.0")))
    assert network.feature_dim == 8
    assert all(network.get_submodule(name) is not None for name in network.mixable)


def test_training_drops_and_evaluation_does_not():
    network = ResNetMLP(3, width=4, hidden=6, dropout=0.5)
    inputs = torch.randn(16, 3)
    assert not torch.equal(network(inputs), network(inputs))
    network.eval()
    assert torch.equal(network(inputs), network(inputs))
