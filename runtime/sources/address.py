"""Addresses of sources: the values of ``--source``."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from runtime.errors import FaceMeshError
from runtime.storage.bounded_files import SPECIAL_FILES

# A list, because video libraries open nearly anything: they play a text file as an animation of its letters.
VIDEO_SUFFIXES = {
    *(".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".h264", ".hevc", ".ivf", ".m2ts", ".m2v", ".m4v"),
    *(".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob"),
    *(".webm", ".wmv", ".y4m"),
}
STREAM_SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "srt", "udp", "rtp")
FORMS = "a photo, a folder, a film, camera:0, /dev/video0, rtsp://…, http://…, gst:PIPELINE or csi:0"

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_DEVICE = re.compile(r"/dev/video(\d+)")


class WrongAddressError(FaceMeshError):
    """An address that can never be one, whatever the machine."""


@dataclass(frozen=True)
class Address:
    """A parsed address."""

    kind: Literal["photos", "film", "camera", "csi", "gst", "stream"]
    value: str  # path, number of the camera, pipeline or URL
    shown: str  # for lines and files: as it was given, without a password

    @property
    def is_device(self) -> bool:
        """True for cameras and streams, which are never read a second time."""
        return self.kind not in ("photos", "film")


def parse_address(text: str) -> Address:
    """Tell the kind of source that ``text`` names.

    Raises `WrongAddressError` for an unknown scheme and for a camera without a number, `FaceMeshError` for a pipe or
    device that is no camera: reading it would wait for ever.
    """
    prefix, _, rest = text.partition(":")
    if prefix in ("camera", "csi"):
        if not (rest.isascii() and rest.isdecimal()):
            raise WrongAddressError(f"{text}: a camera is named by its number, such as {prefix}:0")
        return Address("camera" if prefix == "camera" else "csi", rest, text)
    if prefix == "gst":
        if not rest.strip():
            raise WrongAddressError(f"{text}: give GStreamer's pipeline, such as 'gst:v4l2src ! videoconvert'")
        return Address("gst", rest.strip(), text)
    if scheme := _SCHEME.match(text):
        return _stream(text, scheme[1].lower())
    if device := _DEVICE.fullmatch(os.path.realpath(text)):
        return Address("camera", device[1], text)
    return _file(text)


def _stream(text: str, scheme: str) -> Address:
    if scheme == "file":
        return _file(text[len("file://") :])
    if scheme not in STREAM_SCHEMES:
        raise WrongAddressError(f"{without_password(text)}: unknown scheme {scheme}://; give {FORMS}")
    try:
        host = urlsplit(text).hostname
    except ValueError:
        host = None
    if not host:
        raise WrongAddressError(f"{without_password(text)}: the address names no host; write {scheme}://HOST:PORT/PATH")
    return Address("stream", text, without_password(text))


def _file(text: str) -> Address:
    path = Path(text)
    try:
        mode = path.stat().st_mode
    except OSError:
        if ":" in text and not path.suffix:
            raise WrongAddressError(f"{text}: neither a file nor a known kind of source; give {FORMS}") from None
        raise FaceMeshError(f"{text}: no such file or folder; check the path given to --source") from None
    except ValueError as error:
        raise FaceMeshError(f"{text!r}: no path ({error}); give {FORMS}") from None
    if kind := SPECIAL_FILES.get(stat.S_IFMT(mode)):
        raise FaceMeshError(f"{text}: {kind}, no file; save it to a file first, or give {FORMS}")
    is_film = path.suffix.lower() in VIDEO_SUFFIXES and stat.S_ISREG(mode)
    return Address("film" if is_film else "photos", text, text)


def without_password(url: str) -> str:
    """Return a URL without the user's name and password: lines and results are passed on."""
    scheme, mark, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return scheme + mark + host.rpartition("@")[2] + slash + path
