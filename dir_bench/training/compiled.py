"""A backbone that is compiled for the batches that take the time, and runs as it is on all others."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

log = logging.getLogger("dir_bench")

GRAPHS = ("reduce-overhead", "max-autotune")
"""Modes of torch.compile that replay CUDA graphs."""
CACHE = "TORCHINDUCTOR_CACHE_DIR"
"""Variable that names the folder of compiled code to torch."""


class Compiled:
    """Calls a backbone, compiled for training batches of one shape: that of the first.

    An epoch's last, smaller batch and evaluation run as they are: each further shape would be compiled for as long
    again, for a few percent of the work. A pass in training mode without gradients, as FDS makes, is compiled too.
    Inputs that are no single tensor, such as texts, change their shape with each batch, and nothing is compiled.

    Args:
        backbone: Called in its current mode.
        mode: Of torch.compile.
        backend: Of torch.compile.
    """

    def __init__(self, backbone: nn.Module, mode: str = "default", backend: str | Callable[..., Any] = "inductor"):
        self._backbone, self._graphs = backbone, mode in GRAPHS
        self._compiled = torch.compile(backbone, dynamic=False, mode=mode, backend=backend)
        self._shape: torch.Size | None = None
        self._ready: set[bool] = set()

    def __call__(self, inputs: Any) -> Any:
        """Return the backbone's features."""
        if not (self._backbone.training and isinstance(inputs, Tensor)):
            return self._backbone(inputs)
        self._shape = self._shape or inputs.shape
        if inputs.shape != self._shape:
            return self._backbone(inputs)
        if (kind := torch.is_grad_enabled()) not in self._ready:
            return self._first(inputs, kind)
        # What a CUDA graph returns is overwritten by its next replay, and parts keep features for longer.
        return self._compiled(inputs).clone() if self._graphs else self._compiled(inputs)

    def _first(self, inputs: Tensor, kind: bool) -> Any:
        what = f"batches of {tuple(inputs.shape)}" + ("" if kind else " without gradients")
        log.info("compiling the backbone for %s; what is compiled is kept in %s", what, os.environ.get(CACHE))
        started = time.perf_counter()
        features = self._compiled(inputs)
        log.info("compiled in %.0f s", time.perf_counter() - started)
        self._ready.add(kind)
        return features.clone() if self._graphs else features


def keep_compiled(folder: Path) -> None:
    """Let compiled code be kept in this folder for later runs, unless the user's environment names another."""
    named = os.environ.get(CACHE)
    # Once imported, torch names a folder itself: of temporary files, which do not outlast a machine's start.
    if named is None or Path(named).name.startswith("torchinductor_"):
        os.environ[CACHE] = str(folder.absolute())
