"""Load `Faces` from whatever holds faces: a folder of pictures, a film, 300W-LP, or a set of ``.npz`` and ``.tar``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.faces import Faces
from runtime.console.terminal import print_line
from runtime.errors import FaceMeshError
from runtime.sources.address import VIDEO_SUFFIXES
from runtime.sources.boxes_csv import read_boxes, tell_of_few_boxes
from runtime.sources.film import open_film
from runtime.sources.photos import PHOTO_SUFFIXES, decode_photo, is_photo, list_photos, read_photo
from runtime.storage.label_values import check_boxes
from runtime.storage.mat_files import read_mat
from runtime.storage.picture_tar import beside, read_rows

MOST_NAMES = 20  # of pictures in one line
MOST_FRAMES = 600  # of a film
JPEG = (cv2.IMWRITE_JPEG_QUALITY, 95)


def load_faces(path: Path, boxes: Path | None = None) -> Faces:
    """Load faces from a folder of pictures, a film, a folder of 300W-LP, or a set named by its stem or either half.

    Boxes of pictures come from the CSV file ``boxes`` or else from the detector; pictures without a face are then left
    out, with a warning. Pictures of 300W-LP and AFLW2000-3D have their labels beside them. Raises `FaceMeshError`
    naming the file at fault.
    """
    kind = _kind(path)
    if boxes is not None and kind in ("archive", "film"):
        what = "an archive of crops brings its own boxes" if kind == "archive" else "frames of a film have no names"
        raise FaceMeshError(f"{path}: {what}; leave out --boxes {boxes}")
    if kind == "archive":
        return _load_archive(path)
    if kind == "film":
        return _load_film(path)
    photos = list_photos(path, recursive=path.is_dir() and not any(map(is_photo, path.iterdir())))
    if boxes is None and (labelled := [photo for photo in photos if photo.with_suffix(".mat").is_file()]):
        return _load_300w_lp(path, photos, labelled)
    found = read_boxes(boxes, photos) if boxes is not None else _detect(photos, str(path), read_photo)
    names = [name for name, rows in found.items() for _ in rows]
    if not names:
        raise FaceMeshError(f"{boxes}: no box for any of the {len(photos)} pictures in {path}; write one line per face")
    if boxes is not None:
        tell_of_few_boxes(boxes, found)
    return _unlabelled(path, found)


def _kind(path: Path) -> str:
    """Return "archive", "film" or "pictures"."""
    if path.is_dir() or path.suffix.lower() in PHOTO_SUFFIXES:
        return "pictures"
    return "film" if path.suffix.lower() in VIDEO_SUFFIXES else "archive"


def _unlabelled(path: Path, found: Mapping[str, NDArray[np.float32]], encoded: dict[str, bytes] | None = None) -> Faces:
    names = np.array([name for name, rows in found.items() for _ in rows])
    unknown = np.full(len(names), np.nan, np.float32)
    return Faces(path, names, np.concatenate(list(found.values())), unknown, np.zeros(len(names), bool), None, encoded)


def _load_film(path: Path) -> Faces:
    """Take frames from the whole film, at most `MOST_FRAMES`; each is kept as a JPEG."""
    film = open_film(path)
    try:
        step = max(1, -(-(film.frame_count or 0) // MOST_FRAMES))
        encoded: dict[str, bytes] = {}
        for number, frame in enumerate(film.frames(0.0)):
            if number % step == 0 and len(encoded) < MOST_FRAMES:
                image = frame.image(lambda height, width: None)
                encoded[f"{path.name} frame {frame.index}"] = cv2.imencode(".jpg", image, JPEG)[1].tobytes()
    finally:
        film.close()
    if not encoded:
        raise FaceMeshError(f"{path}: not one frame could be decoded; convert it to MP4")
    found = _detect(list(encoded), str(path), lambda name: decode_photo(encoded[name], name))
    return _unlabelled(path, found, {name: encoded[name] for name in found})


def _load_300w_lp(path: Path, photos: Sequence[Path], labelled: Sequence[Path]) -> Faces:
    """Read the labels beside pictures of 300W-LP and AFLW2000-3D; pictures without are named and left out."""
    if missing := sorted({photo.name for photo in photos} - {photo.name for photo in labelled}):
        print_line(f"warning: no .mat beside {len(missing)} of {len(photos)} pictures: {_listed(missing)}")
    landmarks, yaws = zip(*map(_read_300w_lp, labelled), strict=True)
    points = np.stack(landmarks)
    return Faces(
        origin=path,
        names=np.array([str(photo) for photo in labelled]),
        boxes_xyxy=np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1),
        yaw_deg=np.array(yaws, np.float32),
        is_val=np.zeros(len(labelled), bool),
        landmarks_xy=points,
    )


def _read_300w_lp(photo: Path) -> tuple[NDArray[np.float32], float]:
    """Return the 68 landmarks (68, 2) px and the yaw in degrees, NaN where unknown."""
    path = photo.with_suffix(".mat")
    variables = read_mat(path)
    for name in ("pt3d_68", "pt2d"):
        points = variables.get(name)
        if (
            isinstance(points, np.ndarray)
            and points.ndim == 2
            and points.shape[1] == 68
            and (np.abs(points) < 1e6).all()
        ):
            landmarks = points[:2].T.astype(np.float32) - 1  # pixels are counted from 1 there
            pose = variables.get("Pose_Para")
            yaw = -np.rad2deg(float(pose.ravel()[1])) if isinstance(pose, np.ndarray) and pose.size == 7 else np.nan
            return landmarks, yaw
    raise FaceMeshError(f"{path}: no 68 points (pt3d_68 or pt2d) in it; it is no label of 300W-LP or AFLW2000-3D")


def _load_archive(path: Path) -> Faces:
    labels, archive = beside(path, ".npz"), beside(path, ".tar")
    optional = {"yaw_deg": (), "is_val": (), "pts68": (68, -1)}
    arrays = read_rows(path, {"names": (), "box": (4,)}, optional, what="crops", holes=("yaw_deg", "box"))
    count = arrays["names"].size
    if not count:
        raise FaceMeshError(f"{labels}: it has no rows; give a set with faces")
    box = arrays["box"].astype(np.float32)
    try:
        check_boxes(arrays["names"], box)
    except ValueError as error:
        raise FaceMeshError(f"{labels}: {error}; remove them") from None
    return Faces(
        origin=archive,
        names=arrays["names"],
        boxes_xyxy=box,
        yaw_deg=arrays.get("yaw_deg", np.full(count, np.nan)).astype(np.float32),
        is_val=arrays.get("is_val", np.zeros(count)).astype(bool),
        landmarks_xy=arrays["pts68"][:, :, :2].astype(np.float32) if "pts68" in arrays else None,
    )


def _detect(
    pictures: Sequence[Path] | Sequence[str], place: str, read: Callable[[Any], NDArray[np.uint8]]
) -> dict[str, NDArray[np.float32]]:
    """Picture -> boxes (N, 4) px of the faces that the detector finds; pictures without any are named and left out."""
    from runtime.console.progress import progress_bar
    from runtime.detection.yunet import YuNetDetector

    detector = YuNetDetector()
    found: dict[str, NDArray[np.float32]] = {}
    empty, faults = [], []
    for picture in progress_bar(pictures, len(pictures), "picture"):
        try:
            boxes = detector(read(picture)).boxes_xyxy
        except FaceMeshError as error:
            faults.append(str(error))
            continue
        if len(boxes):
            found[str(picture)] = boxes
        else:
            empty.append(Path(picture).name)
    for fault in faults:
        print_line(f"warning: left out: {fault}")
    if empty:
        print_line(f"warning: no face found in {len(empty)} of {len(pictures)} pictures: {_listed(empty)}")
    if not found:
        raise FaceMeshError(f"{place}: no face found in any picture; give others, or --boxes FILE")
    return found


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_NAMES]) + (" …" if len(names) > MOST_NAMES else "")
