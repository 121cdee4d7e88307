"""Errors of predictions, over all samples and per region of the target range. Pure functions of arrays."""

from dir_bench.evaluation.metrics import balanced_errors, region_metrics, regression_errors

__all__ = ["balanced_errors", "region_metrics", "regression_errors"]
