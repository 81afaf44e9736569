"""Files of maps and faces: depth, normals, PNCC, texture, visibility, frontal mesh, OBJ with texture."""

from __future__ import annotations

import dataclasses
import json
import os

import cv2
import numpy as np
import pytest

from runtime.errors import FaceMeshError
from runtime.expressions.expression import read_expression
from runtime.geometry.camera import fit_camera
from runtime.geometry.pose import pose_to_rotation
from runtime.outputs.sinks import SPARSE_FORMATS, open_sinks
from runtime.rendering.maps import MapPainter, visible_vertices
from runtime.rendering.texture import TextureMapper
from runtime.sources.video import VideoFacts
from runtime.types import Frame, Pose
from tests.runtime.outputs.test_sinks import read_ply, share_facing_the_viewer
from tests.standins.meshes import face_of

DERIVED = ["depth", "normals", "pncc", "texture", "textured", "visibility", "frontal"]
POSE = Pose(25, -10, 8)


@pytest.fixture(scope="module")
def image():
    """Red rises to the right, green downwards."""
    x, y = np.meshgrid(np.linspace(0, 255, 320), np.linspace(0, 255, 240))
    return np.dstack([np.full_like(x, 40), y, x]).round().astype(np.uint8)


@pytest.fixture(scope="module")
def face(topology):
    """The mean face, turned, in the middle of the picture."""
    centred = topology.canonical_vertices - topology.canonical_vertices.mean(axis=0)
    vertices = 0.7 * centred @ pose_to_rotation(POSE).T + (160, 120, 90)
    face = face_of(vertices.astype(np.float32))
    return dataclasses.replace(face, landmarks=face.vertices[topology.landmark_vertices], pose=POSE)


def save(folder, formats, topology, image, faces, source="a.jpg", video=None, **options):
    with open_sinks(folder, formats, topology, video, **options) as sinks:
        sinks.write(Frame(image, 12, 0.5, source), faces)
    return sorted(os.listdir(folder))


def read_textured(path):
    """Vertices, texture coordinates, corners (T, 3, 2) of an OBJ; the name of its picture by its material."""
    lines = path.read_text().splitlines()
    vertices, uv = (
        np.array([line.split()[1:] for line in lines if line.startswith(key)], float) for key in ("v ", "vt ")
    )
    corners = [
        [corner.split("/") for corner in line.removeprefix("f ").split()] for line in lines if line.startswith("f ")
    ]
    (library,) = [line.removeprefix("mtllib ") for line in lines if line.startswith("mtllib ")]
    (used,) = [line.removeprefix("usemtl ") for line in lines if line.startswith("usemtl ")]
    material = (path.parent / library).read_text().splitlines()
    assert material[0] == f"newmtl {used}"
    (picture,) = [line.removeprefix("map_Kd ") for line in material if line.startswith("map_Kd ")]
    return vertices, uv, np.array(corners, int) - 1, cv2.imread(str(path.parent / picture))


def test_names(tmp_path, topology, image, face):
    photo = save(tmp_path / "photo", DERIVED, topology, image, [face, face])
    maps = ["a_depth.png", "a_normals.png", "a_pncc.png"]
    endings = ["frontal.ply", "texture.png", "textured.mtl", "textured.obj", "textured.png", "visibility.npy"]
    assert photo == sorted(maps + [f"a_face{number}_{ending}" for number in (0, 1) for ending in endings])
    film = save(tmp_path / "film", DERIVED, topology, image, [face], "clip.mp4", VideoFacts(25.0))
    assert film[0] == "clip_000012_depth.png"
    assert "clip_000012_face0_textured.obj" in film


def test_depth_file(tmp_path, topology, image, face):
    save(tmp_path, ["depth"], topology, image, [face])
    found = cv2.imread(str(tmp_path / "a_depth.png"), cv2.IMREAD_UNCHANGED)
    expected = MapPainter(topology).depth([face], (320, 240))
    assert (found.shape, found.dtype) == ((240, 320), np.uint16)
    np.testing.assert_array_equal(found > 0, np.isfinite(expected))
    np.testing.assert_allclose((found[found > 0] - 1.0) / 16, expected[found > 0], atol=0.04)


def test_normals_file(tmp_path, topology, image, face):
    save(tmp_path, ["normals"], topology, image, [face])
    found = cv2.imread(str(tmp_path / "a_normals.png"))[..., ::-1]
    expected = MapPainter(topology).normals([face], (320, 240))
    covered = expected.any(axis=2)
    decoded = (found[covered] / 127.5 - 1) * (1, -1, 1)
    assert np.abs(decoded - expected[covered]).max() < 0.01
    assert not found[~covered].any()


def test_pncc_file(tmp_path, topology, image, face):
    save(tmp_path, ["pncc"], topology, image, [face])
    found = cv2.imread(str(tmp_path / "a_pncc.png"))[..., ::-1] / 255
    np.testing.assert_allclose(found, MapPainter(topology).pncc([face], (320, 240)), atol=0.003)
    assert found.any()


def test_maps_of_a_picture_without_face_are_black(tmp_path, topology, image):
    names = save(tmp_path, DERIVED, topology, image, [])
    assert names == ["a_depth.png", "a_normals.png", "a_pncc.png"]
    assert not any(cv2.imread(str(tmp_path / name), cv2.IMREAD_UNCHANGED).any() for name in names)


@pytest.mark.parametrize("size", [64, 300])
def test_texture_file(tmp_path, topology, image, face, size):
    save(tmp_path, ["texture"], topology, image, [face], texture_size=size)
    found = cv2.imread(str(tmp_path / "a_face0_texture.png"))
    np.testing.assert_array_equal(found, TextureMapper(topology, size).texture(image, face))
    assert found.shape == (size, size, 3)


def test_visibility_file(tmp_path, topology, image, face):
    save(tmp_path, ["visibility"], topology, image, [face])
    found = np.load(tmp_path / "a_face0_visibility.npy")
    np.testing.assert_array_equal(found, visible_vertices(face, topology, (320, 240)))
    assert 0.3 < found.mean() < 1


def test_frontal_file_is_the_mean_face_again(tmp_path, topology, image, face):
    save(tmp_path, ["frontal"], topology, image, [face])
    vertices, triangles = read_ply(tmp_path / "a_face0_frontal.ply")
    np.testing.assert_allclose(vertices["xyz"], topology.canonical_vertices * (1, -1, 1), atol=0.01)
    assert share_facing_the_viewer(vertices["xyz"], triangles) > 0.9


def test_obj_with_texture(tmp_path, topology, image, face):
    """At every vertex the texture has the colour of the picture there."""
    save(tmp_path, ["textured"], topology, image, [face], texture_size=256)
    vertices, uv, corners, texture = read_textured(tmp_path / "a_face0_textured.obj")
    np.testing.assert_allclose(vertices, face.vertices * (1, -1, 1), atol=6e-4)
    np.testing.assert_allclose(uv, topology.uv, atol=1e-6)
    np.testing.assert_array_equal(corners[..., 0], topology.triangles[:, ::-1])
    np.testing.assert_array_equal(corners[..., 0], corners[..., 1])
    assert share_facing_the_viewer(vertices, corners[..., 0]) > 0.7
    x, y = (uv * (1, -1) + (0, 1)).T * 256 - 0.5
    colours = texture[np.rint(y).astype(int), np.rint(x).astype(int)]
    expected = np.stack([np.full(len(x), 40), face.vertices[:, 1] / 239 * 255, face.vertices[:, 0] / 319 * 255], 1)
    assert np.abs(colours - expected).max() < 2.5


def test_names_with_spaces(tmp_path, topology, image, face):
    save(tmp_path, ["textured"], topology, image, [face], "my photo é.jpg")
    assert read_textured(tmp_path / "my photo é_face0_textured.obj")[3].shape == (512, 512, 3)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, a disk without space")
@pytest.mark.parametrize(
    "name",
    [
        *("a_depth.png", "a_normals.png", "a_pncc.png", "a_face0_texture.png", "a_face0_visibility.npy"),
        *("a_face0_frontal.ply", "a_face0_textured.png", "a_face0_textured.mtl", "a_face0_textured.obj"),
    ],
)
def test_full_disk_leaves_no_half_file(tmp_path, topology, image, face, name):
    (tmp_path / f"{name}.part").symlink_to("/dev/full")
    kind = name.removesuffix(name[-4:]).split("_")[-1]
    with pytest.raises(FaceMeshError, match=f"{name}: cannot be written"):
        save(tmp_path, [kind], topology, image, [face])
    assert not (tmp_path / name).exists()
    assert not (tmp_path / f"{name}.part").is_symlink()


def test_lines_of_cameras_and_expressions(tmp_path, topology, image, face):
    tracked = dataclasses.replace(face, track_id=4)
    with open_sinks(tmp_path, ["camera", "expression"], topology, VideoFacts(25.0)) as sinks:
        sinks.write(Frame(image, 0, 0.0, "clip.mp4"), [tracked, face])
        sinks.write(Frame(image, 1, 0.04, "clip.mp4"), [])
    assert sorted(os.listdir(tmp_path)) == ["cameras.jsonl", "expressions.jsonl"]
    cameras, none = map(json.loads, (tmp_path / "cameras.jsonl").read_text().splitlines())
    assert (none["frame"], none["timestamp_s"], none["faces"]) == (1, 0.04, [])
    assert [item["track_id"] for item in cameras["faces"]] == [4, None]
    camera = fit_camera(face, topology)
    np.testing.assert_allclose(cameras["faces"][0]["matrix"], camera.matrix, atol=1e-6)
    assert cameras["faces"][0]["pose"]["yaw_deg"] == pytest.approx(25, abs=0.01)
    assert cameras["faces"][0]["residual_px"] < 0.01
    expressions = json.loads((tmp_path / "expressions.jsonl").read_text().splitlines()[0])
    expected = read_expression(face, image)
    (found, _) = expressions["faces"]
    assert found["mouth_opening"] == pytest.approx(expected.mouth_opening, abs=1e-4)
    assert found["blendshapes"] == {name: round(value, 4) for name, value in expected.blendshapes.items()}
    assert (found["blink_left"], found["eye_opening_left"]) == (
        expected.blink_left,
        round(expected.eye_opening_left, 4),
    )


def test_expressions_need_no_mesh(tmp_path, topology, image, face):
    sparse = dataclasses.replace(face, vertices=np.zeros((0, 3), np.float32))
    assert "expression" in SPARSE_FORMATS
    with open_sinks(tmp_path, ["expression"], topology, None) as sinks:
        sinks.write(Frame(image, 0, 0.0, "a.jpg"), [sparse])
    assert len((tmp_path / "expressions.jsonl").read_text().splitlines()) == 1


def test_live_sinks_that_cannot_open_leave_nothing(tmp_path, topology):
    def fails():
        raise FaceMeshError("no port")

    with pytest.raises(FaceMeshError, match="no port"):
        open_sinks(tmp_path, ["json", "camera"], topology, None, live=fails)
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]


class Recorded:
    """Live sink that remembers its end."""

    closed = False

    def write(self, frame, faces):
        """Take a frame."""

    def close(self):
        """Remember."""
        self.closed = True


def test_sinks_before_one_that_cannot_open_are_closed(tmp_path, topology):
    first = Recorded()

    def second_fails():
        yield first
        raise FaceMeshError("no port")

    with pytest.raises(FaceMeshError, match="no port"):
        open_sinks(tmp_path, ["json"], topology, None, live=second_fails)
    assert first.closed

    first = Recorded()
    (tmp_path / "results.jsonl.part").mkdir()
    with pytest.raises(FaceMeshError, match="results"):
        open_sinks(tmp_path, ["camera", "json"], topology, None, live=lambda: [first])
    assert first.closed
    assert not (tmp_path / "cameras.jsonl.part").exists()
