"""``cameras.jsonl`` and ``expressions.jsonl``: one JSON line per picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.expressions.expression import read_expression
from runtime.geometry.camera import fit_camera
from runtime.outputs.results_jsonl import LinesFile, picture_document, pose_document
from runtime.types import FaceMesh, Frame, MeshTopology

LINE_FORMATS = ("camera", "expression")


class LineSink:
    """Sink for one of `LINE_FORMATS`."""

    def __init__(self, folder: Path, name: str, topology: MeshTopology) -> None:
        """Open ``NAMEs.jsonl`` in ``folder``; raises `FaceMeshError` if it cannot be written."""
        self._describe = {"camera": self._camera, "expression": self._expression}[name]
        self._topology = topology
        self._lines = LinesFile(folder / f"{name}s.jsonl")

    def write(self, frame: Frame, faces: Sequence[FaceMesh]) -> None:
        """Append the line of one picture; raises `FaceMeshError` if it cannot be written."""
        described = [{"track_id": face.track_id, **self._describe(face, frame.image)} for face in faces]
        self._lines.append({**picture_document(frame), "faces": described})

    def close(self) -> None:
        """Close the file, see `runtime.outputs.results_jsonl.LinesFile.close`."""
        self._lines.close()

    def _camera(self, face: FaceMesh, image: NDArray[np.uint8]) -> dict[str, Any]:
        camera = fit_camera(face, self._topology)
        return {
            "matrix": np.round(camera.matrix, 9).tolist(),
            "scale": round(camera.scale, 9),
            "residual_px": round(camera.residual_px, 3),
            "pose": pose_document(camera.pose),
        }

    def _expression(self, face: FaceMesh, image: NDArray[np.uint8]) -> dict[str, Any]:
        expression = read_expression(face, image)
        return {
            "eye_opening_left": round(expression.eye_opening_left, 4),
            "eye_opening_right": round(expression.eye_opening_right, 4),
            "blink_left": expression.blink_left,
            "blink_right": expression.blink_right,
            "mouth_opening": round(expression.mouth_opening, 4),
            "blendshapes": {name: round(value, 4) for name, value in expression.blendshapes.items()},
        }
