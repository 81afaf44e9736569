"""All faces of a run in one file: ``landmarks.csv`` for tables and ``faces.npz`` with the whole meshes."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from runtime.outputs.results_jsonl import LinesFile
from runtime.storage.growing_arrays import GrowingArrays
from runtime.types import LANDMARK_COUNT, FaceMesh, Frame, MeshTopology

RUN_FORMATS = ("csv", "faces")
CSV_COLUMNS = (
    *("source", "frame", "timestamp_s", "face", "track_id", "score", "confidence"),
    *("yaw_deg", "pitch_deg", "roll_deg", "x1", "y1", "x2", "y2"),
    *(f"{axis}{point}" for point in range(LANDMARK_COUNT) for axis in ("x_", "y_", "z_")),
)


class CsvSink:
    """Sink for ``landmarks.csv``: one line per face, under a temporary name until it is closed."""

    def __init__(self, path: Path) -> None:
        """Open the file; raises `FaceMeshError` if it cannot be written."""
        self._file = LinesFile(path, head=_csv_lines([CSV_COLUMNS]))

    def write(self, frame: Frame, faces: Sequence[FaceMesh]) -> None:
        """Append the lines of one frame, all or none; raises `FaceMeshError` if they cannot be written."""
        self._file.append_lines(_csv_lines([_csv_row(frame, index, face) for index, face in enumerate(faces)]))

    def close(self) -> None:
        """Close the file, see `runtime.outputs.results_jsonl.LinesFile.close`."""
        self._file.close()


class FacesNpzSink:
    """Sink for ``faces.npz``: the arrays of all faces of a run, one row per face."""

    def __init__(self, path: Path, topology: MeshTopology) -> None:
        """Take the place of the file and the topology of the faces."""
        self._path = path
        self._triangles = topology.triangles
        self._rows = GrowingArrays(path.parent)
        self._sources: dict[str, int] = {}

    def write(self, frame: Frame, faces: Sequence[FaceMesh]) -> None:
        """Append the faces of one frame; raises `FaceMeshError` if they cannot be written."""
        for face in faces:
            source = self._sources.setdefault(frame.source, len(self._sources))
            self._rows.append(
                source=np.int64(source),
                frame=np.int64(frame.index),
                timestamp_s=np.float64(frame.timestamp_s),
                track_id=np.int64(-1 if face.track_id is None else face.track_id),
                score=np.float32(face.score),
                confidence=np.float32(np.nan if face.confidence is None else face.confidence),
                box_xyxy=face.box_xyxy.astype(np.float32),
                pose_yaw_pitch_roll_deg=np.array(face.pose.angles_deg, np.float32),
                landmarks=face.landmarks,
                vertices=face.vertices,
            )

    def close(self) -> None:
        """Write the file; a run without faces has none."""
        try:
            if len(self._rows):
                constants = {"sources": np.array(list(self._sources)), "triangles": self._triangles}
                self._rows.save(self._path, constants)
        finally:
            self._rows.close()


def _csv_lines(rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _csv_row(frame: Frame, index: int, face: FaceMesh) -> list[object]:
    track_id = "" if face.track_id is None else face.track_id
    confidence = "" if face.confidence is None else f"{face.confidence:.4f}"
    head = [frame.source, frame.index, f"{frame.timestamp_s:.6f}", index, track_id, f"{face.score:.4f}", confidence]
    numbers = np.concatenate([face.pose.angles_deg, face.box_xyxy, face.landmarks.ravel()])
    return head + [f"{number:.3f}" for number in numbers.tolist()]
