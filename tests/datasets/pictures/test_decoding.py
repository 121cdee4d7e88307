"""Decoders against Pillow, which the published code reads pictures with, and what is said of damaged files."""

import os
import pickle
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from dir_bench.datasets.pictures import decoding
from dir_bench.datasets.pictures.decoding import decode_all, depth_decoder, face_decoder, rgb_decoder, verify
from dir_bench.errors import UserError


def smooth(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Return a picture with shapes and some noise, as a photo has them."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 4), dtype=np.uint8))
    large = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(float)
    noisy = large + rng.normal(0, 4, large.shape)
    return noisy.clip(0, 255).astype(np.uint8)[..., :channels]


def save(path: Path, mode: str = "RGB", height: int = 131, width: int = 97, **options) -> Path:
    picture = Image.fromarray(smooth(height, width))
    if mode == "I;16":
        picture = Image.fromarray(smooth(height, width, 1)[..., 0].astype(np.uint16) * 257)
    else:
        picture = picture.convert(mode)
    picture.save(path, **options)
    return path


def pillow(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")


def levels_apart(one: np.ndarray, other: np.ndarray) -> int:
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def assert_as_pillow(path: Path, size: int = 64) -> None:
    result = face_decoder(size).decode(path)
    expected = np.asarray(pillow(path).resize((size, size), Image.Resampling.BILINEAR))
    assert result.dtype == np.uint8
    assert result.flags.c_contiguous
    assert levels_apart(result, expected) <= 1


@pytest.mark.parametrize(
    ("name", "mode", "options"),
    [
        ("colour.jpg", "RGB", {"quality": 90}),
        ("progressive.jpg", "RGB", {"progressive": True}),
        ("full_chroma.jpg", "RGB", {"subsampling": 0}),
        ("grey.jpg", "L", {}),
        ("print.jpg", "CMYK", {}),
        ("colour.png", "RGB", {}),
        ("grey.png", "L", {}),
        ("transparent.png", "RGBA", {}),
        ("palette.png", "P", {}),
        ("bilevel.png", "1", {}),
        ("palette.gif", "P", {}),
        ("lossy.webp", "RGB", {}),
        ("plain.bmp", "RGB", {}),  # torchvision's decoder knows none
    ],
)
def test_faces_are_within_a_level_of_pillow(tmp_path: Path, name: str, mode: str, options: dict) -> None:
    assert_as_pillow(save(tmp_path / name, mode, **options))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (1, 333), (250, 1), (500, 251), (20, 31), (1024, 65)])
def test_faces_of_any_size_are_within_a_level_of_pillow(tmp_path: Path, height: int, width: int) -> None:
    assert_as_pillow(save(tmp_path / "face.jpg", height=height, width=width))


def test_rotation_in_exif_is_not_looked_at(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    turned = save(tmp_path / "turned.jpg", exif=exif)
    plain = save(tmp_path / "plain.jpg")
    np.testing.assert_array_equal(face_decoder(64).decode(turned), face_decoder(64).decode(plain))


def test_without_torchvisions_decoder_the_pixels_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [save(tmp_path / "a.jpg"), save(tmp_path / "b.png", "L"), save(tmp_path / "c.jpg", "CMYK")]
    with_it = [face_decoder(64).decode(path) for path in files]
    monkeypatch.setattr(decoding.torch.ops, "image", object())
    for path, expected in zip(files, with_it, strict=True):
        np.testing.assert_array_equal(face_decoder(64).decode(path), expected)


@pytest.mark.parametrize(("height", "width"), [(480, 640), (481, 640), (239, 319), (240, 320)])
def test_scenes_are_within_a_level_of_pillow(tmp_path: Path, height: int, width: int) -> None:
    path = save(tmp_path / "scene.jpg", height=height, width=width)
    expected = np.asarray(pillow(path).resize((320, 240), Image.Resampling.BILINEAR))
    assert levels_apart(rgb_decoder().decode(path), expected) <= 1


@pytest.mark.parametrize("decoder", [rgb_decoder(), depth_decoder()])
def test_other_proportions_are_refused_by_name(tmp_path: Path, decoder) -> None:
    path = save(tmp_path / "wide.png", "RGB" if "rgb" in decoder.name else "L", height=360, width=640)
    with pytest.raises(UserError, match=r"wide\.png is 640 × 360 pixels, which cannot become 320 × 240"):
        decoder.decode(path)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("height", "width"), [(480, 640), (481, 641), (333, 444), (241, 321), (120, 160)])
def test_depth_takes_the_pixels_that_pillow_takes(tmp_path: Path, bits: int, height: int, width: int) -> None:
    dtype = np.dtype(f"uint{bits}")
    depth = np.random.default_rng(0).integers(0, 2**bits, (height, width), dtype=dtype)
    Image.fromarray(depth).save(tmp_path / "depth.png")
    result = depth_decoder(bits=bits).decode(tmp_path / "depth.png")  # type: ignore[arg-type]
    with Image.open(tmp_path / "depth.png") as picture:
        np.testing.assert_array_equal(result, np.asarray(picture.resize((320, 240), Image.Resampling.NEAREST)))
    assert result.dtype == dtype
    assert result.flags.c_contiguous
    if (height, width) == (480, 640):  # pixel i comes from (i + 1/2) · 2, rounded down
        np.testing.assert_array_equal(result, depth[1::2, 1::2])


def test_the_wrong_depth_of_bits_is_refused_by_name(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((240, 320), np.uint8)).save(tmp_path / "train.png")
    Image.fromarray(np.zeros((240, 320), np.uint16)).save(tmp_path / "test.png")
    save(tmp_path / "colour.png", height=240, width=320)
    with pytest.raises(UserError, match=r"train\.png holds depth of 8 bits where 16 bits are wanted"):
        depth_decoder(bits=16).decode(tmp_path / "train.png")
    with pytest.raises(UserError, match=r"test\.png holds depth of 16 bits where 8 bits are wanted"):
        depth_decoder(bits=8).decode(tmp_path / "test.png")
    with pytest.raises(UserError, match=r"colour\.png is a colour picture \(RGB\)"):
        depth_decoder(bits=8).decode(tmp_path / "colour.png")


@pytest.mark.parametrize("share", [0.01, 0.6, 0.99, 1.0])
@pytest.mark.parametrize("name", ["face.jpg", "progressive.jpg", "face.png"])
def test_a_file_cut_short_is_found(tmp_path: Path, name: str, share: float) -> None:
    path = save(tmp_path / name, **({"progressive": True} if "progressive" in name else {}))
    content = path.read_bytes()
    last = 2 if name.endswith("jpg") else 100  # a JPEG's end marker; the last rows of a PNG
    path.write_bytes(content[: min(int(len(content) * share), len(content) - last)])
    with pytest.raises(UserError, match=rf"^{re.escape(str(path))} cannot be decoded \(.+\): replace the file or take"):
        face_decoder(64).decode(path)


@pytest.mark.parametrize(("content", "reason"), [(b"", "it is empty"), (b"<html>", "it is no picture of a known kind")])
def test_what_is_no_picture_is_found(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "face.jpg"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        face_decoder(64).decode(path)
    assert str(caught.value) == f"{path} cannot be decoded ({reason}): replace the file or take its row out of the list"


def test_a_missing_file_has_a_sentence_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.jpg is missing: put it there or take its row out of the list"):
        face_decoder(64).decode(tmp_path / "none.jpg")
    with pytest.raises(UserError, match="is a folder, not a plain file: replace"):
        face_decoder(64).decode(tmp_path)


@pytest.mark.parametrize("workers", [0, 3])
def test_all_files_come_in_order(tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "CHUNK", 4)
    files = [tmp_path / f"{i}.png" for i in range(11)]
    for i, path in enumerate(files):
        Image.fromarray(np.full((16, 16, 3), i, np.uint8)).save(path)
    parts = list(decode_all(files, face_decoder(8), workers=workers, title="faces"))
    assert [len(part) for part in parts] == [4, 4, 3]
    assert np.concatenate(parts)[:, 0, 0, 0].tolist() == list(range(11))


def test_ten_damaged_files_are_named_and_the_others_counted(tmp_path: Path) -> None:
    files = [tmp_path / f"{i:02d}.png" for i in range(40)]
    for i, path in enumerate(files):
        save(path) if i >= 13 else path.write_bytes(b"no picture")
    with pytest.raises(UserError) as caught:
        for _ in decode_all(files, face_decoder(8), workers=2, title="faces"):
            pass
    first, *named, last = str(caught.value).splitlines()
    assert first == "13 files cannot be used:"
    assert [line.startswith(str(path)) for line, path in zip(named, files[:10], strict=True)] == [True] * 10
    assert last == "… and 3 more"


@pytest.mark.parametrize("workers", [0, 2])
def test_verify_names_each_problem_once(tmp_path: Path, workers: int) -> None:
    good, other = save(tmp_path / "good.jpg"), save(tmp_path / "other.jpg", height=90)
    twin = tmp_path / "twin.jpg"
    twin.write_bytes(good.read_bytes())
    same_size = tmp_path / "same_size.jpg"
    # As long as the next one, but not the same.
    Image.fromarray(smooth(131, 97)).save(same_size, comment=b"one")
    Image.fromarray(smooth(131, 97)).save(tmp_path / "good_too.jpg", comment=b"two")
    empty, cut = tmp_path / "empty.jpg", tmp_path / "cut.jpg"
    empty.write_bytes(b"")
    cut.write_bytes(good.read_bytes()[:700])
    files = [good, other, empty, cut, twin, tmp_path / "none.jpg", same_size, tmp_path / "good_too.jpg", other, other]
    assert os.path.getsize(same_size) == os.path.getsize(tmp_path / "good_too.jpg")
    problems = verify(files, face_decoder(16).decode, workers=workers, title="checking")
    starts = [
        f"{empty} cannot be decoded (it is empty)",
        f"{cut} cannot be decoded (image file is truncated",
        f"{tmp_path / 'none.jpg'} is missing",
        f"{other} is listed 3 times",
        f"{twin} has the same content as {good}",
    ]
    assert [problem[: len(start)] for problem, start in zip(problems, starts, strict=True)] == starts


def test_verify_finds_nothing_in_good_files(tmp_path: Path) -> None:
    files = [save(tmp_path / f"{i}.jpg", height=50 + i) for i in range(5)]
    assert verify(files, face_decoder(16).decode, workers=2, title="checking") == []


def test_decoders_travel_to_other_processes_and_are_told_apart() -> None:
    decoders = [face_decoder(), face_decoder(96), rgb_decoder(), depth_decoder(), depth_decoder(bits=16)]
    assert pickle.loads(pickle.dumps(decoders)) == decoders
    assert len({(decoder.name, decoder.shape, str(decoder.dtype)) for decoder in decoders}) == len(decoders)


def test_the_decoder_of_torchvision_is_in_use() -> None:
    assert hasattr(torch.ops.image, "decode_image")


RAMP = np.linspace(0, 65535, 64).round().astype(np.uint16)[None].repeat(64, 0)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_grey_of_16_bits_is_scaled(tmp_path: Path, name: str) -> None:
    Image.fromarray(RAMP).save(tmp_path / name)
    np.testing.assert_array_equal(face_decoder(64).decode(tmp_path / name), np.rint(RAMP / 257)[..., None].repeat(3, 2))


def tiff(grey: np.ndarray, bits: int, zero_is: int) -> bytes:
    """Return an uncompressed grey TIFF of 12 or 16 bits; `zero_is` is 0 where zero means white."""
    height, width = grey.shape
    packed = grey.astype("<u2").tobytes()
    if bits == 12:
        first, second = grey.reshape(-1, 2).T
        packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1).astype(np.uint8).tobytes()
    tags = [(256, 3, width), (257, 3, height), (258, 3, bits), (259, 3, 1), (262, 3, zero_is), (273, 4, 122),
            (277, 3, 1), (278, 3, height), (279, 4, len(packed))]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + packed


@pytest.mark.parametrize(("bits", "zero_is"), [(12, 1), (16, 1), (16, 0)])  # Pillow refuses 12 bits with 0
def test_grey_tiffs_are_scaled_by_their_bits_and_turned_where_zero_is_white(tmp_path: Path, bits: int, zero_is: int):
    (tmp_path / "a.tif").write_bytes(tiff(RAMP >> (16 - bits), bits, zero_is))
    grey = face_decoder(64).decode(tmp_path / "a.tif")[..., 0].astype(int)
    assert np.abs(grey - (RAMP / 257 if zero_is else 255 - RAMP / 257)).max() <= 1


@pytest.mark.parametrize("mode", ["RGB", "P", "L"])
def test_a_png_with_wrong_bits_is_a_sentence_or_a_picture(tmp_path: Path, mode: str) -> None:
    """Through torchvision's decoder most of them ended the process."""
    content = save(tmp_path / "whole.png", mode).read_bytes()
    rng, sentences = np.random.default_rng(0), []
    for place in rng.integers(40, len(content), 40):
        wrong = bytearray(content)
        wrong[place] ^= 1 << rng.integers(8)
        (tmp_path / "a.png").write_bytes(wrong)
        try:
            assert face_decoder(8).decode(tmp_path / "a.png").shape == (8, 8, 3)
        except UserError as error:
            sentences.append(str(error))
    assert len(sentences) > 10
    assert all("a.png cannot be decoded" in sentence for sentence in sentences)


@pytest.mark.parametrize(("array", "said"), [(np.float32(RAMP), "fractional"), (np.int32(RAMP), "32 bits")])
def test_numbers_without_a_known_white_are_refused(tmp_path: Path, array: np.ndarray, said: str) -> None:
    Image.fromarray(array).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match=rf"a\.tif cannot be decoded .*{said}"):
        face_decoder(64).decode(tmp_path / "a.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_exif_orientation_is_heeded_where_asked_for(tmp_path: Path, suffix: str, orientation: int) -> None:
    path, exif = tmp_path / f"a.{suffix}", Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(smooth(64, 64)).save(path, exif=exif)
    with Image.open(path) as picture:
        stored, turned = np.asarray(picture.convert("RGB")), np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    np.testing.assert_array_equal(face_decoder(64).decode(path), stored)
    np.testing.assert_array_equal(face_decoder(64, exif_orientation=True).decode(path), turned)


def test_what_is_no_plain_file_is_a_sentence_and_nothing_waits(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    files = [tmp_path / f"{name}.jpg" for name in ("folder", "pipe", "loop", "gone", "folder")] + [Path("/dev/zero")]
    faults = verify(files, face_decoder(8).decode, workers=0, title="")
    for said in (
        "folder.jpg is a folder",
        "pipe.jpg is a pipe",
        "leads back to itself",
        "gone.jpg is missing",
        "device",
    ):
        assert sum(said in fault for fault in faults) == 1, said


def test_a_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (8, 8)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match=r"bomb\.png cannot be decoded"):
        face_decoder(8).decode(path)
