"""What a run shows and writes while it trains: history.csv, TensorBoard, a progress bar."""

import csv
import io
import logging
import time
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from dir_bench.atomic import write_text
from dir_bench.bars import on_terminal, progress_bar
from dir_bench.labels.regions import REGIONS
from dir_bench.results.store import RunFolder
from dir_bench.schema import Config
from dir_bench.training.trainer import Trainer

if TYPE_CHECKING:
    from rich.progress import Progress
    from torch.utils.tensorboard import SummaryWriter


log = logging.getLogger("dir_bench")


class Recorder:
    """Writes a run's history as it grows. Inactive (on all processes but the first) it does nothing.

    history.csv is written anew from the trainer's history each time, so a resumed run's file equals an uninterrupted
    one's, but for the seconds. `last.pt` has all of it, so only the last time does it wait for the disk. TensorBoard
    drops what it had from the resumed step on. Without a terminal, each evaluation is a line of the log.
    """

    def __init__(self, folder: RunFolder, trainer: Trainer, config: Config, *, active: bool) -> None:
        self.folder, self.trainer, self.config, self.active = folder, trainer, config, active
        self._writer: SummaryWriter | None = None
        self._bar: Progress | None = None
        self._before = trainer.report, trainer.tick
        self._last: tuple[float, int | None] = (0.0, None)

    def __enter__(self) -> "Recorder":
        self.trainer.report, self.trainer.tick = self.record, self.tick
        self._last = (time.monotonic(), None)  # where a resumed run stands, its first step tells
        if self.active and self.config.trainer.progress and on_terminal():
            self._bar = progress_bar()
            self._task = self._bar.add_task("training", total=self.trainer.total_steps)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.trainer.report, self.trainer.tick = self._before
        if self._bar is not None:
            self._bar.stop()
        if self._writer is not None:
            self._writer.close()

    def tick(self, step: int) -> None:
        """Move the progress bar."""
        if self._last[1] is None:
            self._last = (self._last[0], step - 1)
            if self._bar is not None:
                self._bar.reset(self._task, completed=step - 1)
        if self._bar is not None:
            self._bar.update(self._task, completed=step)

    def record(self, record: dict[str, Any]) -> None:
        """Write one evaluation: the whole history.csv, and scalars to TensorBoard.

        What it took since the last one is added to it as `seconds`: an epoch's time, where each is evaluated.
        """
        (before, step), now = self._last, time.monotonic()
        record["seconds"], self._last = round(now - before, 3), (now, record["step"])
        self._write_history(durable=False)
        for key, value in record.items():
            if key not in ("epoch", "step") and value is not None and not key.endswith("/count"):
                self._tensorboard(record["step"]).add_scalar(key, value, record["step"])
        monitor = self.config.loss.monitor(self.config)
        shown = f"epoch {record['epoch']}  val {monitor} {record[f'val/all/{monitor}']:.4g}"
        if self._bar is not None:
            self._bar.update(self._task, description=shown)
        elif self.config.trainer.progress:
            total = self.trainer.total_steps
            made = 0 if step is None else record["step"] - step  # none by a head that is fitted at once
            left = None if total is None or made == 0 else (total - record["step"]) * record["seconds"] / made
            log.info("%s  %.1f s%s", shown, record["seconds"], "" if left is None else f", {_span(left)} left at most")

    def settle(self) -> None:
        """Write history.csv for good, once training ended: what is there may be of evaluations that were made again."""
        if self.active:
            self._write_history(durable=True)

    def _write_history(self, durable: bool) -> None:
        text = io.StringIO()
        history = self.trainer.progress.history
        columns = list(dict.fromkeys(key for row in history for key in row))
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        write_text(self.folder.history_path, text.getvalue(), durable=durable)

    def finish(self, metrics: dict[str, Any], pictures: Iterable[tuple[str, Any]]) -> None:
        """Write the test errors as TensorBoard's hparams, so that its own table compares runs, and the run's figures.

        Args:
            metrics: As they will be in metrics.json.
            pictures: (name, RGB picture of shape ``(h, w, 3)``) of each figure.
        """
        if not self.active:
            return
        config = self.config
        chosen = {
            "dataset": metrics["dataset"],
            "method": metrics["method"],
            "seed": config.seed,
            "lr": float(config.optimizer["lr"]),
            "batch_size": config.trainer.batch_size,
            "reweight": config.reweight.name,
            "lds": config.lds.name,
            "fds": config.fds.name,
            "loss": config.loss.name,
            "stages": config.stages.name,
            "semantics": config.semantics.name,
            "backbone": str(config.backbone["_target_"]).rpartition(".")[2],
        }
        results = {
            f"test/{region}/{name}": float(value)
            for region, errors in metrics["test"].items()
            for name, value in errors.items()
            if value is not None and name != "count"
        }
        self._write_hparams(chosen, results, list(metrics["test"]["all"]))
        step = self.trainer.progress.step
        for name, picture in pictures:
            self._tensorboard(step).add_image(f"figures/{name}", picture, step, dataformats="HWC")

    def _write_hparams(self, chosen: dict[str, Any], results: dict[str, float], names: list[str]) -> None:
        """Write a row of TensorBoard's table.

        The table takes its columns from one run, so each run names those of all regions, met by its test or not.
        """
        from torch.utils.tensorboard.summary import hparams

        step = self.trainer.progress.step
        writer = self._tensorboard(step + 1)
        assert writer.file_writer is not None
        columns = [f"test/{region}/{name}" for region in REGIONS for name in names if name != "count"]
        for summary in hparams(chosen, dict.fromkeys(columns, 0.0)):
            writer.file_writer.add_summary(summary)
        for name, value in results.items():
            writer.add_scalar(name, value, step)

    def _tensorboard(self, step: int) -> "SummaryWriter":
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder.tensorboard), purge_step=step)
        return self._writer


def _span(seconds: float) -> str:
    """Return a duration as "48 s", "3 min" or "1 h 05 min"."""
    minutes = round(seconds / 60)
    if seconds < 99:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
