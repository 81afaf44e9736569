"""Films made for tests: every frame tells its own number."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SIDE = 16  # px of a square that stands for one bit


def numbered(number: int, width: int = 160, height: int = 96) -> np.ndarray:
    """Picture (H, W, 3) uint8 BGR that shows ``number`` as eight black or white squares; its left half is red."""
    image = np.full((height, width, 3), 90, np.uint8)
    image[:, : width // 2] = (20, 20, 200)
    for bit in range(8):
        image[:SIDE, bit * SIDE : (bit + 1) * SIDE] = 255 if number >> bit & 1 else 0
    return image


def number_of(image: np.ndarray) -> int:
    """Number that a picture shows, which may have been compressed."""
    middles = image[SIDE // 2, SIDE // 2 : 8 * SIDE : SIDE].mean(axis=1)
    return sum((value > 127) << bit for bit, value in enumerate(middles))


def write_film(
    path: Path,
    pictures: Iterable[np.ndarray],
    times_s: Iterable[float] | None = None,
    *,
    fps: int = 25,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    pixel_aspect: Fraction | None = None,
    rotation: int = 0,
    audio: bool = False,
    container: dict[str, str] | None = None,
) -> Path:
    """Write ``pictures`` (H, W, 3) uint8 BGR at ``times_s``, or at a constant rate; ``audio`` adds a tone."""
    pictures = list(pictures)
    times = [number / fps for number in range(len(pictures))] if times_s is None else list(times_s)
    with av.open(str(path), "w", options=container or {}) as film:
        stream = film.add_stream(codec, rate=fps, options={"threads": "1", **(options or {})})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 12800)
        if pixel_aspect:
            stream.sample_aspect_ratio = pixel_aspect
        if rotation:
            stream.set_display_rotation(rotation)
        sound = film.add_stream("aac", rate=44100) if audio else None
        if sound is not None:
            _tone(film, sound, times[-1] + 1 / fps)
        for picture, time_s in zip(pictures, times, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24").reformat(format="yuv420p")
            frame.pts, frame.time_base = round(time_s * 12800), Fraction(1, 12800)
            film.mux(stream.encode(frame))
        film.mux(stream.encode())
    return path


def _tone(film: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    count = int(44100 * seconds)
    wave = (0.2 * np.sin(2 * np.pi * 440 * np.arange(count) / 44100)).astype(np.float32)
    for start in range(0, count - 1023, 1024):
        frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 44100, start
        film.mux(stream.encode(frame))
    film.mux(stream.encode())
