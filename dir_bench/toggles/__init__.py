"""The axes on which the methods of the paper differ, one module a group: settings, what excludes what, and the part.

Plain dataclasses, and nothing of torch until a part is built, so that a config is checked at once. The groups are as
old as the first runs and stand in their identities. A method that came later needs no group: it is a part of its own,
see `methods.part`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from dir_bench.methods.part import Facts, Part
    from dir_bench.schema import Config


@dataclass
class Toggle:
    """One group of the config; "none" is off."""

    name: str = "none"

    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Every dotted key of its own whose value is one of a few words, with those words."""
    semantics: ClassVar[tuple[str, ...]] = ()
    """Which of the semantics it may read."""

    @property
    def on(self) -> bool:
        """Whether the group does anything."""
        return self.name != "none"

    def check(self, config: Config) -> None:
        """Raise UserError for values that make no sense, and for what they cannot go together with."""

    def reads(self) -> tuple[str, ...]:
        """Return those of `semantics` that it reads as it is set."""
        return self.semantics if self.on else ()

    def used(self) -> Self:
        """Return the group with the settings that it does not read as they are by default.

        Else they would make one run look like two.
        """
        return self if self.on else type(self)()

    def part(self, config: Config, facts: Facts) -> Part | None:
        """Return what it does in training; None: nothing."""
        return None
