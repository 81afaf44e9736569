"""Overlays as files: a JPEG per photo, an MP4 per video."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.outputs.map_files import write_picture
from runtime.outputs.names import OutputNames
from runtime.rendering.overlay import OverlayPainter
from runtime.sources.video import VideoFacts
from runtime.types import FaceMesh, Frame

JPEG_QUALITY = 93


class FilmWriter(Protocol):
    """A film that grows by frames."""

    def write(self, image: NDArray[np.uint8], time_s: float) -> None:
        """Append a picture (H, W, 3) uint8 BGR at its time in the source."""

    def close(self) -> None:
        """Finish the file, or take it away and raise `FaceMeshError`."""


class OverlayPhotoSink:
    """One JPEG for every photo, with or without faces."""

    def __init__(self, names: OutputNames, painter: OverlayPainter) -> None:
        """Take the names of the files and the painter of the overlays."""
        self._names = names
        self._painter = painter

    def write(self, frame: Frame, faces: Sequence[FaceMesh]) -> None:
        """Write the overlay of one photo; raises `FaceMeshError` if it cannot be encoded or written."""
        overlay = self._painter.draw(frame.image, faces)
        write_picture(self._names.source(frame, "_overlay.jpg"), overlay, JPEG_QUALITY)

    def close(self) -> None:
        """Do nothing: every photo is complete once written."""


class OverlayVideoSink:
    """One MP4 video of all frames. It has a temporary name until it is closed."""

    def __init__(self, names: OutputNames, painter: OverlayPainter, video: VideoFacts) -> None:
        """Take the names of the files, the painter and the facts of the source."""
        self._names = names
        self._painter = painter
        self._video = video
        self._film: FilmWriter | None = None

    def write(self, frame: Frame, faces: Sequence[FaceMesh]) -> None:
        """Append the overlay of one frame; the first one opens the video. Raises `FaceMeshError`."""
        if self._film is None:
            self._film = _open_film(self._names.source(frame, "_overlay.mp4"), frame.image, self._video)
        self._film.write(self._painter.draw(frame.image, faces), frame.timestamp_s)

    def close(self) -> None:
        """Finish the video under its own name; raises `FaceMeshError` if it cannot be written."""
        if self._film is not None:
            self._film.close()


def _open_film(path: Path, image: NDArray[np.uint8], video: VideoFacts) -> FilmWriter:
    try:
        from runtime.outputs.h264_film import H264Film
    except ModuleNotFoundError as error:
        if error.name != "av":
            raise
        from runtime.outputs.opencv_film import OpenCvFilm

        remark = "the overlay gets a constant rate and no sound"
        warnings.warn(f"PyAV is not installed: {remark}; pip install 'facemesh-edge[video]'", stacklevel=2)
        return OpenCvFilm(path, image, video)
    return H264Film(path, image, video)
