"""How jobs share this machine: which GPUs and how many threads each worker is given."""

import os
import shutil
import subprocess

from dir_bench.workers import cores


def environments(n_jobs: int | None, threads: int, gpus_per_job: int, gpus: list[str]) -> list[dict[str, str]]:
    """Return the environment variables of each worker.

    Args:
        n_jobs: Workers; None: one for each share of the GPUs, or without GPUs as many as the cores allow.
        threads: Threads of each worker.
        gpus_per_job: GPUs that a worker sees, as many as `trainer.devices` asks for.
        gpus: The GPUs of this machine (`visible_gpus`). More workers than shares take turns at them.
    """
    shares = [gpus[i : i + gpus_per_job] for i in range(0, len(gpus) - gpus_per_job + 1, gpus_per_job)]
    workers = n_jobs or len(shares) or max(1, cores() // threads)
    each = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    seen = [{"CUDA_VISIBLE_DEVICES": ",".join(shares[i % len(shares)])} if shares else {} for i in range(workers)]
    return [{**each, **own} for own in seen]


def visible_gpus() -> list[str]:
    """Return the NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; torch is not needed."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False)
    found = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]
    return [str(i) for i in range(len(found))] if listed.returncode == 0 else []
