"""The networks for pictures against the official ones, with weights filled by the formula of the cases' notes."""

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from harness import Case
from torch import nn

from dir_bench.backbones.depth import OFFICIAL_BACKBONE, OFFICIAL_REGRESSOR, DepthNet
from dir_bench.backbones.vision import Vision

DTYPES = {"f32": torch.float32, "f64": torch.float64}


def filled(key: str, shape: torch.Size, settings: Mapping[str, float]) -> torch.Tensor:
    """Return the tensor that the golden notes put under an official state-dict key, float64."""
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    i = np.arange(shape.numel(), dtype=np.float64)
    phase = 2 * np.pi * (zlib.crc32(key.encode()) % 1000) / 1000
    u = np.sin(settings["A"] * i + settings["B"] * (i % 9973) ** 2 + phase)
    if key.endswith("running_mean"):
        values = 0.05 * u
    elif key.endswith("running_var"):
        values = 1 + 0.3 * u
    elif len(shape) == 1:
        values = 1 + 0.2 * u if key.endswith("weight") else 0.1 * u
    else:
        values = settings["G"] * u / np.sqrt(shape.numel() / shape[0])
    return torch.from_numpy(values.reshape(shape))


def official_state(
    backbone: nn.Module, regressor: nn.Module, names: Mapping[str, str], last: str, settings: Mapping[str, float]
) -> dict[str, torch.Tensor]:
    """Return an official state dict, filled, for the shapes of our modules.

    Args:
        backbone: Ours.
        regressor: Ours.
        names: Official prefix of a key to ours.
        last: Official prefix of the regressor's keys.
        settings: A, B and G of the formula.
    """
    shapes = {last + name: tensor.shape for name, tensor in regressor.state_dict().items()}
    for name, tensor in backbone.state_dict().items():
        (official,) = (o + name.removeprefix(ours) for o, ours in names.items() if name.startswith(ours))
        shapes[official] = tensor.shape
    return {key: filled(key, shape, settings) for key, shape in shapes.items()}


def pictures(settings: Mapping[str, Any]) -> torch.Tensor:
    """Return the input of the notes, float64."""
    i = np.arange(np.prod(settings["input_shape"]), dtype=np.float64)
    x = np.sin(settings["a"] * i + settings["b"] * (i % 1013) ** 2)
    return torch.from_numpy(x.reshape(settings["input_shape"]))


def statistics(values: torch.Tensor) -> np.ndarray:
    """Return [mean, unbiased std, largest magnitude, first five values], float64."""
    values = values.double().flatten()
    return torch.cat([torch.stack([values.mean(), values.std(), values.abs().max()]), values[:5]]).numpy()


def outputs_of(modules: Mapping[str, nn.Module]) -> dict[str, Any]:
    """Return a table that holds, from each forward pass on, what each module gave out."""
    kept: dict[str, Any] = {}
    for name, module in modules.items():
        # Copied: the ReLU that follows may work in place.
        module.register_forward_hook(lambda _module, _inputs, output, name=name: kept.update({name: output.clone()}))
    return kept


@torch.no_grad()
def age_resnet50(case: Case) -> dict[str, Any]:
    settings = case.hyperparameters
    backbone, regressor = Vision("resnet50", size=settings["input_shape"][-1]).eval(), nn.Linear(2048, 1)
    state = official_state(backbone, regressor, {"": "network."}, "linear.", settings)
    ours, head = Vision.from_official(state)
    kept = outputs_of(
        {name: getattr(backbone.network, name) for name in ("maxpool", "layer1", "layer2", "layer3", "layer4")}
    )
    out: dict[str, Any] = {}
    for suffix, dtype in DTYPES.items():
        backbone.to(dtype).load_state_dict(ours)
        regressor.to(dtype).load_state_dict(head)
        features = backbone(pictures(settings).to(dtype))
        out |= {f"encoding_{suffix}": features.numpy(), f"output_{suffix}": regressor(features).numpy()}
        out |= {f"stats_{name}_{suffix}": statistics(output) for name, output in kept.items()}
    return out


@torch.no_grad()
def nyud2(case: Case) -> dict[str, Any]:
    settings = case.hyperparameters
    backbone = DepthNet("resnet50").eval()
    regressor = backbone.make_regressor()
    ours, head = DepthNet.from_official(
        official_state(backbone, regressor, OFFICIAL_BACKBONE, OFFICIAL_REGRESSOR, settings)
    )
    blocks = {f"E_block{i + 1}": block for i, block in enumerate(backbone.encoder.blocks)}
    kept = outputs_of(blocks | {"D": backbone.decoder, "MFF": backbone.fusion})
    out: dict[str, Any] = {}
    for suffix, dtype in DTYPES.items():
        backbone.to(dtype).load_state_dict(ours)
        regressor.to(dtype).load_state_dict(head)
        out[f"output_{suffix}"] = regressor(backbone(pictures(settings).to(dtype))).numpy()
        out |= {f"stats_{name}_{suffix}": statistics(output) for name, output in kept.items()}
    return out | {f"shape_{name}": np.array(output.shape) for name, output in kept.items()}


ADAPTERS = {"model_output_age_resnet50": age_resnet50, "model_output_nyud2": nyud2}
