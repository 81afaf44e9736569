"""Maps of a picture as PNG files: depth, normals, PNCC."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError
from runtime.outputs.names import OutputNames
from runtime.rendering.maps import MapPainter
from runtime.storage.whole_files import whole_file
from runtime.types import FaceMesh, Frame, MeshTopology

MAP_FORMATS = ("depth", "normals", "pncc")
Maker = Callable[[Sequence[FaceMesh], tuple[int, int]], NDArray[Any]]
DEPTH_STEPS = 16  # of a depth file to a pixel


class MapSink:
    """Sink for maps: one PNG for every picture and kind, ``name_depth.png`` and so on; black outside faces."""

    def __init__(self, names: OutputNames, formats: Sequence[str], topology: MeshTopology) -> None:
        """Take the names of the files, some of `MAP_FORMATS` and the topology of the faces."""
        self._names = names
        self._formats = formats
        self._painter = MapPainter(topology)

    def write(self, frame: Frame, faces: Sequence[FaceMesh]) -> None:
        """Write the maps of one picture; raises `FaceMeshError` if one cannot be written."""
        makers: dict[str, Maker] = {"depth": self._depth, "normals": self._normals, "pncc": self._pncc}
        for name in self._formats:
            picture = makers[name](faces, frame.image.shape[1::-1])
            write_picture(self._names.picture(frame, f"_{name}.png"), picture)

    def close(self) -> None:
        """Do nothing: every map is complete once written."""

    def _depth(self, faces: Sequence[FaceMesh], size_wh: tuple[int, int]) -> NDArray[np.uint16]:
        """Return 1 + 16 times the depth in px, 0 without face."""
        depth = self._painter.depth(faces, size_wh)
        return np.rint(np.clip(np.nan_to_num(depth * DEPTH_STEPS + 1, nan=0), 0, 65535)).astype(np.uint16)

    def _normals(self, faces: Sequence[FaceMesh], size_wh: tuple[int, int]) -> NDArray[np.uint8]:
        """Return red, green, blue = x right, y up, z to the camera, -1 to 1 as 0 to 255, stored as BGR."""
        normals = self._painter.normals(faces, size_wh)
        covered = normals.any(axis=2, keepdims=True)
        colours = (normals * np.array([1, -1, 1], np.float32) + 1) * 127.5 * covered
        return np.rint(colours[..., ::-1]).astype(np.uint8)

    def _pncc(self, faces: Sequence[FaceMesh], size_wh: tuple[int, int]) -> NDArray[np.uint8]:
        """Return red, green, blue = x, y, z of the mean face, stored as BGR."""
        return np.rint(self._painter.pncc(faces, size_wh)[..., ::-1] * 255).astype(np.uint8)


def write_picture(path: Path, picture: NDArray[Any], quality: int | None = None) -> None:
    """Write a picture in the format of ``path``'s suffix; ``quality`` is JPEG's. Raises `FaceMeshError`."""
    encoded, data = encode(path.suffix, picture, quality)
    if not encoded:
        fault = f"the picture of {picture.shape[1]} x {picture.shape[0]} cannot be encoded as {path.suffix[1:].upper()}"
        raise FaceMeshError(f"{path}: {fault}; leave it out of --save")
    with whole_file(path) as file:
        file.write(data)


def encode(suffix: str, picture: NDArray[Any], quality: int | None = None) -> tuple[bool, bytes]:
    """Return True and the bytes of an encoded picture, False and nothing for one that the format cannot hold."""
    options = [] if quality is None else [cv2.IMWRITE_JPEG_QUALITY, quality]
    try:
        encoded, data = cv2.imencode(suffix, picture, options)
    except cv2.error:  # too wide for the format
        return False, b""
    return encoded, data.tobytes() if encoded else b""
