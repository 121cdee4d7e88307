"""What the command says of its work, a line each, beside the output."""

import logging


def log_to_stderr(level: int = logging.INFO) -> None:
    """Let this package's log go to stderr, as sentences; once for a process."""
    logger = logging.getLogger("dir_bench")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = False
