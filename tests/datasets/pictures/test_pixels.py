"""Stores of pixels and the cache on the disk: contents, one build for all, damage, kills, limits."""

import json
import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from dir_bench.datasets.pictures import pixels as module
from dir_bench.datasets.pictures.decoding import Decoder, face_decoder
from dir_bench.datasets.pictures.pixels import ArrayStore, FileStore, MemmapStore, Store, open_store, reserve
from dir_bench.errors import UserError

SIZE = 16
ENTRY_BYTES = 128 + 6 * SIZE * SIZE * 3
"""Of the six pictures that `files` writes: the header of a .npy file, and the pixels."""


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return write_pictures(tmp_path / "pictures", 6)


def write_pictures(folder: Path, n: int) -> list[Path]:
    """Write `n` pictures; the one at place i is of level 10 · i."""
    folder.mkdir(parents=True)
    paths = [folder / f"{i}.png" for i in range(n)]
    for i, path in enumerate(paths):
        Image.fromarray(np.full((20, 24, 3), 10 * i, np.uint8)).save(path)
    return paths


def open_(files: list[Path], folder: Path, cache: str = "disk", **options) -> Store:
    arguments = {"limit_gb": None, "workers": 2, "title": "faces", **options}
    return open_store(files, face_decoder(SIZE), cache=cache, folder=folder, **arguments)  # type: ignore[arg-type]


def entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def count_decodes(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    decoded: list[Path] = []
    decode_all = module.decode_all

    def counting(files, decoder, **options):
        decoded.extend(files)
        return decode_all(files, decoder, **options)

    monkeypatch.setattr(module, "decode_all", counting)
    return decoded


@pytest.mark.parametrize("cache", ["none", "disk", "ram"])
@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_come_in_the_order_asked(files: list[Path], tmp_path: Path, cache: str, workers: int) -> None:
    store = open_(files, tmp_path / "cache", cache, workers=workers)
    assert isinstance(store, {"none": FileStore, "disk": MemmapStore, "ram": ArrayStore}[cache])
    assert (len(store), store.shape, store.dtype) == (6, (SIZE, SIZE, 3), np.uint8)
    batch = store.read(np.array([4, 0, 5, 4, 1]))
    assert batch.shape == (5, SIZE, SIZE, 3)
    assert batch.min(axis=(1, 2, 3)).tolist() == batch.max(axis=(1, 2, 3)).tolist() == [40, 0, 50, 40, 10]
    assert store.read(np.array([], np.int64)).shape == (0, SIZE, SIZE, 3)
    batch[:] = 7  # the caller's own
    assert store.read(np.array([4]))[0, 0, 0, 0] == 40


@pytest.mark.parametrize("cache", ["none", "disk", "ram"])
def test_a_store_travels_to_another_process(files: list[Path], tmp_path: Path, cache: str) -> None:
    store = open_(files, tmp_path / "cache", cache)
    again = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(again.read(np.array([3, 1])), store.read(np.array([3, 1])))
    if cache == "disk":
        assert len(pickle.dumps(store)) < 1000  # its path, not its pixels


def test_a_cache_is_built_once(files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = count_decodes(monkeypatch)
    for _ in range(3):
        open_(files, tmp_path / "cache")
    assert decoded == files
    (entry,) = entries(tmp_path / "cache")
    assert sorted(path.name for path in entry.iterdir()) == ["about.json", "pixels.npy", "used"]
    assert (entry / "pixels.npy").stat().st_size == ENTRY_BYTES
    assert np.load(entry / "pixels.npy")[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50]  # any reader of .npy will do


def test_runs_that_start_together_build_it_once(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = count_decodes(monkeypatch)
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: open_(files, tmp_path / "cache"), range(4)))
    assert decoded == files
    assert {store.read(np.arange(6)).tobytes() for store in stores} == {stores[0].read(np.arange(6)).tobytes()}


def test_files_sizes_and_decoders_have_entries_of_their_own(files: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    open_(files, folder)
    open_(files[::-1], folder)
    open_store(files, face_decoder(8), cache="disk", folder=folder, limit_gb=None, workers=0, title="faces")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(files[2])
    store = open_(files, folder)
    assert len(entries(folder)) == 4
    assert len(np.unique(store.read(np.array([2])))) > 100


def test_damaged_files_are_named_and_no_entry_is_left(files: list[Path], tmp_path: Path) -> None:
    files[1].write_bytes(files[1].read_bytes()[:60])
    files[4].write_bytes(b"")
    for cache in ("disk", "ram"):
        with pytest.raises(UserError) as caught:
            open_(files, tmp_path / "cache", cache)
        assert str(files[1]) in str(caught.value)
        assert f"{files[4]} cannot be decoded (it is empty)" in str(caught.value)
    assert entries(tmp_path / "cache") == []


@pytest.mark.parametrize("cache", ["none", "disk", "ram"])
def test_missing_files_are_named_before_anything_is_decoded(files: list[Path], tmp_path: Path, cache: str) -> None:
    files[3].unlink()
    with pytest.raises(UserError, match=r"3\.png is missing"):
        open_(files, tmp_path / "cache", cache)


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: (entry / "about.json").write_text("{"),
        lambda entry: (entry / "about.json").unlink(),
        lambda entry: (entry / "about.json").write_text("{}"),
        lambda entry: (entry / "pixels.npy").unlink(),
        lambda entry: os.truncate(entry / "pixels.npy", 1000),
        lambda entry: os.truncate(entry / "pixels.npy", ENTRY_BYTES + 1),
        lambda entry: (entry / "pixels.npy").write_bytes(bytes(ENTRY_BYTES)),
    ],
)
def test_a_damaged_entry_is_built_again(files: list[Path], tmp_path: Path, damage) -> None:
    open_(files, tmp_path / "cache")
    damage(entries(tmp_path / "cache")[0])
    assert open_(files, tmp_path / "cache").read(np.array([5]))[0, 0, 0, 0] == 50
    assert len(entries(tmp_path / "cache")) == 1


KILLED = """
import sys, time
from pathlib import Path
import numpy as np
from dir_bench.datasets.pictures.decoding import Decoder
from dir_bench.datasets.pictures.pixels import open_store

def decode(path):
    if path.name == "40.png":
        print("building", flush=True)
        time.sleep(60)
    return np.ones((16, 16, 3), np.uint8)

files = sorted(Path(sys.argv[1]).iterdir(), key=lambda path: int(path.stem))
decoder = Decoder("face-1", (16, 16, 3), np.dtype(np.uint8), decode)
open_store(files, decoder, cache="disk", folder=Path(sys.argv[2]), limit_gb=None, workers=0, title="faces")
"""


def test_a_killed_build_is_not_taken_for_a_cache_and_is_cleared_away(tmp_path: Path) -> None:
    files, folder = write_pictures(tmp_path / "many", 26), tmp_path / "cache"
    for i in range(26, 48):
        files.append(files[0].with_name(f"{i}.png"))
        files[-1].write_bytes(files[0].read_bytes())
    with subprocess.Popen([sys.executable, "-c", KILLED, files[0].parent, folder], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"building\n"
        process.send_signal(signal.SIGKILL)
    (leftover,) = entries(folder)
    assert leftover.name.startswith(".")
    assert (leftover / "pixels.npy").stat().st_size > 32 * 16 * 16 * 3  # it was well under way
    open_(files[:2], folder)  # another entry
    assert not leftover.exists()
    assert open_(files, folder).read(np.array([25]))[0, 0, 0, 0] == 250
    assert not any(path.name.startswith(".") for path in folder.iterdir())


def test_a_full_disk_is_foreseen(files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: SimpleNamespace(free=ENTRY_BYTES - 1))
    with pytest.raises(UserError) as caught:
        open_(files, tmp_path / "cache")
    message = str(caught.value)
    assert f"take 0.0 GB in {tmp_path / 'cache'}, where 0.0 GB are free" in message
    assert all(way in message for way in ("cache_dir", "cache=ram", "cache=none"))
    assert entries(tmp_path / "cache") == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full stands in for a full disk")
def test_a_disk_that_fills_up_leaves_no_entry(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIXELS", "/dev/full")  # an absolute path wins over the folder it is joined to
    with pytest.raises(UserError, match=r"and the disk takes no more: free some space"):
        open_(files, tmp_path / "cache")
    assert entries(tmp_path / "cache") == []


def test_a_folder_that_cannot_be_made_is_named(files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"the cache folder .*file/cache cannot be written .*cache_dir"):
        open_(files, tmp_path / "file" / "cache")


def filled(tmp_path: Path, names: str) -> dict[str, Path]:
    """Build an entry for each letter, used in that order."""
    found: dict[str, Path] = {}
    for hour, name in enumerate(names):
        pictures = write_pictures(tmp_path / name, 6)
        pictures[0].write_bytes(pictures[0].read_bytes() + name.encode())  # entries go by contents
        open_(pictures, tmp_path / "cache")
        (found[name],) = set(entries(tmp_path / "cache")) - set(found.values())
        os.utime(found[name] / "used", (hour * 3600, hour * 3600))
    return found


def test_entries_unused_for_longest_make_room(tmp_path: Path, files: list[Path], caplog) -> None:
    found = filled(tmp_path, "abc")
    open_([tmp_path / "a" / f"{i}.png" for i in range(6)], tmp_path / "cache")  # opening is using: now b is the oldest
    before = MemmapStore(found["b"] / "pixels.npy")
    with caplog.at_level(logging.INFO, "dir_bench"):
        open_(files, tmp_path / "cache", limit_gb=3.5 * ENTRY_BYTES / 1e9)
    assert [found[name].exists() for name in "abc"] == [True, False, True]
    assert str(found["b"]) in caplog.text
    assert len(entries(tmp_path / "cache")) == 3
    if os.name == "posix":  # a run that has it mapped reads on
        assert before.read(np.array([5]))[0, 0, 0, 0] == 50


def test_an_entry_in_use_is_not_removed(tmp_path: Path, files: list[Path]) -> None:
    found = filled(tmp_path, "abc")
    with FileLock(tmp_path / "cache" / f"{found['a'].name}.lock"):
        open_(files, tmp_path / "cache", limit_gb=3.5 * ENTRY_BYTES / 1e9)
        assert [found[name].exists() for name in "abc"] == [True, False, True]
        with pytest.raises(UserError, match=r"others are in use within"):
            open_(files[:5], tmp_path / "cache", limit_gb=1.5 * ENTRY_BYTES / 1e9)


def test_leftovers_go_without_the_entry_they_belong_to(tmp_path: Path, files: list[Path]) -> None:
    found = filled(tmp_path, "a")
    leftover = found["a"].with_name(f".{found['a'].name}.tmp")
    leftover.mkdir()
    open_(files, tmp_path / "cache")
    assert not leftover.exists()
    assert found["a"].exists()


def test_an_entry_above_the_limit_is_refused_and_nothing_removed(tmp_path: Path, files: list[Path]) -> None:
    filled(tmp_path, "ab")
    with pytest.raises(UserError, match=r"more than the 1e-06 GB that cache_limit_gb allows"):
        open_(files, tmp_path / "cache", limit_gb=1e-6)
    assert len(entries(tmp_path / "cache")) == 2


def test_what_is_not_of_the_cache_is_not_removed(tmp_path: Path, files: list[Path]) -> None:
    found = filled(tmp_path, "a")
    for name in ("pictures", "0123", ".git", "0123456789abcdefg"):
        (tmp_path / "cache" / name).mkdir()
        (tmp_path / "cache" / name / "pixels.npy").write_bytes(bytes(3 * ENTRY_BYTES))
    open_(files, tmp_path / "cache", limit_gb=1.5 * ENTRY_BYTES / 1e9)
    assert not found["a"].exists()
    assert len(entries(tmp_path / "cache")) == 5


def test_memory_is_checked_before_it_is_filled(files: list[Path], tmp_path: Path, monkeypatch) -> None:
    assert module.available_memory() > 2**20
    monkeypatch.setattr(module, "available_memory", lambda: 1000.0)
    with pytest.raises(UserError, match=r"GB of memory, where 0\.0 GB can be had: .*cache=disk"):
        open_(files, tmp_path / "cache", "ram")


def test_a_run_waits_for_the_one_that_builds(tmp_path: Path, files: list[Path], caplog) -> None:
    open_(files, tmp_path / "cache")
    lock = FileLock(tmp_path / "cache" / f"{entries(tmp_path / 'cache')[0].name}.lock", thread_local=False)
    lock.acquire()
    with caplog.at_level(logging.INFO, "dir_bench"), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(open_, files, tmp_path / "cache")
        deadline = time.monotonic() + 20
        while "waiting for it" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not waiting.done()
        lock.release()
        assert len(waiting.result(20)) == 6
    assert "another run is decoding faces: waiting for it" in caplog.text


def test_depth_of_16_bits_keeps_its_values(tmp_path: Path) -> None:
    values = np.array([0, 258, 65535], np.uint16)
    decoder = Decoder("values-1", (2, 2), np.dtype(np.uint16), lambda path: np.full((2, 2), values[int(path.stem)]))
    files = [tmp_path / str(i) for i in range(3)]
    for path in files:
        path.touch()
    store = open_store(files, decoder, cache="disk", folder=tmp_path / "c", limit_gb=1, workers=0, title="depth")
    assert store.dtype == np.uint16
    assert store.read(np.array([2, 0, 1]))[:, 1, 1].tolist() == [65535, 0, 258]


def test_a_reserved_entry_is_opened_without_decoding(tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.jpg" for i in range(2000)]
    for path in files:
        path.touch()
    decoder = face_decoder(224)
    entry = reserve(files, decoder, tmp_path / "cache")
    store = open_store(files, decoder, cache="disk", folder=tmp_path / "cache", limit_gb=None, workers=0, title="x")
    assert isinstance(store, MemmapStore)
    assert len(store) == 2000
    assert not store.read(np.array([1999, 3])).any()
    assert (entry / "pixels.npy").stat().st_size == 128 + 2000 * 224 * 224 * 3
    assert json.loads((entry / "about.json").read_text())["pictures"] == 2000
    if sys.platform == "linux":
        assert (entry / "pixels.npy").stat().st_blocks * 512 < 2**20


def _first_level(store: Store) -> int:
    return int(store.read(np.array([3]))[0, 0, 0, 0])


@pytest.mark.slow
def test_a_mapped_store_is_read_by_a_spawned_process(files: list[Path], tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_first_level, (open_(files, tmp_path / "cache"),)) == 30
