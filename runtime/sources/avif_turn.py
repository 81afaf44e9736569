"""Turn a decoded AVIF upright: OpenCV skips its rotation and mirroring (ISO/IEC 23008-12, irot and imir)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

MOST_BOXES = 1000  # of one parent; a picture has a dozen


def turned(image: NDArray[np.uint8], data: bytes) -> NDArray[np.uint8]:
    """Return the picture (H, W, 3) that was decoded from the file ``data``, turned and mirrored as an AVIF tells.

    Pictures of other formats, and of an AVIF whose boxes are damaged, stay as they are.
    """
    if data[4:8] != b"ftyp" or data[8:12] not in (b"avif", b"avis"):
        return image
    try:
        steps = list(_transforms(data))
    except (struct.error, LookupError):
        return image
    for kind, value in steps:
        # Top and bottom, or left and right; quarters against the clock.
        image = np.flip(image, value & 1) if kind == b"imir" else np.rot90(image, value & 3)
    return np.ascontiguousarray(image)


def _transforms(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield the rotations and mirrorings of the primary item, in their order."""
    meta = dict(_boxes(_content(data, b"meta")[4:]))
    (primary,) = struct.unpack_from(">I" if meta[b"pitm"][0] else ">H", meta[b"pitm"], 4)
    parts = list(_boxes(meta[b"iprp"]))
    properties = list(_boxes(dict(parts)[b"ipco"]))
    for name, box in parts:
        for item, index in _associations(box) if name == b"ipma" else ():
            if item == primary and 1 <= index <= len(properties):
                kind, content = properties[index - 1]
                if kind in (b"irot", b"imir"):
                    yield kind, content[0]


def _associations(box: bytes) -> Iterator[tuple[int, int]]:
    """Yield items and the numbers of their properties, from 1 on."""
    wide_items, wide_indices, place = box[0] >= 1, box[3] & 1, 8
    (count,) = struct.unpack_from(">I", box, 4)
    for _ in range(min(count, MOST_BOXES)):
        (item,) = struct.unpack_from(">I" if wide_items else ">H", box, place)
        place += 4 if wide_items else 2
        indices = box[place]
        place += 1
        for _ in range(indices):
            (index,) = struct.unpack_from(">H" if wide_indices else ">B", box, place)
            place += 2 if wide_indices else 1
            yield item, index & (0x7FFF if wide_indices else 0x7F)  # the highest bit: readers must know it


def _content(data: bytes, name: bytes) -> bytes:
    """Return the content of the first box of a name. Raises `LookupError` without one."""
    for kind, content in _boxes(data):
        if kind == name:
            return content
    raise LookupError(name)


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield names and contents of the boxes that follow each other; the last one may be cut off."""
    place = 0
    for _ in range(MOST_BOXES):
        if place + 8 > len(data):
            return
        size, name = struct.unpack_from(">I4s", data, place)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, place + 8)
            head = 16
        end = place + size if size else len(data)
        if end < place + head:
            raise LookupError(f"box {name!r} of {size} bytes")
        yield name, data[place + head : end]
        place = end
