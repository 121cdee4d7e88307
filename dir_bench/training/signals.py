"""SIGINT and SIGTERM during training: noted, so that the step at work can end and the state be saved."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from dir_bench.interrupt import Interrupted


class StopSignals:
    """Remembers the first signal that asks a run to stop.

    Args:
        at_once: End where the run is. Several processes would have to agree on the step to stop at, which costs a
            reduction a step; their last checkpoint is at most an epoch, or `checkpoint_minutes`, old.
        step: Tells the step of the run.
    """

    def __init__(self, at_once: bool, step: Callable[[], int]) -> None:
        self.at_once, self.step = at_once, step
        self.number: int | None = None
        self._noted_at = 0.0

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Catch signals within; a second one, some seconds after the first, ends the run where it is."""
        try:
            before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread: whoever runs us there handles signals
            yield
            return
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        # One Ctrl-C reaches a sweep's worker twice: from the terminal, and from the process that started it.
        again = self.number is not None and time.monotonic() - self._noted_at > 2
        if self.at_once or again:
            raise Interrupted(number, self.step())
        if self.number is None:
            self.number, self._noted_at = number, time.monotonic()
