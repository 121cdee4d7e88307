"""Deep imbalanced regression: LDS, FDS and their baselines, on published benchmarks and on your own data.

The names below work without Hydra and without a run. They are imported on first use, so that `import dir_bench` and
the command's `--help` stay instant.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dir_bench.evaluation.metrics import region_metrics as region_metrics
    from dir_bench.labels import Regions as Regions
    from dir_bench.labels import TargetBins as TargetBins
    from dir_bench.labels import bin_weights as bin_weights
    from dir_bench.labels import kernel_window as kernel_window
    from dir_bench.labels import lds_density as lds_density
    from dir_bench.labels.transformers import DenseWeights as DenseWeights
    from dir_bench.labels.transformers import LDSWeights as LDSWeights
    from dir_bench.methods.fds import FDS as FDS
    from dir_bench.methods.fds_outputs import FDSPerOutput as FDSPerOutput
    from dir_bench.methods.losses import focal_l1 as focal_l1
    from dir_bench.methods.losses import focal_mse as focal_mse
    from dir_bench.methods.losses import huber as huber
    from dir_bench.methods.losses import l1 as l1
    from dir_bench.methods.losses import mse as mse
    from dir_bench.methods.losses import weighted_mean as weighted_mean
    from dir_bench.methods.part import Facts as Facts
    from dir_bench.methods.part import Head as Head
    from dir_bench.methods.part import Part as Part
    from dir_bench.methods.part import Step as Step

__version__ = "0.1.0"

_HOME = {
    "TargetBins": "dir_bench.labels",
    "Regions": "dir_bench.labels",
    "kernel_window": "dir_bench.labels",
    "lds_density": "dir_bench.labels",
    "bin_weights": "dir_bench.labels",
    "region_metrics": "dir_bench.evaluation.metrics",
    "LDSWeights": "dir_bench.labels.transformers",
    "DenseWeights": "dir_bench.labels.transformers",
    "FDS": "dir_bench.methods.fds",
    "FDSPerOutput": "dir_bench.methods.fds_outputs",
    "l1": "dir_bench.methods.losses",
    "mse": "dir_bench.methods.losses",
    "huber": "dir_bench.methods.losses",
    "focal_l1": "dir_bench.methods.losses",
    "focal_mse": "dir_bench.methods.losses",
    "weighted_mean": "dir_bench.methods.losses",
    "Facts": "dir_bench.methods.part",
    "Head": "dir_bench.methods.part",
    "Part": "dir_bench.methods.part",
    "Step": "dir_bench.methods.part",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'dir_bench' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
