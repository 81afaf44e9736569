"""From a network's coefficients to vertices and landmarks: a face model of random numbers in the size of 3DDFA's."""

from __future__ import annotations

from functools import cache

import numpy as np

from runtime.families.coefficients import CoefficientFamily, CoefficientOutput
from runtime.families.face_model import FaceModel
from runtime.families.family import Decode
from runtime.families.model_topology import FaceModelTopology
from runtime.models.spec import ModelSpec
from runtime.tensors import InputSpec

VERTICES = 53_215
SPLIT = (12, 40, 10)
NUMBERS = sum(SPLIT)
MATRIX = np.array([[0.5, 0, 3], [0, 0.5, 2]])
POSE = (4e-4, 0, 0, 60, 0, 4e-4, 0, 60, 0, 0, 4e-4, -60)  # of a face of about 50 px in its crop


def test_vertices_in_32_bits(measured):
    _measure(measured, "fp32", faces=1)


def test_vertices_in_16_bits(measured):
    _measure(measured, "fp16", faces=1)


def test_vertices_in_8_bits(measured):
    _measure(measured, "int8", faces=1)


def test_vertices_of_four_faces_in_16_bits(measured):
    _measure(measured, "fp16", faces=4)


def test_landmarks_alone(measured):
    _, landmarks = measured(_decoder("fp16", dense=False), np.zeros(NUMBERS, np.float32), MATRIX)
    assert landmarks.shape == (68, 3)


def _measure(measured, precision: str, faces: int) -> None:
    outputs = np.zeros((faces, NUMBERS), np.float32)
    meshes = measured(_decoder(precision, dense=True).batch, outputs, [MATRIX] * faces, rounds=200)
    assert [len(vertices) for vertices, _ in meshes] == [VERTICES] * faces


@cache
def _model(precision: str) -> FaceModel:
    generator = np.random.default_rng(0)
    columns = sum(SPLIT[1:])
    return FaceModel(
        mean=generator.normal(scale=6e4, size=(VERTICES, 3)).astype(np.float32),
        basis=generator.standard_normal((3 * VERTICES, columns), np.float32),
        shape_count=SPLIT[1],
        triangles=np.zeros((1, 3), np.int32),
        uv=np.zeros((VERTICES, 2), np.float32),
        keypoints68=np.arange(68, dtype=np.int32),
        symmetry=np.arange(VERTICES, dtype=np.int32),
        precision=precision,
    )


def _decoder(precision: str, dense: bool) -> Decode:
    output = CoefficientOutput("numbers", *SPLIT, POSE + (1.0,) * 50, (1.0,) * NUMBERS, (0.0, 120.0))
    image = InputSpec("image", 120, "NCHW", "BGR", (-1.0, 1.0))
    spec = ModelSpec("random", "coefficients", image, output, 2**0.5, "none", precision, "")
    return CoefficientFamily(spec, FaceModelTopology(_model(precision))).decoder(dense)
