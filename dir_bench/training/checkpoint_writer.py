"""Checkpoints written beside training: the state is copied where training stands, and a thread writes the copy.

The cost is memory: one more copy of the state of network and optimiser on the host, page-locked where training is on
CUDA (torch rounds each page-locked buffer up to a power of two). There is a second one if a checkpoint is due while
one is being written, as in epochs shorter than that takes, and never a third. Buffers are used again and again.
"""

import copy
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, UntypedStorage

from dir_bench.training import checkpoint


@dataclass
class Snapshot:
    """A state on the host, shared with nothing that training changes.

    Attributes:
        state: As given, its tensors on the CPU.
        best: What is to be written as selected; None: nothing.
        buffers: What its tensors lie in, and whether each is page-locked.
        copied: On CUDA, comes after the copies: until then the tensors hold nothing.
    """

    state: dict[str, Any] = field(default_factory=dict)
    best: dict[str, Any] | None = None
    buffers: list[tuple[UntypedStorage, bool]] = field(default_factory=list)
    copied: torch.cuda.Event | None = None


class HostMemory:
    """Buffers for snapshots. It goes by storages, as `torch.save` does: tensors that share one share its copy."""

    def __init__(self) -> None:
        self._free: dict[tuple[int, bool], list[UntypedStorage]] = defaultdict(list)

    def snapshot(self, state: Mapping[str, Any]) -> Snapshot:
        """Copy a state of nested dicts and lists. On CUDA this waits for nothing: later kernels come after the copies.

        The result is as good as the original for `torch.save`: classes, order, strides and sharing are kept.
        """
        taken = Snapshot()
        twins: dict[int, UntypedStorage] = {}

        def on_host(tensor: Tensor) -> Tensor:
            storage, on_cuda = tensor.untyped_storage(), tensor.is_cuda
            twin = twins.get(storage.data_ptr())
            if twin is None:
                twin = twins[storage.data_ptr()] = self._buffer(storage.nbytes(), on_cuda)
                twin.copy_(storage, non_blocking=on_cuda)
                taken.buffers.append((twin, on_cuda))
            empty = tensor.detach().new_empty(0, device="cpu")
            return empty.set_(twin, tensor.storage_offset(), tensor.size(), tensor.stride())

        taken.state = _copied(dict(state), on_host)
        if any(pinned for _, pinned in taken.buffers):
            taken.copied = torch.cuda.current_stream().record_event()
        return taken

    def give_back(self, snapshot: Snapshot) -> None:
        """Let the buffers of a snapshot be used for another one."""
        for buffer, pinned in snapshot.buffers:
            self._free[buffer.nbytes(), pinned].append(buffer)

    def clear(self) -> None:
        """Let go of the buffers that are not in use."""
        self._free.clear()

    def _buffer(self, size: int, pinned: bool) -> UntypedStorage:
        free = self._free[size, pinned]
        return free.pop() if free else torch.empty(size, dtype=torch.uint8, pin_memory=pinned).untyped_storage()


class CheckpointWriter:
    """Writes `last.pt` and `best.pt` of a run, in the order of its steps, on a thread that lives while there is work.

    A newer state takes the place of one whose writing has not begun, except of one that was selected, if the newer one
    is not: every `last.pt` finds the `best.pt` that it speaks of. As a context it ends when all is written.

    Args:
        folder: Where the checkpoints go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._memory = HostMemory()
        self._changed = threading.Condition()
        self._waiting: Snapshot | None = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.join()
        finally:
            self._memory.clear()

    def save(
        self, state: Mapping[str, Any], plain: Mapping[str, Any], selected: Mapping[str, Any] | None = None
    ) -> None:
        """Have the state of this moment written; waits only if a selected one still waits that has to be written.

        Args:
            state: What training goes on changing, its network under "network"; it is copied.
            plain: What else `last.pt` holds. Nobody may change it any more.
            selected: What `best.pt` holds beside the network, if this state was selected.

        Raises:
            DiskFull, OSError, RuntimeError: What went wrong with an earlier one, see `check`.
        """
        with self._changed:
            self._changed.wait_for(lambda: selected is not None or self._waiting is None or self._waiting.best is None)
            replaced, self._waiting = self._waiting, None
        self.check()
        if replaced is not None:
            self._memory.give_back(replaced)
        snapshot = self._memory.snapshot(state)
        if selected is not None:
            snapshot.best = {"network": snapshot.state["network"], **selected}
        snapshot.state.update(plain)
        with self._changed:
            self._waiting = snapshot
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="checkpoints")
                self._thread.start()

    def check(self) -> None:
        """Raise, once, what went wrong on the thread: DiskFull, as `checkpoint.save` would."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def join(self) -> None:
        """Wait until all is written; see `check` for what it raises."""
        with self._changed:
            thread = self._thread
        if thread is not None:
            thread.join()
        self.check()

    def _work(self) -> None:
        while (snapshot := self._next()) is not None:
            try:
                self._write(snapshot)
            except BaseException as error:  # it is raised in the thread that trains
                with self._changed:
                    self._error, self._waiting = error, None
                    self._changed.notify_all()
            self._memory.give_back(snapshot)

    def _next(self) -> Snapshot | None:
        with self._changed:
            snapshot, self._waiting = self._waiting, None
            if snapshot is None:
                self._thread = None
            self._changed.notify_all()
        return snapshot

    def _write(self, snapshot: Snapshot) -> None:
        if snapshot.copied is not None:
            snapshot.copied.synchronize()
        if snapshot.best is not None:  # first: a run goes on from `last.pt`, and would not select it again
            checkpoint.save(self.folder / "best.pt", snapshot.best)
        checkpoint.save(self.folder / "last.pt", snapshot.state)


def _copied(value: Any, on_host: Callable[[Tensor], Tensor]) -> Any:
    """Return a copy that shares nothing with a nested value that could change."""
    if isinstance(value, Tensor):
        return on_host(value)
    if isinstance(value, dict):
        twin = copy.copy(value)  # of the same class, and with what a module's state has beside its items
        for key, item in value.items():
            twin[key] = _copied(item, on_host)  # `update` of a Counter, which a schedule has, would add
        return twin
    if isinstance(value, list | tuple):
        return type(value)(_copied(item, on_host) for item in value)
    return copy.deepcopy(value)
