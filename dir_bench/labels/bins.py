"""Bins over a continuous target, with one vectorised `index` for NumPy arrays and torch tensors."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dir_bench.errors import nearest

if TYPE_CHECKING:
    from torch import Tensor

Rule = Literal["edges", "truncate"]
Precision = Literal["float32", "float64"]
_CHOICES = {"rule": ("edges", "truncate"), "precision": ("float32", "float64")}


@dataclass(frozen=True, eq=False)
class TargetBins:
    """Consecutive bins over the range of a target, in label units.

    Bins are half open, [edges[i], edges[i+1]); the last one is closed. Targets beyond the edges belong to
    the bin at that end. Bin numbers decide counts, weights, regions and FDS rows, so the published binning of
    each dataset has to come out to the last float32 edge case; two fields say how a target meets an edge.

    Args:
        edges: Increasing edges, shape [n + 1].
        first: First bin in use; the earlier ones hold no training samples by construction (NYUD2: 7, below
            0.7 m). `index` does not clamp to it.
        rule: "edges" compares with the edges. "truncate" computes int((target - start) / width), cut toward
            zero, which can differ from "edges" by one bin where a target lies on an edge; it needs bins of
            equal width.
        precision: Type in which targets and edges are compared or multiplied.

    Raises:
        ValueError: If the edges do not increase, `first` is no bin, or a choice is unknown.

    Source:
        Binning of YyzHarry/imbalanced-regression (Yang et al. 2021, arXiv:2102.09554):
        `agedb-dir/datasets.py` is regular(0, 121, 1, rule="truncate"), `sts-b-dir/tasks.py` is
        regular(0, 5, 0.1, precision="float32"), `nyud2-dir/loaddata.py` is regular(0, 10, 0.1, first=7,
        rule="truncate", precision="float32").
    """

    edges: NDArray[np.float64]
    first: int = 0
    rule: Rule = "edges"
    precision: Precision = "float64"
    _on_device: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        edges = np.array(self.edges, dtype=np.float64)
        for name, choices in _CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise ValueError(f"{name} must be one of {choices}, not {value!r}{nearest(str(value), choices)}")
        if edges.ndim != 1 or len(edges) < 2:
            raise ValueError(f"edges must be a list of two or more numbers, not of shape {edges.shape}")
        if not (np.isfinite(edges).all() and (np.diff(edges.astype(self.precision)) > 0).all()):
            raise ValueError(f"edges must be finite and increase from each to the next in {self.precision}")
        if not 0 <= self.first < len(edges) - 1:
            raise ValueError(f"first must be one of the {len(edges) - 1} bins, not {self.first}")
        if self.rule == "truncate" and not np.allclose(np.diff(edges), edges[1] - edges[0]):
            raise ValueError('rule "truncate" needs bins of equal width; use rule "edges"')
        edges.setflags(write=False)
        object.__setattr__(self, "edges", edges)

    @classmethod
    def regular(
        cls,
        start: float,
        stop: float,
        width: float,
        *,
        first: int = 0,
        rule: Rule = "edges",
        precision: Precision = "float64",
    ) -> TargetBins:
        """Make bins of one width from start to stop, in label units.

        Raises:
            ValueError: If no whole number of bins fits.
        """
        if not (width > 0 and stop > start):
            raise ValueError(f"bins need stop > start and width > 0, not start={start}, stop={stop}, width={width}")
        number = round((stop - start) / width)
        if number < 1 or not np.isclose(number * width, stop - start, rtol=1e-6):
            raise ValueError(f"no whole number of bins of width {width} fits between {start} and {stop}")
        return cls(np.linspace(start, stop, number + 1), first=first, rule=rule, precision=precision)

    @classmethod
    def of_settings(cls, settings: Mapping[str, Any]) -> TargetBins:
        """Make the bins that a config has: of its `edges`, or regular ones; ValueError if it describes none."""
        shared = {key: settings[key] for key in ("first", "rule", "precision") if key in settings}
        if (edges := settings.get("edges")) is not None:
            return cls(np.asarray(edges, np.float64), **shared)
        return cls.regular(settings["start"], settings["stop"], settings["width"], **shared)

    def __len__(self) -> int:
        return len(self.edges) - 1

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_on_device": {}}  # a worker process or a file wants no tensor of ours

    @property
    def centers(self) -> NDArray[np.float64]:
        """Middle of each bin, label units, shape [n]."""
        return (self.edges[:-1] + self.edges[1:]) / 2

    @property
    def widths(self) -> NDArray[np.float64]:
        """Width of each bin, label units, shape [n]."""
        return np.diff(self.edges)

    @overload
    def index(self, targets: Tensor) -> Tensor: ...

    @overload
    def index(self, targets: ArrayLike) -> NDArray[np.int64]: ...

    def index(self, targets: Any) -> Any:
        """Return the bin of each target: int64, the shape of `targets`, and its device if it is a tensor.

        Raises:
            ValueError: If a NumPy target is NaN. Tensors are not looked into, as the host would have to wait
                for the device: there, NaN falls in an end bin.
        """
        if is_tensor(targets):
            return self._index_tensor(targets, sys.modules["torch"])
        values = np.asarray(targets)
        if np.isnan(values).any():
            raise ValueError("a target is NaN, which belongs to no bin")
        values = values.astype(self.precision)
        if self.rule == "truncate":
            return self._truncate(values).clip(0, len(self) - 1).astype(np.int64)
        found = np.searchsorted(self.edges.astype(self.precision), values, side="right") - 1
        return found.clip(0, len(self) - 1).astype(np.int64)

    def _index_tensor(self, targets: Any, torch: Any) -> Any:
        values = targets.detach().to(getattr(torch, self.precision))
        if self.rule == "truncate":
            return self._truncate(values).nan_to_num(0.0).clamp(0, len(self) - 1).to(torch.int64)
        if (edges := self._on_device.get(values.device)) is None:
            # A copy, since these may not be written to; not by torch.tensor, over which torch.compile warns.
            edges = torch.as_tensor(self.edges.astype(self.precision), device=values.device)
            self._on_device[values.device] = edges
        return (torch.bucketize(values.contiguous(), edges, right=True) - 1).clamp(0, len(self) - 1)

    def _truncate(self, values: Any) -> Any:
        # As published: NYUD2 multiplies by 10 (int(depth * 10)), which is not the same as dividing by 0.1.
        start, stop = float(self.edges[0]), float(self.edges[-1])
        return (values - start) * (len(self) / (stop - start))

    def counts(self, targets: Any) -> NDArray[np.int64]:
        """Return how many targets lie in each bin, shape [n]. Takes what `index` takes."""
        index: Any = self.index(targets)
        if not isinstance(index, np.ndarray):
            index = index.cpu().numpy()
        return np.bincount(index.ravel(), minlength=len(self)).astype(np.int64)


def is_tensor(values: Any) -> bool:
    """Tell a tensor of torch, which is not imported for that, from anything else."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(values, torch.Tensor)
