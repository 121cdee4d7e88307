"""A checkpoint that is damaged, or another run's, is a sentence."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dir_bench.errors import UserError
from dir_bench.training import checkpoint


def altered(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path, dict[str, Any]], None]:
    def write(path: Path, state: dict[str, Any]) -> None:
        held = dict(state)
        changed = change(held)
        torch.save(held if changed is None else changed, path)

    return write


def wrong_byte(path: Path) -> None:
    """Change a byte of a weight: torch reads that, and other numbers come out."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda info: info.file_size)
    content[largest.header_offset + 200 + largest.file_size // 2] ^= 0xFF
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path, dict[str, Any]], Any]] = {
    "empty": lambda path, state: path.write_bytes(b""),
    "bytes": lambda path, state: path.write_bytes(b"\x80\x04" * 99),
    "a folder": lambda path, state: path.mkdir(),
    "a pipe": lambda path, state: os.mkfifo(path),
    "a loop": lambda path, state: path.symlink_to(path.name),
    "missing": lambda path, state: None,
    "a wrong byte": lambda path, state: (torch.save(state, path), wrong_byte(path)),
    "a list": altered(lambda state: [1]),
    "an empty dict": altered(lambda state: {}),
    "another network": altered(lambda state: state.update(network={"w": torch.zeros(3)})),
    "weights by number": altered(lambda state: state.update(network=dict.fromkeys(state["network"], 3))),
    "other shapes": altered(lambda state: state.update(network={k: v[None] for k, v in state["network"].items()})),
    "numbers for names": altered(lambda state: state.update(network={1: torch.zeros(1)})),
    "a network by number": altered(lambda state: state.update(network=3)),
}
LAST = {
    **{name: DAMAGES[name] for name in ("bytes", "a wrong byte", "an empty dict", "another network")},
    "no optimiser": altered(lambda state: state.update(optimizer={})),
    "progress of another program": altered(lambda state: state.update(progress={"steps": 1})),
    "parts by number": altered(lambda state: state.update(parts=3)),
}
FITS_NOT = ("another network", "weights by number", "other shapes", "numbers for names", *list(LAST)[3:])


def test_a_checkpoint_that_does_not_fit_is_a_sentence(commands: Callable[..., str], tmp_path: Path) -> None:
    few = ["dataset.source.n_train=200", "dataset.source.n_val_per_bin=1", "dataset.source.n_test_per_bin=1"]
    train = ["train", "trainer.epochs=1", *few, "trainer.feature_statistics=false", "trainer.figures=false"]
    commands(train)
    (run,) = (path.parent for path in tmp_path.glob("outputs/*/*/*/DONE"))
    for name, damages, verb in (("best.pt", DAMAGES, ["evaluate", "RUN"]), ("last.pt", LAST, train)):
        path = run / "checkpoints" / name
        state = checkpoint.load(path)
        for what, damage in damages.items():
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
            damage(path, state)
            if name == "last.pt":
                (run / "DONE").unlink(missing_ok=True)
            said = commands(verb, code=1 if what in FITS_NOT else 2)
            assert f"error: the checkpoint {path.relative_to(tmp_path)}" in said or "error: no checkpoint" in said, what
            assert "Traceback" not in said, what


def test_a_run_whose_best_checkpoint_was_lost_says_how_to_begin_anew(
    commands: Callable[..., str], tmp_path: Path
) -> None:
    few = ["dataset.source.n_train=200", "dataset.source.n_val_per_bin=1", "dataset.source.n_test_per_bin=1"]
    train = ["train", "trainer.epochs=1", *few, "trainer.feature_statistics=false", "trainer.figures=false"]
    commands(train)
    (done,) = tmp_path.glob("outputs/*/*/*/DONE")
    done.unlink()
    (done.parent / "checkpoints" / "best.pt").unlink()
    said = commands(train, code=2)
    run = done.parent.relative_to(tmp_path)
    assert f"no checkpoint at {run}/checkpoints/best.pt: fetch it anew, or remove the run's folder {run} to" in said


def test_a_selected_checkpoint_has_its_parts(tmp_path: Path) -> None:
    torch.save({"network": {}, "value": 1.0}, tmp_path / "best.pt")
    with pytest.raises(UserError, match="has no 'epoch'"):
        checkpoint.load_best(tmp_path / "best.pt")


def test_the_state_of_an_older_form_is_refused_in_a_sentence(tmp_path: Path) -> None:
    """What was written before methods were made of parts has `moments` of FDS, and no `parts`."""
    checkpoint.save(tmp_path / "last.pt", {"network": {}, "moments": None, "loss_sum": 0.0, "loss_count": 0})
    with pytest.raises(UserError, match=r"last\.pt was written before methods were made of parts.*start again"):
        checkpoint.load_last(tmp_path / "last.pt")
