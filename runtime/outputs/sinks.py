"""Output files of `runtime.run`: overlays, maps, meshes and JSON lines. Every file appears whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from runtime.errors import FaceMeshError, reason
from runtime.outputs.face_files import FACE_FORMATS, TEXTURE_SIZE, FaceFileSink
from runtime.outputs.line_files import LINE_FORMATS, LineSink
from runtime.outputs.map_files import MAP_FORMATS, MapSink
from runtime.outputs.mesh_files import MESH_FORMATS, MeshWriter
from runtime.outputs.names import OutputNames, remove_left_overs
from runtime.outputs.overlay_files import OverlayPhotoSink, OverlayVideoSink
from runtime.outputs.results_jsonl import JsonSink
from runtime.outputs.run_files import RUN_FORMATS, CsvSink, FacesNpzSink
from runtime.rendering.overlay import OverlayPainter
from runtime.sources.video import VideoFacts
from runtime.storage.folder_lock import FolderLock
from runtime.types import FaceMesh, Frame, MeshTopology

FORMATS = ("overlay", "json", *MESH_FORMATS, *MAP_FORMATS, *FACE_FORMATS, "glb", *LINE_FORMATS, *RUN_FORMATS)
SPARSE_FORMATS = frozenset({"json", "csv", "expression"})  # of the landmarks alone, without the mesh


class Sink(Protocol):
    """One kind of output. Both methods raise `FaceMeshError` for files that cannot be written."""

    def write(self, frame: Frame, faces: Sequence[FaceMesh]) -> None:
        """Write the output of one frame."""

    def close(self) -> None:
        """Finish the files that all frames share."""


class Sinks:
    """Several sinks as one; a context manager. Finished files are kept and closed at the end, even after an error."""

    def __init__(self, sinks: Sequence[Sink], lock: FolderLock | None = None) -> None:
        """Take the sinks in the order of writing, and the lock of their folder, released at the end."""
        self._sinks = sinks
        self._lock = lock

    def write(self, frame: Frame, faces: Sequence[FaceMesh]) -> None:
        """Write the output of one frame to every sink."""
        for sink in self._sinks:
            sink.write(frame, faces)

    def __enter__(self) -> Sinks:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        failures: list[Exception] = []
        for sink in self._sinks:
            try:
                sink.close()
            except Exception as error:  # memory may be short, and the others are to be closed
                failures.append(error)
        if self._lock is not None:
            self._lock.release()
        if failures and kind is None:
            raise failures[0]


def open_sinks(
    folder: Path,
    formats: Sequence[str],
    topology: MeshTopology,
    video: VideoFacts | None,
    *,
    texture_size: int = TEXTURE_SIZE,
    live: Callable[[], Iterable[Sink]] = tuple,
) -> Sinks:
    """Make ``folder`` and return sinks there for ``formats``, some of `FORMATS`.

    ``video`` is None for photos, ``texture_size`` the side of textures in px. ``live`` opens sinks that are no files.
    Raises `FaceMeshError` if the folder cannot be written, or if another run is writing into it.
    """
    _make_folder(folder)
    lock = FolderLock(folder)
    remove_left_overs(folder)
    opened: list[Sink] = []
    try:
        for sink in live():  # first, so that nothing is begun if an address cannot be used
            opened.append(sink)
        for sink in _sinks(folder, formats, topology, video, texture_size):
            opened.append(sink)
        return Sinks(opened, lock)
    except BaseException:
        for sink in opened:
            sink.close()
        remove_left_overs(folder)
        lock.release()
        raise


def _sinks(
    folder: Path, formats: Sequence[str], topology: MeshTopology, video: VideoFacts | None, texture_size: int
) -> Iterator[Sink]:
    """Open the sinks one by one, so that a failure lets the earlier ones be closed."""
    names = OutputNames(folder, numbered=video is not None)
    meshes = [name for name in formats if name in MESH_FORMATS]
    if meshes:
        yield MeshSink(names, meshes, topology)
    if maps := [name for name in formats if name in MAP_FORMATS]:
        yield MapSink(names, maps, topology)
    if of_faces := [name for name in formats if name in FACE_FORMATS]:
        yield FaceFileSink(names, of_faces, topology, texture_size)
    if "glb" in formats:
        from runtime.outputs.glb import GlbSink

        yield GlbSink(names, topology, texture_size, is_film=video is not None)
    for name in formats:
        if name in LINE_FORMATS:
            yield LineSink(folder, name, topology)
    if "overlay" in formats:
        painter = OverlayPainter(topology)
        if video is None:
            yield OverlayPhotoSink(names, painter)
        else:
            yield OverlayVideoSink(names, painter, video)
    if "faces" in formats:
        yield FacesNpzSink(folder / "faces.npz", topology)
    if "csv" in formats:
        yield CsvSink(folder / "landmarks.csv")
    if "json" in formats:  # last: a line says that the picture's files are there
        yield JsonSink(folder / "results.jsonl", names, meshes[0] if meshes else None)


class MeshSink:
    """Sink for meshes: one file for every face and format."""

    def __init__(self, names: OutputNames, formats: Sequence[str], topology: MeshTopology) -> None:
        """Take the names of the files, some of `MESH_FORMATS` and the topology of the faces."""
        self._names = names
        self._formats = formats
        self._writer = MeshWriter(topology)

    def write(self, frame: Frame, faces: Sequence[FaceMesh]) -> None:
        """Write the meshes of one frame."""
        for index, face in enumerate(faces):
            for mesh_format in self._formats:
                self._writer.write(self._names.face(frame, index, f".{mesh_format}"), face, frame.image)

    def close(self) -> None:
        """Do nothing: every mesh is complete once written."""


def _make_folder(folder: Path) -> None:
    """Make ``folder`` and check, before any work is done, that a file can be written there."""
    probe = folder / ".facemesh.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        remedy = "choose another --output"
        raise FaceMeshError(f"{folder}: cannot be used as the output folder ({reason(error)}); {remedy}") from error
