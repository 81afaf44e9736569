"""Overlays as files: a JPEG per photo, an MP4 per video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2

from runtime.errors import FaceMeshError
from runtime.outputs.names import OutputNames
from runtime.rendering.overlay import OverlayPainter
from runtime.storage.whole_files import rename_whole, whole_file
from runtime.types import FaceMesh, Frame

JPEG_QUALITY = 93
DEFAULT_FPS = 25.0  # of an overlay video whose source does not know its own


class OverlayPhotoSink:
    """One JPEG for every photo, with or without faces."""

    def __init__(self, names: OutputNames, painter: OverlayPainter) -> None:
        """Take the names of the files and the painter of the overlays."""
        self._names = names
        self._painter = painter

    def write(self, frame: Frame, faces: Sequence[FaceMesh]) -> None:
        """Write the overlay of one photo; raises `FaceMeshError` if it cannot be encoded or written."""
        path = self._names.overlay(frame, ".jpg")
        overlay = self._painter.draw(frame.image, faces)
        encoded, data = cv2.imencode(".jpg", overlay, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if not encoded:
            raise FaceMeshError(f"{path}: the picture cannot be encoded as JPEG; leave overlay out of --save")
        with whole_file(path) as file:
            file.write(data.tobytes())

    def close(self) -> None:
        """Do nothing: every photo is complete once written."""


class OverlayVideoSink:
    """One MP4 video of all frames. It has a temporary name until it is closed."""

    def __init__(self, names: OutputNames, painter: OverlayPainter, fps: float) -> None:
        """Take the names of the files, the painter and the frame rate; 0 stands for an unknown one."""
        self._names = names
        self._painter = painter
        self._fps = fps or DEFAULT_FPS
        self._video: cv2.VideoWriter | None = None
        self._path = self._temporary = Path()
        self._frames = 0

    def write(self, frame: Frame, faces: Sequence[FaceMesh]) -> None:
        """Append the overlay of one frame; the first one opens the video, which may raise `FaceMeshError`."""
        if self._video is None:
            self._open(frame)
        self._video.write(self._painter.draw(frame.image, faces))
        self._frames += 1

    def close(self) -> None:
        """Finish the video under its own name; raises `FaceMeshError` if frames are missing in it."""
        if self._video is None:
            return
        self._video.release()
        if _video_length(self._temporary) != self._frames:  # the writer itself is silent about a full disk
            self._temporary.unlink(missing_ok=True)
            remedy = "free some space or choose another --output folder"
            raise FaceMeshError(f"{self._path}: the video could not be written; {remedy}")
        rename_whole(self._temporary, self._path)

    def _open(self, frame: Frame) -> None:
        self._path = self._names.overlay(frame, ".mp4")
        self._temporary = self._path.with_suffix(".part.mp4")  # the container is chosen by the suffix
        height, width = frame.image.shape[:2]
        video = cv2.VideoWriter(str(self._temporary), cv2.VideoWriter.fourcc(*"mp4v"), self._fps, (width, height))
        if not video.isOpened():
            fault = f"OpenCV cannot write this video of {width} x {height}"
            raise FaceMeshError(f"{self._path}: {fault}; leave overlay out of --save")
        self._video = video


def _video_length(path: Path) -> int:
    """Return the number of frames of a video file, -1 for one that cannot be opened."""
    video = cv2.VideoCapture(str(path))
    length = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else -1
    video.release()
    return length
