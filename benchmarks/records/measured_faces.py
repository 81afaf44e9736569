"""Faces for latency measurements: pictures with one face each, decoded and detected beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.detection.yunet import YuNetDetector
from runtime.errors import FaceMeshError
from runtime.sources.address import parse_address
from runtime.sources.frame_source import FrameSource
from runtime.storage.whole_files import file_sha256

MOST_PICTURES = 64
MOST_BYTES = 2**28  # of decoded pictures


@dataclass(frozen=True, eq=False)
class Face:
    """One face in its decoded picture."""

    image: NDArray[np.uint8]  # (H, W, 3) BGR
    box_xyxy: NDArray[np.float32]  # (4,) px, tight box of the landmarks


def load_measured_faces(source: Path) -> list[Face]:
    """Load the best face of a photo, of each of the first frames of a film, or of the photos of a folder.

    Raises `FaceMeshError` if there is no face, or if the source is a camera.
    """
    if parse_address(str(source)).is_device:
        raise FaceMeshError(f"{source}: a camera never shows the same twice; record a film and measure on that")
    detect = YuNetDetector(max_faces=1)
    faces: list[Face] = []
    size = 0
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
    """Describe the source for a record; the same source gets the same description on every machine."""
    height, width = faces[0].image.shape[:2]
    digest = file_sha256(source) if source.is_file() else None
    return {"file": source.name, "sha256": digest, "pictures": len(faces), "size_wh": [width, height]}
