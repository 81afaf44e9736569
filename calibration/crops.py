"""Crops of faces, as a network takes them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.faces import Faces
from runtime.errors import FaceMeshError
from runtime.families.family import Family
from runtime.families.table import open_family
from runtime.geometry.crop import crop_into, draw_landmarks
from runtime.models.spec import ModelSpec
from runtime.sources.photos import decode_photo, read_bytes, read_photo
from runtime.storage.picture_tar import read_tar


@dataclass(frozen=True, eq=False)
class FacePictures:
    """Faces with their pictures."""

    faces: Faces
    pictures: dict[str, bytes] | None  # encoded; None: they lie in a folder

    def image(self, row: int) -> NDArray[np.uint8]:
        """Return the picture (H, W, 3) uint8 BGR of a face. Raises `FaceMeshError` if its box is centred elsewhere."""
        name, box = str(self.faces.names[row]), self.faces.boxes_xyxy[row]
        image = self._decoded(name)
        x, y = (box[:2] + box[2:]) / 2
        if not (0 <= x < image.shape[1] and 0 <= y < image.shape[0]):
            where = f"the box {box.tolist()} is centred outside the {image.shape[1]} x {image.shape[0]} picture"
            raise FaceMeshError(f"{name}: {where}; boxes and pictures do not belong together")
        return image

    def sha256(self) -> str:
        """Hex digest of names, boxes and encoded pictures, in order."""
        digest = hashlib.sha256()
        for name, box in zip(self.faces.names.tolist(), self.faces.boxes_xyxy, strict=True):
            content = read_bytes(Path(name)) if self.pictures is None else self.pictures[name]
            digest.update(
                Path(name).name.encode()
                + b"\0"
                + box.astype("<f4").tobytes()
                + len(content).to_bytes(8, "little")
                + content
            )
        return digest.hexdigest()

    def _decoded(self, name: str) -> NDArray[np.uint8]:
        if self.pictures is None:
            return read_photo(Path(name))
        # The labels of such archives are for the pixels as they are stored.
        return decode_photo(self.pictures[name], f"{self.faces.origin}: {name}", cv2.IMREAD_IGNORE_ORIENTATION)


@dataclass(frozen=True, eq=False)
class Crops(FacePictures, Sequence):
    """Crops of faces: item i is (input (1, *spec.input.shape) float32, crop matrix (2, 3) float64)."""

    spec: ModelSpec

    def __len__(self) -> int:
        return len(self.faces)

    @cached_property
    def family(self) -> Family:
        """Family of the network; it says where to crop."""
        return open_family(self.spec)

    def __getitem__(self, row: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        if not 0 <= row < len(self):
            raise IndexError(row)
        image = self.image(row)
        matrix = self.family.crop_matrix(self.faces.boxes_xyxy[row])
        out = np.zeros((1, *self.spec.input.shape), np.float32)
        crop_into(image, matrix, self.spec.input, out[0])
        if self.spec.input.landmark_channel:
            self._draw_landmarks(row, matrix, out[0])
        return out, matrix

    def _draw_landmarks(self, row: int, matrix: NDArray[np.float64], out: NDArray[np.float32]) -> None:
        """Fill the landmark channel from the labels."""
        if self.faces.landmarks_xy is None:
            problem = f"{self.spec.name} takes landmarks beside the picture, and these faces have none"
            raise FaceMeshError(f"{self.faces.origin}: {problem}; give a set of .npz and .tar with pts68")
        landmarks = np.pad(self.faces.landmarks_xy[row], ((0, 0), (0, 1)))
        draw_landmarks(landmarks.astype(np.float32), matrix, out)


def read_crops(faces: Faces, spec: ModelSpec) -> Crops:
    """Read the archive's pictures; pictures in a folder are read on demand."""
    return Crops(faces, read_pictures(faces).pictures, spec)


def read_pictures(faces: Faces) -> FacePictures:
    """Read the archive's pictures; pictures in a folder are read on demand."""
    return FacePictures(faces, read_tar(faces.origin, faces.names.tolist()) if faces.is_archive else faces.encoded)
