"""``results.jsonl``: one JSON line per picture."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.outputs.names import OutputNames
from runtime.storage.whole_files import remove_quietly, rename_whole, write_error
from runtime.types import FaceMesh, Frame, Pose


class LinesFile:
    """A file of lines, each written at once. It is called ``NAME.part`` until it is closed."""

    def __init__(self, path: Path, head: bytes = b"") -> None:
        """Open the file and write its ``head``; raises `FaceMeshError` if it cannot be written."""
        self._path = path
        self._head = head
        self._temporary = path.with_name(path.name + ".part")
        self._length = 0  # bytes of whole lines
        try:
            self._file = open(self._temporary, "wb", buffering=0)  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise write_error(path, error) from error
        self.append_lines(head)

    def append(self, document: dict[str, Any]) -> None:
        """Append a document as one line of JSON; raises as `append_lines`."""
        self.append_lines((json.dumps(document, allow_nan=False) + "\n").encode("ascii"))

    def append_lines(self, line: bytes) -> None:
        """Append whole lines, all or none; raises `FaceMeshError` if they cannot be written."""
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
        """Close the file and give it its own name; one without lines never replaces that of an earlier run."""
        self._file.close()
        if self._length <= len(self._head) and self._path.exists():
            remove_quietly(self._temporary)
        else:
            rename_whole(self._temporary, self._path)


class JsonSink:
    """Sink for ``results.jsonl``: one line per picture."""

    def __init__(self, path: Path, names: OutputNames, mesh_format: str | None) -> None:
        """Open the file; ``mesh_format`` is the suffix of the mesh that lines refer to, or None.

        Raises `FaceMeshError` if it cannot be written.
        """
        self._names = names
        self._mesh_format = mesh_format
        self._lines = LinesFile(path)

    def write(self, frame: Frame, faces: Sequence[FaceMesh]) -> None:
        """Append the line of one picture, whole or not at all; raises `FaceMeshError` if it cannot be written."""
        self._lines.append(self._document(frame, faces))

    def close(self) -> None:
        """Close the file, see `LinesFile.close`."""
        self._lines.close()

    def _document(self, frame: Frame, faces: Sequence[FaceMesh]) -> dict[str, Any]:
        return {
            **picture_document(frame),
            "faces": [self._face(frame, index, face) for index, face in enumerate(faces)],
        }

    def _face(self, frame: Frame, index: int, face: FaceMesh) -> dict[str, Any]:
        return {
            "track_id": face.track_id,
            "box_xyxy": rounded(face.box_xyxy),
            "score": round(face.score, 4),
            "confidence": None if face.confidence is None else round(face.confidence, 4),
            "landmarks": rounded(face.landmarks),
            "pose": pose_document(face.pose),
            "mesh": None if self._mesh_format is None else self._names.face(frame, index, f".{self._mesh_format}").name,
        }


def picture_document(frame: Frame) -> dict[str, Any]:
    """Return the part of a line that tells the picture."""
    height, width = frame.image.shape[:2]
    return {
        "source": frame.source,
        "frame": frame.index,
        "timestamp_s": round(frame.timestamp_s, 6),
        "size_wh": [width, height],
    }


def pose_document(pose: Pose, digits: int = 3) -> dict[str, float]:
    """Return the angles of a head, rounded to ``digits`` decimals of a degree."""
    return {name: round(value, digits) for name, value in dataclasses.asdict(pose).items()}


def rounded(values: NDArray[np.float32]) -> list[Any]:
    """Return nested lists, rounded to a thousandth of a pixel."""
    return np.round(values.astype(np.float64), 3).tolist()
