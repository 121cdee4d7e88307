"""scripts/bench_methods.py on very little: it sets each method against VANILLA on as many views."""

import importlib
from pathlib import Path

import pytest
import torch


def test_methods_are_set_against_vanilla_on_one_view_and_on_as_many_as_they_need(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "scripts"))
    bench, threads = importlib.import_module("bench_methods"), torch.get_num_threads()
    asked = ["--backbone", "mlp", "--samples", "40", "--batch", "16", "--rounds", "2", "--set", "backbone.hidden=[8,4]"]
    bench.main([*asked, "--methods", "conr"])
    torch.set_num_threads(threads)
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert "mlp, batch 16, 40 samples, 2 rounds" in head
    assert [row.split()[:3] for row in rows] == [["conr", "1", "view"], ["conr", "2", "views"]]
    assert all(float(row.split()[4]) > 0.5 for row in rows)
