"""Labelled photographs for measurements, in the sets that training takes, too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError
from runtime.families.face_model import FaceModel, load_face_model
from runtime.families.model_topology import FaceModelTopology
from runtime.families.table import FAMILIES
from runtime.families.uv_topology import UVTopology
from runtime.geometry.nme import yaw_bins
from runtime.models.spec import ModelSpec
from runtime.storage.label_values import check_values
from runtime.storage.npz_files import check_shapes, read_npz
from runtime.storage.picture_tar import beside
from runtime.storage.whole_files import file_sha256
from training.data.labels import FaceLabels, JpegImages, load_labels, read_images
from training.uv.uv_layout import rasterise_uv


@dataclass(frozen=True, eq=False)
class FaceSet:
    """N labelled faces, one per photograph."""

    labels: FaceLabels
    images: JpegImages
    bins: NDArray[np.int64]  # (N,) yaw bin 0, 1 or 2 of the usual protocol
    reannotated: NDArray[np.float32] | None  # (N, 68, 2) px, a second annotation of the same photographs
    model: FaceModel
    sha256: dict[str, str]  # of the two files

    def __len__(self) -> int:
        return len(self.labels)

    def topology_for(self, spec: ModelSpec) -> FaceModelTopology | None:
        """Return the mesh of the labels' face model for a network that needs one, None for others."""
        return FaceModelTopology(self.model) if FAMILIES[spec.family].has_face_model else None


def load_faces(stem: Path, face_model: Path | None = None, rows: str = "all", limit: int | None = None) -> FaceSet:
    """Load labelled faces: a set by its stem or either half, or a folder in the layout of 300W-LP.

    ``rows`` is "all", "training" or "validation"; ``limit`` takes so many of them, evenly spread over the file. Bins
    are the array ``bin`` if there is one (AFLW2000-3D: the published yaw), otherwise they are made from ``yaw_deg``.
    Raises `FaceMeshError` if a file is missing or damaged, or if it has no such rows.
    """
    path, tar = beside(stem, ".npz"), beside(stem, ".tar")
    if not stem.is_dir() and not path.is_file():
        remedy = "--data is a folder of 300W-LP, or the common stem of the labels' .npz and the pictures' .tar"
        raise FaceMeshError(f"{path}: no such file; {remedy}")
    model = load_face_model(face_model or stem.parent / "face_model.npz")
    labels = load_labels(stem, model)
    extra = {} if stem.is_dir() else _extra_arrays(path, len(labels))

    # Choose the rows.
    wanted = {"all": np.ones_like(labels.is_val), "training": ~labels.is_val, "validation": labels.is_val}
    chosen = np.flatnonzero(wanted[rows])
    if limit is not None:
        chosen = chosen[np.linspace(0, len(chosen) - 1, min(limit, len(chosen))).round().astype(int)]
    if not len(chosen):
        raise FaceMeshError(f"{path}: it has no {rows} rows; choose others with --rows")
    labels = labels.select(chosen)
    return FaceSet(
        labels=labels,
        images=read_images(stem, labels),
        bins=extra["bin"][chosen].astype(np.int64) if "bin" in extra else yaw_bins(labels.yaw_deg),
        reannotated=extra["pts68_reannotated"][chosen] if "pts68_reannotated" in extra else None,
        model=model,
        sha256={} if stem.is_dir() else {file.name: file_sha256(file) for file in (path, tar)},
    )


def _extra_arrays(path: Path, count: int) -> dict[str, NDArray]:
    """Return those of ``bin`` (N,) and ``pts68_reannotated`` (N, 68, 2) that the file has."""
    arrays = read_npz(path, (), ("bin", "pts68_reannotated"), what="face labels")
    shapes = {"bin": (count,), "pts68_reannotated": (count, 68, 2)}
    try:
        check_shapes(arrays, {key: shapes[key] for key in arrays})
        check_values(arrays)
    except ValueError as error:
        raise FaceMeshError(f"{path}: {error}; the file is damaged or of another kind") from None
    return arrays


class DenseTruth:
    """The labelled face surface at the vertices of a topology.

    These are the vertices of the labels' face model, or its surface at the pixels of a UV topology.
    """

    def __init__(self, model: FaceModel, topology: UVTopology | FaceModelTopology) -> None:
        basis = model.basis.reshape(len(model.mean), 3, -1)
        columns = np.concatenate([model.mean[..., None], basis], axis=2)  # (vertices, 3, 1 + C)
        if not isinstance(topology, FaceModelTopology):
            maps = rasterise_uv(model, topology.resolution)
            triangle, barycentric = (array.reshape(topology.resolution**2, -1)[topology.face_indices] for array in maps)
            corners = model.triangles[triangle[:, 0]]
            columns = sum(barycentric[:, k, None, None] * columns[corners[:, k]] for k in range(3))
        self._basis = columns.reshape(-1, columns.shape[2])

    def __call__(self, labels: FaceLabels, row: int) -> NDArray[np.float32]:
        """Return the vertices (V, 3) of one row, in px of the stored picture."""
        weights = np.concatenate([[1], labels.coefficients[row]]).astype(np.float32)
        shape = (self._basis @ weights).reshape(-1, 3)
        return labels.scale[row] * shape @ labels.rotation[row].T + labels.translation[row]
