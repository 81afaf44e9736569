"""Films and streams through PyAV, FFmpeg's libraries. Home module of PyAV for reading."""

from __future__ import annotations

import bisect
import contextlib
import struct
from collections.abc import Generator, Iterator
from fractions import Fraction

import av
import cv2
import numpy as np
from av.error import ExitError, FFmpegError
from av.sidedata.sidedata import Type
from numpy.typing import NDArray

from runtime.cores import usable_cores
from runtime.errors import FaceMeshError, reason
from runtime.sources.video import (
    OPEN_TIMEOUT_S,
    READ_TIMEOUT_S,
    FrameBuffer,
    VideoFacts,
    check_frame_size,
    no_frames,
    positive,
    sound_pixel_aspect,
    square_size,
    steady_times,
)
from runtime.storage.limits import FRAME_PIXELS

MOST_THREADS = 4
MOST_FAILURES = 1000  # one after the other: nothing more will come
# TCP loses nothing, and pictures come out at once. Sources that know no such option leave it alone.
STREAM_OPTIONS = {"rtsp_transport": "tcp", "fflags": "nobuffer", "flags": "low_delay"}


class PyAvFilm:
    """A film, read frame by frame. Damaged places are counted and passed over, as by ffmpeg."""

    def __init__(self, url: str, shown: str, is_remote: bool = False) -> None:
        """Open ``url``, ``is_remote`` on a server; ``shown`` names it in errors.

        Raises `FaceMeshError` if it is no film, and for a server that does not answer, also while frames are read.
        """
        self._url = url
        self._shown = shown
        self._is_remote = is_remote
        self._start_over()
        self._aspect = _pixel_aspect(self._stream)
        self._origin_s = _origin_s(self._container, self._stream)
        fps = positive(self._stream.average_rate or self._stream.guessed_rate)
        self.facts = VideoFacts(
            fps,
            self._aspect,
            url if self._container.streams.audio else None,
            origin_s=self._origin_s,
        )
        self.frame_count = self._stream.frames or None
        self.duration_s = None if self._container.duration is None else self._container.duration / 1e6
        self.damaged = 0

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def frames(self, start_s: float) -> Iterator[PyAvFrame]:
        """Yield the frames from ``start_s`` on.

        The film is decoded from the last key frame before, if the frames that are passed over can be counted without
        being decoded. Raises `FaceMeshError` if there is not one frame in the film.
        """
        passed = self._seek(start_s) if start_s > 0 else None
        step_s = 1 / self.facts.rate_hz
        last_s, shift_s, index = None, 0.0, None
        for frame in self._decoded(seen := _SeenTimes()):
            if index is None:  # frames that refer to some before the key frame are never decoded
                index = 0 if passed is None else passed + seen.before(frame.pts)
            time_s = None if frame.pts is None else float(frame.pts * frame.time_base) - self._origin_s
            last_s, shift_s = steady_times(time_s, last_s, step_s, shift_s)
            if last_s >= start_s:
                yield PyAvFrame(frame, last_s, index, self._aspect)
            index += 1
        if index is None and passed is None:
            raise no_frames(self._shown)

    def _decoded(self, seen: _SeenTimes) -> Iterator[av.VideoFrame]:
        """Yield every frame that can be decoded, and count the packets that cannot."""
        failures = 0
        packets = self._container.demux(self._stream)
        while failures < MOST_FAILURES:
            try:
                packet = next(packets, None)
            except ExitError as error:
                with contextlib.suppress(FFmpegError):
                    yield from self._stream.codec_context.decode(None)  # frames that the decoder still holds
                raise _unreachable(self._shown, f"nothing has come for {READ_TIMEOUT_S:g} s") from error
            except FFmpegError:
                self.damaged += 1
                failures += 1
                packets = self._container.demux(self._stream)
                continue
            if packet is None:
                return
            if not packet.is_discard:
                seen.add(packet.pts)
            try:
                frames = packet.decode()
            except FFmpegError:
                self._check_size(self._stream.codec_context)
                self.damaged += 1
            else:
                failures = 0
                for frame in frames:
                    self._check_size(frame)
                    yield frame

    def _check_size(self, sized: av.VideoFrame | av.VideoCodecContext) -> None:
        """Raise `FaceMeshError` for a frame beyond the limit, or a decoder that has refused one."""
        check_frame_size(sized.width, sized.height, self._aspect, self._shown)

    def _seek(self, start_s: float) -> int | None:
        """Go to the last key frame before ``start_s``; return the number of packets before it.

        Returns None if that cannot be known, and stands at the start of the film then.
        """
        target = start_s + self._origin_s
        while target > self._origin_s:
            self._go_to(target)
            key = self._next_packet()
            if key is None or key.pts is None or key.dts is None or not key.is_keyframe:
                break
            if float(key.pts * key.time_base) <= start_s + self._origin_s:
                passed = self._packets_before(key)
                if passed is not None:
                    self._go_to(target)
                    return passed
                break
            target -= 1 + float((key.pts - key.dts) * key.time_base)
        self.close()
        self._start_over()
        return None

    def _go_to(self, target_s: float) -> None:
        self._container.seek(int(target_s / self._stream.time_base), stream=self._stream)

    def _next_packet(self) -> av.Packet | None:
        try:
            packet = next(self._container.demux(self._stream), None)
        except FFmpegError:
            return None
        return packet if packet is not None and packet.size else None

    def _packets_before(self, key: av.Packet) -> int | None:
        """Count the packets before ``key`` in a second look at the file, which decodes nothing."""
        with contextlib.closing(self._opened()) as container:
            stream = container.streams[self._stream.index]
            count = 0
            try:
                for packet in container.demux(stream):
                    if packet.dts == key.dts and packet.pts == key.pts:
                        return count
                    count += packet.size > 0 and not packet.is_discard
            except FFmpegError:
                pass
        return None

    def _start_over(self) -> None:
        self._container = self._opened()
        self._stream = _best_video(self._container, self._shown)
        check_frame_size(self._stream.width, self._stream.height, _pixel_aspect(self._stream), self._shown)
        self._stream.thread_type = "AUTO"
        self._stream.codec_context.thread_count = min(usable_cores(), MOST_THREADS)

    def _opened(self) -> av.container.InputContainer:
        return _open_remote(self._url, self._shown) if self._is_remote else _open(self._url, self._shown)


class PyAvFrame:
    """A decoded frame of a film."""

    def __init__(self, frame: av.VideoFrame, time_s: float, index: int, pixel_aspect: Fraction) -> None:
        """Take the decoded frame, its time and place, and the aspect of its pixels."""
        self._frame = frame
        self._aspect = pixel_aspect
        self.time_s = time_s
        self.index = index

    def image(self, buffer: FrameBuffer) -> NDArray[np.uint8]:
        """Return the picture (H, W, 3) uint8 BGR, upright and with square pixels, in ``buffer`` if it gives one."""
        pixels = shown_pixels(self._frame, self._aspect)
        memory = buffer(*pixels.shape[:2])
        if memory is None:
            return np.ascontiguousarray(pixels)
        np.copyto(memory, pixels)
        return memory


class PyAvStream:
    """A stream from the network, as a camera."""

    ends = False

    def __init__(self, url: str, shown: str) -> None:
        """Open ``url``; ``shown`` names it in errors. Raises `FaceMeshError` if nothing answers there."""
        self._container, self._shown = _open_remote(url, shown, STREAM_OPTIONS), shown
        stream = _best_video(self._container, shown)
        check_frame_size(stream.width, stream.height, _pixel_aspect(stream), shown)
        stream.thread_type = "SLICE"  # threads over frames would hold pictures back
        self.fps = positive(stream.average_rate or stream.guessed_rate)
        self._aspect = _pixel_aspect(stream)
        self._frames = self._decoded(stream)

    def read(self) -> NDArray[np.uint8] | None:
        """Wait for the next picture; None if the stream has ended or nothing has come for some seconds."""
        frame = next(self._frames, None)
        if frame is None:
            return None
        check_frame_size(frame.width, frame.height, self._aspect, self._shown)
        return np.ascontiguousarray(shown_pixels(frame, self._aspect))

    def close(self) -> None:
        """Close the connection."""
        self._frames.close()
        self._container.close()

    def _decoded(self, stream: av.VideoStream) -> Generator[av.VideoFrame, None, None]:
        packets = self._container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except FFmpegError:
                return
            if packet is None or not packet.size:
                return
            try:
                yield from packet.decode()
            except FFmpegError:  # a picture that was lost on the way, and the next ones mend it, or one too large
                check_frame_size(stream.codec_context.width, stream.codec_context.height, self._aspect, self._shown)


class _SeenTimes:
    """Times of the packets read so far, until the first frame has its place."""

    def __init__(self) -> None:
        self._sorted: list[int] | None = []

    def add(self, pts: int | None) -> None:
        if self._sorted is not None and pts is not None:
            bisect.insort(self._sorted, pts)

    def before(self, pts: int | None) -> int:
        """Return the number of packets with a time before ``pts``, and forget all."""
        count = 0 if pts is None else bisect.bisect_left(self._sorted or [], pts)
        self._sorted = None
        return count


def shown_pixels(frame: av.VideoFrame, pixel_aspect: Fraction) -> NDArray[np.uint8]:
    """Return a decoded frame (H, W, 3) uint8 BGR with square pixels, turned as its container says."""
    width, height = square_size(frame.width, frame.height, pixel_aspect)
    # One thread: a pool of them is started for every frame, and takes longer than the work.
    bgr = frame.reformat(width, height, "bgr24", threads=1)
    plane = bgr.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: bgr.height]
    return _turned(rows[:, : 3 * bgr.width].reshape(bgr.height, bgr.width, 3), frame)


def _turned(pixels: NDArray[np.uint8], frame: av.VideoFrame) -> NDArray[np.uint8]:
    """Turn and mirror by the display matrix: nine numbers by rows that map stored pixels to shown ones."""
    data = frame.side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return pixels
    a, b, _, c, d = struct.unpack("<5i", bytes(data)[:20])
    if abs(a) < abs(b):
        pixels = cv2.transpose(pixels)
        across, down = c, b
    else:
        across, down = a, d
    if across < 0 and down < 0:
        return cv2.flip(pixels, -1)
    if across < 0:
        return cv2.flip(pixels, 1)
    return cv2.flip(pixels, 0) if down < 0 else pixels


def _decoder_options() -> dict[str, str]:
    """Return FFmpeg's own bound on frames, which counts what it adds to their sides, too."""
    return {"max_pixels": str(min(FRAME_PIXELS.value * 5 // 4, 2**31 - 1))}


def _open(url: str, shown: str) -> av.container.InputContainer:
    try:
        return av.open(url, options=_decoder_options())
    except FFmpegError as error:
        fault = f"cannot be opened as a video ({reason(error)})"
        raise FaceMeshError(f"{shown}: {fault}; it may be damaged, or convert it to MP4") from error


def _open_remote(url: str, shown: str, options: dict[str, str] | None = None) -> av.container.InputContainer:
    try:
        return av.open(url, options={**_decoder_options(), **(options or {})}, timeout=(OPEN_TIMEOUT_S, READ_TIMEOUT_S))
    except ExitError as error:
        raise _unreachable(shown, f"no answer within {OPEN_TIMEOUT_S:g} s") from error
    except FFmpegError as error:
        raise _unreachable(shown, reason(error)) from error


def _unreachable(shown: str, fault: str) -> FaceMeshError:
    remedy = "check the address, that the camera or server runs, and its user and password"
    return FaceMeshError(f"{shown}: nothing could be read there ({fault}); {remedy}")


def _best_video(container: av.container.InputContainer, shown: str) -> av.VideoStream:
    stream = container.streams.best("video")
    if stream is None or stream.codec_context is None:
        container.close()
        raise FaceMeshError(f"{shown}: cannot be opened as a video: it holds no pictures that this FFmpeg decodes")
    stream.codec_context.options = _decoder_options()
    return stream


def _pixel_aspect(stream: av.VideoStream) -> Fraction:
    aspect = stream.sample_aspect_ratio
    return sound_pixel_aspect(*(aspect.as_integer_ratio() if aspect else (0, 0)))


def _origin_s(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    """Return the time that frames count from: 0, or the start of a recording that was cut out of a longer one."""
    whole_s = max((container.start_time or 0) / 1e6, 0.0)
    if stream.start_time is None:
        return whole_s
    return min(whole_s, float(stream.start_time * stream.time_base))
