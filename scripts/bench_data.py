"""Time the pixel cache against a plain image loader: `python scripts/bench_data.py [--device cuda]`.

Both give training batches of 224 × 224 faces as published: resized, padded by 16, cropped, mirrored, normalised. The
plain loader is what one writes with torchvision: a Dataset that opens, converts and transforms one JPEG after another
with Pillow, and a DataLoader. Ours reads batches of pixels that were decoded once, and treats each batch as a whole.
JPEGs of 250 to 500 pixels and about 30 KB are written into a temporary folder first.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_common import processor, seconds
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from dir_bench.datasets.base import IntArray
from dir_bench.datasets.pictures.augment import crop_and_flip, draw_crop_and_flip, to_float
from dir_bench.datasets.pictures.decoding import face_decoder
from dir_bench.datasets.pictures.pixels import Store, open_store
from dir_bench.training.loaders import ahead, cut

SIZE, PADDING = 224, 16
MEAN = STD = (0.5, 0.5, 0.5)


class PlainFaces(Dataset[Tensor]):
    """One JPEG after another, as published."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files
        self.transform = transforms.Compose(
            [
                transforms.Resize((SIZE, SIZE)),
                transforms.RandomCrop(SIZE, padding=PADDING),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self.files[index]) as picture:
            tensor: Tensor = self.transform(picture.convert("RGB"))
            return tensor


@dataclass
class CachedFaces:
    """Batches from the store, by the same steps as in training."""

    store: Store
    batch: int
    workers: int
    device: torch.device

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def read(self, indices: IntArray) -> tuple[Tensor, Tensor, Tensor]:
        """Do what happens on the host."""
        shift, flip = draw_crop_and_flip(self.rng, len(indices), PADDING)
        return torch.from_numpy(self.store.read(indices)), shift, flip

    def move(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(tensor.to(self.device) for tensor in inputs)

    def crop(self, pixels: Tensor, shift: Tensor, flip: Tensor) -> Tensor:
        return crop_and_flip(pixels, shift, flip, PADDING)

    def normalise(self, pixels: Tensor) -> Tensor:
        return to_float(pixels, MEAN, STD)

    def order(self) -> list[IntArray]:
        return cut(self.rng.permutation(len(self.store)), self.batch)

    def epoch(self) -> None:
        for inputs in ahead(self.read, self.order(), self.workers):
            self.normalise(self.crop(*self.move(inputs)))


def write_jpegs(folder: Path, n: int) -> list[Path]:
    """Write smooth pictures with a little noise, of uneven sizes."""
    rng = np.random.default_rng(0)
    files = [folder / f"{i:06d}.jpg" for i in range(n)]
    for file in files:
        height, width = rng.integers(250, 501, 2).tolist()
        coarse = rng.integers(0, 256, (height // 20, width // 20, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
        noisy = smooth + rng.normal(0, 3, smooth.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, quality=90)
    if hasattr(os, "sync"):
        os.sync()  # or the cache's own flush would wait for these files too
    return files


def compare(plain: DataLoader[Tensor], ours: CachedFaces, rounds: int) -> tuple[float, float]:
    """Return pictures per second of both: medians of whole epochs in turn, after one of each that does not count."""

    def plain_epoch() -> None:
        for batch in plain:
            batch.to(ours.device)

    plain_times, our_times = [], []
    plain_epoch()
    ours.epoch()
    for _ in range(rounds):
        plain_times.append(seconds(plain_epoch, ours.device))
        our_times += [seconds(ours.epoch, ours.device) for _ in range(10)]  # ours are short
    n = len(ours.store)
    return n / statistics.median(plain_times), n / statistics.median(our_times)


def stages(ours: CachedFaces, rounds: int) -> dict[str, float]:
    """Return pictures per second of each step of ours, taken alone, over whole batches."""
    steps: dict[str, Callable[..., Any]] = {"read": ours.read, "move to the device": lambda *inputs: ours.move(inputs)}
    steps |= {"crop and mirror": ours.crop, "to float": ours.normalise}
    if ours.device.type == "cpu":
        del steps["move to the device"]
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(10 * rounds):
        for indices in ours.order():
            if len(indices) < ours.batch:
                continue
            value: tuple[Any, ...] = (indices,)
            for name, step in steps.items():
                start = time.perf_counter()
                result = step(*value)
                if ours.device.type == "cuda":
                    torch.cuda.synchronize(ours.device)
                taken[name].append(time.perf_counter() - start)
                value = result if isinstance(result, tuple) else (result,)
    return {name: ours.batch / statistics.median(times) for name, times in taken.items()}


def report(device: torch.device, threads: int, rates: dict[str, float], plain: float, cached: float) -> None:
    """Print the machine and one table."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    console = Console(width=120)
    console.print(f"device {device} ({name}), torch {torch.__version__}, {threads} thread(s) or process(es) a loader")
    table = Table("", "pictures/s", "pictures/s a core")
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("plain loader, JPEG to batch", f"{plain:,.0f}", f"{plain / threads:,.0f}")
    table.add_row("dir_bench, cache to batch", f"{cached:,.0f}", f"{cached / threads:,.0f}")
    table.add_section()
    for what, rate in rates.items():
        table.add_row(what, f"{rate:,.0f}", f"{rate / threads:,.0f}")
    console.print(table)
    console.print(f"times faster: {cached / plain:.1f}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1024, help="JPEGs to write and to read")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1, help="of each loader: worker processes of the plain one")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=3, help="epochs of the plain loader; ours runs ten times as many")
    args = parser.parse_args(arguments)
    if not 1 <= args.batch <= args.images:
        parser.error(f"--batch must be from 1 to --images ({args.images})")
    found = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(found if args.device == "auto" else args.device)
    torch.set_num_threads(args.threads)
    workers = args.threads if args.threads > 1 else 0  # one thread: the caller's own
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_jpegs(folder, args.images)
        kilobytes = sum(file.stat().st_size for file in files) / len(files) / 1000
        print(f"{len(files)} JPEGs of {kilobytes:.0f} KB on average, batches of {args.batch}")
        decoder = face_decoder(SIZE)
        decoder.decode(files[0])  # the first use of torchvision is slow
        start = time.perf_counter()
        cache = folder / "cache"
        store = open_store(files, decoder, cache="disk", folder=cache, limit_gb=None, workers=workers, title="faces")
        built = len(files) / (time.perf_counter() - start)
        plain = DataLoader(PlainFaces(files), args.batch, shuffle=True, num_workers=workers)
        ours = CachedFaces(store, args.batch, workers, device)
        rates = compare(plain, ours, args.rounds)
        steps = {f"  {step}": rate for step, rate in stages(ours, args.rounds).items()}
        report(device, args.threads, {**steps, "building the cache, once": built}, *rates)


if __name__ == "__main__":
    main()
