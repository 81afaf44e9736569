"""A film as MPEG-4 in MP4 through OpenCV, for installations without PyAV: a constant rate, no sound."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError
from runtime.sources.video import VideoFacts
from runtime.storage.whole_files import remove_quietly, rename_whole


class OpenCvFilm:
    """A film that grows by frames under a temporary name. ``close`` makes it whole, ``discard`` takes it away."""

    def __init__(self, path: Path, image: NDArray[np.uint8], facts: VideoFacts) -> None:
        """Open ``path`` for pictures of the size of ``image`` (H, W, 3); raises `FaceMeshError` if that fails."""
        self._path = path
        self._temporary = path.with_suffix(".part.mp4")
        self._size_wh = width, height = image.shape[1::-1]
        self._frames = 0
        fourcc = cv2.VideoWriter.fourcc(*"mp4v")
        self._video = cv2.VideoWriter(str(self._temporary), fourcc, facts.rate_hz, (width, height))
        if not self._video.isOpened():
            fault = f"OpenCV cannot write this video of {width} x {height}"
            raise FaceMeshError(f"{path}: {fault}; leave overlay out of --save")

    def write(self, image: NDArray[np.uint8], time_s: float) -> None:
        """Append a picture (H, W, 3) uint8 BGR, resized to the first one's size; its time is not kept."""
        if image.shape[1::-1] != self._size_wh:  # OpenCV drops it without a word
            image = cv2.resize(image, self._size_wh)
        self._video.write(image)
        self._frames += 1

    def close(self) -> None:
        """Finish the file, or take it away without a frame. Takes it away and raises `FaceMeshError` if some lack."""
        if not self._frames:
            self.discard()
            return
        self._video.release()
        if _video_length(self._temporary) != self._frames:  # the writer itself is silent about a full disk
            self.discard()
            remedy = "free some space or choose another --output folder"
            raise FaceMeshError(f"{self._path}: the video could not be written; {remedy}")
        rename_whole(self._temporary, self._path)

    def discard(self) -> None:
        """Close and take the file away."""
        self._video.release()
        remove_quietly(self._temporary)


def _video_length(path: Path) -> int:
    """Return the number of frames of a video file, -1 for one that cannot be opened."""
    video = cv2.VideoCapture(str(path))
    length = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else -1
    video.release()
    return length
