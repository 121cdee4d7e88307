"""A setting is what the signature that takes it says."""

import math
from collections.abc import Iterable, Mapping, Sequence
from inspect import Parameter
from typing import Any, Literal, Protocol

import numpy as np
import pytest

from dir_bench.config.annotations import hints, misfit


class Own(Protocol):
    pass


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (int, [3, -1], [1.0, True, "3", None, [1]]),
        (float, [3, 0.5], [math.nan, math.inf, "a", None, False, [0.5]]),
        (bool, [True], [1, "yes", None]),
        (str, ["a", 3], [None, ["a"], {}]),
        (int | None, [None, 3], [0.5, "a"]),
        (Literal["a", "b"], ["a"], ["c", None]),
        (Sequence[str], [["a"], []], ["ab", None, 3, [None]]),
        (Iterable[float], [[1, 2.5]], ["ab", [math.nan]]),
        (list[int], [[1, 2]], [[1, "a"], 3]),
        (tuple[float, float], [[1, 2]], [[1], [1, 2, 3], 1]),
        (tuple[int, ...], [[1, 2, 3], []], [[0.5]]),
        (float | Sequence[float], [1, [1, 2]], ["a", ["a"]]),
        (Mapping[str, Any] | None, [None, {"a": 1}], [3, "a", [1]]),
        (dict[str, float], [{"a": 1}], [None]),
        (Any, [None, "a", 3], []),
        (Own, [3, None, "a"], []),
        (np.ndarray | None, [None, "a name of it", [1.0]], []),
    ],
)
def test_what_an_annotation_says_is_what_fits(hint: Any, good: list[Any], bad: list[Any]) -> None:
    assert [value for value in good if misfit(value, hint) is not None] == []
    assert [value for value in bad if not misfit(value, hint)] == []


def test_what_is_wanted_is_said_in_words() -> None:
    assert misfit("a", int | None) == "a whole number or null"
    assert misfit("a", tuple[float, float]) == "a list of 2 numbers"
    assert misfit("ab", Sequence[str]) == "a list of names, as [a, b]"
    assert misfit(3, Mapping[str, Any]) == "settings, as {key: value}"
    assert misfit("c", Literal["a", "b"]) == "one of a, b"


def test_a_default_fits_whatever_its_annotation_says() -> None:
    assert misfit(None, int, None) is None
    assert misfit(0, int, None) is None
    assert misfit(math.inf, float, -math.inf) is None  # infinite bounds are such by default
    assert misfit(math.nan, float, math.inf) == "a finite number"
    assert misfit(math.inf, float, Parameter.empty) == "a finite number"
    assert misfit(math.inf, float | None) is None
    assert misfit(math.nan, float | None) == "a finite number or null"


def test_annotations_that_cannot_be_evaluated_are_none() -> None:
    class Part:
        def __init__(self, k: "Nowhere") -> None:  # type: ignore[name-defined]  # noqa: F821
            pass

    assert hints(Part) == {}
