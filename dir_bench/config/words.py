"""Words of the command line: what Hydra's grammar would change is quoted for it, so that a path is taken as typed."""

import re
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from dir_bench.errors import UserError

AS_TYPED = ("paths.data", "paths.outputs")
"""Keys whose values are folders: `=`, `#`, `(`, spaces, `true` or `1.50` are part of their names."""

_OF_HYDRA = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag|str|int|float|bool|json_str|extend_list)\(.*\)$")
_QUOTED = re.compile(r"""^(['"]).*\1$""", re.DOTALL)


def of_jobs(override: str) -> bool:
    """Tell an override that runs take from one that says how they are swept over and launched."""
    return not override.lstrip("+~").startswith(("hydra.", "hydra/", "sweep="))


def literal(value: Any) -> Any:
    """Write text, or all text of nested plain values, so that OmegaConf reads it back as it is.

    A `${` in it refers to nothing then.
    """
    if isinstance(value, dict):
        return {key: literal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [literal(item) for item in value]
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", value)
    return value


def quoted(text: str) -> str:
    """Write text as a quoted value of Hydra's grammar."""
    return QuotedString(literal(text), Quote.single).with_quotes()


def as_typed(overrides: Sequence[str], *, sweep: bool = False) -> list[str]:
    """Quote the values of `AS_TYPED` that Hydra would read as anything but themselves.

    Values in quotes, and those with `${…}`, stay Hydra's: there it has a meaning that people use. In a sweep so do its
    functions, such as `choice(a,b)`, and a comma parts values.
    """
    return [_typed(text, sweep) for text in overrides]


def _typed(override: str, sweep: bool) -> str:
    key, is_set, value = override.partition("=")
    if key.lstrip("+") not in AS_TYPED or not is_set or _QUOTED.match(value) or "${" in value:
        return override
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in value):
        raise UserError(f"{key}={value!r} holds a control character: give another folder")
    if sweep and _OF_HYDRA.match(value):
        return override
    parts = value.split(",") if sweep else [value]
    return f"{key}={','.join(part if _plain(part) else quoted(part) for part in parts)}"


def _plain(value: str) -> bool:
    """Tell whether Hydra reads a value as the text that it is."""
    try:
        parsed = OverridesParser.create().parse_override(f"key={value}")
    except HydraException:
        return False
    return not parsed.is_sweep_override() and parsed.value() == value and isinstance(parsed.value(), str)
