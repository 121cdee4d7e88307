"""What can be known from the labels alone: bins, regions, densities and weights. NumPy and SciPy only."""

from dir_bench.labels.bins import TargetBins
from dir_bench.labels.density import kernel_window, label_density, lds_density
from dir_bench.labels.regions import Regions
from dir_bench.labels.relevance import relevance
from dir_bench.labels.weights import bin_weights

__all__ = ["Regions", "TargetBins", "bin_weights", "kernel_window", "label_density", "lds_density", "relevance"]
