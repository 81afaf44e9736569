"""Size of a picture as its file's header claims it, checked before a decoder allocates memory for it.

OpenCV has no way to read a header alone, and its decoders allocate whatever a chunk claims.
"""

from __future__ import annotations

import re
import struct

from runtime.storage.limits import PIXELS, PIXELS_PER_BYTE

_PNG = b"\x89PNG\r\n\x1a\n"
SMALL_PIXELS = 25_000_000  # a picture may have so many however few its bytes are
_HEADER_BYTES = 1 << 16
_TIFF_SIDES = {256: 0, 322: 0, 257: 1, 323: 1}  # of the picture and of its tiles
_TIFF_NUMBERS = {1: "B", 3: "H", 4: "I", 16: "Q"}


def check_claims(data: bytes) -> None:
    """Raise `ValueError` with problem and remedy for a picture that claims more than it holds, or than the limits.

    Formats without a known header pass.
    """
    if data.startswith(_PNG):
        _check_png_chunks(data)
    elif data.startswith(b"\xff\xd8") and _jpeg_is_cut_off(data):
        # OpenCV would paint the missing part grey and say nothing.
        raise ValueError("the JPEG file is cut off before its end; copy or download it again")
    try:
        width, height = picture_size(data)
    except (struct.error, IndexError, OverflowError):
        raise ValueError("damaged, or cut off within its header; copy or download it again") from None
    pixels = width * height
    excess = PIXELS.excess(pixels)
    if not excess and pixels > SMALL_PIXELS:
        excess = PIXELS_PER_BYTE.excess(-(-pixels // len(data)))
    if excess:
        raise ValueError(f"its header claims {width} x {height} px: {excess}; reduce the picture")


def picture_size(data: bytes) -> tuple[int, int]:
    """Return width and height, px, as the header of an encoded picture has them; (0, 0) for an unknown format.

    Raises `struct.error` or `IndexError` for a header that is cut off.
    """
    head = data[:_HEADER_BYTES]
    if data.startswith(_PNG):
        return struct.unpack_from(">II", data, 16)
    if data.startswith(b"\xff\xd8"):
        return _jpeg_size(data)
    if data.startswith(b"BM"):
        return _bmp_size(data)
    if data.startswith(b"GIF8"):
        return struct.unpack_from("<HH", data, 6)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp_size(data)
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _tiff_size(data)
    if re.match(rb"P[1-7Ff]\s", data):
        return _pnm_size(head)
    if data.startswith(b"\x59\xa6\x6a\x95"):  # Sun raster
        return struct.unpack_from(">II", data, 4)
    if data[4:8] == b"ftyp":  # AVIF, HEIC: every part has its size, the whole the largest
        sizes = [struct.unpack_from(">II", head, match.end() + 4) for match in re.finditer(b"ispe", head[:-12])]
        return max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))
    if data.startswith(b"\xff\x4f\xff\x51") or data[4:8] == b"jP  ":
        return _jpeg2000_size(head)
    if data.startswith(b"#?"):  # Radiance
        found = re.search(rb"[+-]Y (\d{1,9}) [+-]X (\d{1,9})", head)
        return (int(found[2]), int(found[1])) if found else (0, 0)
    if data.startswith(b"v/1\x01") and (place := head.find(b"dataWindow\0box2i\0")) >= 0:  # OpenEXR
        left, top, right, bottom = struct.unpack_from("<4i", data, place + 21)
        return max(0, right - left + 1), max(0, bottom - top + 1)
    return 0, 0


def _check_png_chunks(data: bytes) -> None:
    position = len(_PNG)
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        position += 12 + length
        if position > len(data):
            held = max(0, len(data) - (position - length - 4))
            fault = f"a part of the PNG file claims {length:,} bytes and {held:,} follow"
            raise ValueError(f"damaged or cut off, {fault}; copy or download it again")
        if kind == b"IEND":
            return


def _jpeg_segments(data: bytes) -> tuple[list[tuple[int, int]], int]:
    """Return marker and position of the segments before the first scan, and the position where the scan should be."""
    found, position = [], 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xDA:  # start of scan
            break
        fill_byte = marker == 0xFF
        if not fill_byte:
            found.append((marker, position))
        position += 1 if fill_byte else 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return found, position


def _jpeg_is_cut_off(data: bytes) -> bool:
    """Return True if no end marker follows the start of the first scan.

    An embedded preview comes before that and has an end marker of its own.
    """
    position = _jpeg_segments(data)[1]
    if data[position : position + 2] == b"\xff\xda":
        return data.find(b"\xff\xd9", position) < 0
    return position + 4 > len(data)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    sizes = [
        struct.unpack_from(">HH", data, position + 5)[::-1]
        for marker, position in _jpeg_segments(data)[0]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)
    ]
    return max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))


def _bmp_size(data: bytes) -> tuple[int, int]:
    if struct.unpack_from("<I", data, 14)[0] == 12:
        return struct.unpack_from("<HH", data, 18)
    width, height = struct.unpack_from("<ii", data, 18)
    return abs(width), abs(height)


def _webp_size(data: bytes) -> tuple[int, int]:
    if data[12:16] == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _tiff_size(data: bytes) -> tuple[int, int]:
    """Return the larger of picture and tile, of the first picture in a TIFF or BigTIFF file."""
    order, is_big = "<>"[data[0] == ord("M")], b"+" in data[2:4]
    (start,) = struct.unpack_from(order + ("Q" if is_big else "I"), data, 8 if is_big else 4)
    (count,) = struct.unpack_from(order + ("Q" if is_big else "H"), data, start)
    entry, first = (20, start + 8) if is_big else (12, start + 2)
    sides = [0, 0]
    for number in range(min(count, (len(data) - first) // entry)):
        tag, kind = struct.unpack_from(order + "HH", data, first + entry * number)
        if tag in _TIFF_SIDES and kind in _TIFF_NUMBERS:
            (side,) = struct.unpack_from(
                order + _TIFF_NUMBERS[kind], data, first + entry * number + (12 if is_big else 8)
            )
            sides[_TIFF_SIDES[tag]] = max(sides[_TIFF_SIDES[tag]], side)
    return sides[0], sides[1]


def _pnm_size(head: bytes) -> tuple[int, int]:
    if head.startswith(b"P7"):
        width, height = (re.search(rb"\n" + name + rb"\s+(\d{1,9})", head) for name in (b"WIDTH", b"HEIGHT"))
        return (int(width[1]), int(height[1])) if width and height else (0, 0)
    found = re.match(rb"P.\s+(\d{1,9})\s+(\d{1,9})", re.sub(rb"#[^\n]*", b"", head))
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _jpeg2000_size(head: bytes) -> tuple[int, int]:
    """Return the larger of picture and tile from the SIZ marker."""
    place = head.find(b"\xff\x4f\xff\x51")
    if place < 0:
        return 0, 0
    x1, y1, x0, y0, tile_x, tile_y = struct.unpack_from(">6I", head, place + 8)
    return max(x1 - x0, min(tile_x, x1)), max(y1 - y0, min(tile_y, y1))
