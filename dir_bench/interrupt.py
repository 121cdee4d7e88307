"""The exception of Ctrl-C and SIGTERM, apart from the trainer so that the command can name it without torch."""


class Interrupted(BaseException):
    """A run was stopped from outside; its state is on disk, and the same command goes on from it."""

    def __init__(self, signal_number: int, step: int) -> None:
        super().__init__(f"interrupted after step {step}")
        self.exit_code = 128 + signal_number
