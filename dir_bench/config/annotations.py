"""Whether a setting is what the signature that takes it says: `k: int` a whole number, `lr: float` a finite one."""

import inspect
import math
import typing
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Any

_LISTS = (list, tuple, set, frozenset)


def hints(target: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of what a class or a function takes; none where they exist for type checkers only."""
    try:
        return typing.get_type_hints(target.__init__ if isinstance(target, type) else target)  # type: ignore[misc]
    except Exception:  # whatever evaluating somebody's annotations raises
        return {}


def misfit(value: Any, hint: Any, default: Any = inspect.Parameter.empty) -> str | None:
    """Return what a value would have to be, in words, or None if it is that.

    What is equal to the default fits, whatever the annotation says, and anything fits a class that a YAML cannot give,
    as text may name one. A `float` is finite unless its default is not, or null may stand in its place: it is a bound.
    """
    if default is not inspect.Parameter.empty and type(value) is type(default) and value == default:
        return None
    unbounded = (isinstance(default, float) and math.isinf(default)) or NoneType in _alternatives(hint)
    if _fits(value, hint, unbounded):
        return None
    shown = [_words(each) for each in _alternatives(hint)]
    return " or ".join(dict.fromkeys(word for word in shown if word))


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, UnionType) else (hint,)


def _fits(value: Any, hint: Any, unbounded: bool) -> bool:
    if len(among := _alternatives(hint)) > 1:
        return any(_fits(value, each, unbounded) for each in among)
    kind, within = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind is typing.Literal:
        return value in within
    if kind is bool:
        return isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and (math.isfinite(value) or (unbounded and not math.isnan(value)))
    if kind is str:  # a name may be a number to YAML
        return isinstance(value, (str, int, float))
    if kind in (NoneType, None):
        return value is None
    if not isinstance(kind, type) or kind is Any:
        return True
    if issubclass(kind, Mapping):
        return isinstance(value, Mapping)
    if _is_list(kind):
        each = within[:1] if within[1:] in ((), (Ellipsis,)) else within
        if not isinstance(value, _LISTS) or (len(each) > 1 and len(each) != len(value)):
            return False
        return not each or all(
            _fits(item, each[place if len(each) > 1 else 0], unbounded) for place, item in enumerate(value)
        )
    return True


def _is_list(kind: type) -> bool:
    return kind in _LISTS or (kind.__module__ == "collections.abc" and issubclass(list, kind))


_PLURAL = {bool: "truth values", int: "whole numbers", float: "numbers", str: "names"}


def _words(hint: Any) -> str:
    kind, within = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind is typing.Literal:
        return f"one of {', '.join(map(str, within))}"
    names = {bool: "true or false", int: "a whole number", float: "a finite number", str: "text", NoneType: "null"}
    if kind in names:
        return names[kind]
    if not isinstance(kind, type) or kind in (Any, object):
        return ""
    if issubclass(kind, Mapping):
        return "settings, as {key: value}"
    if not _is_list(kind):
        return ""
    if len(within) > 1 and Ellipsis not in within:
        return f"a list of {len(within)} {_PLURAL.get(within[0], 'values')}"
    return f"a list of {_PLURAL.get(within[0], 'values') if within else 'values'}, as [a, b]"
