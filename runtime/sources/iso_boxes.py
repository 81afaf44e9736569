"""Boxes of AVIF and JPEG 2000 (ISO/IEC 14496-12), and the sizes of the AV1 pictures in them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

MOST_BOXES = 1000  # of one parent; a picture has a dozen
_TRACK = (b"mdia", b"minf", b"stbl")


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield names and contents of the boxes that follow each other; the last one may be cut off.

    Raises `LookupError` for more than `MOST_BOXES`.
    """
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
    raise LookupError("too many boxes")


def content(data: bytes, name: bytes) -> bytes:
    """Return the content of the first box of a name. Raises `LookupError` without one."""
    for kind, inner in boxes(data):
        if kind == name:
            return inner
    raise LookupError(name)


def av1_sizes(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield width and height, px, of all AV1 pictures and grids of an AVIF, as the decoder finds them.

    A size box (ispe) may say something else. Raises `LookupError` or `struct.error` for what cannot be read.
    """
    for name, box in boxes(data):
        if name == b"meta":
            yield from _item_sizes(data, box[4:])
        elif name == b"moov":
            for kind, track in boxes(box):
                if kind == b"trak":
                    yield from _sequence_sizes(_first_sample(data, track))


def _item_sizes(data: bytes, meta: bytes) -> Iterator[tuple[int, int]]:
    parts = list(boxes(meta))
    kinds = {_item_kind(entry) for name, box in parts if name == b"iinf" for _, entry in boxes(box[4 + _wide(box) :])}
    inner = b"".join(box for name, box in parts if name == b"idat")
    for name, box in parts:
        for item, held in _items(box, (data, inner)) if name == b"iloc" else ():
            if (item, b"av01") in kinds:
                yield from _sequence_sizes(held)
            if (item, b"grid") in kinds:
                yield struct.unpack_from(">II" if held[1] & 1 else ">HH", held, 4)


def _wide(box: bytes) -> int:
    """Return the bytes of the count of an ``iinf``."""
    return 4 if box[0] else 2


def _item_kind(entry: bytes) -> tuple[int, bytes]:
    item, kind = struct.unpack_from(">I2x4s" if entry[0] > 2 else ">H2x4s", entry, 4)
    return item, kind


def _items(box: bytes, places: tuple[bytes, bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of the items of an ``iloc``, which lie in the file or in the box ``idat``."""
    place, left = 6, 2 * len(places[0])  # bytes that all may have: places may be shared

    def number(size: int) -> int:
        nonlocal place
        if place + size > len(box):
            raise LookupError("iloc")
        place += size
        return int.from_bytes(box[place - size : place], "big")

    version, id_size = box[0], 2 if box[0] < 2 else 4
    offset_size, length_size, base_size = box[4] >> 4, box[4] & 15, box[5] >> 4
    index_size = box[5] & 15 if version else 0
    for _ in range(number(id_size)):
        item = number(id_size)
        source = places[(number(2) & 15) > 0 if version else 0]
        number(2)
        base, extents = number(base_size), []
        for _ in range(number(2)):
            number(index_size)
            start, length = base + number(offset_size), number(length_size)
            extents.append(source[start : start + length] if length else source[start:])
            left -= len(extents[-1])
            if left < 0:
                raise LookupError("iloc")
        yield item, b"".join(extents)


def _first_sample(data: bytes, track: bytes) -> bytes:
    for name in _TRACK:
        track = content(track, name)
    parts = list(boxes(track))
    table = dict(parts)
    if len(table) < len(parts):
        raise LookupError("a table twice")
    one_size, _, first_size = struct.unpack_from(">III", table[b"stsz"].ljust(16, b"\0"), 4)
    form, chunks = (">I", table[b"stco"]) if b"stco" in table else (">Q", table[b"co64"])
    (start,) = struct.unpack_from(form, chunks, 8)
    return data[start : start + (one_size or first_size)]


def _sequence_sizes(stream: bytes) -> Iterator[tuple[int, int]]:
    """Yield the size in every sequence header among the units (OBU) of an AV1 stream."""
    place = 0
    while place < len(stream):
        head = stream[place]
        place += 2 if head & 4 else 1
        length = len(stream) - place
        if head & 2:
            length = 0
            for shift in range(0, 56, 7):
                place += 1
                length |= (stream[place - 1] & 127) << shift
                if stream[place - 1] < 128:
                    break
        if head >> 3 == 1:
            yield _sequence_size(_bits(stream[place : place + min(length, 128)]))
        place += length


def _bits(data: bytes) -> Callable[[int], int]:
    value, left = int.from_bytes(data, "big"), 8 * len(data)

    def take(count: int) -> int:
        nonlocal left
        left -= count
        if left < 0:
            raise LookupError("sequence header")
        return value >> left & ((1 << count) - 1)

    return take


def _sequence_size(take: Callable[[int], int]) -> tuple[int, int]:
    """Return the largest width and height of frames (AV1 specification, 5.5.1)."""
    take(4)  # profile, still_picture
    if take(1):  # reduced_still_picture_header
        take(5)
    else:
        if take(1):  # of no picture
            raise LookupError("timing info")
        has_delay = take(1)
        for _ in range(take(5) + 1):
            take(12)
            if take(5) > 7:
                take(1)
            if has_delay and take(1):
                take(4)
    width_bits, height_bits = take(4) + 1, take(4) + 1
    return take(width_bits) + 1, take(height_bits) + 1
