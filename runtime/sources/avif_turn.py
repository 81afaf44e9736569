"""Turn a decoded AVIF upright: OpenCV skips its rotation and mirroring (ISO/IEC 23008-12, irot and imir)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from runtime.sources.iso_boxes import MOST_BOXES, boxes, content


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
    meta = dict(boxes(content(data, b"meta")[4:]))
    (primary,) = struct.unpack_from(">I" if meta[b"pitm"][0] else ">H", meta[b"pitm"], 4)
    parts = list(boxes(meta[b"iprp"]))
    properties = list(boxes(dict(parts)[b"ipco"]))
    for name, box in parts:
        for item, index in _associations(box) if name == b"ipma" else ():
            if item == primary and 1 <= index <= len(properties):
                kind, value = properties[index - 1]
                if kind in (b"irot", b"imir"):
                    yield kind, value[0]


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
