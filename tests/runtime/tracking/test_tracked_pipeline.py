"""Tracking with the shipped model and the real detector, on the CPU and on the stand-in of a GPU."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from runtime.detection.yunet import YuNetDetector
from runtime.errors import FaceMeshError
from runtime.inference.open_runner import open_runner
from runtime.pipeline import FaceMeshPipeline
from runtime.run import main
from runtime.tracking.options import Tracking
from runtime.types import Detections, Frame


@pytest.fixture(scope="module")
def picture(portrait):
    return cv2.imread(str(portrait))


def film(picture, count, move=lambda index: (0.0, 0.0, 0.0, 1.0)):
    """Frames of a picture moved by x, y, roll (degrees) and scale."""
    height, width = picture.shape[:2]
    for index in range(count):
        x, y, roll, scale = move(index)
        matrix = cv2.getRotationMatrix2D((230, 110), -roll, scale)
        matrix[:, 2] += x, y
        yield Frame(cv2.warpAffine(picture, matrix, (width, height)), index, index / 25, "film")


@pytest.fixture(scope="module")
def runner():
    with open_runner(threads=1) as runner:
        yield runner


def test_a_film_is_tracked_as_well_as_it_is_detected(runner, picture):
    def move(index):
        return 60 * np.sin(index / 5), 40 * np.sin(index / 7), 2.0 * index, 1 + 0.3 * np.sin(index / 6)

    frames = list(film(picture, 30, move))
    pipeline = FaceMeshPipeline(runner, YuNetDetector(), dense=False, tracking=Tracking(max_faces=1, smoothing=None))
    tracked = [faces for _, faces in pipeline.stream(frames)]
    assert pipeline.detections == 1
    assert [[face.track_id for face in faces] for faces in tracked] == [[1]] * 30
    detected = [FaceMeshPipeline(runner, YuNetDetector(max_faces=1), dense=False)(frame)[0] for frame in frames[::6]]
    for (face,), other in zip(tracked[::6], detected, strict=True):
        size = np.ptp(other.landmarks[:, :2], axis=0).mean()
        assert np.linalg.norm(face.landmarks - other.landmarks, axis=1)[:, None].mean() < 0.03 * size
        assert other.track_id is None


def test_smoothing_calms_a_still_face_and_is_off_on_request(runner, picture):
    generator = np.random.default_rng(0)
    noisy = [
        replace(frame, image=np.clip(frame.image + generator.normal(0, 6, frame.image.shape), 0, 255).astype(np.uint8))
        for frame in film(picture, 30)
    ]
    jitter = {}
    for name, settings in (("off", Tracking(smoothing=None)), ("on", Tracking())):
        pipeline = FaceMeshPipeline(runner, YuNetDetector(), tracking=settings)
        faces = [faces[0] for _, faces in pipeline.stream(noisy)]
        jitter[name] = np.std([face.vertices[::50] for face in faces[10:]], axis=0).mean()
        for face in faces:
            np.testing.assert_array_equal(
                face.box_xyxy, [*face.landmarks[:, :2].min(axis=0), *face.landmarks[:, :2].max(axis=0)]
            )
    assert jitter["on"] < 0.5 * jitter["off"]


def test_smoothed_landmarks_lie_on_the_smoothed_mesh(runner, picture):
    pipeline = FaceMeshPipeline(runner, YuNetDetector(), tracking=Tracking())
    vertices = pipeline.family.topology.landmark_vertices
    for _, faces in pipeline.stream(film(picture, 8, lambda index: (3.0 * index, 0, 0, 1))):
        np.testing.assert_allclose(faces[0].vertices[vertices], faces[0].landmarks, atol=1e-3)


def test_faces_of_a_film_own_their_arrays(runner, picture):
    pipeline = FaceMeshPipeline(runner, YuNetDetector(), tracking=Tracking())
    found = pipeline.stream(film(picture, 4, lambda index: (5.0 * index, 0, 0, 1)))
    (face,) = next(found)[1]
    before = face.vertices.copy(), face.landmarks.copy()
    list(found)
    np.testing.assert_array_equal(face.vertices, before[0])
    np.testing.assert_array_equal(face.landmarks, before[1])


def test_calls_and_streams_give_the_same(runner, picture):
    frames = list(film(picture, 5, lambda index: (4.0 * index, 0, 3.0 * index, 1)))
    pipeline = FaceMeshPipeline(runner, YuNetDetector(), dense=False, tracking=Tracking())
    streamed = [faces[0].landmarks for _, faces in pipeline.stream(frames)]
    pipeline.forget_tracks()
    for frame, landmarks in zip(frames, streamed, strict=True):
        np.testing.assert_array_equal(pipeline(frame)[0].landmarks, landmarks)


def test_a_stream_starts_anew(runner, picture):
    pipeline = FaceMeshPipeline(runner, YuNetDetector(), dense=False, tracking=Tracking())
    for _ in range(2):
        assert [[face.track_id for face in faces] for _, faces in pipeline.stream(film(picture, 2))] == [[1], [1]]


def test_frames_that_are_none_are_reported_and_leave_the_tracks(runner, picture):
    frames = list(film(picture, 5))
    frames[2] = replace(frames[2], image=np.empty((0, 0, 3), np.uint8))
    pipeline, errors = FaceMeshPipeline(runner, YuNetDetector(), dense=False, tracking=Tracking()), []
    found = list(pipeline.stream(frames, on_error=errors.append))
    assert [(frame.index, [face.track_id for face in faces]) for frame, faces in found] == [
        (index, [1]) for index in (0, 1, 3, 4)
    ]
    assert len(errors) == 1
    assert pipeline.detections == 1


def test_bare_pictures_are_tracked_too(runner, picture):
    pipeline = FaceMeshPipeline(runner, YuNetDetector(), dense=False, tracking=Tracking())
    assert [[face.track_id for face in pipeline(picture)] for _ in range(4)] == [[1]] * 4
    assert pipeline.detections == 1


def test_given_boxes_are_not_tracked(runner, picture):
    pipeline = FaceMeshPipeline(runner, YuNetDetector(), dense=False, tracking=Tracking())
    (face,) = pipeline.from_boxes(picture, [[180, 60, 270, 180]])
    assert face.track_id is None
    assert pipeline.detections == 0


def test_tracking_needs_a_detector(runner):
    with pytest.raises(FaceMeshError, match="no detector"):
        FaceMeshPipeline(runner, tracking=Tracking())


@pytest.mark.parametrize("where", ["cpu", "gpu"])
def test_tracks_do_not_depend_on_the_device(gpu_machine, sure_model, tmp_path, where):
    """The stand-in of a GPU computes what the CPU does, and reads the next frame while it does."""
    from tests.standins.fake_engine import write_engine

    path = sure_model
    if where == "gpu":
        gpu_machine()
        path = write_engine(tmp_path / "sure.engine", sure_model)
    log = []
    boxes = np.array([[100, 120, 190, 220], [300, 80, 345, 130], [200, 300, 400, 520]], np.float32)

    def detect(image):
        log.append("detect")
        return Detections(boxes, np.linspace(0.9, 0.7, 3))

    def frames():
        for index in range(4):
            log.append(f"read {index}")
            yield Frame(np.full((600, 640, 3), 200, np.uint8), index, index / 25, "x")

    with open_runner(path) as runner:
        pipeline = FaceMeshPipeline(runner, detect, tracking=Tracking(smoothing=None))
        for frame, faces in pipeline.stream(frames()):
            log.append(f"faces {frame.index}")
            assert [face.track_id for face in faces] == [1, 2, 3]
            for face, box in zip(faces, boxes, strict=True):
                moved = (frame.index + 1) * 0.1 * np.ptp(box[::2])  # the network's mean face lies to the right
                assert abs(face.box_xyxy[:2] - box[:2]).max() < 20 + moved
    ahead = {"cpu": [0, 0, 1, 1, 2, 2, 3, 3], "gpu": [0, 1, 0, 2, 1, 3, 2, 3]}[where]
    assert [int(line[-1]) for line in log if line != "detect"] == ahead
    assert log.count("detect") == 1


# The command


def lines(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


@pytest.fixture
def clip(tmp_path, picture):
    path = tmp_path / "clip.avi"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, picture.shape[1::-1])
    for frame in film(picture, 6, lambda index: (2.0 * index, 0, 0, 1)):
        video.write(frame.image)
    video.release()
    return path


def test_films_are_tracked_unless_told_otherwise(tmp_path, clip, capsys):
    assert main(["--source", str(clip), "--output", str(tmp_path / "a"), "--save", "json"]) == 0
    assert "detection included, tracked" in capsys.readouterr().out
    assert [[face["track_id"] for face in line["faces"]] for line in lines(tmp_path / "a")] == [[1]] * 6
    command = ["--source", str(clip), "--output", str(tmp_path / "b"), "--save", "json", "--no-track"]
    assert main(command) == 0
    assert ", tracked" not in capsys.readouterr().out
    assert [[face["track_id"] for face in line["faces"]] for line in lines(tmp_path / "b")] == [[None]] * 6


def test_photos_are_not_tracked_unless_told_otherwise(tmp_path, portrait):
    command = ["--source", str(portrait), "--save", "json", "--output"]
    assert main([*command, str(tmp_path / "a")]) == 0
    assert lines(tmp_path / "a")[0]["faces"][0]["track_id"] is None
    assert main([*command, str(tmp_path / "b"), "--track"]) == 0
    assert lines(tmp_path / "b")[0]["faces"][0]["track_id"] == 1


def test_smoothing_of_the_command(tmp_path, clip):
    def landmarks(*options):
        folder = tmp_path / "-".join(["out", *options]).replace("--", "")
        assert main(["--source", str(clip), "--output", str(folder), "--save", "json", *options]) == 0
        return np.array([line["faces"][0]["landmarks"] for line in lines(folder)])

    off = landmarks("--no-smooth")
    strong = landmarks("--smooth-cutoff", "0.01", "--smooth-beta", "0.01")
    assert np.ptp(off[..., 0], axis=0).mean() > 8
    assert np.ptp(strong[..., 0], axis=0).mean() < 1
    assert 0.3 < abs(landmarks() - off).max() < 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--no-track", "--smooth"], "--smooth filters what is tracked"),
        (["--track", "--detector", "none"], "--track follows faces in films"),
        (["--track", "--boxes", "boxes.csv"], "--track finds the boxes of the next frame itself"),
        (["--redetect", "0"], "--redetect"),
        (["--redetect", "nan"], "--redetect"),
        (["--smooth-cutoff", "-1"], "--smooth-cutoff"),
        (["--smooth-beta", "x"], "--smooth-beta"),
    ],
)
def test_options_that_do_not_fit(tmp_path, portrait, capsys, options, message):
    with pytest.raises(SystemExit) as exit_:
        main(["--source", str(portrait), "--output", str(tmp_path), *options])
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err
