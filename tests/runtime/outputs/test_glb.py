"""GLB files: what another reader finds in them."""

from __future__ import annotations

import dataclasses
import os

import cv2
import numpy as np
import pytest

from runtime.errors import FaceMeshError
from runtime.geometry.pose import pose_to_rotation, rotation_to_quaternion
from runtime.outputs.sinks import open_sinks
from runtime.sources.video import VideoFacts
from runtime.types import Frame, Pose
from tests.standins.meshes import PlainTopology, face_of

gltf = pytest.importorskip("pygltflib", reason="needs pygltflib")
FLOATS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
POSES = [Pose(0, 0, 0), Pose(30, -10, 5), Pose(-60, 20, 175), Pose(80, 0, -170)]


@pytest.fixture(scope="module")
def image():
    x, y = np.meshgrid(np.linspace(0, 255, 320), np.linspace(0, 255, 240))
    return np.dstack([np.full_like(x, 40), y, x]).round().astype(np.uint8)


def face_at(topology, pose, scale=0.6, place=(160, 120), track_id=None):
    """The mean face with its centre at a place of the picture."""
    centred = topology.canonical_vertices - topology.canonical_vertices.mean(axis=0)
    vertices = (scale * centred @ pose_to_rotation(pose).T + (*place, 50)).astype(np.float32)
    face = dataclasses.replace(face_of(vertices), pose=pose, track_id=track_id)
    return dataclasses.replace(face, landmarks=vertices[topology.landmark_vertices])


def array(document, number):
    accessor = document.accessors[number]
    view = document.bufferViews[accessor.bufferView]
    dtype = {gltf.FLOAT: np.float32, gltf.UNSIGNED_INT: np.uint32}[accessor.componentType]
    data = document.binary_blob()[view.byteOffset : view.byteOffset + view.byteLength]
    values = np.frombuffer(data, dtype).reshape(accessor.count, FLOATS[accessor.type])
    np.testing.assert_allclose(accessor.min, values.min(axis=0), rtol=1e-6)
    np.testing.assert_allclose(accessor.max, values.max(axis=0), rtol=1e-6)
    return values


def load(path):
    document = gltf.GLTF2().load(str(path))
    assert document.buffers[0].byteLength == len(document.binary_blob())
    assert all(view.byteOffset % 4 == 0 for view in document.bufferViews)
    return document


def turned(vertices, quaternion):
    x, y, z, w = quaternion
    axis = np.array([x, y, z])
    return vertices + 2 * np.cross(axis, np.cross(axis, vertices) + w * vertices)


@pytest.mark.parametrize("pose", POSES)
def test_quaternions_turn_as_their_rotations(pose):
    points = np.random.default_rng(0).normal(size=(20, 3))
    quaternion = rotation_to_quaternion(pose_to_rotation(pose))
    np.testing.assert_allclose(turned(points, quaternion), points @ pose_to_rotation(pose).T, atol=1e-9)
    assert quaternion[3] >= 0
    assert np.linalg.norm(quaternion) == pytest.approx(1)


@pytest.mark.parametrize("pose", POSES)
def test_a_photo(tmp_path, topology, image, pose):
    face = face_at(topology, pose)
    with open_sinks(tmp_path, ["glb"], topology, None, texture_size=128) as sinks:
        sinks.write(Frame(image, 0, 0.0, "a.jpg"), [face, face])
    assert sorted(os.listdir(tmp_path)) == ["a_face0.glb", "a_face1.glb"]
    document = load(tmp_path / "a_face0.glb")
    primitive = document.meshes[0].primitives[0]
    vertices = array(document, primitive.attributes.POSITION)
    # In metres, y up; turned by the node the mesh has the shape of the face in the picture.
    corners = vertices[topology.landmark_vertices[[36, 45]]]
    assert np.linalg.norm(corners[1] - corners[0]) == pytest.approx(0.09, rel=1e-3)
    placed = turned(vertices, document.nodes[0].rotation)
    seen = (face.vertices - face.vertices.mean(axis=0)) * (1, -1, 1)
    scale = 0.09 / np.linalg.norm(seen[topology.landmark_vertices[45]] - seen[topology.landmark_vertices[36]])
    np.testing.assert_allclose(placed - placed.mean(axis=0), seen * scale, atol=1e-4)
    triangles = array(document, primitive.indices).reshape(-1, 3)
    np.testing.assert_array_equal(triangles, topology.triangles[:, ::-1])
    normals = array(document, primitive.attributes.NORMAL)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-3)
    a, b, c = (vertices[triangles[:, corner]] for corner in range(3))
    flat = np.cross(b - a, c - a)
    assert ((flat * normals[triangles[:, 0]]).sum(axis=1) > 0).mean() > 0.95  # both point outwards
    uv = array(document, primitive.attributes.TEXCOORD_0)
    np.testing.assert_allclose(uv, topology.uv * (1, -1) + (0, 1), atol=1e-6)  # v downwards


def test_the_texture(tmp_path, topology, image):
    face = face_at(topology, Pose(0, 0, 0))
    with open_sinks(tmp_path, ["glb"], topology, None, texture_size=256) as sinks:
        sinks.write(Frame(image, 0, 0.0, "a.jpg"), [face])
    document = load(tmp_path / "a_face0.glb")
    material = document.materials[document.meshes[0].primitives[0].material]
    picture = document.images[document.textures[material.pbrMetallicRoughness.baseColorTexture.index].source]
    assert picture.mimeType == "image/jpeg"
    view = document.bufferViews[picture.bufferView]
    data = document.binary_blob()[view.byteOffset : view.byteOffset + view.byteLength]
    texture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    nose = topology.landmark_vertices[30]
    u, v = topology.uv[nose] * (1, -1) + (0, 1)
    x, y, _ = face.vertices[nose]
    np.testing.assert_allclose(texture[int(v * 256), int(u * 256)], [40, y / 239 * 255, x / 319 * 255], atol=8)


def test_a_film_moves_the_heads_of_its_people(tmp_path, topology, image):
    """Two people, one of them away for a frame; the head of each goes the way of its face."""
    yaws = np.linspace(-40, 40, 9)
    with open_sinks(tmp_path, ["glb"], topology, VideoFacts(25.0), texture_size=64) as sinks:
        for index, yaw in enumerate(yaws):
            faces = [face_at(topology, Pose(float(yaw), 0, 0), 0.4 + 0.05 * index, (100 + 10 * index, 80), 3)]
            if index != 4:
                faces.append(face_at(topology, Pose(0, 0, 170 + 5 * index), track_id=8))
            sinks.write(Frame(image, index, index / 25, "clip.mp4"), faces)
        assert not list(tmp_path.glob("*.glb"))
    assert sorted(os.listdir(tmp_path)) == ["clip_person3.glb", "clip_person8.glb"]
    document = load(tmp_path / "clip_person3.glb")
    (animation,) = document.animations
    tracks = {channel.target.path: animation.samplers[channel.sampler] for channel in animation.channels}
    assert {channel.target.node for channel in animation.channels} == {0}
    times = array(document, tracks["rotation"].input)[:, 0]
    np.testing.assert_allclose(times, np.arange(9) / 25, atol=1e-6)
    rotations = array(document, tracks["rotation"].output)
    np.testing.assert_allclose(np.degrees(2 * np.arctan2(rotations[:, 1], rotations[:, 3])), yaws, atol=0.05)
    scales = array(document, tracks["scale"].output)
    np.testing.assert_allclose(scales[:, 0], (0.4 + 0.05 * np.arange(9)) / 0.4, rtol=1e-4)
    places = array(document, tracks["translation"].output)
    eyes = topology.canonical_vertices[topology.landmark_vertices[[36, 45]]]
    metre = 0.09 / np.linalg.norm(eyes[1] - eyes[0]) / 0.4  # per pixel
    np.testing.assert_allclose(places[:, 0], (100 + 10 * np.arange(9) - 159.5) * metre, atol=1e-4)
    np.testing.assert_allclose(places[:, 1], -(80 - 119.5) * metre, atol=1e-4)
    away = load(tmp_path / "clip_person8.glb")
    sampler = away.animations[0].samplers[1]
    np.testing.assert_allclose(array(away, sampler.input)[:, 0], np.delete(np.arange(9), 4) / 25, atol=1e-6)
    steps = (array(away, sampler.output)[1:] * array(away, sampler.output)[:-1]).sum(axis=1)
    assert (steps > 0.9).all()  # no detour past 180 degrees


def test_times_that_stand_still_are_left_out(tmp_path, topology, image):
    with open_sinks(tmp_path, ["glb"], topology, VideoFacts(), texture_size=64) as sinks:
        for index, seconds in enumerate((0.0, 0.0, 0.1, 0.1, 0.2)):
            sinks.write(Frame(image, index, seconds, "camera:0"), [face_at(topology, Pose(0, 0, 0))])
    document = load(tmp_path / "camera_0_person1.glb")
    np.testing.assert_allclose(array(document, document.animations[0].samplers[0].input)[:, 0], [0, 0.1, 0.2])


def test_one_frame_is_no_animation(tmp_path, topology, image):
    with open_sinks(tmp_path, ["glb"], topology, VideoFacts(25.0), texture_size=64) as sinks:
        sinks.write(Frame(image, 0, 0.0, "clip.mp4"), [face_at(topology, POSES[1])])
    assert not load(tmp_path / "clip_person1.glb").animations


def test_a_film_without_faces_leaves_no_file(tmp_path, topology, image):
    with open_sinks(tmp_path, ["glb"], topology, VideoFacts(25.0)) as sinks:
        sinks.write(Frame(image, 0, 0.0, "clip.mp4"), [])
    assert os.listdir(tmp_path) == []


def test_faces_without_a_mesh_are_refused(tmp_path, topology, image):
    face = dataclasses.replace(face_at(topology, POSES[0]), vertices=np.zeros((0, 3), np.float32))
    with pytest.raises(FaceMeshError, match="dense=True"), open_sinks(tmp_path, ["glb"], topology, None) as sinks:
        sinks.write(Frame(image, 0, 0.0, "a.jpg"), [face])
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, a disk without space")
def test_full_disk_leaves_no_half_file(tmp_path, topology, image):
    (tmp_path / "a_face0.glb.part").symlink_to("/dev/full")
    with (
        pytest.raises(FaceMeshError, match=r"a_face0\.glb: cannot be written"),
        open_sinks(tmp_path, ["glb"], topology, None) as sinks,
    ):
        sinks.write(Frame(image, 0, 0.0, "a.jpg"), [face_at(topology, POSES[0])])
    assert os.listdir(tmp_path) == []


def test_other_topologies(tmp_path, topology, image):
    """Nothing is known of position maps: any triangles with texture coordinates will do."""
    vertices, corners = topology.canonical_vertices, topology.triangles[:500]
    small = PlainTopology(corners, vertices, topology.uv, topology.landmark_vertices)
    with open_sinks(tmp_path, ["glb"], small, None, texture_size=64) as sinks:
        sinks.write(Frame(image, 0, 0.0, "a.jpg"), [face_at(small, POSES[1])])
    document = load(tmp_path / "a_face0.glb")
    assert document.accessors[document.meshes[0].primitives[0].indices].count == 1500
