"""The processes of one training, started as torchrun would start them."""

import logging
import os
import traceback
from collections.abc import Callable
from contextlib import closing
from typing import Any

import torch

from dir_bench.errors import UserError, last_line
from dir_bench.interrupt import Interrupted
from dir_bench.logs import log_to_stderr
from dir_bench.workers import cores, run_all

GRACE = 2.0
"""Seconds that a training process beside others has to end: it saves nothing, and may wait for one that is gone."""


def launch(count: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in `count` processes of one process group, and return what it gives in the first of them.

    Fabric's own ways do not serve: "ddp" would start this program's command line again, which inside a sweep means the
    whole sweep (Hydra), and the processes of "ddp_spawn" outlive one that ended while they started.

    Raises:
        UserError, OSError, Interrupted: As the function did in the process that was first to fail.
        RuntimeError: It broke down otherwise there.
    """
    # Held here, on a port that the system picks, so that no other program can take it before the processes are there.
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    shared = {
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, cores() // count))),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RUN_ID": "dir_bench",
        "GROUP_RANK": "0",
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
    }
    ranks = [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    first = None
    told = [logging.getLogger("dir_bench").level if rank == 0 else logging.WARNING for rank in range(count)]
    with closing(run_all(_call, [(function, arguments, level) for level in told], ranks, GRACE)) as ended:
        for rank, result in ended:
            if isinstance(result, BaseException):
                raise result
            first = result if rank == 0 else first
    return first


def _call(job: tuple[Callable[..., Any], tuple[Any, ...], int]) -> Any:
    """Call the function; an error is handed back, since in this process it would end as a traceback."""
    function, arguments, level = job
    if level:  # what started us logs by itself
        log_to_stderr(level)
    try:
        return function(*arguments)
    except (UserError, OSError, Interrupted) as error:
        return error
    except Exception:
        told = traceback.format_exc()
        broken = RuntimeError(f"a training process broke down: {last_line(told)}")
        broken.add_note(told)
        return broken
