"""What is written: names, formats, and files that are whole or not there."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import json
import math
import os
import resource
import signal
import sys
import time

import cv2
import numpy as np
import pytest

from runtime.errors import FaceMeshError
from runtime.inference.open_runner import open_runner
from runtime.outputs.mesh_files import MeshWriter
from runtime.outputs.names import OutputNames
from runtime.outputs.sinks import FORMATS, open_sinks
from runtime.pipeline import FaceMeshPipeline
from runtime.rendering import overlay
from runtime.rendering.colours import vertex_colours
from runtime.rendering.overlay import OverlayPainter
from runtime.sources.video import VideoFacts
from runtime.storage.whole_files import whole_file
from runtime.types import FaceMesh, Frame, Pose

ALL = ["overlay", "json", "obj", "ply", "npz", "npy"]


@pytest.fixture(scope="module")
def image():
    """Red rises to the right, green downwards."""
    x, y = np.meshgrid(np.linspace(0, 255, 320), np.linspace(0, 255, 240))
    return np.dstack([np.full_like(x, 40), y, x]).round().astype(np.uint8)


@pytest.fixture(scope="module")
def face(live_model, image):
    with open_runner(live_model) as runner:
        return FaceMeshPipeline(runner).from_boxes(image, [[110, 60, 210, 180]])[0]


@pytest.fixture(scope="module")
def painter(topology):
    return OverlayPainter(topology)


def frame_of(image, source="a.jpg", index=0):
    return Frame(image, index, index / 10, source)


def turned(face: FaceMesh, yaw_deg: float, topology) -> FaceMesh:
    """The same head, turned about its own vertical axis; yaw > 0 points the nose to the image right."""
    c, s = math.cos(math.radians(yaw_deg)), math.sin(math.radians(yaw_deg))
    centre = face.vertices.mean(axis=0)
    vertices = ((face.vertices - centre) @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T + centre).astype(np.float32)
    landmarks = vertices[topology.landmark_vertices]
    box = np.concatenate([landmarks[:, :2].min(axis=0), landmarks[:, :2].max(axis=0)])
    return FaceMesh(vertices, landmarks, box, 1.0, Pose(yaw_deg, 0, 0))


def write_all(folder, formats, topology, *items, video=None, then=None):
    """Write (frame, faces) pairs, then raise ``then``."""
    with open_sinks(folder, formats, topology, video) as sinks:
        for item in items:
            sinks.write(*item)
        if then is not None:
            raise then


def read_obj(path):
    lines = path.read_text().splitlines()
    vertices = np.array([line.split()[1:] for line in lines if line.startswith("v ")], float)
    return vertices, np.array([line.split()[1:] for line in lines if line.startswith("f ")], int) - 1


def read_ply(path):
    header, _, body = path.read_bytes().partition(b"end_header\n")
    counts = {
        line.split()[1]: int(line.split()[2]) for line in header.decode().splitlines() if line.startswith("element")
    }
    vertex = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)])
    face = np.dtype([("n", "u1"), ("corners", "<i4", 3)])
    vertices = np.frombuffer(body, vertex, counts["vertex"])
    faces = np.frombuffer(body, face, counts["face"], offset=vertices.nbytes)
    assert len(body) == vertices.nbytes + faces.nbytes
    assert set(faces["n"]) == {3}
    return vertices, faces["corners"]


def share_facing_the_viewer(points, triangles):
    a, b, c = (points[triangles[:, corner]].astype(float) for corner in range(3))
    normals = np.cross(b - a, c - a)
    return (normals[:, 2] > 0).mean()


def test_obj(tmp_path, topology, face, image):
    MeshWriter(topology).write(tmp_path / "f.obj", face, image)
    vertices, triangles = read_obj(tmp_path / "f.obj")
    np.testing.assert_allclose(vertices[:, :3], face.vertices * [1, -1, 1], atol=6e-4)
    expected = np.stack(
        [face.vertices[:, 0] / 319, face.vertices[:, 1] / 239, np.full(len(vertices), 40 / 255)], axis=1
    )
    np.testing.assert_allclose(vertices[:, 3:], np.clip(expected, 0, 1), atol=0.004)
    assert np.array_equal(np.sort(triangles, axis=1), np.sort(topology.triangles, axis=1))
    assert (
        share_facing_the_viewer(vertices[:, :3], triangles) > 0.9
    )  # right-handed axes now: counter-clockwise is front


def test_ply_is_the_same_mesh(tmp_path, topology, face, image):
    MeshWriter(topology).write(tmp_path / "f.ply", face, image)
    vertices, triangles = read_ply(tmp_path / "f.ply")
    np.testing.assert_array_equal(vertices["xyz"], face.vertices * np.array([1, -1, 1], np.float32))
    np.testing.assert_allclose(vertices["rgb"], vertex_colours(image, face.vertices), atol=0.51)
    assert share_facing_the_viewer(vertices["xyz"], triangles) > 0.9


def test_npy_is_the_position_map(tmp_path, topology, face, image):
    MeshWriter(topology).write(tmp_path / "f.npy", face, image)
    found = np.load(tmp_path / "f.npy")
    assert (found.shape, found.dtype) == ((256, 256, 3), np.float32)
    np.testing.assert_array_equal(found.reshape(-1, 3)[topology.face_indices], face.vertices)
    outside = np.setdiff1d(np.arange(256 * 256), topology.face_indices)
    assert not found.reshape(-1, 3)[outside].any()


def test_npz_has_the_arrays_in_pixels(tmp_path, topology, face, image):
    MeshWriter(topology).write(tmp_path / "f.npz", face, image)
    with np.load(tmp_path / "f.npz") as arrays:
        for name in ("vertices", "landmarks", "box_xyxy"):
            np.testing.assert_array_equal(arrays[name], getattr(face, name))
        np.testing.assert_array_equal(arrays["triangles"], topology.triangles)
        assert arrays["pose_yaw_pitch_roll_deg"] == pytest.approx(
            [face.pose.yaw_deg, face.pose.pitch_deg, face.pose.roll_deg]
        )
        assert arrays["score"] == 1


def test_obj_is_written_in_less_time_than_savetxt_takes_for_its_vertices(tmp_path, topology, face, image):
    writer, rows = MeshWriter(topology), np.hstack([face.vertices, face.vertices])
    writes = {
        "ours": lambda: writer.write(tmp_path / "face.obj", face, image),
        "savetxt": lambda: np.savetxt(tmp_path / "rows.txt", rows, fmt="v %.3f %.3f %.3f %.4f %.4f %.4f"),
    }
    seconds = {name: [] for name in writes}
    for _ in range(4):
        for name, write in writes.items():
            start = time.process_time()
            write()
            seconds[name].append(time.process_time() - start)
    assert min(seconds["ours"]) < 0.75 * min(seconds["savetxt"]), seconds


def test_vertex_colours_are_bilinear_and_end_at_the_border():
    image = np.array([[[0, 0, 0], [0, 0, 100]], [[0, 0, 200], [0, 50, 100]]], np.uint8)
    points = np.array([[0.5, 0, 0], [0.25, 0.5, 0], [-9, -9, 0], [9, 9, 0]], np.float32)
    np.testing.assert_allclose(vertex_colours(image, points), [[50, 0, 0], [100, 6.25, 0], [0, 0, 0], [100, 50, 0]])


def test_overlay_changes_the_face_and_nothing_far_from_it(painter, face, image):
    drawn = painter.draw(image, [face])
    changed = np.abs(drawn.astype(int) - image).sum(axis=2)
    x1, y1, x2, y2 = face.box_xyxy.astype(int)
    assert (changed[y1 + 20 : y2 - 20, x1 + 20 : x2 - 20] > 20).mean() > 0.9
    changed[max(0, y1 - 70) : y2 + 20, x1 - 20 : x2 + 40] = 0
    assert changed.max() == 0
    assert image[0, 0].tolist() == [40, 0, 0]  # the picture itself is not touched


def test_overlay_shades_by_the_light(painter, face, topology):
    """Light from the upper left: a head turned to the right shows the lit cheek, turned to the left the dark one."""
    black = np.zeros((240, 320, 3), np.uint8)
    to_left, ahead, to_right = (
        painter.draw(black, [turned(face, yaw, topology)])[90:150, 130:190].mean() for yaw in (-60, 0, 60)
    )
    assert ahead > 20
    assert to_left > to_right + 3


@pytest.mark.parametrize(
    ("yaw", "hidden", "seen"), [(80, [45, 42, 26, 13], [36, 17, 3]), (-80, [36, 39, 17, 3], [45, 26, 13])]
)
def test_overlay_hides_the_far_side(painter, face, topology, monkeypatch, yaw, hidden, seen):
    found = {}
    monkeypatch.setattr(overlay, "_draw_landmarks", lambda canvas, face, visible: found.update(visible=visible))
    painter.draw(np.zeros((240, 320, 3), np.uint8), [turned(face, yaw, topology)])
    assert not found["visible"][hidden].any()
    assert found["visible"][seen].all()


def test_overlay_at_the_edge_and_outside(painter, face, image):
    for corner in ((150, 110), (-150, -100), (5000, 0)):
        shifted = face.vertices + np.array([*corner, 0], np.float32)
        landmarks = face.landmarks + np.array([*corner, 0], np.float32)
        box = face.box_xyxy + np.array([*corner, *corner], np.float32)
        drawn = painter.draw(image, [FaceMesh(shifted, landmarks, box, 1.0, face.pose)])
        assert drawn.shape == image.shape
        assert (drawn != image).any() == (corner != (5000, 0))


def amber(drawn):
    """True where a pixel is nearer to the colour of unsure lines than to grey."""
    blue, green, red = np.moveaxis(drawn.astype(int), 2, 0)
    return (red > 120) & (green - blue > 30) & (red > green)


def test_only_faces_more_likely_wrong_than_right_look_unsure(painter, face):
    black = np.zeros((240, 320, 3), np.uint8)
    plain = painter.draw(black, [face])
    sure, limit, unsure = (
        painter.draw(black, [dataclasses.replace(face, confidence=value)]) for value in (0.98, 0.5, 0.49)
    )
    np.testing.assert_array_equal(sure, plain)
    np.testing.assert_array_equal(limit, plain)
    assert not amber(plain).any()
    assert amber(unsure).sum() > 200
    grey_pale, grey_full = (np.ptp(drawn, axis=2)[plain.any(axis=2)] < 4 for drawn in (unsure, plain))
    assert grey_full.mean() < 0.1
    assert grey_pale.mean() > 0.5
    pale, full = (np.median(drawn[plain.any(axis=2)]) for drawn in (unsure, plain))
    assert 0.2 < pale / full < 0.75  # more of the picture shows through


def test_box_of_an_unsure_face_is_dashed_and_has_its_confidence_below(painter, face):
    grey = np.full((240, 320, 3), 90, np.uint8)
    low, lower = (painter.draw(grey, [dataclasses.replace(face, confidence=value)]) for value in (0.42, 0.07))
    x1, y1, x2, y2 = np.rint(face.box_xyxy).astype(int)
    edge = amber(low[y1 - 1 : y1 + 2, x1:x2]).any(axis=0)
    assert 0.35 < edge.mean() < 0.75
    assert (np.diff(edge.astype(int)) != 0).sum() >= 6
    label = np.s_[y2 + 3 : y2 + 25, x1 : x1 + 60]
    assert amber(low[label]).sum() > 40
    np.testing.assert_array_equal(low[: y2 + 2], lower[: y2 + 2])  # the figure alone differs
    assert (low[label] != lower[label]).any()


@pytest.mark.parametrize("shift", [(0, 75), (-115, 0), (130, 70), (5000, 0)])
def test_unsure_face_at_the_edge_and_outside(painter, face, image, shift):
    x, y = shift
    moved = dataclasses.replace(
        face,
        vertices=face.vertices + np.float32([x, y, 0]),
        landmarks=face.landmarks + np.float32([x, y, 0]),
        box_xyxy=face.box_xyxy + np.float32([x, y, x, y]),
        confidence=0.2,
    )
    drawn = painter.draw(image, [moved])
    assert drawn.shape == image.shape
    assert (drawn != image).any() == (x < 5000)
    if shift == (0, 75):  # the box ends below the picture, its label does not
        assert amber(drawn[225:, :160] * (drawn[225:, :160] != image[225:, :160])).sum() > 20


def test_names_never_collide(tmp_path, image):
    names = OutputNames(tmp_path, numbered=False)
    sources = ["a.jpg", "a.png", "A.JPG", "a_png.jpg", "a_png.png", "b.jpg", "x/b.jpg"]
    paths = [names.source(frame_of(image, source), "_overlay.jpg").name for source in sources]
    assert len({path.casefold() for path in paths}) == len(sources)
    assert paths[:2] == ["a_overlay.jpg", "a_png_overlay.jpg"]
    assert names.source(frame_of(image, "a.png"), "_overlay.jpg").name == "a_png_overlay.jpg"
    assert names.face(frame_of(image, "a.jpg"), 2, ".obj").name == "a_face2.obj"
    numbered = OutputNames(tmp_path, numbered=True)
    assert numbered.face(frame_of(image, "camera:0", 12), 0, ".ply").name == "camera_0_000012_face0.ply"


def test_all_sinks_of_a_photo(tmp_path, topology, face, image):
    with open_sinks(tmp_path / "new" / "out", ALL, topology, None) as sinks:
        sinks.write(frame_of(image), [face, face])
        sinks.write(frame_of(image, "b.jpg"), [])
    out = tmp_path / "new" / "out"
    meshes = {f"a_face{number}.{suffix}" for number in (0, 1) for suffix in ("obj", "ply", "npz", "npy")}
    assert {path.name for path in out.iterdir()} == {"results.jsonl", "a_overlay.jpg", "b_overlay.jpg", *meshes}
    assert cv2.imread(str(out / "a_overlay.jpg")).shape == image.shape
    first, second = map(json.loads, (out / "results.jsonl").read_text().splitlines())
    assert list(first) == ["source", "frame", "timestamp_s", "size_wh", "faces"]
    assert (first["source"], first["frame"], first["timestamp_s"], first["size_wh"]) == ("a.jpg", 0, 0.0, [320, 240])
    fields = ["track_id", "box_xyxy", "score", "confidence", "landmarks", "pose", "mesh"]
    assert [list(item) for item in first["faces"]] == [fields] * 2
    np.testing.assert_allclose(first["faces"][0]["landmarks"], face.landmarks, atol=6e-4)
    np.testing.assert_allclose(first["faces"][0]["box_xyxy"], face.box_xyxy, atol=6e-4)
    assert list(first["faces"][0]["pose"]) == ["yaw_deg", "pitch_deg", "roll_deg"]
    assert [item["mesh"] for item in first["faces"]] == ["a_face0.obj", "a_face1.obj"]
    assert second["faces"] == []


def test_track_in_the_files(tmp_path, topology, face, image):
    with open_sinks(tmp_path, ["json"], topology, None) as sinks:
        sinks.write(frame_of(image), [dataclasses.replace(face, track_id=7), face])
    faces = json.loads((tmp_path / "results.jsonl").read_text())["faces"]
    assert [item["track_id"] for item in faces] == [7, None]


def test_number_of_a_tracked_person_stands_above_the_box(painter, face):
    grey = np.full((240, 320, 3), 90, np.uint8)
    plain, tracked = (painter.draw(grey, [dataclasses.replace(face, track_id=number)]) for number in (None, 12))
    rows, columns = np.nonzero((plain != tracked).any(axis=2))
    x1, y1, x2, _ = face.box_xyxy
    assert len(rows) > 30
    assert rows.max() <= y1 + 1
    assert x1 - 4 <= columns.min() < columns.max() < x2
    painter.draw(grey, [dataclasses.replace(face, track_id=12, box_xyxy=face.box_xyxy - 500)])  # outside: no error


def test_mesh_is_null_where_none_is_saved(tmp_path, topology, face, image):
    with open_sinks(tmp_path, ["json"], topology, None) as sinks:
        sinks.write(frame_of(image), [face])
    assert json.loads((tmp_path / "results.jsonl").read_text())["faces"][0]["mesh"] is None
    assert os.listdir(tmp_path) == ["results.jsonl"]


def test_confidence_in_the_files(tmp_path, topology, face, image):
    sure = dataclasses.replace(face, confidence=0.123456)
    with open_sinks(tmp_path, ["json", "npz"], topology, None) as sinks:
        sinks.write(frame_of(image), [sure, face])
    faces = json.loads((tmp_path / "results.jsonl").read_text())["faces"]
    assert [item["confidence"] for item in faces] == [0.1235, None]
    assert np.load(tmp_path / "a_face0.npz")["confidence"] == np.float32(0.123456)
    assert np.isnan(np.load(tmp_path / "a_face1.npz")["confidence"])


def test_overlay_of_a_video_is_one_video(tmp_path, topology, face, image):
    with open_sinks(tmp_path, ["overlay", "json", "ply"], topology, VideoFacts(10.0)) as sinks:
        for index in range(5):
            sinks.write(frame_of(image, "clip.mp4", index), [face] if index == 3 else [])
        assert {path.name for path in tmp_path.iterdir()} == {
            ".facemesh.lock",
            "clip_overlay.part.mp4",
            "results.jsonl.part",
            "clip_000003_face0.ply",
        }
    assert {path.name for path in tmp_path.iterdir()} == {"clip_overlay.mp4", "results.jsonl", "clip_000003_face0.ply"}
    video = cv2.VideoCapture(str(tmp_path / "clip_overlay.mp4"))
    assert (video.get(cv2.CAP_PROP_FPS), video.get(cv2.CAP_PROP_FRAME_COUNT)) == (10, 5)
    frames = [video.read()[1].astype(int) for _ in range(5)]
    assert np.abs(frames[2] - image).mean() < 6
    assert np.abs(frames[3] - image)[100:140, 140:180].mean() > 20


def test_lines_are_on_disk_at_once(tmp_path, topology, face, image):
    with open_sinks(tmp_path, ["json"], topology, None) as sinks:
        sinks.write(frame_of(image), [face])
        assert len((tmp_path / "results.jsonl.part").read_bytes().splitlines()) == 1


def test_what_was_written_survives_an_error(tmp_path, topology, face, image):
    with pytest.raises(ZeroDivisionError):
        write_all(
            tmp_path,
            ["json", "overlay"],
            topology,
            (frame_of(image, "clip.mp4"), [face]),
            video=VideoFacts(10.0),
            then=ZeroDivisionError(),
        )
    assert {path.name for path in tmp_path.iterdir()} == {"clip_overlay.mp4", "results.jsonl"}
    json.loads((tmp_path / "results.jsonl").read_text())


def test_numbers_that_json_does_not_know(tmp_path, topology, face, image):
    broken = FaceMesh(face.vertices, face.landmarks, face.box_xyxy, float("nan"), face.pose)
    with pytest.raises(ValueError, match="JSON"):
        write_all(tmp_path, ["json"], topology, (frame_of(image), [face]), (frame_of(image), [broken]))
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 1


needs_dev_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, a disk without space")


@needs_dev_full
def test_full_disk_under_the_results(tmp_path, topology, face, image):
    (tmp_path / "results.jsonl.part").symlink_to("/dev/full")
    with pytest.raises(FaceMeshError, match=r"results\.jsonl: cannot be written \(No space left"):
        write_all(tmp_path, ["json"], topology, (frame_of(image), [face]))


def test_disk_that_fills_up_within_a_line(tmp_path, topology, face, image):
    """A limit on the size of files stands for the full disk: half of the second line still fits."""
    resource = pytest.importorskip("resource")
    write_all(tmp_path, ["json"], topology, (frame_of(image), [face]))
    whole_line = (tmp_path / "results.jsonl").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole_line) * 3 // 2, limits[1]))
    try:
        with pytest.raises(FaceMeshError, match=r"results\.jsonl: cannot be written"):
            write_all(tmp_path, ["json"], topology, *[(frame_of(image), [face])] * 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "results.jsonl").read_bytes() == whole_line


@needs_dev_full
@pytest.mark.parametrize("name", ["a_overlay.jpg", "a_face0.obj", "a_face0.ply", "a_face0.npz", "a_face0.npy"])
def test_full_disk_leaves_no_half_file(tmp_path, topology, face, image, name):
    (tmp_path / f"{name}.part").symlink_to("/dev/full")
    with pytest.raises(FaceMeshError, match=f"{name}: cannot be written"):
        write_all(tmp_path, ALL, topology, (frame_of(image), [face]))
    assert not (tmp_path / name).exists()
    assert not (tmp_path / f"{name}.part").is_symlink()
    assert (tmp_path / "results.jsonl").read_bytes() == b""  # no line for a picture whose files are not there


@pytest.fixture(params=["PyAV", "OpenCV"])
def film_library(request, monkeypatch):
    """Films are written by PyAV, and by OpenCV where that is missing."""
    if request.param == "OpenCV":
        monkeypatch.setitem(sys.modules, "av", None)
        monkeypatch.delitem(sys.modules, "runtime.outputs.h264_film", raising=False)
    return request.param


@pytest.mark.filterwarnings("ignore:PyAV is not installed")
def test_video_that_cannot_be_written(tmp_path, topology, face, image, film_library):
    (tmp_path / "clip_overlay.part.mp4").mkdir()
    with pytest.raises(FaceMeshError, match=r"clip_overlay\.mp4: .*cannot (be written|write this video)"):
        write_all(tmp_path, ["overlay"], topology, (frame_of(image, "clip.mp4"), [face]), video=VideoFacts(10.0))


def test_a_video_without_a_frame_never_replaces_another(tmp_path, image, film_library):
    """So it is if the first frame cannot be written."""
    name, kind = {"PyAV": ("h264_film", "H264Film"), "OpenCV": ("opencv_film", "OpenCvFilm")}[film_library]
    path = tmp_path / "clip_overlay.mp4"
    path.write_bytes(b"of an earlier run")
    getattr(importlib.import_module(f"runtime.outputs.{name}"), kind)(path, image, VideoFacts(10.0)).close()
    assert {found.name: found.read_bytes() for found in tmp_path.iterdir()} == {path.name: b"of an earlier run"}


@pytest.mark.filterwarnings("ignore:PyAV is not installed")
def test_frames_of_other_sizes_fit_into_the_video(tmp_path, topology, image, film_library):
    sizes = (240, 320), (100, 320), (480, 640), (241, 320)
    items = [(frame_of(cv2.resize(image, size[::-1]), "clip.mp4", index), []) for index, size in enumerate(sizes)]
    write_all(tmp_path, ["overlay"], topology, *items, video=VideoFacts(10.0))
    video = cv2.VideoCapture(str(tmp_path / "clip_overlay.mp4"))
    shapes = [video.read()[1].shape for _ in sizes]
    assert shapes == [(240, 320, 3)] * 4
    assert not video.read()[0]


@pytest.mark.filterwarnings("ignore:PyAV is not installed")
def test_full_disk_under_a_video_leaves_nothing(tmp_path, topology, film_library):
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    items = [(frame_of(np.roll(noise, index), "clip.mp4", index), []) for index in range(60)]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(FaceMeshError, match=r"clip_overlay\.mp4: .*(cannot|could not) be written"):
            write_all(tmp_path, ["overlay"], topology, *items, video=VideoFacts(10.0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_csv_and_faces_of_a_run(tmp_path, topology, face, image):
    tracked = dataclasses.replace(face, track_id=7, confidence=0.5)
    items = [(frame_of(image, "clip.mp4", 0), [face, tracked]), (frame_of(image, "clip.mp4", 1), [])]
    items.append((frame_of(image, 'other "film", of mine.mp4', 2), [tracked]))
    write_all(tmp_path, ["csv", "faces"], topology, *items, video=VideoFacts(10.0))
    assert {path.name for path in tmp_path.iterdir()} == {"landmarks.csv", "faces.npz"}
    with open(tmp_path / "landmarks.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["frame"], row["timestamp_s"], row["face"], row["track_id"]) for row in rows] == [
        *(("0", "0.000000", "0", ""), ("0", "0.000000", "1", "7"), ("2", "0.200000", "0", "7")),
    ]
    assert rows[2]["source"] == 'other "film", of mine.mp4'
    points = np.array([[float(rows[1][f"{axis}_{point}"]) for axis in "xyz"] for point in range(68)])
    np.testing.assert_allclose(points, face.landmarks, atol=1e-3)
    with np.load(tmp_path / "faces.npz") as arrays:
        assert arrays["sources"][arrays["source"]].tolist() == ["clip.mp4"] * 2 + ['other "film", of mine.mp4']
        np.testing.assert_array_equal(arrays["frame"], [0, 0, 2])
        np.testing.assert_array_equal(arrays["track_id"], [-1, 7, 7])
        np.testing.assert_array_equal(arrays["vertices"], [face.vertices] * 3)
        np.testing.assert_array_equal(arrays["triangles"], topology.triangles)
        assert np.isnan(arrays["confidence"][0])


def test_run_without_faces_has_a_header_and_no_archive(tmp_path, topology, image):
    write_all(tmp_path, ["csv", "faces"], topology, (frame_of(image), []))
    assert os.listdir(tmp_path) == ["landmarks.csv"]
    assert (tmp_path / "landmarks.csv").read_text().startswith("source,frame,timestamp_s,face,track_id,")


def test_full_disk_under_the_rows_of_a_run(tmp_path, topology, face, image):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (800_000, limits[1]))
    try:
        with pytest.raises(FaceMeshError, match="cannot be written"):
            write_all(tmp_path, ["faces"], topology, *[(frame_of(image), [face])] * 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "faces.npz.part").exists()


@pytest.mark.parametrize("name", ["file", "file/deeper", "/proc/none"])
def test_folder_that_cannot_be_used(tmp_path, topology, name):
    (tmp_path / "file").write_text("x")
    with pytest.raises(FaceMeshError, match="cannot be used as the output folder"):
        open_sinks(tmp_path / name, ALL, topology, None)


def interrupted_write(path):
    with whole_file(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt


def test_whole_file_after_an_interruption(tmp_path):
    path = tmp_path / "f.txt"
    path.write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt):
        interrupted_write(path)
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["f.txt"]


def test_a_run_that_did_nothing_keeps_the_results_of_an_earlier_one(tmp_path, topology, face, image):
    with open_sinks(tmp_path, ["json"], topology, None) as sinks:
        sinks.write(Frame(image, 0, 0.0, "a.jpg"), [face])
    before = (tmp_path / "results.jsonl").read_bytes()
    with open_sinks(tmp_path, ["json"], topology, None):
        pass
    assert os.listdir(tmp_path) == ["results.jsonl"]
    assert (tmp_path / "results.jsonl").read_bytes() == before


def test_a_run_without_a_frame_keeps_the_table_of_an_earlier_one(tmp_path, topology, face, image):
    write_all(tmp_path, ["csv"], topology, (frame_of(image), [face]))
    before = (tmp_path / "landmarks.csv").read_bytes()
    write_all(tmp_path, ["csv"], topology)
    assert (tmp_path / "landmarks.csv").read_bytes() == before
    assert os.listdir(tmp_path) == ["landmarks.csv"]


def test_names_of_many_pictures_of_one_name(tmp_path, image):
    names = OutputNames(tmp_path, numbered=False)
    made = [names.source(frame_of(image, f"{number}/face.jpg"), "_overlay.jpg").name for number in range(20_000)]
    assert made[:3] == ["face_overlay.jpg", "face_jpg_overlay.jpg", "face_jpg_2_overlay.jpg"]
    assert len(set(made)) == len(made)


def test_long_names_leave_room_for_their_endings(tmp_path):
    """A file system takes 255 bytes; two long names that begin alike stay two names."""
    names = OutputNames(tmp_path, numbered=True)
    sources = ["x" * 240 + ".jpg", "x" * 240 + "y.jpg", "ü" * 120 + ".jpg", "x" * 150 + ".jpg"]
    image = np.zeros((2, 2, 3), np.uint8)
    paths = [names.face(Frame(image, 12, 0.0, source), 3, "_visibility.npy") for source in sources]
    for path in paths:
        path.with_name(path.name + ".1234567.part").touch()
    assert len(set(paths)) == 4
    assert paths[3].name.startswith("x" * 150 + "_000012")


@pytest.mark.parametrize("video", [None, VideoFacts(10.0)])
def test_what_a_killed_run_left_is_removed(tmp_path, topology, face, image, video):
    """The unfinished files of every format go, those of other programs stay."""
    pytest.importorskip("pygltflib", reason="needs pygltflib")
    written, left = tmp_path / "written", tmp_path / "left"
    write_all(written, FORMATS, topology, (frame_of(image, "clip.mp4"), [face]), video=video)
    left.mkdir()
    for path in written.iterdir():
        left.joinpath(f"{path.name}.part").touch()
    left.joinpath("clip_overlay.part.mp4").touch()
    foreign = {"film.mkv.part", "photo.jpg.part", "faces.npz"}
    for name in foreign:
        left.joinpath(name).touch()
    with open_sinks(left, [], topology, None):
        assert set(os.listdir(left)) == {*foreign, ".facemesh.lock"}
