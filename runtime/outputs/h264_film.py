"""A film as H.264 in MP4 through PyAV: times of the frames, pixel aspect and sound of the source."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from runtime.errors import FaceMeshError
from runtime.sources.video import OPEN_TIMEOUT_S, READ_TIMEOUT_S, VideoFacts
from runtime.storage.whole_files import remove_quietly, rename_whole, write_error

CLOCK = Fraction(1, 90_000)  # s: the times of any source in steps of 11 µs
# Without B-frames: their reordering moves all times by two frames in players that know no edit lists.
ENCODER = {"preset": "veryfast", "crf": "20", "bf": "0"}
BT709 = 1
SOUND_AFTER_S = 1.0  # sound that goes on after the last frame


class H264Film:
    """A film that grows by frames under a temporary name. ``close`` makes it whole, ``discard`` takes it away."""

    def __init__(self, path: Path, image: NDArray[np.uint8], facts: VideoFacts) -> None:
        """Open ``path`` for pictures of the size of ``image`` (H, W, 3), the first one.

        Raises `FaceMeshError` if the file cannot be written or this PyAV has no H.264.
        """
        self._path = path
        self._temporary = path.with_suffix(".part.mp4")
        self._facts = facts
        self._step = round(1 / facts.rate_hz / CLOCK)
        self._last = -1
        self._frames = 0
        self._shown_wh = image.shape[1::-1]
        try:
            self._container = av.open(str(self._temporary), "w", format="mp4")
        except FFmpegError as error:
            raise write_error(path, error) from error
        self._sound = _Sound(self._container, facts)
        try:
            self._stream = self._video_stream()
            self._sound.open()
            self._container.start_encoding()
        except OSError as error:
            self.discard()
            raise write_error(path, error) from error
        except (ValueError, FFmpegError) as error:
            self.discard()
            remedy = "install PyAV from PyPI, or leave overlay out of --save"
            raise FaceMeshError(f"{path}: this PyAV cannot write H.264 ({error}); {remedy}") from error

    def write(self, image: NDArray[np.uint8], time_s: float) -> None:
        """Append a picture (H, W, 3) uint8 BGR at its time in the source.

        One of another size than the first is fitted into that. Raises `FaceMeshError` if it cannot be written.
        """
        picture = av.VideoFrame.from_ndarray(_fitted(image, self._shown_wh), format="bgr24")
        stream = self._stream
        frame = picture.reformat(stream.width, stream.height, "yuv420p", dst_colorspace="ITU709", threads=1)
        self._last = max(round((time_s - self._facts.start_s) / CLOCK), self._last + 1)
        frame.pts, frame.time_base, frame.duration = self._last, CLOCK, self._step
        try:
            self._container.mux(stream.encode(frame))
            self._sound.write_until(float(self._last * CLOCK))
        except FFmpegError as error:
            raise write_error(self._path, error) from error
        self._frames += 1

    def close(self) -> None:
        """Finish the file, or take it away without a frame. Takes it away and raises `FaceMeshError` if that fails."""
        if not self._frames:
            self.discard()
            return
        try:
            self._container.mux(self._stream.encode())
            self._sound.write_until(float((self._last + self._step) * CLOCK) + SOUND_AFTER_S)
            self._release()
            rename_whole(self._temporary, self._path)
        except BaseException as error:
            self.discard()
            if isinstance(error, FFmpegError):
                raise write_error(self._path, error) from error
            raise

    def discard(self) -> None:
        """Close and take the file away."""
        with contextlib.suppress(FFmpegError):
            self._release()
        remove_quietly(self._temporary)

    def _release(self) -> None:
        self._sound.close()
        self._container.close()

    def _video_stream(self) -> av.VideoStream:
        width, height = self._shown_wh
        aspect = self._facts.pixel_aspect
        if aspect > 1:  # as it is stored in the source: frames are shown with square pixels
            width = round(width / aspect)
        else:
            height = round(height * aspect)
        stream = self._container.add_stream("libx264", options=ENCODER)
        # Two pixels share their colour: sides are even, the last column or row is doubled.
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        stream.sample_aspect_ratio = aspect
        context = stream.codec_context
        context.time_base = CLOCK
        context.framerate = Fraction(self._facts.rate_hz).limit_denominator(1001)
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = 1
        if aspect == 1:
            self._shown_wh = stream.width, stream.height
        return stream


class _Sound:
    """The sound of the source, copied as it is and not ahead of the pictures."""

    def __init__(self, target: av.container.OutputContainer, facts: VideoFacts) -> None:
        self._target = target
        self._facts = facts
        self._source: av.container.InputContainer | None = None
        self._packets: Iterator[av.Packet] = iter(())
        self._waiting: av.Packet | None = None
        self._to: dict[int, av.AudioStream] = {}

    def open(self) -> None:
        """Open the source if it has sound, and give the target its streams."""
        facts = self._facts
        if facts.audio is None:
            return
        try:
            is_file = facts.audio.startswith("file:")
            source = self._source = av.open(facts.audio, timeout=None if is_file else (OPEN_TIMEOUT_S, READ_TIMEOUT_S))
            streams = [stream for stream in source.streams.audio if _fits_mp4(stream)]
            self._to = {stream.index: self._target.add_stream_from_template(stream) for stream in streams}
        except (FFmpegError, ValueError):
            return
        if self._to:
            if facts.start_s > 0:
                with contextlib.suppress(FFmpegError):
                    source.seek(int((facts.start_s + facts.origin_s) * av.time_base))
            self._packets = source.demux(streams)

    def write_until(self, end_s: float) -> None:
        """Copy the packets before ``end_s``, in the target's time."""
        length_s = self._facts.stop_s - self._facts.start_s
        while (packet := self._next()) is not None:
            shift_s = self._facts.origin_s + self._facts.start_s
            time_s = float(packet.pts * packet.time_base) - shift_s
            if time_s >= min(end_s, length_s):
                self._waiting = packet
                return
            if time_s < 0:
                continue
            shift = round(shift_s / packet.time_base)
            packet.pts -= shift
            packet.dts -= shift
            packet.stream = self._to[packet.stream.index]
            self._target.mux(packet)

    def close(self) -> None:
        """Close the source."""
        if self._source is not None:
            self._source.close()

    def _next(self) -> av.Packet | None:
        """Return the next packet with a time; what follows a damaged place in the file is left out."""
        packet, self._waiting = self._waiting, None
        try:
            while packet is None or packet.pts is None or packet.dts is None:
                packet = next(self._packets)
        except (StopIteration, FFmpegError):
            return None
        return packet


def _fits_mp4(stream: av.AudioStream) -> bool:
    return stream.codec_context is not None and stream.codec_context.name.removesuffix("float") in MP4_SOUND


MP4_SOUND = {"aac", "mp3", "ac3", "eac3", "opus", "libopus", "flac", "alac"}


def _fitted(image: NDArray[np.uint8], size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a picture in the size of the film: one pixel is doubled at an odd side, others get black edges."""
    width, height = size_wh
    rows, columns = image.shape[:2]
    if 0 <= width - columns <= 1 and 0 <= height - rows <= 1:
        if (columns, rows) == (width, height):
            return image
        return cv2.copyMakeBorder(image, 0, height - rows, 0, width - columns, cv2.BORDER_REPLICATE)
    scale = min(width / columns, height / rows)
    inner = cv2.resize(image, (max(1, round(columns * scale)), max(1, round(rows * scale))))
    down, right = height - inner.shape[0], width - inner.shape[1]
    return cv2.copyMakeBorder(inner, down // 2, down - down // 2, right // 2, right - right // 2, cv2.BORDER_CONSTANT)
