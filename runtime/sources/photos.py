"""List and read photos."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError, one_line, reason
from runtime.sources.avif_turn import turned
from runtime.sources.picture_claims import check_claims
from runtime.storage.bounded_files import open_bounded
from runtime.storage.limits import FILE_BYTES

# Suffixes of pictures: every such file of a folder is read, or an error names it. Whether OpenCV reads AVIF and GIF
# depends on its version and build; HEIC, JPEG XL and the last line it does not read.
PHOTO_SUFFIXES = {
    *(".bmp", ".dib", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm", ".pgm", ".png", ".apng", ".pnm"),
    *(".ppm", ".ras", ".tif", ".tiff", ".webp", ".avif", ".gif", ".exr", ".hdr", ".heic", ".heif", ".hif", ".jxl"),
    *(".j2k", ".jxr", ".pcx", ".psd", ".svg", ".tga"),
}
# Raw files of cameras are TIFF files in part: OpenCV would read a thumbnail in them.
RAW_SUFFIXES = {
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".iiq", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2"),
    *(".sr2", ".srw"),
}
# Mark of a file, at its byte 0 or 4, and name of a format that OpenCV does not read, or not in every build.
UNREAD_FORMATS = (
    *((b"ftyp" + brand, "HEIC") for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")),
    *((b"ftyp" + brand, "AVIF") for brand in (b"avif", b"avis")),
    *((mark, "JPEG XL") for mark in (b"\xff\x0a", b"JXL ")),
    *((b"GIF8", "GIF"), (b"II\xbc", "JPEG XR"), (b"8BPS", "Photoshop")),
)
FULL_SCALES = (2**8 - 1, 2**10 - 1, 2**12 - 1, 2**14 - 1, 2**16 - 1)


def list_photos(path: Path, recursive: bool = False) -> list[Path]:
    """Return the photos of the folder ``path`` sorted by name, or ``path`` itself for a file.

    A photo of a folder is known by its suffix, whether it can be read or not. ``recursive`` adds those of its
    subfolders, each folder's after its own; links to folders are not followed. Raises `FaceMeshError` for a missing
    path and for a folder without photos.
    """
    if path.is_dir():
        photos = [item for item in _visible(path, recursive) if is_photo(item)]
        if not photos:
            where = "this folder and those in it" if recursive else "this folder (--recursive searches subfolders, too)"
            raise FaceMeshError(f"{path}: no photos in {where}; give a folder with JPEG or PNG files")
        return photos
    if not path.exists():
        raise FaceMeshError(f"{path}: no such file or folder; check the path given to --source")
    return [path]


def list_other_files(path: Path, recursive: bool = False) -> list[Path]:
    """Return the files of the folder ``path`` that `list_photos` leaves out, sorted by name; none for a file."""
    if not path.is_dir():
        return []
    return [item for item in _visible(path, recursive) if not is_photo(item) and item.is_file()]


def read_photo(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Decode a photo of any depth and colour model: (H, W, 3) uint8 BGR, turned by its EXIF orientation
    or as an AVIF tells.

    Transparency is dropped; of an animation it is the first picture. 16-bit values may be those of a camera with fewer
    bits: the full scale is the smallest of 8, 10, 12, 14 and 16 bits that holds the brightest value. Raises
    `FaceMeshError` for files that are missing, empty, cut off or no photo, and beyond `runtime.storage.limits.PIXELS`.
    """
    path = Path(path)
    if path.suffix.lower() in RAW_SUFFIXES:
        read_bytes(path, most_bytes=1)
        raise FaceMeshError(f"{path}: a camera's raw file, which is not read; develop it to JPEG or PNG")
    return decode_photo(read_bytes(path), path)


def decode_photo(data: bytes, place: object, flags: int = 0) -> NDArray[np.uint8]:
    """Decode the content of a photo like `read_photo`; ``place`` is its name in errors, ``flags`` are OpenCV's."""
    try:
        is_known = check_claims(data)
    except ValueError as error:
        raise FaceMeshError(f"{place}: {error}") from None
    try:
        image = _decode(data, flags) if is_known else None
    except (cv2.error, MemoryError) as error:
        fault = one_line(getattr(error, "err", "") or "out of memory", 200)
        raise FaceMeshError(f"{place}: cannot be decoded as a photo ({fault}); convert it to JPEG or PNG") from error
    if image is None:
        raise FaceMeshError(f"{place}: {_unread(data)}; convert it to JPEG or PNG")
    return image if flags & cv2.IMREAD_IGNORE_ORIENTATION else turned(image, data)


def read_bytes(path: Path, most_bytes: int = -1) -> bytes:
    """Return the content of a plain file or its first ``most_bytes``.

    Raises `FaceMeshError` for an empty file, for pipes and devices, and for a whole file beyond the limit.
    """
    try:
        with open_bounded(path, FILE_BYTES if most_bytes < 0 else None) as file:
            data = file.read(most_bytes)
    except OSError as error:
        raise FaceMeshError(f"{path}: cannot be read ({reason(error)}); check the path and its permissions") from error
    if not data:
        raise FaceMeshError(f"{path}: the file is empty (0 bytes); copy or download it again")
    return data


def _visible(folder: Path, recursive: bool) -> list[Path]:
    """Return what a folder holds, folders in it last; names with a leading dot are those of file managers' droppings,
    such as ._photo.jpg.
    """
    try:
        found = sorted(item for item in folder.iterdir() if not item.name.startswith("."))
        if not recursive:
            return found
        folders = [item for item in found if item.is_dir() and not item.is_symlink()]
        own = [item for item in found if not item.is_dir() or item.is_symlink()]
        return own + [item for inner in folders for item in _visible(inner, recursive)]
    except OSError as error:
        fault = f"the folder cannot be listed ({reason(error)})"
        raise FaceMeshError(f"{folder}: {fault}; check its permissions") from error


def is_photo(path: Path) -> bool:
    """Return True for a photo by its suffix."""
    return path.suffix.lower() in PHOTO_SUFFIXES | RAW_SUFFIXES


def _decode(data: bytes, flags: int) -> NDArray[np.uint8] | None:
    """Return the picture (H, W, 3) uint8 BGR, None if OpenCV cannot read it."""
    array = np.frombuffer(data, np.uint8)
    image = cv2.imdecode(array, flags | cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if image is None or image.dtype == np.uint8:
        return image
    if image.dtype.kind == "f":
        del image  # before as much again is read
        return cv2.imdecode(array, flags | cv2.IMREAD_COLOR)
    brightest = int(image.max())
    full_scale = next((scale for scale in FULL_SCALES if brightest <= scale), brightest)
    return cv2.convertScaleAbs(np.maximum(image, 0), alpha=255 / full_scale)


def _unread(data: bytes) -> str:
    """Return why a file is no picture for OpenCV, by the mark of its format."""
    for mark, name in UNREAD_FORMATS:
        if data.startswith(mark) or data.startswith(mark, 4):
            return f"{name} that OpenCV {cv2.__version__} cannot read"
    return "damaged, or no photo in a known format"
