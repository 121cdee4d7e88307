"""Progress bars of long work: on standard error, gone when the work is done, and silent where that is no terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.progress import Progress


def on_terminal() -> bool:
    """Tell whether somebody looks: standard error is a terminal, and was not closed."""
    return sys.stderr is not None and sys.stderr.isatty()


def progress_bar(unit: Literal["items", "bytes"] = "items", *, shown: bool = True) -> Progress:
    """Return a bar, to be entered: each task has a text, how many items or bytes of how many, and the time left.

    Args:
        unit: What is counted; bytes with their speed.
        shown: False: show nothing, terminal or not.
    """
    from rich import progress  # a twentieth of a second that nobody waits for who is told that files are missing
    from rich.console import Console

    in_bytes = (progress.DownloadColumn(), progress.TransferSpeedColumn())
    columns: tuple[progress.ProgressColumn, ...] = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        *(in_bytes if unit == "bytes" else (progress.MofNCompleteColumn(),)),
        progress.TimeRemainingColumn(),
    )
    quiet = not (shown and on_terminal())
    return progress.Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet)
