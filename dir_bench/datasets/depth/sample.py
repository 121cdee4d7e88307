"""Made-up rooms in NYUD2-DIR's on-disk format: pictures of 640 × 480 and depth as 8- or 16-bit PNG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dir_bench.errors import UserError
from dir_bench.lazy import Lazy

if TYPE_CHECKING:
    from PIL import Image
else:
    Image = Lazy("PIL.Image")

MADE_UP = "standin_room"
"""Scenes of stand-ins begin with this, so that `data check` tells them from the real ones."""
WIDTH, HEIGHT = 640, 480
FRAMES = 4
"""Frames of a scene at most."""
NEAREST, FARTHEST = 0.7, 9.99


def write_rooms(folder: Path, n_train: int, n_test: int, seed: int) -> None:
    """Write `n_train` training frames (JPEG, 8-bit depth) in scenes of up to four, and `n_test` test frames.

    UserError if there are too few frames for two scenes.
    """
    if n_train < 2:
        raise UserError(f"{n_train} training images are too few to hold a scene out: ask for 2 or more (--size)")
    frames = min(FRAMES, n_train // 2)
    for i in range(n_train):
        scene = folder / "nyu2_train" / f"{MADE_UP}_{i // frames:04d}_out"
        scene.mkdir(parents=True, exist_ok=True)
        picture, depth = _room(np.random.default_rng([seed, 0, i]))
        Image.fromarray(picture).save(scene / f"{i % frames + 1}.jpg", quality=90)
        Image.fromarray(np.rint(depth / 10 * 255).astype(np.uint8)).save(scene / f"{i % frames + 1}.png")
    (folder / "nyu2_test").mkdir(parents=True, exist_ok=True)
    for i in range(n_test):
        picture, depth = _room(np.random.default_rng([seed, 1, i]))
        Image.fromarray(picture).save(folder / "nyu2_test" / f"{i:05d}_colors.png")
        Image.fromarray(np.rint(depth * 1000).astype(np.uint16)).save(folder / "nyu2_test" / f"{i:05d}_depth.png")


def _room(rng: np.random.Generator) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    """Return a picture, uint8 ``(480, 640, 3)``, and its depth in metres: floor, ceiling, three walls and some boxes.

    Light falls off with distance, so depth can be learnt.
    """
    across = (np.arange(WIDTH) - WIDTH / 2)[None, :] / 520
    down = (np.arange(HEIGHT) - HEIGHT / 2)[:, None] / 520
    back = rng.uniform(3.5, 11.0)
    half_width, up, floor = rng.uniform(1.5, 3.5), rng.uniform(0.8, 1.6), rng.uniform(0.9, 1.5)
    # Along each ray, the nearest of: back wall, side walls, floor, ceiling.
    with np.errstate(divide="ignore"):
        sides = half_width / np.abs(across + rng.uniform(-0.1, 0.1))
        level = np.where(down > 0, floor / down.clip(1e-6), up / (-down).clip(1e-6))
    depth = np.minimum(np.minimum(sides, level), back)
    colour = rng.uniform(0.5, 1.0, (3, 3))
    surface = np.select([depth == back, depth == level], [0, 1], 2)
    for _ in range(rng.integers(1, 5)):
        distance = rng.uniform(0.8, min(back, 6.0))
        x, y = rng.uniform(-0.5, 0.5), rng.uniform(-0.1, 0.45)
        inside = (np.abs(across - x) < 0.35 / distance) & (np.abs(down - y) < 0.45 / distance) & (depth > distance)
        depth = np.where(inside, distance, depth)
    depth = depth.clip(NEAREST, FARTHEST)
    light = 1.1 / (1 + 0.25 * depth) + rng.normal(0, 0.02, depth.shape)
    picture = np.rint(255 * (colour[surface] * light[..., None]).clip(0, 1)).astype(np.uint8)
    return picture, depth
