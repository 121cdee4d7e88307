"""The training loop: steps, evaluations, best-on-validation, patience, checkpoints, exact resume.

It is given built parts and plain functions, so it branches on no dataset and no method. All that it must remember
lies in `Progress` and in state dicts; random numbers are functions of the position (`streams`), so a run that was
killed anywhere repeats itself from its last checkpoint bit for bit.
"""

from __future__ import annotations

import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dir_bench.datasets.base import Split
from dir_bench.errors import RunFailed
from dir_bench.interrupt import Interrupted
from dir_bench.labels import TargetBins
from dir_bench.methods.fds_moments import Moments
from dir_bench.methods.heads import Head
from dir_bench.methods.mixup import Mix, unmixed
from dir_bench.schema import TrainerConfig
from dir_bench.training import checkpoint
from dir_bench.training.loaders import Batch, TrainLoader, eval_batches, on_device
from dir_bench.training.network import Network
from dir_bench.training.streams import stream_seed

if TYPE_CHECKING:
    from lightning_fabric import Fabric

CHECK_STEPS = 50
"""On an accelerator the loss is looked at every so many steps, since each look waits for the device."""

Report = Callable[[dict[str, Any]], None]
Evaluate = Callable[[npt.NDArray[Any]], dict[str, dict[str, Any]]]


@dataclass
class Progress:
    """Where training stands; plain values, so that it can live in a checkpoint."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best: float | None = None
    best_epoch: int | None = None
    since_best: int = 0
    lr: float = 0.0
    finished: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Trainer:
    """Fits a network and predicts with it.

    Attributes:
        network: As set up by `fabric`; its raw module is a `Network`.
        head: What the network's outputs mean: their losses, and the predictions they stand for.
        bin_weights: Weight of each bin, shape ``(b,)``, on the device; None for an unweighted loss.
        evaluate: From validation predictions in label units to errors by region.
        monitor: Which of the errors over all samples decides the best epoch; lower is better.
        checkpoints: Folder of `last.pt` and `best.pt`.
        report: Called by rank zero with each record of the history.
        fds_split: What FDS passes over, without augmentation; None: the training split, as it is trained.
        mix: What mixes the samples of a training batch, if anything does.
        tick: Called after each step with the step's number, for a progress bar.
    """

    fabric: Fabric
    settings: TrainerConfig
    network: Any
    optimizer: Any
    scheduler: Any
    schedule_interval: str
    head: Head
    bin_weights: Tensor | None
    bins: TargetBins
    train: Split
    val: Split
    evaluate: Evaluate
    monitor: str
    seed: int
    checkpoints: Path
    fds_statistics: str = "pass"
    fds_split: Split | None = None
    mix: Mix = unmixed
    report: Report = lambda record: None
    tick: Callable[[int], None] = lambda step: None

    def __post_init__(self) -> None:
        self._bad_batch: Tensor
        self._loss_sum: Tensor
        self.progress = Progress()
        self.module: Network = getattr(self.network, "module", self.network)
        self.loader = self._loader(self.train)
        self._moments: Moments | None = None
        self._reset_epoch_sums()
        self._stop_signal: int | None = None
        self._stopped_at = 0.0

    def _loader(self, split: Split, augment: bool = True) -> TrainLoader:
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
        )

    @property
    def total_steps(self) -> int | None:
        """Steps the run will take unless patience ends it; None if nothing bounds it."""
        bounds = [self.settings.max_steps]
        if self.settings.epochs is not None:
            bounds.append(self.settings.epochs * len(self.loader))
        return min(bound for bound in bounds if bound is not None)

    def fit(self) -> Progress:
        """Train to the end, from the last checkpoint if there is one.

        Raises:
            RunFailed: The loss is not finite, or above `loss_limit`.
            Interrupted: On SIGINT or SIGTERM, after the state was saved.
        """
        if (self.checkpoints / "last.pt").exists():
            self._restore(checkpoint.load(self.checkpoints / "last.pt"))
        with self._catch_signals():
            while not self.progress.finished:
                self.train_epoch()
        return self.progress

    def predict(self, split: Split) -> npt.NDArray[Any]:
        """Return the predictions for all that is judged of a split, in label units and its order, on every process.

        Network outputs are widened to float64 before they are scaled, so saved predictions say all there is.
        """
        self.module.eval()
        places, outputs = [], []
        settings, fabric = self.settings, self.fabric
        batches = eval_batches(split, settings.eval_batch_size, fabric.global_rank, fabric.world_size, settings.workers)
        with torch.no_grad():
            for index, inputs in on_device(batches, fabric):
                inputs, _ = split.prepare(inputs, None)
                with fabric.autocast():
                    output, _ = self.module(inputs)
                there, judged = split.judge(self.head.decode(output.float()), index)
                places.append(there)
                outputs.append(judged)
        mine = torch.cat(outputs).cpu() if outputs else torch.zeros(0)
        place = torch.cat(places) if places else torch.zeros(0, dtype=torch.int64)
        whole = np.full(len(split.judged), np.nan)
        for there, values in self._gather(place, mine):
            whole[there.numpy()] = values.double().numpy()
        return whole * self.head.target_scale

    def train_epoch(self) -> None:
        """Run one epoch, or what is left of it, and what follows it: FDS statistics, schedule, evaluation."""
        state, settings = self.progress, self.settings
        fds = self.module.fds
        if fds is not None and self.fds_statistics == "stream" and self._moments is None:
            self._moments = fds.new_moments()
        saved = time.monotonic()
        for batch, tensors in self._batches(self.loader, state.epoch, state.batch):
            self._step(batch, *self.train.prepare(*tensors))
            state.batch, state.step = batch.number + 1, state.step + 1
            self.tick(state.step)
            if self._last_step():
                break
            if settings.eval_unit == "step" and state.step % settings.eval_every == 0:
                self._evaluate()
                if state.finished:
                    return
            if self._stop_signal is not None:
                self._check_loss()
                self._save()
                raise Interrupted(self._stop_signal, state.step)
            # Clocks of several processes differ, and a save takes all of them.
            if self.fabric.world_size == 1 and time.monotonic() - saved > 60 * settings.checkpoint_minutes:
                self._check_loss()
                self._save()
                saved = time.monotonic()
        self._check_loss()
        if fds is not None and state.epoch >= fds.start_update:
            self.collect_statistics()
        if self.schedule_interval == "epoch":
            self._advance_schedule()
        last = self._last_step() or state.epoch + 1 == settings.epochs
        due = settings.eval_unit == "epoch" and (state.epoch + 1) % settings.eval_every == 0
        if due or last:
            self._evaluate(save=False)
        state.finished = state.finished or last
        state.epoch, state.batch = state.epoch + 1, 0
        self._moments = None
        self._reset_epoch_sums()
        self._save()
        if self._stop_signal is not None:
            raise Interrupted(self._stop_signal, state.step)

    def _batches(
        self, loader: TrainLoader, epoch: int, first: int = 0, purpose: str = "order"
    ) -> Iterator[tuple[Batch, tuple[Any, Tensor]]]:
        """Yield the batches of an epoch, each with its inputs and targets on the device."""
        batches = loader.batches(epoch, first, purpose)
        return on_device(((batch, (batch.inputs, batch.targets)) for batch in batches), self.fabric)

    def _step(self, batch: Batch, inputs: Any, targets: Tensor) -> None:
        """Take one optimiser step. Nothing here waits for the device."""
        fabric = self.fabric
        self.network.train()
        self._reseed("dropout", self.progress.step)
        with self.mix(self.progress.step, inputs, targets) as (inputs, targets):
            prediction, features = self.network(inputs, targets, self.progress.epoch)
        loss = self._loss_sum_of(prediction, targets) * (0.0 if batch.padding else fabric.world_size / batch.size)
        fabric.backward(loss)
        self.progress.lr = float(self.optimizer.param_groups[0]["lr"])
        if self.settings.clip_norm is not None:
            limit = self.settings.clip_norm
            fabric.clip_gradients(self.network, self.optimizer, max_norm=limit, error_if_nonfinite=False)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.schedule_interval == "step":
            self._advance_schedule()
        self._watch(loss.detach() * (batch.size / fabric.world_size), batch.size)
        if self._moments is not None and not batch.padding:
            self._moments.add(features.detach(), targets)

    def _loss_sum_of(self, prediction: Tensor, targets: Tensor) -> Tensor:
        """Return the weighted loss summed over this process's samples (its mean over a sample's pixels).

        In float32 at least.
        """
        prediction = prediction.to(torch.promote_types(prediction.dtype, torch.float32))
        if targets.dim() == 1:
            targets = targets.unsqueeze(-1)
        losses = self.head.losses(prediction, targets)
        if self.bin_weights is not None:
            losses = losses * self.bin_weights[self.bins.index(targets)]
        return losses.flatten(1).mean(1).sum()

    def _watch(self, loss_sum: Tensor, samples: int) -> None:
        """Add to the epoch's mean loss, and remember the first step whose loss was bad, without waiting for it."""
        limit = self.settings.loss_limit * samples
        bad = ~(loss_sum.abs() <= limit)  # true for NaN too
        self._bad_batch = torch.where(bad & (self._bad_batch < 0), self.progress.batch, self._bad_batch)
        self._loss_sum += loss_sum.double()
        self._loss_count += samples
        on_cpu = self.fabric.device.type == "cpu"
        if self.fabric.world_size == 1 and (on_cpu or self.progress.step % CHECK_STEPS == 0):
            self._check_loss(including_current=True)

    def _check_loss(self, including_current: bool = False) -> None:
        """Raise RunFailed, naming step and samples, if a loss since the last look was not finite or too large."""
        bad = self._reduce(self._bad_batch.clone(), "max")
        number = int(bad)
        if number < 0:
            return
        done = self.progress.batch + (1 if including_current else 0)
        step = self.progress.step + (1 if including_current else 0) - (done - number) + 1
        samples = self.loader.order(self.progress.epoch)[number].tolist()
        last = self.checkpoints / "last.pt"
        kept = f"the last good checkpoint is {last}" if last.exists() else "there is no checkpoint before it"
        shown = ", ".join(map(str, samples[:16])) + (", …" if len(samples) > 16 else "")
        raise RunFailed(
            f"the training loss is not finite, or above trainer.loss_limit={self.settings.loss_limit:g}, "
            f"at step {step} (epoch {self.progress.epoch + 1}, batch {number + 1}, training samples {shown}); {kept}; "
            f"try a lower optimizer.lr or trainer.clip_norm"
        )

    def collect_statistics(self) -> None:
        """Give FDS the statistics of this epoch: those gathered on the way, or from a second pass as published."""
        fds, epoch = self.module.fds, self.progress.epoch
        assert fds is not None
        if self.fds_statistics == "pass":
            # As in the published code: training mode, so dropout acts and batch norm's running averages move once
            # more, over augmented and newly shuffled batches (NYUD2: over a subset, not augmented).
            self._moments = fds.new_moments()
            self.network.train()
            split = self.train if self.fds_split is None else self.fds_split
            loader = self._loader(split, augment=self.fds_split is None)
            with torch.no_grad():
                for batch, tensors in self._batches(loader, epoch, purpose="fds"):
                    self._reseed("fds-dropout", epoch, batch.number)
                    inputs, targets = split.prepare(*tensors)
                    with self.fabric.autocast():
                        _, features = self.module(inputs, targets, epoch)
                    if not batch.padding:
                        self._moments.add(features, targets)
        assert self._moments is not None
        self._moments.reduce(lambda tensor: self._reduce(tensor, "sum"))
        fds.end_epoch(self._moments, epoch)

    def _evaluate(self, save: bool = True) -> None:
        """Evaluate on the validation split, record it, keep the best, count patience."""
        state = self.progress
        if state.history and state.history[-1]["step"] == state.step:
            return  # a step's evaluation that fell on the end of an epoch
        self._check_loss()
        regions = self.evaluate(self.predict(self.val))
        value = float(regions["all"][self.monitor])
        if not np.isfinite(value):
            raise RunFailed(f"the validation {self.monitor} at step {state.step} is not finite: nothing to select by")
        state.since_best += 1
        if state.best is None or value < state.best:
            state.best, state.best_epoch, state.since_best = value, state.epoch + 1, 0
            if self.fabric.is_global_zero:
                best = {"network": self.module.state_dict(), "value": value, "epoch": state.best_epoch}
                checkpoint.save(self.checkpoints / "best.pt", best)
        loss = self._reduce(self._loss_sum.clone(), "sum") / max(self._loss_count, 1)
        state.history.append(
            {
                "epoch": state.epoch + 1,
                "step": state.step,
                "loss": float(loss),
                "lr": state.lr,
                **{f"val/{region}/{name}": v for region, errors in regions.items() for name, v in errors.items()},
                **self._smoothing_distance(),
            }
        )
        if self.settings.patience is not None and state.since_best >= self.settings.patience:
            state.finished = True
        if self.fabric.is_global_zero:
            self.report(state.history[-1])
        if save:
            self._save()

    def _smoothing_distance(self) -> dict[str, float]:
        """Return how far FDS has its statistics from themselves smoothed, once it has some."""
        fds = self.module.fds
        if fds is None or not fds.num_samples_tracked.any():
            return {}
        mean, variance = fds.smoothing_distance().tolist()
        return {"fds/mean_distance": mean, "fds/variance_distance": variance}

    def _reseed(self, purpose: str, *position: int) -> None:
        """Seed what layers draw from (dropout). `torch.manual_seed` would queue a call per step for absent GPUs."""
        seed = stream_seed(self.seed, purpose, *position, self.fabric.global_rank)
        torch.default_generator.manual_seed(seed)
        if self.fabric.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _advance_schedule(self) -> None:
        if self.scheduler is None:
            return
        with warnings.catch_warnings():
            # A run resumed at an epoch's end has stepped its optimiser, but in the process before this one.
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            self.scheduler.step()

    def _last_step(self) -> bool:
        return self.settings.max_steps is not None and self.progress.step >= self.settings.max_steps

    def _reset_epoch_sums(self) -> None:
        device = self.fabric.device
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self._loss_sum = torch.zeros((), dtype=dtype, device=device)
        self._loss_count = 0
        self._bad_batch = torch.full((), -1, dtype=torch.int64, device=device)

    def _save(self) -> None:
        """Write `last.pt`: everything that the rest of the run depends on."""
        loss_sum = self._reduce(self._loss_sum.clone(), "sum")
        moments = None if self._moments is None else self._moments.state_dict()
        if moments is not None and self.fabric.world_size > 1:
            whole = self.module.fds.new_moments()  # type: ignore[union-attr]
            whole.load_state_dict(moments)
            whole.reduce(lambda tensor: self._reduce(tensor, "sum"))
            moments = whole.state_dict()
        if self.fabric.is_global_zero:
            state = {
                "network": self.module.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict() if self.scheduler is not None else None,
                "precision": self.fabric.strategy.precision.state_dict(),
                "progress": asdict(self.progress),
                "moments": moments,
                "loss_sum": float(loss_sum),
                "loss_count": self._loss_count,
            }
            checkpoint.save(self.checkpoints / "last.pt", state)

    def _restore(self, state: dict[str, Any]) -> None:
        """Take up a checkpoint of this very run."""
        self.module.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.progress = Progress(**state["progress"])
        # Sums over processes are in the checkpoint; rank zero alone takes them up, so that they count once.
        self._reset_epoch_sums()
        self._loss_count = state["loss_count"]
        if self.fabric.is_global_zero:
            self._loss_sum.fill_(state["loss_sum"])
        if state["moments"] is not None and self.module.fds is not None:
            self._moments = self.module.fds.new_moments()
            if self.fabric.is_global_zero:
                self._moments.load_state_dict(state["moments"])

    def _reduce(self, tensor: Tensor, how: str) -> Tensor:
        """Return a tensor reduced over processes by "sum" or "max"."""
        if self.fabric.world_size == 1:
            return tensor
        operation = {"sum": torch.distributed.ReduceOp.SUM, "max": torch.distributed.ReduceOp.MAX}[how]
        torch.distributed.all_reduce(tensor, operation)
        return tensor

    def sum_over_processes(self, tensor: Tensor) -> Tensor:
        """Return the sum of every process's tensor; it is summed in place."""
        return self._reduce(tensor, "sum")

    def _gather(self, *tensors: Tensor) -> list[tuple[Tensor, ...]]:
        """Return every process's tuple of CPU tensors."""
        if self.fabric.world_size == 1:
            return [tensors]
        parts: list[Any] = [None] * self.fabric.world_size
        torch.distributed.all_gather_object(parts, tensors)
        return parts

    @contextmanager
    def _catch_signals(self) -> Iterator[None]:
        """In one process, let SIGINT and SIGTERM finish the step and save. With several, each ends where it is.

        Several processes would have to agree on the step to stop at, which costs a reduction per step; their last
        checkpoint is at most an epoch, or `checkpoint_minutes`, old.
        """

        def note(number: int, frame: FrameType | None) -> None:
            # One Ctrl-C reaches a sweep's worker twice: from the terminal, and from the process that started it.
            again = self._stop_signal is not None and time.monotonic() - self._stopped_at > 2
            if self.fabric.world_size > 1 or again:
                raise Interrupted(number, self.progress.step)
            if self._stop_signal is None:
                self._stop_signal, self._stopped_at = number, time.monotonic()

        try:
            before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread: whoever runs us there handles signals
            yield
            return
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def freeze(module: nn.Module) -> None:
    """Keep a module's weights as they are; its layers stay in training mode, as in the published RRT."""
    module.requires_grad_(False)
