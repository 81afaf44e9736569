"""The definition that fits aim at: spread of the coefficients and offsets of the points, in one ``.npz``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from runtime.errors import FaceMeshError
from runtime.families.face_model import FaceModel
from runtime.storage.npz_files import check_shapes, read_npz
from runtime.storage.whole_files import whole_file
from training.labelling.definition_offsets import YAW_NODES_DEG, DefinitionOffsets, no_offsets
from training.labelling.point_model import MIRROR, CoefficientPrior

KEYS = ("prior_mean", "prior_factor", "offsets", "yaw_nodes_deg")


def load_definition(path: Path, model: FaceModel) -> tuple[CoefficientPrior, DefinitionOffsets]:
    """Read what `save_definition` wrote. Raises `FaceMeshError` that names the array at fault."""
    arrays = read_npz(path, KEYS, what="offsets of learn-offsets")
    count = model.basis.shape[1]
    shapes = {
        "prior_mean": (count,),
        "prior_factor": (count, count),
        "offsets": (len(YAW_NODES_DEG), len(MIRROR), 2),
        "yaw_nodes_deg": (-1,),
    }
    try:
        check_shapes(arrays, shapes)
        if not all(np.isfinite(arrays[key]).all() for key in KEYS):
            raise ValueError("it has numbers that are not finite")
        if arrays["yaw_nodes_deg"].tolist() != YAW_NODES_DEG.tolist():
            raise ValueError(f"yaw_nodes_deg must be {YAW_NODES_DEG.tolist()}")
        if np.linalg.matrix_rank(arrays["prior_factor"]) < count:
            raise ValueError("prior_factor is singular")
    except ValueError as error:
        raise FaceMeshError(f"{path}: {error}; learn the offsets again with this face model") from None
    return CoefficientPrior(arrays["prior_mean"], arrays["prior_factor"]), DefinitionOffsets(arrays["offsets"])


def save_definition(path: Path, prior: CoefficientPrior, offsets: DefinitionOffsets) -> None:
    """Write prior and offsets, whole or not at all."""
    with whole_file(path) as file:
        np.savez(
            file, prior_mean=prior.mean, prior_factor=prior.factor, offsets=offsets.table, yaw_nodes_deg=YAW_NODES_DEG
        )


def stock_definition(path: Path, model: FaceModel) -> tuple[CoefficientPrior, DefinitionOffsets]:
    """Return the spread stated by the face model's file (``shape_mu``, ``shape_sigma``, ``exp_…``) and no offsets."""
    arrays = read_npz(
        path,
        ("shape_mu", "shape_sigma", "exp_mu", "exp_sigma"),
        what="a face model with the spread of its coefficients",
    )
    mean = np.concatenate([arrays["shape_mu"], arrays["exp_mu"]], axis=None).astype(np.float64)
    sigma = np.concatenate([arrays["shape_sigma"], arrays["exp_sigma"]], axis=None).astype(np.float64)
    if (
        mean.size != model.basis.shape[1]
        or sigma.size != mean.size
        or not (np.isfinite(mean).all() and (sigma > 0).all())
    ):
        raise FaceMeshError(
            f"{path}: mu and sigma must be {model.basis.shape[1]} finite numbers, sigma positive; "
            "give an intact face model"
        )
    return CoefficientPrior(mean, np.diag(sigma)), no_offsets()
