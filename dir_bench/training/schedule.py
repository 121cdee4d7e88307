"""The schedule of the learning rate."""

import warnings
from typing import Any


def advance(scheduler: Any) -> None:
    """Take a schedule one step on, if there is one."""
    if scheduler is None:
        return
    with warnings.catch_warnings():
        # A run resumed at an epoch's end has stepped its optimiser, but in the process before this one.
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        scheduler.step()
