"""What `runtime.run` writes: overlays, meshes and ``results.jsonl``. Every file appears whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError
from runtime.files import whole_file, write_error
from runtime.mesh_files import MESH_FORMATS, MeshWriter
from runtime.overlay import OverlayPainter
from runtime.topology import UVTopology
from runtime.types import FaceMesh, Frame

FORMATS = ("overlay", "json", *MESH_FORMATS)
JPEG_QUALITY = 93
DEFAULT_FPS = 25.0  # of an overlay video whose source does not know its own


class Sink(Protocol):
    def write(self, frame: Frame, faces: Sequence[FaceMesh]) -> None: ...

    def close(self) -> None: ...


class Sinks:
    """All that was asked for; a context manager. Whatever ends the run, what was finished is kept and closed."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks

    def write(self, frame: Frame, faces: Sequence[FaceMesh]) -> None:
        for sink in self._sinks:
            sink.write(frame, faces)

    def __enter__(self) -> Sinks:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        failures = []
        for sink in self._sinks:
            try:
                sink.close()
            except FaceMeshError as error:
                failures.append(error)
        if failures and kind is None:
            raise failures[0]


def open_sinks(folder: Path, formats: Sequence[str], topology: UVTopology, video_fps: float | None) -> Sinks:
    """Sinks for ``formats``, some of `FORMATS`, in ``folder``, which is made; ``video_fps`` None for photos, 0 where unknown.

    Raises `FaceMeshError` when the folder cannot be written.
    """
    _make_folder(folder)
    names = OutputNames(folder, numbered=video_fps is not None)
    meshes = [name for name in formats if name in MESH_FORMATS]
    sinks: list[Sink] = []
    if meshes:
        sinks.append(MeshSink(names, meshes, topology))
    if "overlay" in formats:
        painter = OverlayPainter(topology)
        sinks.append(OverlayPhotoSink(names, painter) if video_fps is None else OverlayVideoSink(names, painter, video_fps))
    if "json" in formats:  # last: a line says that the picture's files are there
        sinks.append(JsonSink(folder / "results.jsonl", names, meshes[0] if meshes else None))
    return Sinks(sinks)


class OutputNames:
    """Names of the files that belong to one picture. Two pictures never share one, not even where case does not count."""

    def __init__(self, folder: Path, numbered: bool) -> None:
        self._folder = folder
        self._numbered = numbered  # frames of a video carry their number
        self._base_of: dict[str, str] = {}
        self._taken: set[str] = set()

    def overlay(self, frame: Frame, suffix: str) -> Path:
        """``name_overlay.jpg`` or, one for the whole video, ``name_overlay.mp4``."""
        return self._folder / f"{self._base(frame.source)}_overlay{suffix}"

    def mesh(self, frame: Frame, face_index: int, mesh_format: str) -> Path:
        """``name_face0.obj`` or, for frame 12 of a video, ``name_000012_face0.obj``."""
        number = f"_{frame.index:06d}" if self._numbered else ""
        return self._folder / f"{self._base(frame.source)}{number}_face{face_index}.{mesh_format}"

    def _base(self, source: str) -> str:
        """The stem; where another picture has it already, with the suffix (``a.png`` beside ``a.jpg``: ``a_png``), then with a number."""
        if source not in self._base_of:
            path = Path(source.replace(":", "_"))  # camera:0
            candidates = [path.stem, path.name.replace(".", "_")]
            candidates += [f"{candidates[1]}_{number}" for number in range(2, 3 + len(self._taken))]
            base = next(name for name in candidates if name.casefold() not in self._taken)
            self._taken.add(base.casefold())
            self._base_of[source] = base
        return self._base_of[source]


class MeshSink:
    """Every face in every asked-for mesh format."""

    def __init__(self, names: OutputNames, formats: Sequence[str], topology: UVTopology) -> None:
        self._names, self._formats, self._writer = names, formats, MeshWriter(topology)

    def write(self, frame: Frame, faces: Sequence[FaceMesh]) -> None:
        for index, face in enumerate(faces):
            for mesh_format in self._formats:
                self._writer.write(self._names.mesh(frame, index, mesh_format), face, frame.image)

    def close(self) -> None:
        pass


class OverlayPhotoSink:
    """One JPEG for every photo, with or without faces."""

    def __init__(self, names: OutputNames, painter: OverlayPainter) -> None:
        self._names, self._painter = names, painter

    def write(self, frame: Frame, faces: Sequence[FaceMesh]) -> None:
        path = self._names.overlay(frame, ".jpg")
        encoded, data = cv2.imencode(".jpg", self._painter.draw(frame.image, faces), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if not encoded:
            raise FaceMeshError(f"{path}: the picture cannot be encoded as JPEG; leave overlay out of --save")
        with whole_file(path) as file:
            file.write(data.tobytes())

    def close(self) -> None:
        pass


class OverlayVideoSink:
    """One MP4 video of all frames. It has a temporary name until it is closed."""

    def __init__(self, names: OutputNames, painter: OverlayPainter, fps: float) -> None:
        self._names, self._painter, self._fps = names, painter, fps or DEFAULT_FPS
        self._video: cv2.VideoWriter | None = None
        self._path = self._temporary = Path()
        self._frames = 0

    def write(self, frame: Frame, faces: Sequence[FaceMesh]) -> None:
        if self._video is None:
            self._open(frame)
        self._video.write(self._painter.draw(frame.image, faces))
        self._frames += 1

    def close(self) -> None:
        if self._video is None:
            return
        self._video.release()
        if _video_length(self._temporary) != self._frames:  # the writer itself is silent about a full disk
            self._temporary.unlink(missing_ok=True)
            raise FaceMeshError(f"{self._path}: the video could not be written; free some space or choose another --output folder")
        _rename(self._temporary, self._path)

    def _open(self, frame: Frame) -> None:
        self._path = self._names.overlay(frame, ".mp4")
        self._temporary = self._path.with_suffix(".part.mp4")  # the container is chosen by the suffix
        height, width = frame.image.shape[:2]
        video = cv2.VideoWriter(str(self._temporary), cv2.VideoWriter.fourcc(*"mp4v"), self._fps, (width, height))
        if not video.isOpened():
            raise FaceMeshError(f"{self._path}: OpenCV cannot write this video of {width} x {height}; leave overlay out of --save")
        self._video = video


class JsonSink:
    """``results.jsonl``: one line per picture, written at once, under the name ``results.jsonl.part`` until it is closed."""

    def __init__(self, path: Path, names: OutputNames, mesh_format: str | None) -> None:
        self._path, self._names, self._mesh_format = path, names, mesh_format
        self._temporary = path.with_name(path.name + ".part")
        self._length = 0  # bytes of whole lines
        try:
            self._file = open(self._temporary, "wb", buffering=0)  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise write_error(path, error) from error

    def write(self, frame: Frame, faces: Sequence[FaceMesh]) -> None:
        line = (json.dumps(self._document(frame, faces), allow_nan=False) + "\n").encode("ascii")
        try:
            written = 0
            while written < len(line):
                written += self._file.write(line[written:])
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(self._length)
            raise write_error(self._path, error) from error
        self._length += len(line)

    def close(self) -> None:
        self._file.close()
        if self._length == 0 and self._path.exists():  # nothing was done: what an earlier run found is worth more
            self._temporary.unlink(missing_ok=True)
        else:
            _rename(self._temporary, self._path)

    def _document(self, frame: Frame, faces: Sequence[FaceMesh]) -> dict[str, Any]:
        height, width = frame.image.shape[:2]
        return {
            "source": frame.source,
            "frame": frame.index,
            "timestamp_s": round(frame.timestamp_s, 6),
            "size_wh": [width, height],
            "faces": [self._face(frame, index, face) for index, face in enumerate(faces)],
        }

    def _face(self, frame: Frame, index: int, face: FaceMesh) -> dict[str, Any]:
        return {
            "box_xyxy": _rounded(face.box_xyxy),
            "score": round(face.score, 4),
            "landmarks": _rounded(face.landmarks),
            "pose": {
                "yaw_deg": round(face.pose.yaw_deg, 3),
                "pitch_deg": round(face.pose.pitch_deg, 3),
                "roll_deg": round(face.pose.roll_deg, 3),
            },
            "mesh": None if self._mesh_format is None else self._names.mesh(frame, index, self._mesh_format).name,
        }


def _rounded(values: NDArray[np.float32]) -> list[Any]:
    """Nested lists, to a thousandth of a pixel."""
    return np.round(values.astype(np.float64), 3).tolist()


def _rename(temporary: Path, path: Path) -> None:
    try:
        os.replace(temporary, path)
    except OSError as error:
        raise write_error(path, error) from error


def _video_length(path: Path) -> int:
    video = cv2.VideoCapture(str(path))
    length = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else -1
    video.release()
    return length


def _make_folder(folder: Path) -> None:
    """Make ``folder`` and see that a file can be written there, before any work is done."""
    probe = folder / ".facemesh.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise FaceMeshError(f"{folder}: cannot be used as the output folder ({error.strerror or error}); choose another --output") from error
