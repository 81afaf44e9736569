"""Open a film: with PyAV (extra ``video``), or with OpenCV where PyAV is not installed."""

from __future__ import annotations

from pathlib import Path

from runtime.errors import FaceMeshError
from runtime.sources.photos import read_bytes
from runtime.sources.video import Device, Film


def open_film(path: Path) -> Film:
    """Open a video file; raises `FaceMeshError` for a file that is missing, empty or no film."""
    read_bytes(path, most_bytes=1)
    try:
        from runtime.sources.pyav_film import PyAvFilm
    except ModuleNotFoundError as error:
        if error.name != "av":
            raise
        from runtime.sources.opencv_film import OpenCvFilm

        return OpenCvFilm(path)
    return PyAvFilm(f"file:{path}", str(path))


def open_remote_film(url: str, shown: str) -> Film | None:
    """Open a file on a web server; None for a stream without an end, which is no film."""
    try:
        from runtime.sources.pyav_film import PyAvFilm
    except ModuleNotFoundError as error:
        raise _needs_pyav(shown) from error
    film = PyAvFilm(url, shown)
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
