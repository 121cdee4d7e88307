"""The real command in a folder of its own, on runs of a second."""

from pathlib import Path

import pytest

from dir_bench.datasets.arrays import Arrays

TINY = [
    "dataset=arrays", "trainer.epochs=2", "trainer.batch_size=64", "backbone.hidden=[8]", "trainer.threads=1",
    "trainer.figures=false",
    "dataset.regions.many_over=40", "dataset.regions.few_under=8", "trainer.accelerator=cpu",
]  # fmt: skip

SWEEP = """\
# @package hydra.sweeper
# For tests.
params: {{seed: "0,1"}}
grids:
  - {{{axes}, method: "vanilla,sqinv"}}
  - {{{axes}, method: sqinv_lds, lds.sigma: "1,2"}}
"""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with a small dataset, and a sweep `own/sweep/tiny.yaml` of eight runs on it."""
    Arrays(str(tmp_path / "data" / "arrays")).sample(tmp_path / "data" / "arrays", n=300)
    axes = ", ".join(f'{key}: "{value}"' for key, value in (text.split("=") for text in TINY))
    (tmp_path / "own" / "sweep").mkdir(parents=True)
    (tmp_path / "own" / "sweep" / "tiny.yaml").write_text(SWEEP.format(axes=axes))
    return tmp_path
