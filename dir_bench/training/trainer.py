"""The training loop: steps, evaluations, best-on-validation, patience, checkpoints, exact resume.

It is given built parts and plain functions, so it branches on no dataset and no method: `methods.part` has the hooks
that it calls. All that it must remember lies in `Progress` and in state dicts; random numbers are functions of the
position (`streams`), so a run that was killed anywhere repeats itself from its last checkpoint bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dir_bench.datasets.base import IntArray, Split
from dir_bench.errors import RunFailed
from dir_bench.interrupt import Interrupted
from dir_bench.methods.part import Part, Step
from dir_bench.schema import TrainerConfig
from dir_bench.streams import stream, stream_seed
from dir_bench.training import checkpoint
from dir_bench.training.batch_norm import SmallestBatch, uncounted
from dir_bench.training.checkpoint_writer import CheckpointWriter
from dir_bench.training.features import feature_set
from dir_bench.training.loaders import Batch, TrainLoader, on_device
from dir_bench.training.losswatch import LossWatch
from dir_bench.training.network import Network
from dir_bench.training.prediction import Columns, predict
from dir_bench.training.processes import Processes
from dir_bench.training.progress import Progress, reports
from dir_bench.training.schedule import advance
from dir_bench.training.signals import StopSignals

if TYPE_CHECKING:
    from lightning_fabric import Fabric

CHECK_STEPS = 50
"""On an accelerator the loss is looked at every so many steps, since each look waits for the device."""

Report = Callable[[dict[str, Any]], None]
Evaluate = Callable[[npt.NDArray[Any]], dict[str, dict[str, Any]]]


@dataclass
class Trainer:
    """Fits a network and predicts with it.

    Attributes:
        network: As set up by `fabric`; its raw module is a `Network` with the parts of the method.
        evaluate: From validation predictions in label units to errors by region.
        monitor: Which of the errors over all samples decides the best epoch; lower is better.
        stop: Tells from its values at all evaluations so far whether to end the run.
        checkpoints: Folder of `last.pt` and `best.pt`.
        report: Called by rank zero with each record of the history.
        tick: Called after each step with the step's number, for a progress bar.
    """

    fabric: Fabric
    settings: TrainerConfig
    network: Any
    optimizer: Any
    scheduler: Any
    schedule_interval: str
    train: Split
    val: Split
    evaluate: Evaluate
    monitor: str
    seed: int
    checkpoints: Path
    stop: Callable[[list[float]], bool] = lambda values: False
    report: Report = lambda record: None
    tick: Callable[[int], None] = lambda step: None

    def __post_init__(self) -> None:
        self.progress = Progress()
        self.processes = Processes(self.fabric.world_size)
        self.module: Network = getattr(self.network, "module", self.network)
        self.parts: dict[str, Part] = dict(zip(self.module.part_names, self.module.parts, strict=True))
        self.head = self.module.head
        self._trained = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        views = max(part.views for part in self.parts.values())
        self._smallest = SmallestBatch(self.module, self.settings.batch_size, self.fabric)
        self.loader = replace(self._loader(self.train), draw=partial(_drawn, tuple(self.parts.values())), views=views)
        self.writer = CheckpointWriter(self.checkpoints)
        self.losses = LossWatch(self.settings.loss_limit, self.fabric.device, self.processes)
        progress = self.progress  # nothing refers back to the trainer: its memory is free when the run lets go of it
        self._stop = StopSignals(self.fabric.world_size > 1 or self.head.fitted, lambda: progress.step)

    def _loader(self, split: Split, augment: bool = True, shuffled: bool = True) -> TrainLoader:
        return TrainLoader(
            split,
            self.settings.batch_size,
            self.seed,
            self.settings.bucket_by_length,
            self.fabric.global_rank,
            self.fabric.world_size,
            self.settings.workers,
            augment,
            pin=self.fabric.device.type == "cuda",
            shuffled=shuffled,
            smallest=self._smallest(split),
        )

    @property
    def total_steps(self) -> int | None:
        """Steps the run will take unless patience ends it; None if nothing bounds it."""
        epochs, steps = self.settings.epochs, self.settings.max_steps
        return min(bound for bound in (epochs and epochs * len(self.loader), steps) if bound is not None)

    def fit(self) -> Progress:
        """Train to the end, from the last checkpoint if there is one.

        However it ends, the checkpoints are written by then.

        Raises:
            RunFailed: The loss is not finite, or above `loss_limit`.
            DiskFull: A checkpoint could not be written.
            Interrupted: On SIGINT or SIGTERM, after the state was saved.
        """
        if (self.checkpoints / "last.pt").exists():
            checkpoint.go_on(self.checkpoints / "last.pt", self._restore)
        with self._stop.caught():
            with self.writer:
                while not self.progress.finished:
                    self._fit_head() if self.head.fitted else self.train_epoch()
            self._heed_signal()  # of the time that the last writing took
        self.fabric.barrier()  # one process wrote what all of them are going to read
        return self.progress

    def predict(self, split: Split) -> npt.NDArray[Any]:
        """Return the predictions for all that is judged of a split, see `columns`."""
        return self.columns(split)["prediction"]

    def columns(self, split: Split) -> Columns:
        """Return the predictions for all that is judged of a split, and what else the head says of each."""
        return predict(self.module, split, self.settings, self.fabric, self.processes)

    def train_epoch(self) -> None:
        """Run one epoch, or what is left of it, and what follows it: the parts' end of it, schedule, evaluation."""
        state, settings = self.progress, self.settings
        for part in self.parts.values():
            part.epoch_begins(state.epoch)
        saved, selected = time.monotonic(), False
        for batch, tensors in self._batches(self.loader, state.epoch, state.batch):
            self._step(batch, *self.train.prepare(*tensors))
            state.batch, state.step = batch.number + 1, state.step + 1
            self.tick(state.step)
            self.writer.check()
            if self._last_step():
                break
            if settings.eval_unit == "step" and state.step % settings.eval_every == 0:
                self._save(self._evaluate())
                if state.finished:
                    return
            if self._stop.number is not None:
                self._check_loss()
                self._save()
                self._heed_signal()
            # Clocks of several processes differ, and a save takes all of them.
            if self.fabric.world_size == 1 and time.monotonic() - saved > 60 * settings.checkpoint_minutes:
                self._check_loss()
                self._save()
                saved = time.monotonic()
        self._check_loss()
        whole = not self._last_step() or state.batch == len(self.loader.order(state.epoch))
        for part in self.parts.values() if whole else ():
            part.epoch_ends(state.epoch, self._walk, self.processes.sum)
        if self.schedule_interval == "epoch":
            advance(self.scheduler)
        last = self._last_step() or state.epoch + 1 == settings.epochs
        due = settings.eval_unit == "epoch" and (state.epoch + 1) % settings.eval_every == 0
        if due or last:
            selected = self._evaluate()
        state.finished = state.finished or last
        state.epoch, state.batch = state.epoch + 1, 0
        self.losses.reset()
        self._save(selected)
        self._heed_signal()

    def _heed_signal(self) -> None:
        if self._stop.number is not None:
            raise Interrupted(self._stop.number, self.progress.step)

    def _fit_head(self) -> None:
        """Let the head learn at once, where nothing takes steps; what this run is stopped in begins again."""
        self.head.fit(partial(feature_set, self, self.train), partial(feature_set, self, self.val))
        self.progress.finished = True
        self._save(self._evaluate())

    def _batches(
        self, loader: TrainLoader, epoch: int, first: int = 0, purpose: str = "order"
    ) -> Iterator[tuple[Batch, tuple[Any, Tensor]]]:
        """Yield the batches of an epoch, each with its inputs and targets on the device."""
        batches = loader.batches(epoch, first, purpose)
        return on_device(((batch, (batch.inputs, batch.targets)) for batch in batches), self.fabric)

    def _step(self, batch: Batch, inputs: Any, targets: Tensor) -> None:
        """Take one optimiser step. Nothing here waits for the device."""
        state, parts = self.progress, self.parts.values()
        scale = 0.0 if batch.padding else self.fabric.world_size / batch.size
        passes: list[tuple[Step, Tensor]] = []

        def backward() -> None:
            step = self._as_step(inputs, targets, state.step)
            self.network.train()
            self._reseed("dropout", state.step)
            with ExitStack() as stack:
                stack.enter_context(uncounted(self.module, batch.padding))
                for part in parts:
                    stack.enter_context(part.batch(step))
                step.output, step.features, step.fed = self.network(step.inputs, step.targets, state.epoch)
            loss = self.module.loss_sum(step) * scale
            for part in parts:
                if (penalty := part.penalty(step)) is not None:
                    loss = loss + penalty * (len(targets) * scale)
            self.fabric.backward(loss)
            passes.append((step, loss.detach()))

        for part in parts:
            backward = partial(part.gradients, backward, self._trained)
        backward()
        state.lr = float(self.optimizer.param_groups[0]["lr"])
        if (limit := self.settings.clip_norm) is not None:
            self.fabric.clip_gradients(self.network, self.optimizer, max_norm=limit, error_if_nonfinite=False)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.schedule_interval == "step":
            advance(self.scheduler)
        step, loss = passes[0]
        self.losses.add(loss * (batch.size / self.fabric.world_size), batch.size, state.batch)
        on_cpu = self.fabric.device.type == "cpu"
        if self.fabric.world_size == 1 and (on_cpu or state.step % CHECK_STEPS == 0):
            self._check_loss(including_current=True)
        if not batch.padding:
            for part in parts:
                part.after_step(step)

    def _as_step(self, inputs: Any, targets: Tensor, number: int) -> Step:
        def rng(purpose: str, *position: int) -> np.random.Generator:
            return stream(self.seed, purpose, number, *position)

        return Step(self.progress.epoch, number, rng, self.fabric.global_rank, inputs, targets)

    def _check_loss(self, including_current: bool = False) -> None:
        """Raise RunFailed, naming step and samples, if a loss since the last look was not finite or too large."""
        number = self.losses.first_bad()
        if number is None:
            return
        state, now = self.progress, 1 if including_current else 0
        step = state.step + now - (state.batch + now - number) + 1
        samples = self.loader.order(state.epoch)[number].tolist()
        self.writer.join()  # it is said which checkpoint there is
        self.fabric.barrier()
        raise self.losses.breakdown(step, state.epoch, number, samples, self.checkpoints / "last.pt")

    def _walk(self, split: Split | None = None, purpose: str = "walk", shuffled: bool = True) -> Iterator[Step]:
        """Pass over a split once more, see `methods.part.Walk`."""
        epoch = self.progress.epoch
        self.network.train()
        loader = self._loader(split or self.train, augment=split is None, shuffled=shuffled or split is None)
        with torch.no_grad():
            for batch, tensors in self._batches(loader, epoch, purpose=purpose):
                self._reseed(f"{purpose}-dropout", epoch, batch.number)
                step = self._as_step(*loader.split.prepare(*tensors), batch.number)
                with self.fabric.autocast(), uncounted(self.module, batch.padding):
                    step.inputs = self.fabric.strategy.precision.convert_input(step.inputs)
                    step.output, step.features, step.fed = self.module(step.inputs, step.targets, epoch)
                if not batch.padding:
                    yield step

    def _evaluate(self) -> bool:
        """Evaluate on the validation split, record it, count patience; return whether this state is selected."""
        state = self.progress
        if state.history and state.history[-1]["step"] == state.step:
            return False  # a step's evaluation that fell on the end of an epoch
        self._check_loss()
        regions = self.evaluate(self.predict(self.val))
        value = float(regions["all"][self.monitor])
        if not np.isfinite(value):
            raise RunFailed(f"the validation {self.monitor} at step {state.step} is not finite: nothing to select by")
        values = [*state.column(f"val/all/{self.monitor}"), value]
        selected = value < min(values[:-1], default=float("inf")) or self.settings.select == "last"
        if selected:
            state.best, state.best_epoch = value, state.epoch + 1
        state.history.append(
            {
                "epoch": state.epoch + 1,
                "step": state.step,
                "loss": self.losses.mean(),
                "lr": state.lr,
                **{f"val/{region}/{name}": v for region, errors in regions.items() for name, v in errors.items()},
                **reports(self.parts.values()),
            }
        )
        state.finished = state.finished or self.stop(values)
        if self.fabric.is_global_zero:
            self.report(state.history[-1])
        return selected

    def _reseed(self, purpose: str, *position: int) -> None:
        """Seed what layers draw from (dropout). `torch.manual_seed` would queue a call per step for absent GPUs."""
        seed = stream_seed(self.seed, purpose, *position, self.fabric.global_rank)
        torch.default_generator.manual_seed(seed)
        if self.fabric.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _last_step(self) -> bool:
        return self.settings.max_steps is not None and self.progress.step >= self.settings.max_steps

    def _save(self, selected: bool = False) -> None:
        """Have `last.pt` written, everything that the rest of the run depends on, and `best.pt` if this is selected."""
        progress, losses = self.progress, self.losses.state()
        total = self.processes.sum if self.processes.count > 1 else None
        open_states = {name: part.open_state(total) for name, part in self.parts.items()}
        if self.fabric.is_global_zero:
            state = {
                "network": self.module.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict() if self.scheduler is not None else None,
                "precision": self.fabric.strategy.precision.state_dict(),
                "parts": {name: state for name, state in open_states.items() if state},
            }
            # Rows do not change any more; a copy of every one each time would be quadratic.
            plain = {"progress": {**vars(progress), "history": [*progress.history]}, **losses}
            best = {"value": progress.best, "epoch": progress.best_epoch} if selected else None
            self.writer.save(state, plain, best)

    def _restore(self, state: dict[str, Any]) -> None:
        """Take up a checkpoint of this very run."""
        self.module.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        vars(self.progress).update(vars(Progress(**state["progress"])))
        self.losses.load(state, self.fabric.is_global_zero)
        for name, part_state in state["parts"].items():
            self.parts[name].load_open_state(part_state, self.fabric.is_global_zero)


def _drawn(parts: tuple[Part, ...], rng: np.random.Generator) -> IntArray | None:
    return next((drawn for part in parts if (drawn := part.draw(rng)) is not None), None)
