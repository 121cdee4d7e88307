"""The exception of Ctrl-C and SIGTERM, apart from the trainer so that the command can name it without torch."""


class Interrupted(BaseException):
    """A run was stopped from outside; its state is on disk, and the same command goes on from it.

    Args:
        signal_number: The signal that stopped it.
        step: The last step taken; None where other processes take them.
    """

    def __init__(self, signal_number: int, step: int | None = None) -> None:
        super().__init__(signal_number, step)  # as given, so that it can be sent from one process to another
        self.step = step
        self.exit_code = 128 + signal_number

    def __str__(self) -> str:
        return "interrupted" if self.step is None else f"interrupted after step {self.step}"
