"""Frames of one photo, a folder of photos, a video file or a camera."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError
from runtime.sources.photos import list_other_files, list_photos, read_bytes, read_photo
from runtime.types import Frame

# A list, because the video library opens nearly anything: it plays a text file as an animation of its letters.
VIDEO_SUFFIXES = {
    ".3gp",
    ".avi",
    ".flv",
    ".m2ts",
    ".m4v",
    ".mkv",
    ".mov",
    ".mp4",
    ".mpeg",
    ".mpg",
    ".mts",
    ".ogv",
    ".ts",
    ".webm",
    ".wmv",
}
CAMERA_PREFIX = "camera:"


class FrameSource:
    """The frames of ``uri``, in order; a context manager and an iterable.

    ``uri`` is a photo, a folder (its photos, by name, subfolders left out), a video file or ``camera:0``.
    """

    def __init__(self, uri: str | Path, on_error: Callable[[FaceMeshError], None] | None = None) -> None:
        """Open the source; raises `FaceMeshError` if that fails.

        Iterating raises `FaceMeshError` for a photo that cannot be read. With ``on_error`` the error is handed to that
        function and the next photo follows.
        """
        self.uri = str(uri)
        self.photos: list[Path] = []  # empty for a video or a camera
        self.other_files: list[Path] = []  # of a folder: no photos by their suffix, left out
        self.frame_count: int | None = None  # as a video's header has it, which may be wrong; None for a camera
        self.fps = 0.0  # of a video or a camera, 0 if unknown
        # Returns the memory for the next frame of a video or camera (height, width, 3), or None for new memory.
        # `FaceMeshPipeline.frame_buffer` is such a function.
        self.frame_buffer: Callable[[int, int], NDArray[np.uint8] | None] = lambda height, width: None
        self._on_error = on_error
        self._capture: cv2.VideoCapture | None = None
        if self.uri.startswith(CAMERA_PREFIX):
            self._open_camera()
        elif Path(uri).suffix.lower() in VIDEO_SUFFIXES and Path(uri).is_file():
            self._open_video()
        else:
            self.photos = list_photos(Path(uri))
            self.other_files = list_other_files(Path(uri))
            self.frame_count = len(self.photos)

    def __enter__(self) -> FrameSource:
        return self

    def __exit__(self, *_: object) -> None:
        if self._capture is not None:
            self._capture.release()

    def __iter__(self) -> Iterator[Frame]:
        return self._read_photos() if self._capture is None else self._read_video(self._capture)

    def _open_camera(self) -> None:
        number = self.uri.removeprefix(CAMERA_PREFIX)
        if not number.isdecimal():
            raise FaceMeshError(f"{self.uri}: a camera is named by its number; write camera:0 for the first one")
        self._capture = cv2.VideoCapture(int(number))
        if not self._capture.isOpened():
            remedy = "plug one in, close other programs that use it, or try another number"
            raise FaceMeshError(f"{self.uri}: no camera answers there; {remedy}")
        self.fps = _positive(self._capture.get(cv2.CAP_PROP_FPS))

    def _open_video(self) -> None:
        read_bytes(Path(self.uri), most_bytes=1)
        self._capture = cv2.VideoCapture(self.uri)
        if not self._capture.isOpened():
            raise FaceMeshError(f"{self.uri}: cannot be opened as a video; it may be damaged, or convert it to MP4")
        self.fps = _positive(self._capture.get(cv2.CAP_PROP_FPS))
        self.frame_count = int(_positive(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))) or None

    def _read_photos(self) -> Iterator[Frame]:
        for path in self.photos:
            try:
                image = read_photo(path)
            except FaceMeshError as error:
                if self._on_error is None:
                    raise
                self._on_error(error)
            else:
                yield Frame(image, 0, 0.0, str(path))

    def _read_video(self, capture: cv2.VideoCapture) -> Iterator[Frame]:
        is_camera = self.uri.startswith(CAMERA_PREFIX)
        start, index = time.monotonic(), 0
        read, image = capture.read()
        while read:
            if is_camera:
                timestamp_s = time.monotonic() - start
            else:
                timestamp_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 or (index / self.fps if self.fps else 0.0)
            yield Frame(image, index, timestamp_s, self.uri)
            index += 1
            read, image = capture.read(self.frame_buffer(*image.shape[:2]))
        if is_camera:
            remedy = "check its cable and start again"
            raise FaceMeshError(f"{self.uri}: the camera stopped delivering pictures after {index}; {remedy}")
        if index == 0:
            remedy = "it may be damaged, or convert it to MP4"
            raise FaceMeshError(f"{self.uri}: not one frame of the video could be decoded; {remedy}")


def _positive(value: float) -> float:
    """Return a video property, or 0 for the zero, negative or NaN that stands for an unknown one."""
    return value if 0 < value < 1e9 else 0.0
