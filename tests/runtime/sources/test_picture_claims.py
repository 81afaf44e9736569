"""Headers of pictures: every format's size is read, and claims beyond bytes and bounds are refused unread."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.errors import FaceMeshError
from runtime.sources.iso_boxes import av1_sizes
from runtime.sources.photos import decode_photo, read_photo
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


SOUND_JPEG = cv2.imencode(".jpg", picture(64, 64))[1].tobytes()


def box(name: bytes, inner: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(inner), name) + inner


def sequence_header(width: int, height: int, is_still: bool) -> bytes:
    """An AV1 unit with 16 bits for each side, as 5.5.1 of its specification has them."""
    head = "0001100000" if is_still else "00000" + "00" + "00000" + "000000000000" + "00000"
    bits = f"{head}{15:04b}{15:04b}{width - 1:016b}{height - 1:016b}"
    inner = int(bits.ljust(88, "0"), 2).to_bytes(11, "big")
    return b"\x12\0\x0a" + bytes([len(inner)]) + inner


def avif(content: bytes, kind: bytes = b"av01", in_idat: bool = False) -> bytes:
    """A file whose size box says 8 x 8, with one item."""
    head = box(b"ftyp", b"avif" + bytes(4) + b"avifmif1")
    size = box(b"iprp", box(b"ipco", box(b"ispe", struct.pack(">III", 0, 8, 8))))
    names = box(b"iinf", struct.pack(">IH", 0, 1) + box(b"infe", struct.pack(">IHH4s", 2 << 24, 1, 0, kind) + b"\0"))
    inner = box(b"idat", content) if in_idat else b""

    def meta(start: int) -> bytes:
        place = struct.pack(">IHHHHHHII", 1 << 24, 0x4400, 1, 1, in_idat, 0, 1, start, len(content))
        return box(b"meta", bytes(4) + box(b"iloc", place) + names + size + inner)

    return head + meta(0 if in_idat else len(head + meta(0)) + 8) + box(b"mdat", content)


def siz(width: int, height: int, tile: int, components: int = 3) -> bytes:
    sizes = struct.pack(">8I", width, height, 0, 0, tile, tile, 0, 0)
    rest = sizes + struct.pack(">H", components) + b"\7\1\1" * components
    return b"\xff\x4f\xff\x51" + struct.pack(">HH", 4 + len(rest), 0) + rest


def jp2(stream: bytes, *head: bytes) -> bytes:
    """A JPEG 2000 file with boxes before and in the header of its picture."""
    mark = b"\0\0\0\x0cjP  \r\n\x87\n" + box(b"ftyp", b"jp2 " + bytes(4))
    return mark + head[0] + box(b"jp2h", b"".join(head[1:])) + box(b"jp2c", stream)


BIG_JPEG = CLAIMS["jpg"]
# The same claims, where another way of reading finds a smaller picture or none.
CLAIMS |= {
    "garbage.jpg": BIG_JPEG[:2] + b"\0\0" + BIG_JPEG[2:],
    "stuffed.jpg": BIG_JPEG[:2] + b"\xff\0x\xff\xff\xff\xd0" + BIG_JPEG[2:],
    "item.avif": avif(sequence_header(BIG, BIG, True)),
    "video.avif": avif(sequence_header(BIG, BIG, False)),
    "second.avif": avif(sequence_header(8, 8, True) + sequence_header(BIG, BIG, True)),
    "idat.avif": avif(sequence_header(BIG, BIG, True), in_idat=True),
    "grid.avif": avif(struct.pack(">4BHH", 0, 0, 0, 0, BIG, BIG), b"grid"),
    "grid32.avif": avif(struct.pack(">4BII", 0, 1, 0, 0, BIG, BIG), b"grid"),
    "fake.jp2": jp2(siz(BIG, BIG, BIG), box(b"free", siz(8, 8, 8))),
    "zeros.ppm": b"P6 00000000%d 0000000000%d 255\n" % (BIG, BIG),
    "comment.ppm": b"P6\n#" + b"x" * 70_000 + b"\r# 8 8\n %d  #\n %d 255\n" % (BIG, BIG),
    "zeros.pam": b"P7\n  WIDTH  00000000000%d\nHEIGHT\t%d\nDEPTH 3\nMAXVAL 255\nENDHDR\n" % (BIG, BIG),
    "zeros.pfm": b"PF\n00000000000%d 00000000000%d\n-1.0\n" % (BIG, BIG),
    "spaces.hdr": b"#?RADIANCE\n-Y 8 +X 8\nFORMAT=32-bit_rle_rgbe\n\n-Y  %d+X +%d\n" % (BIG, BIG),
    "second.exr": b"v/1\x01"
    + b"".join(b"dataWindow\0box2i\0" + struct.pack("<I4i", 16, 0, 0, side - 1, side - 1) for side in (8, BIG)),
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


@pytest.mark.parametrize(
    "data",
    [
        SOUND_JPEG.replace(b"\xff\xc0", b"\xff\xc8"),
        b"P6 +8 8 255\n" + bytes(300),
        b"P6 8#\n 8 255\n" + bytes(300),
        b"P7\nWIDTH 8\nWIDTH 30000\nHEIGHT 8\nDEPTH 3\nMAXVAL 255\nENDHDR\n" + bytes(300),
        b"#?RADIANCE\n\n-Y eight +X 8\n",
        b"RIFF\0\0\0\0WEBPALPH" + bytes(40),
        b"\x2f" + struct.pack("<I", 16382 | 16382 << 14) + bytes(40),  # WebP without its head
        avif(b"")[:24],
        avif(b"").replace(b"ispe", b"free"),
        avif(sequence_header(8, 8, True)[:6]),
        jp2(siz(8, 8, 8).replace(b"\xff\x51", b"\0\0"), b""),
        tiff(8, 8).replace(struct.pack("<HH", 256, 4), struct.pack("<HH", 256, 9)),
        b"unknown" * 9,
    ],
    ids=lambda data: repr(data[:12]),
)
def test_a_picture_whose_size_cannot_be_read_never_reaches_the_decoder(monkeypatch, data):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(FaceMeshError, match=r"^a: (damaged|AVIF that OpenCV)[^\n]*$"):
        decode_photo(data, "a")


def deep_tiff(bits: int, samples: int) -> bytes:
    entries = [(256, 4, 1, 4990), (257, 4, 1, 4990), (258, 3, samples, 62), (277, 3, 1, samples)]
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, 4) + directory + bytes(4) + struct.pack("<H", bits) * samples + bytes(600)


@pytest.mark.parametrize(
    ("name", "data", "claimed"),
    [
        ("f64.tif", deep_tiff(64, 3), "597,602,400"),
        ("u16.tif", deep_tiff(16, 3), "149,400,600"),
        ("samples.tif", deep_tiff(8, 100), "2,490,010,000"),
        ("deep.png", png(4990, 4990).replace(b"\x08\x02\0\0\0", b"\x10\x06\0\0\0"), "199,200,800"),
        ("tiles.j2k", siz(250, 250, 1, 300), "21,018,750,000"),
        ("many.j2k", siz(4990, 4990, 4990, 300), "7,470,366,000"),
        ("palette.jp2", jp2(siz(4990, 4990, 4990), b"", box(b"pclr", b"\0\1\xff")), "6,349,534,800"),
    ],
)
def test_deep_pictures_are_held_against_their_bytes(tmp_path, name, data, claimed):
    path = tmp_path / name
    path.write_bytes(data)
    with bounded_run(), pytest.raises(FaceMeshError, match=rf"px: {claimed} bytes from"):
        read_photo(path)


def test_scans_of_a_jpeg_are_bounded(tmp_path, monkeypatch):
    image = picture(64, 64)
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    scans = data.count(b"\xff\xda")
    last = data[data.rindex(b"\xff\xda") : -2]
    path = tmp_path / "a.jpg"
    path.write_bytes(data[:-2] + last * (100 - scans) + b"\xff\xd9" + last * 9)
    assert read_photo(path).shape == (64, 64, 3)
    path.write_bytes(data[:-2] + last * (101 - scans) + b"\xff\xd9")
    with pytest.raises(FaceMeshError, match=r"101 scans .* the limit is 100 .*FACEMESH_MAX_SCANS"):
        read_photo(path)
    monkeypatch.setenv("FACEMESH_MAX_SCANS", "101")
    assert read_photo(path).shape == (64, 64, 3)


def test_sizes_in_the_streams_of_an_encoder(tmp_path):
    """Of a still picture and of a film: their sequence headers differ."""
    try:
        assert cv2.imwrite(str(tmp_path / "a.avif"), picture())
        film = cv2.Animation()
        film.frames, film.durations = [picture(), picture()], [40, 40]
        assert cv2.imwriteanimation(str(tmp_path / "b.avif"), film)
    except (AssertionError, AttributeError, cv2.error):
        pytest.skip("this OpenCV does not write AVIF films")
    for name in ("a.avif", "b.avif"):
        data = (tmp_path / name).read_bytes()
        assert set(av1_sizes(data)) == {(70, 40)}
        assert read_photo(tmp_path / name).shape == (40, 70, 3)


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
