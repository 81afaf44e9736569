"""What `runtime.run` writes: overlays, meshes and ``results.jsonl``. Every file appears whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from runtime.errors import FaceMeshError
from runtime.outputs.mesh_files import MESH_FORMATS, MeshWriter
from runtime.outputs.names import OutputNames
from runtime.outputs.overlay_files import OverlayPhotoSink, OverlayVideoSink
from runtime.outputs.results_jsonl import JsonSink
from runtime.rendering.overlay import OverlayPainter
from runtime.types import FaceMesh, Frame, MeshTopology

FORMATS = ("overlay", "json", *MESH_FORMATS)


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


def open_sinks(folder: Path, formats: Sequence[str], topology: MeshTopology, video_fps: float | None) -> Sinks:
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


class MeshSink:
    """Every face in every asked-for mesh format."""

    def __init__(self, names: OutputNames, formats: Sequence[str], topology: MeshTopology) -> None:
        self._names, self._formats, self._writer = names, formats, MeshWriter(topology)

    def write(self, frame: Frame, faces: Sequence[FaceMesh]) -> None:
        for index, face in enumerate(faces):
            for mesh_format in self._formats:
                self._writer.write(self._names.mesh(frame, index, mesh_format), face, frame.image)

    def close(self) -> None:
        pass


def _make_folder(folder: Path) -> None:
    """Make ``folder`` and see that a file can be written there, before any work is done."""
    probe = folder / ".facemesh.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise FaceMeshError(f"{folder}: cannot be used as the output folder ({error.strerror or error}); choose another --output") from error
