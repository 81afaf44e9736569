"""Whole frames."""

from __future__ import annotations

from runtime.detection.yunet import YuNetDetector
from runtime.pipeline import FaceMeshPipeline


def test_from_a_known_box(measured, face, runner):
    (mesh,) = measured(FaceMeshPipeline(runner).from_boxes, face.image, face.box_xyxy[None])
    assert mesh.landmarks.shape == (68, 3)


def test_with_detection(measured, face, runner):
    meshes = measured(FaceMeshPipeline(runner, YuNetDetector(max_faces=1)), face.image, rounds=200)
    assert len(meshes) == 1
