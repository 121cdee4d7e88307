"""STS-B's network against the official one, with weights filled by the formula of the cases' notes."""

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from harness import Case
from torch import nn

from dir_bench.backbones.bilstm import OFFICIAL_ENCODER, OFFICIAL_REGRESSOR, BiLSTMPair, from_official
from dir_bench.methods import losses


def filled(key: str, shape: tuple[int, ...], settings: Mapping[str, float]) -> torch.Tensor:
    """Return the tensor that the golden notes put under an official state-dict key, float64."""
    n = int(np.prod(shape))
    i = np.arange(n, dtype=np.float64)
    phase = 2 * np.pi * (zlib.crc32(key.encode()) % 1000) / 1000
    u = np.sin(settings["A"] * i + settings["B"] * (i % 9973) ** 2 + phase)
    if len(shape) == 1:
        values = 1 + 0.2 * u if key.endswith("weight") else 0.1 * u
    else:
        values = settings["G"] * u / np.sqrt(n / shape[0])
    return torch.from_numpy(values.reshape(shape))


def official_state(backbone: nn.Module, regressor: nn.Module, settings: Mapping[str, float]) -> dict[str, torch.Tensor]:
    """Return an official state dict, filled, for the shapes of our modules."""
    keys = {}
    for name, tensor in backbone.state_dict().items():
        (official,) = (o + name.removeprefix(ours) for o, ours in OFFICIAL_ENCODER.items() if name.startswith(ours))
        keys[official] = tensor
    keys |= {OFFICIAL_REGRESSOR + name: tensor for name, tensor in regressor.state_dict().items()}
    return {key: filled(key, tuple(tensor.shape), settings) for key, tensor in keys.items()}


def stsb_pair_encoder(case: Case) -> dict[str, Any]:
    settings, arrays = case.hyperparameters, case.arrays
    out: dict[str, Any] = {}
    for suffix, dtype in (("f32", torch.float32), ("f64", torch.float64)):
        backbone = BiLSTMPair(
            settings["vocab_size"],
            settings["d_word"],
            settings["d_hid"],
            settings["n_layers_enc"],
            highway_layers=settings["n_layers_highway"],
        )
        regressor = nn.Linear(backbone.feature_dim, 1)
        ours, head = from_official(official_state(backbone, regressor, settings))
        backbone.to(dtype).eval().load_state_dict(ours)
        regressor.to(dtype).load_state_dict(head)
        inputs = tuple(torch.from_numpy(arrays[name]) for name in ("tokens1", "lengths1", "tokens2", "lengths2"))
        with torch.no_grad():
            features = backbone(inputs)
            logits = regressor(features)
        goal = torch.from_numpy(arrays["label"]).to(dtype) / 5
        kwargs = {"huber": {"beta": settings["huber_beta"]}, "focal_mse": {"beta": 20.0}, "focal_l1": {"beta": 20.0}}
        loss = getattr(losses, settings["loss"])(logits, goal, **kwargs.get(settings["loss"], {}))
        weight = torch.from_numpy(arrays["weight"]).to(dtype) if "weight" in arrays else None
        out |= {
            f"pair_embedding_{suffix}": features.numpy(),
            f"logits_{suffix}": logits.numpy(),
            f"loss_{suffix}": losses.weighted_mean(loss, weight).numpy(),
        }
    return out


ADAPTERS = {"model_output_stsb_pair_encoder": stsb_pair_encoder}
