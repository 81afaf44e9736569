"""What latencies are measured on: pictures with one face each, decoded and detected before the clock starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.detection.yunet import YuNetDetector
from runtime.errors import FaceMeshError
from runtime.sources.frame_source import CAMERA_PREFIX, FrameSource
from runtime.storage.whole_files import file_sha256

MOST_PICTURES = 64
MOST_BYTES = 2**28  # of decoded pictures


def load_subjects(source: Path) -> list[Face]:
    """The best face of the picture, or of each of the first frames of a film or photos of a folder. Raises `FaceMeshError` where there is none."""
    if str(source).startswith(CAMERA_PREFIX):
        raise FaceMeshError(f"{source}: a camera never shows the same twice; record a film and measure on that")
    detect, faces, size = YuNetDetector(max_faces=1), [], 0
    with FrameSource(source) as frames:
        for frame in frames:
            boxes = detect(frame.image).boxes_xyxy
            size += frame.image.nbytes
            if len(boxes) and size <= MOST_BYTES:
                faces.append(Face(np.ascontiguousarray(frame.image), boxes[0]))
            if len(faces) == MOST_PICTURES or frame.index >= 10 * MOST_PICTURES or size > MOST_BYTES:
                break
    if not faces:
        raise FaceMeshError(f"{source}: no face found to measure on; give a picture or film that shows one")
    return faces


def describe_source(source: Path, faces: list[Face]) -> dict[str, Any]:
    """For the record: the same source on another machine describes itself in the same way."""
    height, width = faces[0].image.shape[:2]
    digest = file_sha256(source) if source.is_file() else None
    return {"file": source.name, "sha256": digest, "pictures": len(faces), "size_wh": [width, height]}


@dataclass(frozen=True, eq=False)
class Face:
    """One face to work on; decoded before the clock starts."""

    image: NDArray[np.uint8]  # (H, W, 3) BGR
    box_xyxy: NDArray[np.float32]  # (4,) px, tight box of the labelled landmarks
