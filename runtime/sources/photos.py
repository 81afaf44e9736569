"""List and read photos."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError

PHOTO_SUFFIXES = {".bmp", ".jpe", ".jpeg", ".jpg", ".jp2", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}


def list_photos(path: Path) -> list[Path]:
    """Return the photos of the folder ``path`` sorted by name, or ``path`` itself for a file.

    Raises `FaceMeshError` for a missing path and for a folder without photos.
    """
    if path.is_dir():
        try:
            # Names with a leading dot are droppings of file managers, such as ._photo.jpg.
            files = [item for item in path.iterdir() if not item.name.startswith(".")]
        except OSError as error:
            reason = error.strerror or error
            raise FaceMeshError(f"{path}: the folder cannot be listed ({reason}); check its permissions") from error
        photos = sorted(item for item in files if item.suffix.lower() in PHOTO_SUFFIXES)
        if not photos:
            remedy = "give a folder with JPEG or PNG files"
            raise FaceMeshError(f"{path}: no photos in this folder (subfolders are not searched); {remedy}")
        return photos
    if not path.exists():
        raise FaceMeshError(f"{path}: no such file or folder; check the path given to --source")
    return [path]


def read_photo(path: Path) -> NDArray[np.uint8]:
    """Decode a photo of any depth and colour model: (H, W, 3) uint8 BGR, turned by its EXIF orientation.

    Transparency is dropped. Raises `FaceMeshError` for files that are missing, empty, cut off or no photo.
    """
    data = read_bytes(path)
    if data.startswith(b"\xff\xd8") and _jpeg_is_cut_off(data):
        # OpenCV would paint the missing part grey and say nothing.
        raise FaceMeshError(f"{path}: the JPEG file is cut off before its end; copy or download it again")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise FaceMeshError(f"{path}: cannot be decoded as a photo ({error.err}); convert it to JPEG or PNG") from error
    if image is None:
        raise FaceMeshError(f"{path}: damaged, or no photo in a known format; convert it to JPEG or PNG")
    return image


def read_bytes(path: Path, most_bytes: int = -1) -> bytes:
    """Return a file's content or its first ``most_bytes``; raises `FaceMeshError` for an empty file."""
    try:
        with open(path, "rb") as file:
            data = file.read(most_bytes)
    except OSError as error:
        reason = error.strerror or error
        raise FaceMeshError(f"{path}: cannot be read ({reason}); check the path and its permissions") from error
    if not data:
        raise FaceMeshError(f"{path}: the file is empty (0 bytes); copy or download it again")
    return data


def _jpeg_is_cut_off(data: bytes) -> bool:
    """Return True if no end marker follows the start of the first scan.

    An embedded preview comes before that and has an end marker of its own.
    """
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xDA:  # start of scan
            return data.find(b"\xff\xd9", position) < 0
        fill_byte = marker == 0xFF
        position += 1 if fill_byte else 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return position + 4 > len(data)
