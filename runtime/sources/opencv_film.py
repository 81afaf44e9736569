"""Films through OpenCV, where PyAV is not installed. Frames that OpenCV does not fill are found out and refused."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError
from runtime.sources.video import (
    FrameBuffer,
    VideoFacts,
    check_frame_size,
    no_frames,
    positive,
    sound_pixel_aspect,
    square_size,
    steady_times,
)

MOST_FAILURES = 100  # of reading one after the other: nothing more will come
# Of mallopt(3): every allocated byte gets the complement of a value. musl has no such call.
M_PERTURB = -6
MARKS = (0x5A, 0x3C)


class OpenCvFilm:
    """A film, read frame by frame.

    OpenCV 4.13 and 5.0 cannot convert interlaced frames and do not say so: the first one is uninitialised memory, each
    later one the frame before it. So memory is marked while the first frame is read, and while a frame that equals the
    one before is read once more.
    """

    def __init__(self, path: Path) -> None:
        """Open the file; raises `FaceMeshError` if OpenCV cannot read it, or cannot read it rightly."""
        self._path = path
        self._capture = self._open()
        self._aspect = sound_pixel_aspect(
            self._capture.get(cv2.CAP_PROP_SAR_NUM), self._capture.get(cv2.CAP_PROP_SAR_DEN)
        )
        width, height = (int(self._capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        check_frame_size(width, height, self._aspect, str(path))
        self.facts = VideoFacts(positive(self._capture.get(cv2.CAP_PROP_FPS)), self._aspect)
        self.frame_count = int(positive(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))) or None
        self.duration_s = self.frame_count / self.facts.fps if self.frame_count and self.facts.fps else None
        self.damaged = 0

    def close(self) -> None:
        """Close the file."""
        self._capture.release()

    def frames(self, start_s: float) -> Iterator[OpenCvFrame]:
        """Yield the frames from ``start_s`` on; those before are decoded, too.

        Raises `FaceMeshError` if there is not one frame in the film, or if OpenCV did not fill one.
        """
        index, failures, last_s, shift_s = 0, 0, None, 0.0
        step_s = 1 / self.facts.rate_hz
        repeats = _Repeats()
        while failures < MOST_FAILURES:
            if not self._capture.grab():
                failures += 1
                continue
            if failures and index:
                self.damaged += 1
            failures = 0
            time_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            last_s, shift_s = steady_times(time_s if time_s > 0 or index == 0 else None, last_s, step_s, shift_s)
            if last_s >= start_s:
                yield OpenCvFrame(self, repeats, last_s, index)
            index += 1
        if index == 0:
            raise no_frames(str(self._path))

    def retrieve(self, index: int, repeats: _Repeats, buffer: FrameBuffer) -> NDArray[np.uint8]:
        """Return the picture of the frame that was grabbed last; raises `FaceMeshError` if OpenCV did not fill it."""
        read, pixels = self._capture.retrieve()
        if not read:
            raise FaceMeshError(f"{self._path}: frame {index} cannot be converted; convert the film to MP4")
        height, width = pixels.shape[:2]
        check_frame_size(width, height, self._aspect, str(self._path))
        if repeats.must_be_checked(pixels) and not self._is_filled(index):
            raise self._refusal()
        if (size := square_size(width, height, self._aspect)) != (width, height):
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)
        memory = buffer(*pixels.shape[:2])
        if memory is None:
            return pixels
        np.copyto(memory, pixels)
        return memory

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
        if not capture.isOpened():
            remedy = "it may be damaged, or convert it to MP4"
            raise FaceMeshError(f"{self._path}: cannot be opened as a video; {remedy}")
        return capture

    def _is_filled(self, index: int) -> bool:
        """Return False if a frame read into fresh memory leaves the mark in it that was there."""
        return any(not self._keeps_mark(index, mark) for mark in MARKS)

    def _keeps_mark(self, index: int, mark: int) -> bool:
        with _marked_memory(mark) as is_marked:
            if not is_marked:
                return True
            capture = self._open()
            for _ in range(index):
                capture.grab()
            read, pixels = capture.read()
            capture.release()
        return read and bool((pixels == 0xFF - mark).all())

    def _refusal(self) -> FaceMeshError:
        fault = f"OpenCV {cv2.__version__} cannot be trusted with this film (it may be interlaced)"
        return FaceMeshError(f"{self._path}: {fault}; install PyAV: pip install 'facemesh-edge[video]'")


class OpenCvFrame:
    """A grabbed frame of a film; its picture has to be asked for before the next frame."""

    def __init__(self, film: OpenCvFilm, repeats: _Repeats, time_s: float, index: int) -> None:
        """Take the film, its memory of the frame before, and the frame's time and place."""
        self._film = film
        self._repeats = repeats
        self.time_s = time_s
        self.index = index

    def image(self, buffer: FrameBuffer) -> NDArray[np.uint8]:
        """Return the picture (H, W, 3) uint8 BGR, upright and with square pixels, in ``buffer`` if it gives one."""
        return self._film.retrieve(self.index, self._repeats, buffer)


class _Repeats:
    """Memory of the frame before: which frames are checked."""

    def __init__(self) -> None:
        self._before: NDArray[np.uint8] | None = None
        self._count = 0

    def must_be_checked(self, pixels: NDArray[np.uint8]) -> bool:
        """Return True for the first frame of a size and for the 1st, 2nd, 4th, 8th … repetition of a frame.

        A check decodes the film up to there.
        """
        if self._before is None or self._before.shape != pixels.shape:
            self._before, self._count = pixels, 0
            return True
        self._count = self._count + 1 if np.array_equal(self._before, pixels) else 0
        self._before = pixels
        return self._count > 0 and self._count & (self._count - 1) == 0


@contextmanager
def _marked_memory(mark: int) -> Iterator[bool]:
    """Fill all memory that is allocated meanwhile; yields False where the C library cannot."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        yield False
        return
    try:
        yield bool(mallopt(M_PERTURB, mark))
    finally:
        mallopt(M_PERTURB, 0)
