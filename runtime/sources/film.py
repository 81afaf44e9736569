"""Open a film: with PyAV (extra ``video``), or with OpenCV where PyAV is not installed."""

from __future__ import annotations

from pathlib import Path

from runtime.errors import FaceMeshError
from runtime.sources.photos import read_bytes
from runtime.sources.video import Device, Film
from runtime.storage.bounded_files import file_length, open_bounded

MP4_STARTS = {b"ftyp", b"wide", b"free", b"skip", b"mdat"}
MOST_BOXES = 10_000  # of an MP4 file's outermost row: a film in fragments has two for each


def open_film(path: Path) -> Film:
    """Open a video file; raises `FaceMeshError` for a file that is missing, empty or no film."""
    read_bytes(path, most_bytes=1)
    try:
        return _opened(path)
    except FaceMeshError as error:
        if not _lacks_index(path):
            raise
        fault = "the film's index (moov), which most programs write at its end, is missing or cut off"
        remedy = "copy the whole file, or let the recording end by itself"
        raise FaceMeshError(f"{path}: {fault}; {remedy}") from error


def _opened(path: Path) -> Film:
    try:
        from runtime.sources.pyav_film import PyAvFilm
    except ModuleNotFoundError as error:
        if error.name != "av":
            raise
        from runtime.sources.opencv_film import OpenCvFilm

        return OpenCvFilm(path)
    return PyAvFilm(f"file:{path}", str(path))


def _lacks_index(path: Path) -> bool:
    """Return True for a file of MP4's kind without a whole box ``moov`` in its outermost row."""
    with open_bounded(path, None) as file:
        length, place = file_length(file), 0
        for number in range(MOST_BOXES):
            file.seek(place)
            head = file.read(16).ljust(16, b"\0")
            size, kind = int.from_bytes(head[:4], "big"), head[4:8]
            if number == 0 and kind not in MP4_STARTS:
                return False
            if size == 1:
                size = int.from_bytes(head[8:], "big")
            is_last = size < 8  # it goes up to the end of the file
            if kind == b"moov":
                return not is_last and place + size > length
            place += size
            if is_last or place >= length:
                return True
    return False


def open_remote_film(url: str, shown: str) -> Film | None:
    """Open a file on a web server; None for a stream without an end, which is no film."""
    try:
        from runtime.sources.pyav_film import PyAvFilm
    except ModuleNotFoundError as error:
        raise _needs_pyav(shown) from error
    film = PyAvFilm(url, shown, is_remote=True)
    if film.duration_s is not None:
        return film
    film.close()
    return None


def open_stream(url: str, shown: str) -> Device:
    """Open a stream from the network; raises `FaceMeshError` if nothing answers there."""
    try:
        from runtime.sources.pyav_film import PyAvStream
    except ModuleNotFoundError as error:
        raise _needs_pyav(shown) from error
    return PyAvStream(url, shown)


def _needs_pyav(shown: str) -> FaceMeshError:
    return FaceMeshError(f"{shown}: streams need PyAV, which is not installed: pip install 'facemesh-edge[video]'")
