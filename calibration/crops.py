"""The faces to calibrate on or to judge by: a folder of pictures, or a set of ``.npz`` and ``.tar``."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from runtime.errors import FaceMeshError
from runtime.families.family import Family
from runtime.families.table import open_family
from runtime.geometry.crop import crop_into, draw_landmarks
from runtime.models.spec import ModelSpec
from runtime.sources.boxes_csv import read_boxes
from runtime.sources.photos import decode_photo, list_photos, read_bytes, read_photo
from runtime.storage.picture_tar import beside, read_rows, read_tar

YAW_EDGES_DEG = (15, 30, 45, 60, 75)
MOST_NAMES = 20  # of pictures in one line


@dataclass(frozen=True, eq=False)
class Faces:
    """N faces in pictures that are not read yet; one picture may hold several."""

    origin: Path  # the folder, or the tar archive
    names: NDArray[np.str_]  # (N,) paths of the pictures, or members of the archive
    boxes_xyxy: NDArray[np.float32]  # (N, 4) px, tight box of the 68 landmarks
    yaw_deg: NDArray[np.float32]  # (N,) NaN where unknown
    is_val: NDArray[np.bool_]  # (N,) kept for judging
    landmarks_xy: NDArray[np.float32] | None  # (N, 68, 2) px, labels

    def __len__(self) -> int:
        return len(self.names)

    def select(self, rows: ArrayLike) -> Faces:
        """The rows given by a mask (N,) or by their numbers."""
        landmarks = None if self.landmarks_xy is None else self.landmarks_xy[rows]
        return Faces(
            self.origin, self.names[rows], self.boxes_xyxy[rows], self.yaw_deg[rows], self.is_val[rows], landmarks
        )


@dataclass(frozen=True, eq=False)
class Crops(Sequence):
    """Faces with their pictures: item i is (input (1, *spec.input.shape) float32, crop matrix (2, 3) float64)."""

    faces: Faces
    spec: ModelSpec
    pictures: dict[str, bytes] | None  # encoded; None: they lie in a folder

    def __len__(self) -> int:
        return len(self.faces)

    @cached_property
    def family(self) -> Family:
        """Family of the network; it says where to crop."""
        return open_family(self.spec)

    def __getitem__(self, row: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        if not 0 <= row < len(self):
            raise IndexError(row)
        name, box = str(self.faces.names[row]), self.faces.boxes_xyxy[row]
        image = self._image(name)
        x, y = (box[:2] + box[2:]) / 2
        if not (0 <= x < image.shape[1] and 0 <= y < image.shape[0]):
            where = f"the box {box.tolist()} is centred outside the {image.shape[1]} x {image.shape[0]} picture"
            raise FaceMeshError(f"{name}: {where}; boxes and pictures do not belong together")
        matrix = self.family.crop_matrix(box)
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

    def _image(self, name: str) -> NDArray[np.uint8]:
        if self.pictures is None:
            return read_photo(Path(name))
        # The labels of such archives are for the pixels as they are stored.
        return decode_photo(self.pictures[name], f"{self.faces.origin}: {name}", cv2.IMREAD_IGNORE_ORIENTATION)


def load_faces(path: Path, boxes: Path | None = None) -> Faces:
    """Load faces from a folder of pictures or from a set, named by the stem of ``.npz`` and ``.tar`` or by either.

    Boxes of a folder come from the CSV file ``boxes`` or else from the detector; pictures without a face are then left
    out, with a warning. Raises `FaceMeshError` naming the file at fault.
    """
    if not path.is_dir():
        if boxes is not None:
            raise FaceMeshError(f"{path}: an archive of crops brings its own boxes; leave out --boxes {boxes}")
        return _load_archive(path)
    photos = list_photos(path)
    found = read_boxes(boxes, photos) if boxes is not None else _detect(photos)
    names = [name for name, rows in found.items() for _ in rows]
    if not names:
        raise FaceMeshError(f"{boxes}: no box for any of the {len(photos)} pictures in {path}; write one line per face")
    unknown = np.full(len(names), np.nan, np.float32)
    return Faces(path, np.array(names), np.concatenate(list(found.values())), unknown, np.zeros(len(names), bool), None)


def read_crops(faces: Faces, spec: ModelSpec) -> Crops:
    """Read the archive's pictures; pictures in a folder are read on demand."""
    return Crops(faces, spec, None if faces.origin.is_dir() else read_tar(faces.origin, faces.names.tolist()))


def sample(faces: Faces, count: int, seed: int = 0) -> Faces:
    """Draw at most ``count`` faces by ``seed``, from all classes of |yaw| alike, in the order of ``faces``."""
    yaw_class = np.digitize(np.abs(faces.yaw_deg), YAW_EDGES_DEG)  # NaN comes last, a class of its own in effect
    order = np.random.default_rng(seed).permutation(len(faces))
    rank = np.zeros(len(faces), np.int64)  # of a face among those of its class
    for number in np.unique(yaw_class):
        mine = order[yaw_class[order] == number]
        rank[mine] = np.arange(len(mine))
    chosen = order[np.argsort(rank[order], kind="stable")[:count]]
    return faces.select(np.sort(chosen))


def _load_archive(path: Path) -> Faces:
    labels, archive = beside(path, ".npz"), beside(path, ".tar")
    optional = {"yaw_deg": (), "is_val": (), "pts68": (68, -1)}
    arrays = read_rows(path, {"names": (), "box": (4,)}, optional, what="crops")
    count = arrays["names"].size
    if not count:
        raise FaceMeshError(f"{labels}: it has no rows; give a set with faces")
    box = arrays["box"].astype(np.float32)
    is_empty = ~((box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1]) & np.isfinite(box).all(axis=1))
    if is_empty.any():
        raise FaceMeshError(
            f"{labels}: {is_empty.sum()} of {count} rows have no face, first {arrays['names'][is_empty][0]}; "
            "remove them"
        )
    return Faces(
        origin=archive,
        names=arrays["names"],
        boxes_xyxy=box,
        yaw_deg=arrays.get("yaw_deg", np.full(count, np.nan)).astype(np.float32),
        is_val=arrays.get("is_val", np.zeros(count)).astype(bool),
        landmarks_xy=arrays["pts68"][:, :, :2].astype(np.float32) if "pts68" in arrays else None,
    )


def set_apart(faces: Faces, share: float, seed: int = 0) -> Faces:
    """Return ``faces`` with the given share of their pictures kept for judging, drawn by ``seed``."""
    pictures = np.unique(faces.names)
    count = round(share * len(pictures))
    judging = np.random.default_rng(seed).permutation(pictures)[:count]
    return dataclasses.replace(faces, is_val=np.isin(faces.names, judging))


def _detect(photos: list[Path]) -> dict[str, NDArray[np.float32]]:
    """Picture -> boxes (N, 4) px of the faces that the detector finds; pictures without any are named and left out."""
    from runtime.console.progress import progress_bar
    from runtime.detection.yunet import YuNetDetector

    detector = YuNetDetector()
    found: dict[str, NDArray[np.float32]] = {}
    empty, faults = [], []
    for photo in progress_bar(photos, len(photos), "picture"):
        try:
            boxes = detector(read_photo(photo)).boxes_xyxy
        except FaceMeshError as error:
            faults.append(str(error))
            continue
        if len(boxes):
            found[str(photo)] = boxes
        else:
            empty.append(photo.name)
    for fault in faults:
        print(f"warning: left out: {fault}", file=sys.stderr)
    if empty:
        names = ", ".join(empty[:MOST_NAMES]) + (" …" if len(empty) > MOST_NAMES else "")
        print(f"warning: no face found in {len(empty)} of {len(photos)} pictures: {names}", file=sys.stderr)
    if not found:
        raise FaceMeshError(f"{photos[0].parent}: no face found in any picture; give others, or --boxes FILE")
    return found
