"""Python's search for cycles among objects, which after each 700 new ones looks through what there is."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def unsought() -> Iterator[None]:
    """Search for none where all that is made stays: modules, configs, what thousands of files are read into.

    It is a tenth of the time in which a command starts.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()
