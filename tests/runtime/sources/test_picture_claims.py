"""Headers of pictures: every format's size is read, and claims beyond bytes and bounds are refused unread."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.errors import FaceMeshError
from runtime.sources.photos import read_photo
from runtime.sources.picture_claims import picture_size
from tests.standins.bounded_run import bounded_run, is_refused

FORMATS = ("bmp", "jpg", "png", "webp", "tif", "jp2", "ppm", "pgm", "pbm", "pam", "pfm", "ras", "hdr", "avif", "gif")


def picture(width: int = 70, height: int = 40) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, content: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def tiff(width: int, height: int, order: str = "<", tile: int = 0) -> bytes:
    entries = [(256, 4, 1, width), (257, 4, 1, height), *([(322, 4, 1, tile), (323, 4, 1, tile)] if tile else [])]
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return (
        mark + struct.pack(order + "IH", 8, len(entries)) + b"".join(struct.pack(order + "HHII", *e) for e in entries)
    )


BIG = 30_000
CLAIMS = {
    "png": png(BIG, BIG),
    "bmp": b"BM" + bytes(12) + struct.pack("<Iii", 40, BIG, -BIG) + bytes(30),
    "old.bmp": b"BM" + bytes(12) + struct.pack("<IHH", 12, BIG, BIG) + bytes(30),
    "gif": b"GIF89a" + struct.pack("<HH", BIG, BIG) + bytes(30),
    "tif": tiff(BIG, BIG),
    "be.tif": tiff(BIG, BIG, ">"),
    "tile.tif": tiff(8, 8, tile=BIG),
    "lossless.webp": b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f" + struct.pack("<I", 0x3FFF | 0x3FFF << 14) + bytes(9),
    "extended.webp": b"RIFF\0\0\0\0WEBPVP8X" + bytes(8) + b"\xff" * 6 + bytes(9),
    "ppm": b"P6\n# a comment\n%d\n%d\n255\n" % (BIG, BIG),
    "pam": b"P7\nWIDTH %d\nHEIGHT %d\nDEPTH 3\n" % (BIG, BIG),
    "pfm": b"PF\n%d %d\n-1.0\n" % (BIG, BIG),
    "ras": b"\x59\xa6\x6a\x95" + struct.pack(">II", BIG, BIG) + bytes(30),
    "hdr": b"#?RADIANCE\n\n-Y %d +X %d\n" % (BIG, BIG),
    "avif": b"\0\0\0\x1cftypavif" + bytes(16) + b"\0\0\0\x14ispe" + struct.pack(">III", 0, BIG, BIG) + bytes(16),
    "j2k": b"\xff\x4f\xff\x51\0\0\0\0" + struct.pack(">6I", BIG, BIG, 0, 0, BIG, BIG) + bytes(30),
    "exr": b"v/1\x01" + b"dataWindow\0box2i\0" + struct.pack("<I4i", 16, 0, 0, BIG - 1, BIG - 1),
    "jpg": b"\xff\xd8\xff\xc0\0\x11\x08" + struct.pack(">HH", BIG, BIG) + bytes(10) + b"\xff\xda\0\2\xff\xd9",
}


@pytest.mark.parametrize("suffix", FORMATS)
def test_sizes_of_all_formats(tmp_path, suffix):
    image = picture()
    if suffix in ("pgm", "pbm"):
        image = image[..., 0]
    elif suffix in ("pfm", "hdr"):
        image = image.astype(np.float32)
    path = tmp_path / f"a.{suffix}"
    try:
        written = cv2.imwrite(str(path), image)
    except cv2.error:
        written = False
    if not written:
        pytest.skip(f"this OpenCV does not write {suffix}")
    assert picture_size(path.read_bytes()) == (70, 40)
    assert read_photo(path).shape == (40, 70, 3)


@pytest.mark.parametrize("name", CLAIMS)
def test_more_pixels_than_the_bound_are_refused(tmp_path, name):
    path = tmp_path / f"a.{name}"
    path.write_bytes(CLAIMS[name])
    width = height = 16384 if name == "lossless.webp" else 2**24 if name == "extended.webp" else BIG
    with bounded_run(), pytest.raises(FaceMeshError, match="raise it with FACEMESH_MAX_PIXELS") as caught:
        read_photo(path)
    assert f"{width} x {height} px: {width * height:,} pixels" in str(caught.value)


def test_many_pixels_from_few_bytes_are_refused(tmp_path):
    """A picture of 100 million pixels in 60 bytes; the same number from enough bytes passes the check."""
    path = tmp_path / "a.png"
    path.write_bytes(png(10_000, 10_000))
    with bounded_run(), pytest.raises(FaceMeshError, match="FACEMESH_MAX_PIXELS_PER_BYTE"):
        read_photo(path)
    path.write_bytes(png(10_000, 10_000, bytes(50_000)))
    with pytest.raises(FaceMeshError, match="damaged"):
        read_photo(path)


def test_the_bound_is_raised_and_lowered_by_its_variable(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), picture())
    monkeypatch.setenv("FACEMESH_MAX_PIXELS", "2799")
    with pytest.raises(FaceMeshError, match=r"70 x 40 px: 2,800 pixels in one picture, the limit is 2,799"):
        read_photo(path)
    monkeypatch.setenv("FACEMESH_MAX_PIXELS", "2800")
    assert read_photo(path).shape == (40, 70, 3)


@pytest.mark.parametrize("length", [2**31 - 1, 2**32 - 16, 2**32 - 1, 100])
@pytest.mark.parametrize("kind", [b"IDAT", b"tEXt", b"zzzz", b"acTL"])
def test_parts_of_a_png_lie_inside_the_file(tmp_path, length, kind):
    sound = png(8, 8, zlib.compress(bytes(200)))
    path: Path = tmp_path / "a.png"
    path.write_bytes(sound[:33] + struct.pack(">I", length) + kind + b"xxxx")
    with bounded_run(), pytest.raises(FaceMeshError, match=rf"claims {length:,} bytes and 4 follow"):
        read_photo(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "jp2", "bmp", "ppm", "gif", "avif"])
def test_damaged_pictures_are_read_or_one_line(tmp_path, suffix):
    sound = cv2.imencode(f".{suffix}", picture())[1].tobytes()
    chance, path, refused = np.random.default_rng(0), tmp_path / f"a.{suffix}", 0
    for _ in range(40):
        content = bytearray(sound)
        for place in chance.integers(0, min(len(sound), 400), chance.integers(1, 4)):
            content[place] = chance.integers(256)
        path.write_bytes(content[: chance.integers(1, len(sound) + 100)])
        refused += is_refused(read_photo, path)
    assert refused > 20
