"""What a network says of a whole split."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dir_bench.datasets.base import Split
from dir_bench.errors import UserError, nearest
from dir_bench.evaluation.uncertainty import FAMILIES
from dir_bench.methods.part import Head
from dir_bench.schema import TrainerConfig
from dir_bench.tensors import in_single
from dir_bench.training.loaders import eval_batches, on_device
from dir_bench.training.network import Network
from dir_bench.training.processes import Processes

if TYPE_CHECKING:
    from lightning_fabric import Fabric

OURS = {"prediction", "target", "index"}
"""Arrays of predictions.npz that a head's own stand beside."""

Columns = dict[str, npt.NDArray[Any]]


def predict(network: Network, split: Split, settings: TrainerConfig, fabric: Fabric, processes: Processes) -> Columns:
    """Return the predictions for all that is judged of a split, and what else the head says of each.

    In label units and the split's order, on every process. Network outputs are widened to float64 before they are
    scaled, so saved predictions say all there is.
    """
    network.eval()
    head = network.head
    places: list[Tensor] = []
    values: dict[str, list[Tensor]] = {}
    rank, world, on_cuda = fabric.global_rank, fabric.world_size, fabric.device.type == "cuda"
    batches = eval_batches(split, settings.eval_batch_size, rank, world, settings.workers, pin=on_cuda)
    with torch.no_grad():
        for index, inputs in on_device(batches, fabric):
            inputs = fabric.strategy.precision.convert_input(split.prepare(inputs, None)[0])
            with fabric.autocast():
                output = in_single(network(inputs)[0])
            extra = head.columns(output)
            if taken := OURS & extra.keys():
                raise UserError(
                    f"{type(head).__name__}.columns gives '{min(taken)}', which is ours: choose another name"
                )
            for name, column in {"prediction": head.decode(output), **extra}.items():
                if column.shape != (shape := (len(output), 1, *output.shape[2:])):
                    gave = "decode" if name == "prediction" else f"columns, of '{name}',"
                    raise UserError(
                        f"{type(head).__name__}.{gave} gives shape {tuple(column.shape)}, and a number for each "
                        f"target is {tuple(shape)}"
                    )
                there, judged = split.judge(column, index)
                values.setdefault(name, []).append(judged)
            places.append(there)
    mine = {name: torch.cat(parts).cpu() for name, parts in values.items()}
    whole = {"prediction": np.full(len(split.judged), np.nan)}
    for there, columns in processes.gather((torch.cat(places) if places else None, mine)):
        for name, column in columns.items():
            whole.setdefault(name, np.full(len(split.judged), np.nan))[there.numpy()] = column.double().numpy()
    scaled = {n: column if n in head.unitless else column * head.target_scale for n, column in whole.items()}
    _check_distribution(head, scaled)
    if head.target_shift:
        scaled["prediction"] += head.target_shift
    return scaled


def _check_distribution(head: Head, columns: Columns) -> None:
    """Raise UserError unless a head that says what family its distribution is of gives what that takes."""
    if head.family is None:
        return
    name = type(head).__name__
    if head.family not in FAMILIES:
        raise UserError(f"{name}.family='{head.family}' is none{nearest(head.family, FAMILIES)}: {', '.join(FAMILIES)}")
    wanted = ("std", "df") if head.family == "student" else ("std",)
    if lacking := [column for column in wanted if column not in columns]:
        raise UserError(f"{name}.family='{head.family}' takes a column '{lacking[0]}', and {name}.columns gives none")
    if (columns["std"] < 0).any():
        raise UserError(f"{name}.columns gives a negative standard deviation, {columns['std'].min():.3g}")
