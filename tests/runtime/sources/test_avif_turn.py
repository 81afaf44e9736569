"""Rotation and mirroring of an AVIF, in files that are made box by box and by Pillow."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from runtime.sources.avif_turn import turned
from runtime.sources.photos import decode_photo, read_photo

PICTURE = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


def box(name: bytes, content: bytes, large: bool = False) -> bytes:
    if large:
        return struct.pack(">I4sQ", 1, name, 16 + len(content)) + content
    return struct.pack(">I4s", 8 + len(content), name) + content


def avif(*transforms: tuple[bytes, int], wide: bool = False, large: bool = False, item: int = 1) -> bytes:
    """The head of a file whose item 1 has a size, a transform that is not its own, and the given ones."""
    properties = [box(b"ispe", bytes(12)), box(b"irot", b"\x02")]
    properties += [box(name, bytes([value])) for name, value in transforms]
    indices = [1, *(3 + number for number in range(len(transforms)))]
    listed = struct.pack(">I" if wide else ">H", item) + bytes([len(indices)])
    listed += b"".join(struct.pack(">H", 0x8000 | index) if wide else bytes([0x80 | index]) for index in indices)
    listed += (struct.pack(">I", 2) if wide else struct.pack(">H", 2)) + (b"\1\x80\2" if wide else b"\1\x82")
    flags = bytes([wide, 0, 0, wide])
    parts = box(b"ipco", b"".join(properties)) + box(b"ipma", flags + struct.pack(">I", 2) + listed)
    primary = box(b"pitm", flags + (struct.pack(">I", 1) if wide else struct.pack(">H", 1)))
    meta = box(b"meta", bytes(4) + primary + box(b"iprp", parts), large)
    return box(b"ftyp", b"avif" + bytes(4)) + meta + box(b"mdat", bytes(9))


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize(
    ("transforms", "expected"),
    [
        ([], PICTURE),
        ([(b"irot", 0)], PICTURE),
        ([(b"irot", 1)], PICTURE.transpose(1, 0, 2)[::-1]),
        ([(b"irot", 2)], PICTURE[::-1, ::-1]),
        ([(b"irot", 3)], PICTURE.transpose(1, 0, 2)[:, ::-1]),
        ([(b"imir", 0)], PICTURE[::-1]),
        ([(b"imir", 1)], PICTURE[:, ::-1]),
        ([(b"irot", 1), (b"imir", 0)], PICTURE.transpose(1, 0, 2)),
        ([(b"imir", 0), (b"irot", 1)], PICTURE.transpose(1, 0, 2)[::-1, ::-1]),
    ],
    ids=str,
)
def test_the_primary_items_transforms_apply_in_their_order(transforms, expected, wide, large):
    found = turned(PICTURE, avif(*transforms, wide=wide, large=large))
    np.testing.assert_array_equal(found, expected)
    assert found.flags.c_contiguous


def test_others_stay_as_they_are():
    assert turned(PICTURE, avif((b"irot", 1), item=3)) is not None
    np.testing.assert_array_equal(turned(PICTURE, avif((b"irot", 1), item=3)), PICTURE)
    assert turned(PICTURE, b"\xff\xd8" + avif((b"irot", 1))[2:]) is not None
    for data in (b"", b"\x89PNG", avif((b"irot", 1)).replace(b"avif", b"heic")):
        assert turned(PICTURE, data) is PICTURE


def test_damaged_boxes_end_in_the_picture_as_it_was_decoded():
    whole = avif((b"irot", 1))
    for length in range(len(whole)):
        assert turned(PICTURE, whole[:length]).size == PICTURE.size
    for place in range(12, len(whole)):
        for value in (0, 1, 127, 255):
            assert turned(PICTURE, whole[:place] + bytes([value]) + whole[place + 1 :]).size == PICTURE.size


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_file_of_pillow(tmp_path, orientation):
    """It writes EXIF's orientation as irot and imir."""
    image = pytest.importorskip("PIL.Image")
    features = pytest.importorskip("PIL.features")
    if not features.check("avif") or not cv2.haveImageReader(str(_plain(tmp_path, image))):
        pytest.skip("needs Pillow and OpenCV with AVIF")
    exif = image.Exif()
    exif[0x0112] = orientation
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:20, :40, 0], picture[20:, 40:, 1] = 255, 255
    image.fromarray(picture).save(tmp_path / "a.avif", exif=exif.tobytes(), quality=95)
    picture = picture[..., ::-1].astype(int)
    seen = [
        *(picture, picture[:, ::-1], picture[::-1, ::-1], picture[::-1], picture.transpose(1, 0, 2)),
        *(np.rot90(picture, -1), picture[::-1, ::-1].transpose(1, 0, 2), np.rot90(picture)),
    ][orientation - 1]
    found = read_photo(tmp_path / "a.avif")
    assert found.shape == seen.shape
    assert np.abs(found - seen).mean() < 8
    stored = decode_photo((tmp_path / "a.avif").read_bytes(), "a.avif", cv2.IMREAD_IGNORE_ORIENTATION)
    assert np.abs(stored - picture).mean() < 8


def _plain(folder, image):
    path = folder / "plain.avif"
    image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(path)
    return path
