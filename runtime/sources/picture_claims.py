"""Size of a picture as its file's header claims it, checked before a decoder allocates memory for it.

OpenCV has no way to read a header alone, and its decoders allocate whatever a chunk claims.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from runtime.sources.iso_boxes import av1_sizes, boxes, content
from runtime.storage.limits import EXPANSION, PIXELS, PIXELS_PER_BYTE, SCANS, unpacked_bytes

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = (1, 0, 3, 1, 2, 0, 4)  # by colour type
_JPEG_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")  # of those with a length
_SCAN, _END = 0xDA, 0xD9
_CODESTREAM = b"\xff\x4f\xff\x51"
SMALL_PIXELS = 25_000_000  # a picture may have so many however few its bytes are
COMMON_BITS = 32  # of a pixel; those with more are held against the bytes of the file
_TIFF_SIDES = {256: 0, 322: 0, 257: 1, 323: 1}  # of the picture and of its tiles
_TIFF_BITS, _TIFF_SAMPLES = 258, 277
_TIFF_NUMBERS = {1: "B", 3: "H", 4: "I"}
_PNM_GAP = rb"(?:\s|#[^\r\n]*[\r\n])*"
_PNM = re.compile(rb"P[1-6Ff]\s" + _PNM_GAP + rb"0*(\d{1,9})\s" + _PNM_GAP + rb"0*(\d{1,9})\s")
_RADIANCE = re.compile(rb"[+-]Y\s*\+?0*(\d{1,30})\s*[+-]X\s*\+?0*(\d{1,30})")
# What OpenJPEG allocates for every tile and for every component in it.
_TILE_BYTES, _COMPONENT_BYTES = 6000, 1100


def check_claims(data: bytes) -> bool:
    """Return True for a picture whose size is known and sound, False if its format or its size cannot be read.

    Raises `ValueError` with problem and remedy for one that claims more than it holds, or than the limits.
    """
    if data.startswith(_PNG):
        _check_png_chunks(data)
    elif data.startswith(b"\xff\xd8"):
        _check_jpeg_scans(data)
    try:
        width, height = picture_size(data)
        claimed = _deep_bytes(data, width * height)
    except (struct.error, LookupError, OverflowError):
        raise ValueError("damaged, or cut off within its header; copy or download it again") from None
    pixels = width * height
    excess = PIXELS.excess(pixels)
    if not excess and pixels > SMALL_PIXELS:
        excess = PIXELS_PER_BYTE.excess(-(-pixels // len(data)))
    if not excess and claimed > unpacked_bytes(len(data)):
        excess = f"{claimed:,} bytes from {len(data):,} (raise the limit with {EXPANSION.variable})"
    if excess:
        raise ValueError(f"its header claims {width} x {height} px: {excess}; reduce the picture")
    return pixels > 0


def picture_size(data: bytes) -> tuple[int, int]:
    """Return width and height, px, as the header of an encoded picture has them; (0, 0) where they cannot be read.

    Raises `struct.error` or `LookupError` for a header that is cut off.
    """
    if data.startswith(_PNG):
        return struct.unpack_from(">II", data, 16) if data[12:16] == b"IHDR" else (0, 0)
    if data.startswith(b"\xff\xd8"):
        return _jpeg_size(data)
    if data.startswith(b"BM"):
        return _bmp_size(data)
    if data.startswith(b"GIF8"):
        return struct.unpack_from("<HH", data, 6)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp_size(data)
    if _is_tiff(data):
        return _tiff_size(data)
    if data.startswith(b"P7"):
        return _pam_size(data)
    if found := _PNM.match(data):
        return int(found[1]), int(found[2])
    if data.startswith(b"\x59\xa6\x6a\x95"):  # Sun raster
        return struct.unpack_from(">II", data, 4)
    if data[4:8] == b"ftyp":  # AVIF, HEIC: every part has its size, the whole the largest
        sizes = [struct.unpack_from(">II", data, match.end() + 4) for match in re.finditer(b"ispe", data)]
        return _largest([*sizes, *av1_sizes(data)] if sizes else [])
    if data.startswith(_CODESTREAM) or data[4:8] == b"jP  ":
        return _jpeg2000_size(_codestream(data))
    if data.startswith(b"#?"):  # Radiance
        return _largest([(int(found[2]), int(found[1])) for found in _RADIANCE.finditer(data)])
    if data.startswith(b"v/1\x01"):  # OpenEXR
        places = [match.end() + 4 for match in re.finditer(b"dataWindow\0box2i\0", data)]
        windows = [struct.unpack_from("<4i", data, place) for place in places]
        return _largest([(max(0, right - left + 1), max(0, low - top + 1)) for left, top, right, low in windows])
    return 0, 0


def _largest(sizes: list[tuple[int, int]]) -> tuple[int, int]:
    """Return the size of most pixels: a file may name one to us and another to its decoder."""
    return max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))


def _deep_bytes(data: bytes, pixels: int) -> int:
    """Return the bytes that a picture with more than `COMMON_BITS` for a pixel claims, else 0."""
    bits, more = 0, 0
    if data.startswith(_PNG):
        bits = data[24] * _PNG_CHANNELS[data[25]]
    elif _is_tiff(data):
        tags = _tiff_tags(data)
        bits = tags.get(_TIFF_BITS, 1) * tags.get(_TIFF_SAMPLES, 1)
    elif data.startswith(_CODESTREAM) or data[4:8] == b"jP  ":
        bits, more = _jpeg2000_bits(data)
    return more + (pixels * bits // 8 if bits > COMMON_BITS else 0)


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


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield marker and position of the segments up to the end marker; what lies between them is passed over."""
    position = 2
    while found := _JPEG_MARKER.search(data, position):
        yield data[found.end() - 1], found.start()
        if data[found.end() - 1] == _END:
            return
        position = found.end() + max(2, int.from_bytes(data[found.end() : found.end() + 2], "big"))


def _check_jpeg_scans(data: bytes) -> None:
    """Raise `ValueError` for a file without an end marker after the start of its first scan, and for too many scans.

    An embedded preview comes before that and has an end marker of its own.
    """
    first = next((position for marker, position in _jpeg_segments(data) if marker in (_SCAN, _END)), len(data))
    if data.find(b"\xff\xd9", first) < 0:
        # OpenCV would paint the missing part grey and say nothing.
        raise ValueError("the JPEG file is cut off before its end; copy or download it again")
    if SCANS.excess(data.count(b"\xff\xda")):  # which may lie in previews, too
        excess = SCANS.excess(sum(marker == _SCAN for marker, _ in _jpeg_segments(data)))
        if excess:
            raise ValueError(f"{excess}; save it again as a plain JPEG")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    sizes = []
    for marker, position in _jpeg_segments(data):
        if marker == _SCAN:
            break
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            sizes.append(struct.unpack_from(">HH", data, position + 5)[::-1])
    return _largest(sizes)


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
    if data[12:16] != b"VP8 ":
        return 0, 0
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _is_tiff(data: bytes) -> bool:
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _tiff_size(data: bytes) -> tuple[int, int]:
    """Return the larger of picture and tile, of the first picture in a TIFF or BigTIFF file."""
    tags = _tiff_tags(data)
    width, height = (max(tags.get(tag, 0) for tag, side in _TIFF_SIDES.items() if side == which) for which in (0, 1))
    return width, height


def _tiff_tags(data: bytes) -> dict[int, int]:
    """Return the largest value of the tags that tell sizes. Raises `LookupError` for one of another type."""
    order, is_big = "<>"[data[0] == ord("M")], b"+" in data[2:4]
    wide = "Q" if is_big else "I"
    (start,) = struct.unpack_from(order + wide, data, 8 if is_big else 4)
    (count,) = struct.unpack_from(order + ("Q" if is_big else "H"), data, start)
    entry, first = (20, start + 8) if is_big else (12, start + 2)
    numbers = {**_TIFF_NUMBERS, 16: "Q"} if is_big else _TIFF_NUMBERS
    found: dict[int, int] = {}
    for place in range(first, first + entry * min(count, (len(data) - first) // entry), entry):
        tag, kind, values = struct.unpack_from(order + "HH" + wide, data, place)
        if tag not in (*_TIFF_SIDES, _TIFF_BITS, _TIFF_SAMPLES):
            continue
        form = f"{order}{min(values, 16)}{numbers[kind]}"
        place += entry - struct.calcsize(wide)
        if struct.calcsize(form) > struct.calcsize(wide):
            (place,) = struct.unpack_from(order + wide, data, place)
        found[tag] = max([found.get(tag, 0), *struct.unpack_from(form, data, place)])
    return found


def _pam_size(data: bytes) -> tuple[int, int]:
    """Return the size of a file that names each side once."""
    sides = [re.findall(name + rb"(?:\s+0*(\d{1,9})\s)?", data) for name in (b"WIDTH", b"HEIGHT")]
    if [len(side) for side in sides] != [1, 1] or b"" in (sides[0][0], sides[1][0]):
        return 0, 0
    return int(sides[0][0]), int(sides[1][0])


def _codestream(data: bytes) -> bytes:
    """Return the codestream of a JPEG 2000 file. Raises `LookupError` without one, or one without its size ahead."""
    stream = data if data.startswith(_CODESTREAM) else content(data, b"jp2c")
    if not stream.startswith(_CODESTREAM):
        raise LookupError("SIZ")
    return stream


def _jpeg2000_size(stream: bytes) -> tuple[int, int]:
    """Return the size from the SIZ marker."""
    x1, y1, x0, y0 = struct.unpack_from(">4I", stream, 8)
    return max(0, x1 - x0), max(0, y1 - y0)


def _jpeg2000_bits(data: bytes) -> tuple[int, int]:
    """Return bits of a pixel, also when its palette is applied, and bytes for all tiles."""
    stream = _codestream(data)
    x1, y1, _, _, width, height, left, top, components = struct.unpack_from(">8IH", stream, 8)
    palettes = [
        part[2]
        for name, box in (boxes(data) if stream is not data else ())
        if name == b"jp2h"
        for kind, part in boxes(box)
        if kind == b"pclr"
    ]
    deepest = max((depth & 127 for depth in stream[42 : 42 + 3 * components : 3]), default=0)
    bits = max([components, *palettes]) * (16 if deepest > 7 else 8)
    tiles = -(-(x1 - left) // width) * -(-(y1 - top) // height) if width and height else 0
    return bits, tiles * (_TILE_BYTES + _COMPONENT_BYTES * components)
