"""What the files of a run folder hold: one schema, that `store.RunFolder` checks wherever one of them is read.

A check takes a value and says what is wrong with it as a phrase that its field's name can stand before, or "". What a
schema does not name is nobody's business and passes: later versions write more.
"""

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

Check = Callable[[Any], str]

LONGEST = 2000
"""Characters of a text that is shown, such as a method's name."""
LARGEST = 1e100
"""A number beyond it has no meaning here, and its square none in float64."""
MOST_BINS = 1_000_000


def text(value: Any) -> str:
    if not isinstance(value, str):
        return f"is {_short(value)}, not a text"
    if len(value) > LONGEST:
        return f"has {len(value):,} characters"
    return "" if value.isascii() or value.isprintable() or _encodes(value) else "is no Unicode text"


def long_text(value: Any) -> str:
    return "" if isinstance(value, str) else f"is {_short(value)}, not a text"


def whole(value: Any) -> str:
    if type(value) is not int:  # True is an int by isinstance
        return f"is {_short(value)}, not a whole number"
    return "" if abs(value) < 2**63 else "is too large"


def count(value: Any) -> str:
    return whole(value) or ("" if value >= 0 else f"is {value}, below 0")


def number(value: Any) -> str:
    if type(value) not in (int, float):
        return f"is {_short(value)}, not a number"
    # A whole number can be too long for a float.
    return "" if -LARGEST <= value <= LARGEST else "is not finite" if value != value else "is too large to be a result"


def time(value: Any) -> str:
    try:
        return "" if datetime.fromisoformat(value).tzinfo is not None else f"is {_short(value)}, without a time zone"
    except (TypeError, ValueError):
        return f"is {_short(value)}, not a time"


def one_of(*choices: Any) -> Check:
    return lambda value: "" if value in choices else f"is {_short(value)}, none of {', '.join(map(str, choices))}"


def number_or_null(value: Any) -> str:
    return "" if value is None or (type(value) is float and -LARGEST <= value <= LARGEST) else number(value)


def or_null(check: Check) -> Check:
    return lambda value: "" if value is None else check(value)


def anything(value: Any) -> str:
    return ""


def items(check: Check) -> Check:
    def checked(value: Any) -> str:
        if not isinstance(value, list):
            return f"is {_short(value)}, not a list"
        return next((f"[{place}] {fault}" for place, item in enumerate(value) if (fault := check(item))), "")

    return checked


def fields(needed: Mapping[str, Check], known: Mapping[str, Check] | None = None, others: Check = anything) -> Check:
    """Return the check of an object: what it needs, what it may have, and what all its other values are."""
    named = {**(known or {}), **needed}

    def checked(value: Any) -> str:
        if not isinstance(value, dict):
            return f"is {_short(value)}, not an object"
        for key in needed:
            if key not in value:
                return f"lacks '{key}'"
        for key, item in value.items():
            check = named.get(key)
            if check is None:
                if not isinstance(key, str) or (len(key) > LONGEST and others is not anything):
                    return f"has the key {_short(key)}, which is no name"
                check = others
            if check is not anything and (fault := check(item)):
                return _below(key, fault)
        return ""

    return checked


def _below(key: str, fault: str) -> str:
    """Put a field's name before what is wrong with it: "'test.all.mae' is '1.0', not a number"."""
    shown = key if len(key) <= 80 else f"{key[:80]}…"
    if fault.startswith("'"):
        return f"'{shown}.{fault[1:]}"
    if fault.startswith("["):
        place, _, rest = fault.partition(" ")
        return f"'{shown}{place}' {rest}"
    return f"lacks '{shown}.{fault[7:]}" if fault.startswith("lacks '") else f"'{shown}' {fault}"


def _short(value: Any) -> str:
    if isinstance(value, int) and abs(value) >= 2**63:
        return "a very large number"
    shown = repr(value) if not isinstance(value, dict | list) or not value else f"a {type(value).__name__}"
    return shown if len(shown) <= 80 else f"{shown[:80]}…"


def _encodes(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


NOT_NEGATIVE = (
    *("mae", "mse", "rmse", "gm", "bmae", "bins", "w1", "sera"),
    *("crps", "coverage", "width", "uce", "uce_std", "ause"),
)


def _error(value: Any) -> str:
    if value is None or (type(value) is float and 0 <= value <= LARGEST):
        return ""
    return number(value) or ("" if value >= 0 else f"is {value}, below 0")


_monitor = {"name": or_null(text), "split": or_null(text), "best": or_null(number), "epoch": or_null(count)}
_region = fields({"count": count}, dict.fromkeys(NOT_NEGATIVE, _error), number_or_null)

METRICS = fields(
    {"dataset": text, "method": text, "seed": whole, "test": fields({"all": _region}, None, _region)},
    {
        "title": or_null(text),
        "slug": or_null(text),
        "identity": or_null(text),
        "row_id": or_null(text),
        "command": or_null(items(text)),
        "table_metrics": or_null(items(text)),
        "monitor": or_null(fields({}, _monitor)),
        "departures": or_null(items(text)),
        "relevance": or_null(items(items(number))),
        "note": or_null(text),
        "family": or_null(text),
        "target_units": or_null(items(number)),
        "drawn": or_null(fields({}, None, fields({"rows": count, "distinct": count}))),
    },
)
_seal = fields({"sha256": text, "bytes": count})
DONE = fields({"metrics.json": _seal, "predictions.npz": _seal}, {"finished": time})
STATUS = fields(
    {},
    {"state": text, "started": time, "ended": time, "error": or_null(long_text), "traceback": or_null(long_text)},
)
OWNER = fields({"pid": whole, "host": text})
ENVIRONMENT = fields(
    {},
    {
        "dir_bench": text,
        "python": text,
        "platform": text,
        "device": or_null(text),
        "command": or_null(items(text)),
        "packages": or_null(fields({}, None, text)),
        "git": or_null(fields({}, {"commit": or_null(text), "dirty": or_null(one_of(True, False))})),
    },
)


def _bins(value: Any) -> str:
    fault = fields(
        {"start": number, "stop": number, "width": number},
        {
            **{"first": count, "rule": one_of("edges", "truncate"), "precision": one_of("float32", "float64")},
            **{"edges": or_null(items(number)), "choose": one_of("none"), "number": one_of(None)},
        },
        lambda _: "is no setting of bins",
    )(value)
    if fault:
        return fault
    start, stop, width = (float(value[key]) for key in ("start", "stop", "width"))
    size = (stop - start) / width if width > 0 else math.nan
    if (edges := value.get("edges")) is not None:
        size = len(edges) - 1
    return "" if 0 < size <= MOST_BINS else f"would be {size:.3g} bins"


CONFIG = fields(
    {},
    {
        "seed": whole,
        "dataset": fields(
            {},
            {"name": text, "title": text, "label": or_null(text), "monitor": text, "bins": _bins, "extra_errors": text},
        ),
        "backbone": fields({}),
        "trainer": fields({}),
        "semantics": fields({}, {"zero_error": number}),
    },
)
"""Plain values, of which figures and tests read these; whether they can be trained with is for `config` to say."""
