"""Weak-perspective camera from all vertices, and the frontal mesh."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from runtime.errors import FaceMeshError
from runtime.geometry.camera import Camera, fit_camera
from runtime.geometry.pose import pose_to_rotation
from runtime.types import Pose
from tests.standins.meshes import PlainTopology, face_of, plane

POSES = [Pose(0, 0, 0), Pose(40, -20, 15), Pose(-85, 10, 120), Pose(5, 60, -170)]


def seen(topology, pose, scale=1.7, translation=(300, 250, 40)):
    points = topology.canonical_vertices.astype(float)
    return (scale * points @ pose_to_rotation(pose).T + translation).astype(np.float32)


@pytest.mark.parametrize("pose", POSES)
def test_a_mean_face_gives_its_camera_back(topology, pose):
    camera = fit_camera(face_of(seen(topology, pose)), topology)
    assert camera.scale == pytest.approx(1.7, rel=1e-5)
    np.testing.assert_allclose(camera.rotation, pose_to_rotation(pose), atol=1e-5)
    np.testing.assert_allclose(camera.translation, (300, 250, 40), atol=0.01)
    assert camera.residual_px < 1e-3
    assert dataclasses.astuple(camera.pose) == pytest.approx(dataclasses.astuple(pose), abs=1e-3)


@pytest.mark.parametrize("pose", POSES)
def test_the_matrix_maps_the_mean_face_into_the_picture(topology, pose):
    camera = fit_camera(face_of(seen(topology, pose)), topology)
    homogeneous = np.column_stack([topology.canonical_vertices, np.ones(len(topology.canonical_vertices))])
    np.testing.assert_allclose(homogeneous @ camera.matrix.T, seen(topology, pose), atol=0.01)


@pytest.mark.parametrize("pose", POSES)
def test_the_frontal_mesh_is_the_same_from_every_side(topology, pose):
    """Shape stays, pose goes: also for a face that is not the mean one."""
    generator = np.random.default_rng(1)
    own = topology.canonical_vertices * (1.1, 0.95, 1.2) + generator.normal(scale=2, size=(len(topology.uv), 3))
    shaped = PlainTopology(topology.triangles, own.astype(np.float32))
    frontal = {}
    for each in (pose, POSES[0]):
        face = face_of(seen(shaped, each))
        frontal[each] = fit_camera(face, topology).frontal(face.vertices)
    np.testing.assert_allclose(frontal[pose], frontal[POSES[0]], atol=0.01)
    assert fit_camera(face_of(frontal[pose]), topology).pose.yaw_deg == pytest.approx(0, abs=1e-3)


def test_a_frontal_mesh_has_the_units_of_the_canonical_face():
    points = np.random.default_rng(0).normal(size=(20, 3))
    camera = Camera(2.5, pose_to_rotation(Pose(30, -10, 70)), np.array([300.0, 200.0, -7.0]), 0.0)
    vertices = 2.5 * points @ camera.rotation.T + camera.translation
    np.testing.assert_allclose(camera.frontal(vertices), points, atol=1e-5)
    np.testing.assert_allclose(np.column_stack([points, np.ones(20)]) @ camera.matrix.T, vertices, atol=1e-9)


def test_noise_of_all_vertices_averages_out(topology):
    noise = np.random.default_rng(0).normal(scale=5, size=(len(topology.uv), 3))
    camera = fit_camera(face_of((seen(topology, POSES[1]) + noise).astype(np.float32)), topology)
    assert dataclasses.astuple(camera.pose) == pytest.approx(dataclasses.astuple(POSES[1]), abs=0.1)
    assert camera.residual_px == pytest.approx(5 * 3**0.5, rel=0.02)


def test_a_mirrored_face_is_no_rotation(topology):
    vertices = seen(topology, POSES[0]) * np.array([-1, 1, 1], np.float32)
    assert np.linalg.det(fit_camera(face_of(vertices), topology).rotation) == pytest.approx(1)


def test_faces_without_a_mesh_are_refused(topology):
    face = dataclasses.replace(face_of(seen(topology, POSES[0])), vertices=np.zeros((0, 3), np.float32))
    with pytest.raises(FaceMeshError, match="make the pipeline with dense=True"):
        fit_camera(face, topology)


@pytest.mark.parametrize("value", [np.nan, np.inf, 5.0, (3.0, 4.0, 5.0)])
def test_unusable_vertices_are_refused(value):
    vertices, triangles = plane(0, 0, 1, 1)
    broken = np.full_like(vertices, value)
    with pytest.raises(FaceMeshError, match="not finite or all the same"):
        fit_camera(face_of(broken), PlainTopology(triangles, vertices))
