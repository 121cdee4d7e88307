"""The scripts that time training, on very little: that they go through the trainer of today, and what they tell."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from dir_bench import assembly
from dir_bench.backbones import bilstm


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "scripts"))
    threads = torch.get_num_threads()
    yield importlib.import_module
    torch.set_num_threads(threads)


def test_methods_are_set_against_vanilla_on_one_view_and_on_as_many_as_they_need(scripts, capsys):
    asked = ["--backbone", "mlp", "--samples", "40", "--batch", "16", "--rounds", "2", "--set", "backbone.hidden=[8,4]"]
    scripts("bench_methods").main([*asked, "--methods", "conr"])
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert "mlp, batch 16, 40 samples, 2 rounds" in head
    assert [row.split()[:3] for row in rows] == [["conr", "1", "view"], ["conr", "2", "views"]]
    assert all(float(row.split()[4]) > 0.5 for row in rows)


def test_training_is_set_against_its_ceiling(scripts, capsys):
    asked = ["--images", "24", "--batch", "8", "--backbone", "cnn", "--rounds", "1"]
    small = ["dataset.source.size=8", "dataset.source.padding=0", "backbone.channels=[4]", "backbone.feature_dim=4"]
    bench = scripts("bench_train")
    bench.main([*asked, "--variants", "trainer", "--set", *small, "dataset.standardize=true"])
    *firsts, _, _, ceiling, trainer, last = capsys.readouterr().out.splitlines()
    assert [line.partition(", ")[2] for line in firsts] == ["trainer", bench.CEILING]
    assert ceiling.split()[-5:] == ["+0.0", "%", ceiling.split()[-3], "%", "unknown"]
    assert trainer.split()[-3:] == ["+0.0", "%", "unknown"]
    assert last.startswith("median of 1 rounds")
    # Convolution 2 · 16 · 4 · 27, then 2 · 64 · 4 and 2 · 4; backward twice that, but the pictures need no gradient.
    assert f"{(2 * 3456 + 3 * (512 + 8)) / 1e9:.3g} GFLOP an image" in last


def test_the_peak_is_that_of_the_card(scripts):
    assert scripts("bench_common").peak("NVIDIA A100-SXM4-80GB") == 312e12
    assert scripts("bench_common").peak("NVIDIA H100 PCIe") is None


def test_the_share_of_fds_in_an_epoch_is_told(scripts, capsys):
    small = ["n_train=48", "n_val_per_bin=1", "n_test_per_bin=1", "size=16"]
    changed = [*(f"dataset.source.{each}" for each in small), "backbone.channels=[4]", "backbone.feature_dim=4"]
    scripts("bench_epoch").report("cpu", 1, changed)
    first, *shares, last = capsys.readouterr().out.splitlines()
    assert "without FDS" in first
    assert [share.split()[0] for share in shares] == ["stream:", "pass:"]
    assert float(last.split()[-3]) > 0


def test_checkpoints_are_written_in_the_foreground_in_the_background_and_not_at_all(scripts, capsys):
    small = ["n_train=48", "n_val_per_bin=1", "n_test_per_bin=1", "size=16"]
    changed = [*(f"dataset.source.{each}" for each in small), "backbone.channels=[4]", "backbone.feature_dim=4"]
    bench = scripts("bench_checkpoints")
    bench.main(["--epochs", "2", "--rounds", "1", "--set", *changed])
    head, _, *rows, last = capsys.readouterr().out.splitlines()
    assert "last.pt 0.0 MiB" in head
    assert [row.strip().startswith(name) for row, name in zip(rows, bench.WRITERS, strict=True)] == [True] * 3
    assert rows[0].split()[-4] == "+0.000"
    assert float(rows[1].split()[-1]) > 0
    assert last.startswith("median of 1 rounds of 2 epochs")


def test_cached_pictures_are_set_against_plain_ones(scripts, capsys):
    scripts("bench_data").main(["--images", "6", "--batch", "4", "--rounds", "1"])
    *_, last = capsys.readouterr().out.splitlines()
    assert last.startswith("times faster: ")
    assert float(last.split()[-1]) > 0


def test_an_epoch_on_a_cpu_is_timed_with_what_makes_it_quick_taken_back(scripts, capsys, monkeypatch, tmp_path):
    bench = scripts("bench_cpu")
    for module, name in ((assembly, "keep_freed_memory"), (bilstm, "packed_lstm")):
        monkeypatch.setattr(module, name, getattr(module, name))  # to be put back
    small = ["n_train=48", "n_val_per_bin=1", "n_test_per_bin=1", "size=16"]
    changed = [*(f"dataset.source.{each}" for each in small), "backbone.channels=[4]", "backbone.feature_dim=4"]
    bench.prepare([*bench.TASKS["gauge"], *changed], tmp_path, 1, bench.WAYS["all as before"])
    assert bench.trainers[0].optimizer.param_groups[0]["fused"] is False
    assert bench.epoch() > 0
    bench.report("gauge", {bench.NOW: [1.0, 2.0, 4.0], "all as before": [1.5, 4.0, 8.0]})
    now, before = capsys.readouterr().out.splitlines()[-2:]
    assert now.split() == ["now", "2.00", "1.00", "1.00", "1.00"]
    assert before.split()[3:] == ["4.00", "1.50", "2.00", "1.50"]
