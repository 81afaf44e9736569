"""3DDFA_V2 (Guo et al., ECCV 2020; MIT licence) as a peer: its small network with its published crop and dense decode.

The steps follow its ``TDDFA_ONNX.__call__`` and ``TDDFA.recon_vers`` with the crop policy "landmark", in its own
arithmetic: NumPy and ``cv2.resize``. They begin at the box: its search for the least and greatest of the landmarks, by
Python's ``min`` and ``max``, is left out. ONNX Runtime gathers the planes of the crop, which lie apart, when it runs;
here that is a part of the crop. The network runs in ONNX Runtime; PyTorch reads the published weights.
"""

from __future__ import annotations

import dataclasses
import io
import logging
import math
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.peers.interface import StagedPeer
from benchmarks.records.measured_faces import Face
from export.checkpoints.checkpoint import load_checkpoint
from export.checkpoints.whitening import read_whitening
from runtime.families.face_model import FaceModel
from runtime.inference.onnx_runner import open_session
from training.networks.coefficients import Whitening

SIZE = 120  # px, side of the network's input
NO_NECK_VERTICES = 38_365  # of its face model without neck and ears (bfm_noneck_v3)


class Mb05Steps:
    """Crop, network and decode for one face model, of its dense vertices or of the landmarks alone."""

    def __init__(
        self, network: bytes, whitening: Whitening, model: FaceModel, threads: int, dense: bool = True
    ) -> None:
        """Take the network as an ONNX file's bytes, and mean and standard deviation of its numbers."""
        self._mean = whitening.mean
        self._std = whitening.std
        self._session = open_session(network, threads)
        self._input = self._session.get_inputs()[0].name
        chosen = np.arange(len(model.mean)) if dense else model.keypoints68
        self._landmarks = model.keypoints68 if dense else np.arange(len(chosen))
        basis = model.basis.reshape(len(model.mean), 3, -1)[chosen].reshape(3 * len(chosen), -1)
        self._base = model.mean[chosen].reshape(-1, 1).copy()
        shape_basis, expression_basis = np.split(basis, [40], axis=1)
        self._shape_basis = np.ascontiguousarray(shape_basis)
        self._expression_basis = np.ascontiguousarray(expression_basis)
        self.vertices = len(chosen)

    def crop(self, face: Face) -> tuple[NDArray[np.float32], list[float]]:
        """Return the crop (1, 3, 120, 120) float32, and its square in the photograph."""
        return self.crop_box(face.image, face.box_xyxy)

    def crop_box(self, image: NDArray[np.uint8], box_xyxy: NDArray) -> tuple[NDArray[np.float32], list[float]]:
        """Do the same for one of the boxes in a picture."""
        roi = roi_box(box_xyxy)
        image = cv2.resize(cut(image, roi), dsize=(SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
        image = image.astype(np.float32).transpose(2, 0, 1)[np.newaxis, ...]
        return np.ascontiguousarray((image - 127.5) / 128.0), roi

    def network(self, crop: tuple[NDArray[np.float32], list[float]]) -> tuple[NDArray[np.float32], list[float]]:
        """Return the 62 parameters, and the square."""
        image, roi = crop
        return self._session.run(None, {self._input: image})[0], roi

    def decode(self, output: tuple[NDArray[np.float32], list[float]]) -> NDArray[np.float32]:
        """Return the vertices (3, V) float32 in px of the photograph."""
        # Parameters to vertices in the crop.
        parameters = output[0].flatten().astype(np.float32) * self._std + self._mean
        pose = parameters[:12].reshape(3, -1)
        shape = parameters[12:52].reshape(-1, 1)
        expression = parameters[52:].reshape(-1, 1)
        surface = self._base + self._shape_basis @ shape + self._expression_basis @ expression
        points = surface.reshape(3, -1, order="F")
        points = pose[:, :3] @ points + pose[:, 3:]
        points[0] -= 1
        points[2] -= 1
        points[1] = SIZE - points[1]

        # Crop to photograph.
        sx, sy, ex, ey = output[1]
        scale_x = (ex - sx) / SIZE
        scale_y = (ey - sy) / SIZE
        points[0] = points[0] * scale_x + sx
        points[1] = points[1] * scale_y + sy
        points[2] *= (scale_x + scale_y) / 2
        points[2] -= np.min(points[2])
        return np.array(points, dtype=np.float32)

    def landmarks(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Choose the landmarks (68, 3) of the vertices (3, V)."""
        return points[:, self._landmarks].T


def mb05_peer(weights: Path, model: FaceModel, threads: int) -> StagedPeer:
    """Open the peer with ``mb05_120x120.pth`` and ``mb05_param_mean_std.npz`` beside it.

    Raises `FaceMeshError` if they are missing or others.
    """
    network = load_checkpoint("mb05", weights)
    whitening = read_whitening(weights, None, network.count)
    steps = Mb05Steps(_to_onnx(network), whitening, without_neck(model), threads)
    return staged(steps, "3DDFA_V2 mb05")


def staged(steps: Mb05Steps, name: str, faces: int = 1) -> StagedPeer:
    """Return the peer of ``steps``; several ``faces`` of a picture are done as published, each by crop and network."""

    def crop(done: tuple[Face, list[Any]]) -> tuple[Face, list[Any]]:
        face, outputs = done
        outputs.append(steps.crop_box(face.image, face.box_xyxy[len(outputs)]))
        return done

    def network(done: tuple[Face, list[Any]]) -> tuple[Face, list[Any]]:
        done[1][-1] = steps.network(done[1][-1])
        return done

    several = (
        ("crop", lambda face: crop((face, []))),
        ("network", network),
        *((("crop", crop), ("network", network)) * (faces - 1)),
        ("decode", lambda done: [steps.decode(output) for output in done[1]]),
    )
    single = (("crop", steps.crop), ("network", steps.network), ("decode", steps.decode))
    return StagedPeer(
        name=name,
        note="network in ONNX Runtime with this runtime's options, crop and decode as published (OpenCV, NumPy)",
        vertices=steps.vertices,
        steps=single if faces == 1 else several,
        landmarks=steps.landmarks if faces == 1 else lambda found: np.stack([steps.landmarks(one) for one in found]),
        faces=faces,
    )


def _to_onnx(network: nn.Module) -> bytes:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it reports which unrelated libraries it does not find
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PyTorch's own
        image = torch.zeros(1, 3, SIZE, SIZE)
        program = torch.onnx.export(network, (image,), input_names=["input"], dynamo=True, verbose=False)
    buffer = io.BytesIO()
    program.save(buffer)
    return buffer.getvalue()


def without_neck(model: FaceModel) -> FaceModel:
    """Return the model of the vertices nearest to the tip of the nose, and of the 68 landmarks.

    They stand in for the published selection, which our data lack: as many, so the arithmetic is the same. A model that
    has no more vertices stays as it is.
    """
    if len(model.mean) <= NO_NECK_VERTICES:
        return model
    chosen = _frontal_vertices(model, NO_NECK_VERTICES)
    number = np.full(len(model.mean), -1, np.int32)
    number[chosen] = np.arange(len(chosen), dtype=np.int32)
    triangles = number[model.triangles]
    mirrored = number[model.symmetry[chosen]]
    basis = model.basis.reshape(len(model.mean), 3, -1)[chosen].reshape(3 * len(chosen), -1)
    return dataclasses.replace(
        model,
        mean=model.mean[chosen],
        basis=basis,
        triangles=triangles[(triangles >= 0).all(axis=1)],
        uv=model.uv[chosen],
        keypoints68=number[model.keypoints68],
        symmetry=np.where(mirrored < 0, np.arange(len(chosen), dtype=np.int32), mirrored),
    )


def _frontal_vertices(model: FaceModel, count: int) -> NDArray[np.int64]:
    """Return the chosen vertices (count,), ascending."""
    distance = np.linalg.norm(model.mean - model.mean[model.keypoints68[30]], axis=1)
    distance[model.keypoints68] = 0
    return np.sort(np.argsort(distance, kind="stable")[:count])


def roi_box(box_xyxy: NDArray) -> list[float]:
    """Return the published crop for a box: a square around its centre.

    The side is the diagonal of the square over the longer side of the box.
    """
    x1, y1, x2, y2 = (float(value) for value in box_xyxy)
    radius = max(x2 - x1, y2 - y1) / 2
    side = math.sqrt(2) * 2 * radius
    left = (x1 + x2) / 2 - side / 2
    top = (y1 + y2) / 2 - side / 2
    return [left, top, left + side, top + side]


def cut(image: NDArray[np.uint8], roi: list[float]) -> NDArray[Any]:
    """Cut out the square rounded to whole pixels, black outside the photograph."""
    height, width = image.shape[:2]
    sx, sy, ex, ey = (round(value) for value in roi)
    result = np.zeros((ey - sy, ex - sx, 3), dtype=np.uint8)
    left = max(sx, 0)
    top = max(sy, 0)
    right = min(ex, width)
    bottom = min(ey, height)
    if left < right and top < bottom:
        result[top - sy : bottom - sy, left - sx : right - sx] = image[top:bottom, left:right]
    return result
