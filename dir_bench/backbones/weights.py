"""Weights of torchvision's networks, read from a file; nothing is ever downloaded here."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from dir_bench.errors import UserError

FETCH = "`dir-bench data fetch resnet50_imagenet` gets ResNet-50's"


def load_weights(network: nn.Module, path: str, name: str, classifier: str) -> None:
    """Load torchvision's own file (such as resnet50-19c8e357.pth) into a network that has lost its classifier.

    Args:
        network: torchvision's network, with nothing to learn under `classifier`.
        path: A state dict that `torch.save` wrote.
        name: The network's name, for messages.
        classifier: Name of the last layer, whose weights are passed over.

    Raises:
        UserError: If there is no such file, it cannot be read, or it holds the weights of another network.
    """
    state = {key: value for key, value in _read(path).items() if not key.startswith(f"{classifier}.")}
    if reason := _misfit(state, network.state_dict()):
        raise UserError(
            f"backbone.weights={path} is not of {name}, {reason}: give a file of {name} ({FETCH}), or null to start "
            f"at random"
        )
    network.load_state_dict(state)


def _read(path: str) -> dict[str, Tensor]:
    if not Path(path).is_file():
        raise UserError(
            f"backbone.weights={path}: there is no such file, correct the path ({FETCH}) or set null to start at random"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything: AssertionError, IndexError, …
        raise UserError(
            f"backbone.weights={path} is damaged or is no file of weights ({type(error).__name__}): "
            f"fetch it again ({FETCH})"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"backbone.weights={path} is no plain state dict: give torchvision's own file ({FETCH})")
    return state


def _misfit(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Say in what `state` first differs from what is wanted; "" if it fits.

    Files older than PyTorch 0.4.1 do not count batches, which is no difference: PyTorch then starts the count at 0.
    """
    for key, tensor in wanted.items():
        if key not in state and not key.endswith("num_batches_tracked"):
            return f"it has no {key}"
        if key in state and state[key].shape != tensor.shape:
            return f"its {key} is {_shape(state[key])}, not {_shape(tensor)}"
    return next((f"it also has {key}" for key in state if key not in wanted), "")


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape))
