"""Data that films, cameras and streams share: the options of reading, facts for writers of films, the interfaces."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError
from runtime.storage.limits import FRAME_PIXELS

LARGEST_PIXEL_ASPECT = 4  # a header that says more, or less than its inverse, is wrong
DEFAULT_RATE_HZ = 25.0
OPEN_TIMEOUT_S = 10.0  # for a server's answer
READ_TIMEOUT_S = 5.0  # for its next bytes
FrameBuffer = Callable[[int, int], NDArray[np.uint8] | None]


@dataclass(frozen=True)
class ReadOptions:
    """Options of `FrameSource`. Times are seconds since the start of the source."""

    recursive: bool = False  # search the subfolders of a folder, too
    live: bool = False  # keep the newest frame of a camera or stream alone; files are read in whole all the same
    patience_s: float = 60.0  # how long a camera or stream that was lost is opened again
    start_s: float = 0.0  # films only: leave out the frames before it
    stop_s: float = math.inf  # leave out the frames from it on
    every: int = 1  # take the first frame and every Nth after it

    @property
    def is_whole(self) -> bool:
        """True if no frame is left out."""
        return (self.start_s, self.stop_s, self.every) == (0.0, math.inf, 1)


@dataclass(frozen=True)
class VideoFacts:
    """Facts of a film, camera or stream that a film made of it needs."""

    fps: float = 0.0  # 0 if unknown; cameras are known to lie
    pixel_aspect: Fraction = Fraction(1)  # width / height of a stored pixel; frames are shown with square ones
    audio: str | None = None  # address of the film whose sound belongs to the frames
    start_s: float = 0.0
    stop_s: float = math.inf
    origin_s: float = 0.0  # time in the film's own clock that its frames count from

    @property
    def rate_hz(self) -> float:
        """Frames per second, the usual ones where ``fps`` is unknown."""
        return self.fps or DEFAULT_RATE_HZ


class FilmFrame(Protocol):
    """A frame that is decoded already, and made a picture only if it is wanted."""

    time_s: float  # since the start of the film
    index: int  # position in the film

    def image(self, buffer: FrameBuffer) -> NDArray[np.uint8]:
        """Return the picture (H, W, 3) uint8 BGR, upright and with square pixels."""


class Film(Protocol):
    """An open film."""

    facts: VideoFacts
    frame_count: int | None  # as the header has it, which may be wrong
    duration_s: float | None
    damaged: int  # places so far that could not be decoded

    def frames(self, start_s: float) -> Iterator[FilmFrame]:
        """Yield the frames from ``start_s`` on, in the order of their times."""

    def close(self) -> None:
        """Close the file."""


class Device(Protocol):
    """An open camera or stream."""

    fps: float  # 0 if unknown
    ends: bool  # True: no more pictures is the end, not a loss

    def read(self) -> NDArray[np.uint8] | None:
        """Wait for the next picture (H, W, 3) uint8 BGR, new memory; None if the device is lost."""

    def close(self) -> None:
        """Let go of the device."""


def sound_pixel_aspect(numerator: float, denominator: float) -> Fraction:
    """Return width / height of a stored pixel, 1 where a header says nothing or nonsense."""
    if not (numerator > 0 and denominator > 0):
        return Fraction(1)
    aspect = Fraction(numerator / denominator).limit_denominator(1000)
    return aspect if Fraction(1, LARGEST_PIXEL_ASPECT) <= aspect <= LARGEST_PIXEL_ASPECT else Fraction(1)


def square_size(width: int, height: int, pixel_aspect: Fraction) -> tuple[int, int]:
    """Return the size (width, height) with square pixels: one side is made longer, none shorter."""
    if pixel_aspect >= 1:
        return round(width * pixel_aspect), height
    return width, round(height / pixel_aspect)


def check_frame_size(width: int, height: int, pixel_aspect: Fraction, shown: str) -> None:
    """Raise `FaceMeshError` for frames with more pixels, also as square ones, than the limit."""
    width, height = square_size(width, height, pixel_aspect)
    if excess := FRAME_PIXELS.excess(width * height):
        raise FaceMeshError(f"{shown}: frames of {width} x {height} px: {excess}; convert the film to a smaller size")


def steady_times(time_s: float | None, last_s: float | None, step_s: float, shift_s: float) -> tuple[float, float]:
    """Return the time of a frame after one at ``last_s`` and the new shift, so that times always grow.

    Films that were cut together start their clock again: from there on all times are shifted. A frame without a time
    comes ``step_s`` after the last one.
    """
    if last_s is None:
        return max(time_s or 0.0, 0.0), 0.0
    if time_s is None:
        return last_s + step_s, shift_s
    if time_s + shift_s <= last_s:
        shift_s = last_s + step_s - time_s
    return time_s + shift_s, shift_s


def positive(value: float | None) -> float:
    """Return a property of a video, or 0 for the none, zero, negative or NaN that stands for an unknown one."""
    return float(value) if value is not None and 0 < value < 1e9 else 0.0


def no_frames(address: str) -> FaceMeshError:
    """Return the error of a film that holds not one frame."""
    return FaceMeshError(
        f"{address}: not one frame of the video could be decoded; it may be damaged, or convert it to MP4"
    )
