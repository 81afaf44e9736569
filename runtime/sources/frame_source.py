"""Frames of a photo, a folder of photos, a film, a camera or a stream: the choice by address."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError
from runtime.sources.address import Address, parse_address
from runtime.sources.cameras import Camera
from runtime.sources.film import open_film, open_remote_film, open_stream
from runtime.sources.live import LiveReader
from runtime.sources.photos import list_other_files, list_photos, read_photo
from runtime.sources.video import Device, Film, ReadOptions, VideoFacts
from runtime.types import Frame


class FrameSource:
    """The frames of ``uri``, in order; a context manager and an iterable.

    ``uri`` is a photo, a folder (its photos, by name), a film, ``camera:0``, ``/dev/video0``, ``csi:0``, a URL of RTSP
    or HTTP, or ``gst:`` and GStreamer's pipeline. A device or a film is read once.
    """

    def __init__(
        self,
        uri: str | Path,
        on_error: Callable[[FaceMeshError], None] | None = None,
        options: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
        on_note: Callable[[str], None] = warnings.warn,
    ) -> None:
        """Open the source; raises `FaceMeshError` if that fails.

        Iterating raises `FaceMeshError` for a photo that cannot be read. With ``on_error`` the error is handed to that
        function and the next photo follows; so is, at its end, the number of damaged places of a film. ``on_note`` gets
        one line when a camera is lost or back, from another thread.
        """
        self.address = parse_address(str(uri))
        self.uri = self.address.shown
        self.photos: list[Path] = []  # empty for films, cameras and streams
        self.other_files: list[Path] = []  # of a folder: no photos by their suffix, left out
        self.frame_count: int | None = None  # as a film's header has it, which may be wrong; None for a camera
        self.video: VideoFacts | None = None  # None for photos
        # Returns the memory for the next frame of a film (height, width, 3), or None for new memory.
        # `FaceMeshPipeline.frame_buffer` is such a function.
        self.frame_buffer: Callable[[int, int], NDArray[np.uint8] | None] = lambda height, width: None
        self._options = options
        self._on_error = on_error
        self._film: Film | None = None
        self._reader: LiveReader | None = None
        self._stopped = False
        if self.address.kind == "photos":
            self._list_photos(Path(self.address.value))
        else:
            self._open_video(on_note)

    @property
    def fps(self) -> float:
        """Rate of a film or camera, as its header has it; 0 if unknown."""
        return 0.0 if self.video is None else self.video.fps

    @property
    def is_live(self) -> bool:
        """True for a camera or stream: its frames are wanted as soon as they are done."""
        return self._reader is not None

    @property
    def dropped(self) -> int:
        """Pictures of a camera that newer ones have replaced."""
        return 0 if self._reader is None else self._reader.dropped

    @property
    def damaged(self) -> int:
        """Places of a film that could not be decoded so far."""
        return 0 if self._film is None else self._film.damaged

    @property
    def expected_frames(self) -> int | None:
        """Number of frames to come, as far as header and options tell; None if they do not."""
        if self._film is None:
            return self.frame_count
        options, fps = self._options, self.fps
        total = self.frame_count or int((self._film.duration_s or 0) * fps)
        if not total or not fps:
            return total or None
        first, last = options.start_s * fps, min(total, options.stop_s * fps)
        return max(0, -int(-(last - first) // options.every))

    def __enter__(self) -> FrameSource:
        return self

    def __exit__(self, *_: object) -> None:
        for opened in (self._film, self._reader):
            if opened is not None:
                opened.close()

    def __iter__(self) -> Iterator[Frame]:
        if self._film is not None:
            return self._read_film(self._film)
        return self._read_photos() if self._reader is None else self._read_live(self._reader)

    def stop(self) -> None:
        """End the iteration before its next frame; may be called by a signal handler and by another thread."""
        self._stopped = True

    def _list_photos(self, path: Path) -> None:
        self.photos = list_photos(path, self._options.recursive)
        self.other_files = list_other_files(path, self._options.recursive)
        self.frame_count = len(self.photos)

    def _open_video(self, on_note: Callable[[str], None]) -> None:
        address, options = self.address, self._options
        if address.kind == "film":
            self._film = open_film(Path(address.value))
        elif address.kind == "stream" and address.value.lower().startswith("http"):
            self._film = open_remote_film(address.value, address.shown)
        if self._film is not None:
            self.frame_count = self._film.frame_count
            self.video = dataclasses.replace(self._film.facts, start_s=options.start_s, stop_s=options.stop_s)
            return
        self._reader = LiveReader(
            lambda: _open_device(address, options.live),
            self.uri,
            newest_only=options.live,
            patience_s=options.patience_s,
            on_note=on_note,
        )
        self.video = VideoFacts(self._reader.fps)

    def _read_photos(self) -> Iterator[Frame]:
        for path in self.photos:
            if self._stopped:
                return
            try:
                image = read_photo(path)
            except FaceMeshError as error:
                if self._on_error is None:
                    raise
                self._on_error(error)
            else:
                yield Frame(image, 0, 0.0, str(path))

    def _read_film(self, film: Film) -> Iterator[Frame]:
        options, first = self._options, None
        for frame in film.frames(options.start_s):
            if self._stopped or frame.time_s >= options.stop_s:
                break
            first = frame.index if first is None else first
            if (frame.index - first) % options.every == 0:
                yield Frame(frame.image(self.frame_buffer), frame.index, frame.time_s, self.uri)
        if film.damaged:
            self._tell_of_damage(film.damaged)
        if first is None and not self._stopped:
            raise FaceMeshError(f"{self.uri}: no frame from {options.start_s:g} s on; give an earlier --start")

    def _read_live(self, reader: LiveReader) -> Iterator[Frame]:
        for index, (image, time_s) in enumerate(reader.pictures(lambda: self._stopped)):
            if time_s >= self._options.stop_s:
                return
            if index % self._options.every == 0:
                yield Frame(image, index, time_s, self.uri)

    def _tell_of_damage(self, places: int) -> None:
        """Report once, after the last frame: what lies between damaged places is sound."""
        error = FaceMeshError(
            f"{self.uri}: {places} damaged place{'s' * (places > 1)} left out; copy or download the film again"
        )
        if self._on_error is None:
            warnings.warn(str(error), stacklevel=2)
        else:
            self._on_error(error)


def _open_device(address: Address, newest_only: bool) -> Device:
    if address.kind == "stream":
        return open_stream(address.value, address.shown)
    return Camera(address, newest_only)
