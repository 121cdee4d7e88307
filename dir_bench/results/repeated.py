"""Whether an evaluation that was made again is still one of the same data and code."""

import math
from collections.abc import Mapping
from typing import Any

_DIGITS = 1e-3
"""Relative difference that other processors, threads and versions can make of the same test split."""


def far_off(held: Mapping[str, Mapping[str, Any]], again: Mapping[str, Mapping[str, Any]]) -> str:
    """Return how errors by region show other data or code than the recorded ones; "" if they differ in digits alone.

    Args:
        held: What metrics.json says under "test".
        again: The same of now.
    """
    for region in dict.fromkeys([*held, *again]):
        before, now = (errors.get(region, {}).get("count", 0) for errors in (held, again))
        if before != now:
            return f"{region} has {now} test samples, and had {before} when it was recorded: the data are others now"
    for region, errors in held.items():
        for metric, before in errors.items():
            now = again[region].get(metric)
            if _is_number(before) and _is_number(now) and abs(now - before) > _DIGITS * max(1.0, abs(before)):
                return f"{metric} of {region} is {now:.4g}, recorded {before:.4g}: data or code are others now"
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
