"""Whether an evaluation that was made again is the recorded one; if not, whether it may be one of the same data."""

import json
import math
from collections.abc import Mapping
from typing import Any

from dir_bench.atomic import json_text

Errors = Mapping[str, Mapping[str, Any]]
"""What metrics.json says under "test": a mapping for each region."""

_DIGITS = 1e-2
"""Relative difference that other processors, threads, versions and half precision can make of a mean error."""


def repeats(held: Errors, again: Errors) -> bool:
    """Tell whether errors are the recorded ones to the bit; what is no number, null in the file, equals itself.

    An earlier version recorded fewer.
    """
    now: dict[str, Any] = json.loads(json_text(again))
    return held.keys() == now.keys() and all(errors.items() <= now[region].items() for region, errors in held.items())


def far_off(held: Errors, again: Errors) -> str:
    """Return how errors show other data or code than the recorded ones, as a sentence; "" if they may be the same.

    Told by the test samples and the mean absolute error of each region: ranks and squares of a few samples jump.
    """
    for region in dict.fromkeys([*held, *again]):
        before, now = (errors.get(region, {}).get("count", 0) for errors in (held, again))
        if before != now:
            return f"{region} has {now} test samples, and had {before} when it was recorded: the data are others now"
    for region, errors in held.items():
        was, now = (math.nan if (mae := each.get("mae")) is None else mae for each in (errors, again[region]))
        if abs(now - was) > _DIGITS * abs(was):  # not where one of them is no number
            return f"mae of {region} is {now:.4g}, recorded {was:.4g}: data or code are others now"
    return ""
