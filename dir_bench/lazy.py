"""Modules whose import takes seconds, imported when something of them is first asked for.

A dataset's module is imported to say that its files are missing; that should not wait for torch.
"""

from importlib import import_module
from typing import Any


class Lazy:
    """Stands for a module: its attributes are looked up once, and kept."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(import_module(self.__name__), attribute)
        setattr(self, attribute, found)
        return found
