"""Pictures in, face meshes out."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from runtime.cuda.errors import CudaError
from runtime.detection.yunet import YuNetDetector
from runtime.errors import FaceMeshError
from runtime.inference.open_runner import open_runner
from runtime.models.shipped import SHIPPED
from runtime.pipeline import FaceMeshPipeline
from runtime.sources.frame_source import FrameSource
from runtime.sources.photos import read_photo
from runtime.types import Detections, Frame

BOXES = np.array([[100, 120, 190, 220], [300, 80, 345, 130], [60, 330, 120, 390], [200, 200, 500, 520]], np.float32)


@pytest.fixture(scope="module")
def image():
    return np.full((600, 640, 3), 128, np.uint8)


@pytest.fixture(scope="module")
def pipeline(live_model):
    with open_runner(live_model, max_batch=3) as runner:
        yield FaceMeshPipeline(runner)


def test_mesh_lies_in_its_box(pipeline, image):
    """The model's face fills the crop as the crop rule has it, so the box of its landmarks must be the box that was
    given."""
    faces = pipeline.from_boxes(image, BOXES)
    for face, box in zip(faces, BOXES, strict=True):
        size = (box[2] - box[0] + box[3] - box[1]) / 2
        centre = (face.box_xyxy[:2] + face.box_xyxy[2:]) / 2
        np.testing.assert_allclose(centre, (box[:2] + box[2:]) / 2, atol=0.02 * size)
        np.testing.assert_allclose((face.box_xyxy[2:] - face.box_xyxy[:2]).mean(), size, rtol=0.03)
        assert (face.vertices.shape, face.landmarks.shape, face.score) == ((43867, 3), (68, 3), 1.0)
        assert abs(face.pose.yaw_deg) + abs(face.pose.roll_deg) < 2
        np.testing.assert_array_equal(
            face.box_xyxy, [*face.landmarks[:, :2].min(axis=0), *face.landmarks[:, :2].max(axis=0)]
        )


def test_more_faces_than_the_batch_are_the_same_as_one_by_one(pipeline, image):
    """Also on pixels that differ from face to face: every crop must reach its own slot."""
    varied = image.copy()
    for number, (x1, y1, x2, y2) in enumerate(BOXES.astype(int)):
        varied[y1:y2, x1:x2, 0] = 60 * number
    together = pipeline.from_boxes(varied, BOXES)
    for face, box in zip(together, BOXES, strict=True):
        np.testing.assert_array_equal(face.vertices, pipeline.from_boxes(varied, box[None])[0].vertices)
    assert not np.allclose(together[0].vertices, pipeline.from_boxes(image, BOXES[:1])[0].vertices, atol=0.01)


def test_faces_own_their_arrays(pipeline, image):
    first = pipeline.from_boxes(image, BOXES[:1])[0]
    before = first.vertices.copy(), first.landmarks.copy()
    pipeline.from_boxes(255 - image, BOXES)
    np.testing.assert_array_equal(first.vertices, before[0])
    np.testing.assert_array_equal(first.landmarks, before[1])


def test_scores_and_order_come_from_the_detector(live_model, image):
    def detect(picture):
        assert picture is image
        return Detections(BOXES, np.array([0.9, 0.8, 0.7, 0.6], np.float32))

    with open_runner(live_model, max_batch=3) as runner:
        faces = FaceMeshPipeline(runner, detect)(Frame(image, 0, 0.0, "x"))
        expected = FaceMeshPipeline(runner).from_boxes(image, BOXES)
    assert [face.score for face in faces] == pytest.approx([0.9, 0.8, 0.7, 0.6])
    for face, other in zip(faces, expected, strict=True):
        np.testing.assert_array_equal(face.vertices, other.vertices)


@pytest.fixture
def shaded(image):
    """The picture with a place of another blue in each of the `BOXES` and around it."""
    shaded = image.copy()
    for number, (x1, y1, x2, y2) in enumerate(BOXES.astype(int)):
        shaded[y1 - 35 : y2 + 35, x1 - 35 : x2 + 35, 0] = 60 + 50 * number
    return shaded


def test_confidence_goes_with_its_face(sure_model, shaded):
    with open_runner(sure_model, max_batch=3) as runner:
        pipeline = FaceMeshPipeline(runner)
        together = pipeline.from_boxes(shaded, BOXES)
        alone = [pipeline.from_boxes(shaded, box[None])[0].confidence for box in BOXES]
    assert [face.confidence for face in together] == alone
    assert len(set(alone)) == 4
    assert all(isinstance(confidence, float) and 0.2 < confidence < 0.9 for confidence in alone)


def test_model_without_confidence(pipeline, image):
    assert pipeline.from_boxes(image, BOXES[:1])[0].confidence is None


def test_unsure_faces_are_left_out_and_counted(sure_model, shaded):
    scores = [0.9, 0.8, 0.7, 0.6]
    with open_runner(sure_model, max_batch=3) as runner:
        everyone = FaceMeshPipeline(runner).from_boxes(shaded, BOXES, scores)
        limit = sorted(face.confidence for face in everyone)[1]
        pipeline = FaceMeshPipeline(runner, min_confidence=limit)
        kept = pipeline.from_boxes(shaded, BOXES, scores)
        assert pipeline.left_out == 1
        frames = [Frame(picture, index, 0.0, "x") for index, picture in enumerate((shaded, shaded))]
        assert [len(faces) for _, faces in pipeline.stream(frames, boxes_of=lambda frame: BOXES)] == [3, 3]
        assert pipeline.left_out == 3
    wanted = [face for face in everyone if face.confidence >= limit]
    assert [face.score for face in kept] == [face.score for face in wanted]
    for face, other in zip(kept, wanted, strict=True):
        np.testing.assert_array_equal(face.vertices, other.vertices)
        assert face.confidence == other.confidence


def test_what_only_a_turned_picture_shows_must_convince_the_network(sure_model, live_model, shaded):
    """Such faces are no faces, so they do not count as left out. A model without confidence keeps them all."""
    scores = np.linspace(0.9, 0.6, 4).astype(np.float32)
    found = {
        roll: Detections(BOXES, scores, None if roll is None else np.full(4, roll, np.float32)) for roll in (None, 90)
    }
    with open_runner(sure_model, max_batch=3) as runner:
        upright, turned = FaceMeshPipeline(runner, lambda _: found[None]), FaceMeshPipeline(runner, lambda _: found[90])
        confidences = [face.confidence for face in turned(shaded)]
        assert all(confidence >= 0.5 for confidence in confidences)
        assert 0 < len(confidences) < len(upright(shaded)) == 4
        assert turned.left_out == 0
    with open_runner(live_model) as runner:
        assert len(FaceMeshPipeline(runner, lambda _: found[90])(shaded)) == 4


@pytest.mark.parametrize("limit", [-0.1, 1.5, float("nan")])
def test_least_confidence_out_of_range(sure_model, limit):
    with open_runner(sure_model) as runner, pytest.raises(FaceMeshError, match="min_confidence must be from 0 to 1"):
        FaceMeshPipeline(runner, min_confidence=limit)


def test_least_confidence_for_a_model_that_tells_none(live_model):
    message = r"needs a model that tells its confidence, test does not; leave it out, or fit one with"
    with open_runner(live_model) as runner, pytest.raises(FaceMeshError, match=message):
        FaceMeshPipeline(runner, min_confidence=0.0)


def test_no_face(live_model, pipeline, image):
    with open_runner(live_model) as runner:
        assert FaceMeshPipeline(runner, YuNetDetector())(image) == []
    assert pipeline.from_boxes(image, []) == []
    assert pipeline.from_boxes(image, np.empty((0, 4))) == []


def test_region_of_a_larger_picture(pipeline, image):
    """A view with gaps between its rows is a picture like any other."""
    noisy = np.random.default_rng(0).integers(0, 256, image.shape, np.uint8)
    view = noisy[50:450, 60:560]
    np.testing.assert_array_equal(
        pipeline.from_boxes(view, BOXES[:1])[0].vertices, pipeline.from_boxes(view.copy(), BOXES[:1])[0].vertices
    )


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[10, 10, np.nan, 50]], "not finite"),
        ([[10, 10, np.inf, 50]], "not finite"),
        ([[50, 10, 10, 50]], "reversed"),
        ([[10, 50, 50, 10]], "reversed"),
        ([[10, 10, 10, 50]], "reversed"),
        ([[700, 10, 800, 50]], r"box 700,10,800,50: lies outside the picture of 640 x 600"),
        ([[-80, 10, -20, 50]], "outside"),
        ([[10, 601, 50, 700]], "outside"),
        ([[10, -50, 50, -5]], "outside"),
        ([[1, 1, 1e9, 1e9]], "not a box"),
        ([1, 2, 3, 4], r"must be \(N, 4\)"),
        ([[1, 2, 3]], r"must be \(N, 4\)"),
        ([[0, 0, 1e-30, 1e-30]], "px wide or high"),
        ([["a"] * 4], "give an array of numbers"),
        ([[1, 2, 3, 4], [5, 6, 7]], "give an array of numbers"),
        ([[1j, 2, 30, 40]], "give an array of numbers"),
    ],
)
def test_boxes_that_are_none(pipeline, image, boxes, message):
    with pytest.raises(FaceMeshError, match=message):
        pipeline.from_boxes(image, boxes)


def test_box_that_hangs_over_the_edge(pipeline, image):
    face = pipeline.from_boxes(image, [[-40, -30, 60, 70]])[0]
    assert face.box_xyxy[0] < -20
    assert np.isfinite(face.vertices).all()


def test_scores_that_do_not_fit(pipeline, image):
    with pytest.raises(FaceMeshError, match=r"scores must be \(4,\)"):
        pipeline.from_boxes(image, BOXES, [0.5])
    for scores in (["x"] * 4, [np.nan] * 4):
        with pytest.raises(FaceMeshError, match="scores"):
            pipeline.from_boxes(image, BOXES, scores)


def test_options_that_do_not_exist(tmp_path):
    for options in ({"sync": "x"}, {"memory": "x"}, {"max_batch": 100_000}, {"max_batch": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            open_runner(**options)
    with pytest.raises(FaceMeshError, match="no model file there"):
        open_runner("x" * 5000)
    for options in ({"max_faces": -1}, {"max_faces": 0}, {"score_threshold": np.nan}, {"side": -1}):
        with pytest.raises(ValueError, match=next(iter(options))):
            YuNetDetector(**options)


@pytest.mark.parametrize(
    "picture",
    [
        None,
        [[1]],
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3)),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_no_picture(pipeline, picture):
    with pytest.raises(FaceMeshError, match=r"the image must be \(H, W, 3\) uint8"):
        pipeline.from_boxes(picture, BOXES)


def test_without_a_detector(pipeline, image):
    with pytest.raises(FaceMeshError, match="no detector"):
        pipeline(image)


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 2000, 3)])
def test_tiny_pictures(pipeline, shape):
    height, width = shape[:2]
    face = pipeline.from_boxes(np.full(shape, 9, np.uint8), [[-0.5, -0.5, width - 0.5, height - 0.5]])[0]
    assert np.isfinite(face.vertices).all()


@pytest.mark.parametrize("precision", SHIPPED)
def test_shipped_model_on_the_portrait(portrait, precision):
    """Landmarks read off the picture by hand, and the mirror image gives the mirror face."""
    image = read_photo(portrait)
    with open_runner(precision=precision) as runner:
        pipeline = FaceMeshPipeline(runner, YuNetDetector())
        (face,) = pipeline(image)
        (mirrored,) = pipeline(np.ascontiguousarray(cv2.flip(image, 1)))
    by_hand = {36: (194.5, 101), 45: (258, 104), 30: (225, 126), 48: (204, 140.5), 54: (244, 141), 8: (223, 178)}
    errors = [np.linalg.norm(face.landmarks[index, :2] - point) for index, point in by_hand.items()]
    assert np.mean(errors) < 0.06 * 90  # of the size of the face
    assert face.pose.yaw_deg == pytest.approx(-mirrored.pose.yaw_deg, abs=6)
    assert 511 - mirrored.landmarks[30, 0] == pytest.approx(face.landmarks[30, 0], abs=4)


# Streams


def numbered(count, image, log=None):
    for index in range(count):
        if log is not None:
            log.append(f"read {index}")
        yield Frame(np.roll(image, 7 * index, axis=1), index, 0.1 * index, f"picture {index}")


@pytest.fixture
def varied():
    return np.random.default_rng(0).integers(0, 256, (600, 640, 3), np.uint8)


@pytest.fixture
def open_pipeline(gpu_machine, live_model, engine):
    """``open_pipeline("cpu" or "gpu", …)``: a pipeline whose detector finds `BOXES`, on ONNX Runtime or on the
    stand-in of a GPU."""
    runners = []

    def open_pipeline(where, detector=None, **keywords):
        if where == "gpu":
            open_pipeline.machine = gpu_machine()
        runners.append(open_runner(live_model if where == "cpu" else engine))
        return FaceMeshPipeline(
            runners[-1], detector or (lambda image: Detections(BOXES, np.linspace(0.9, 0.6, 4))), **keywords
        )

    yield open_pipeline
    for runner in runners:
        runner.close()


@pytest.mark.parametrize("where", ["cpu", "gpu"])
def test_a_stream_gives_what_single_calls_give_in_order(open_pipeline, varied, where):
    pipeline = open_pipeline(where)
    expected = [pipeline(frame) for frame in numbered(5, varied)]
    found = list(pipeline.stream(numbered(5, varied)))
    assert [frame.index for frame, _ in found] == [0, 1, 2, 3, 4]
    for (_, faces), others in zip(found, expected, strict=True):
        assert [face.score for face in faces] == [face.score for face in others] == pytest.approx([0.9, 0.8, 0.7, 0.6])
        for face, other in zip(faces, others, strict=True):
            np.testing.assert_array_equal(face.vertices, other.vertices)
    assert [
        len(faces) for _, faces in pipeline.stream(numbered(2, varied), boxes_of=lambda frame: BOXES[: frame.index])
    ] == [0, 1]


def test_a_stream_reads_one_frame_ahead_where_a_gpu_computes(open_pipeline, varied):
    at_once = ["read 0", "faces 0", "read 1", "faces 1", "read 2", "faces 2"]
    overlapped = ["read 0", "read 1", "faces 0", "read 2", "faces 1", "faces 2"]
    for where, ahead, overlaps, expected in (
        ("cpu", True, False, at_once),
        ("gpu", True, True, overlapped),
        ("gpu", False, True, at_once),
    ):
        log, pipeline = [], open_pipeline(where)
        for frame, _ in pipeline.stream(numbered(3, varied, log), ahead=ahead):
            log.append(f"faces {frame.index}")
        assert (pipeline.overlaps, log) == (overlaps, expected)


@pytest.mark.parametrize("where", ["cpu", "gpu"])
def test_a_frame_that_fails_is_reported_and_the_others_follow(open_pipeline, varied, where):
    """By its boxes, which are found wrong when it is submitted, or by its landmarks, which are when it is collected."""
    pipeline, errors = open_pipeline(where), []
    boxes = {1: [[900, 0, 950, 50]], 3: [[100, 100, 100, 200]]}
    found = pipeline.stream(numbered(5, varied), lambda frame: boxes.get(frame.index, BOXES), errors.append)
    assert [(frame.index, len(faces)) for frame, faces in found] == [(0, 4), (2, 4), (4, 4)]
    assert [str(error).partition(":")[0] for error in errors] == ["picture 1", "picture 3"]
    assert "lies outside the picture" in str(errors[0])
    with pytest.raises(FaceMeshError, match="lies outside"):
        list(pipeline.stream(numbered(5, varied), lambda frame: boxes.get(frame.index, BOXES)))
    estimator, see = pipeline._second_look._pose, pipeline._second_look._pose.look
    estimator.look = lambda landmarks, matrix: see(landmarks * np.float32(np.nan if len(errors) == 2 else 1), matrix)
    assert [frame.index for frame, _ in pipeline.stream(numbered(3, varied), on_error=errors.append)] == [1, 2]
    assert "picture 0: the landmarks are not finite" in str(errors[2])


def test_a_fault_of_the_device_ends_a_stream(open_pipeline, varied):
    pipeline, errors = open_pipeline("gpu"), []
    found = pipeline.stream(numbered(5, varied), on_error=errors.append)
    next(found)
    open_pipeline.machine.cuda.fail("synchronize", status="CUDA_ERROR_LAUNCH_FAILED")
    with pytest.raises(CudaError, match="CUDA_ERROR_LAUNCH_FAILED"):
        list(found)
    assert not errors


@pytest.mark.parametrize("where", ["cpu", "gpu"])
def test_one_stream_at_a_time(open_pipeline, varied, where):
    pipeline = open_pipeline(where)
    expected, found = pipeline(varied), pipeline.stream(numbered(5, varied))
    next(found)
    if where == "gpu":
        for call in (
            lambda: pipeline(varied),
            lambda: pipeline.from_boxes(varied, BOXES),
            lambda: next(pipeline.stream(numbered(2, varied))),
        ):
            with pytest.raises(FaceMeshError, match=r"a stream\(\) of this pipeline is under way"):
                call()
    found.close()
    for _ in range(2):
        for face, other in zip(pipeline(varied), expected, strict=True):
            np.testing.assert_array_equal(face.vertices, other.vertices)


def test_a_call_that_was_interrupted_leaves_nothing_behind(open_pipeline, varied, monkeypatch):
    pipeline = open_pipeline("gpu")
    expected = pipeline(varied)
    with monkeypatch.context() as patch:
        patch.setattr(
            "runtime.inference.trt.network_stream.NetworkStream.wait",
            lambda lane: (_ for _ in ()).throw(KeyboardInterrupt),
        )
        with pytest.raises(KeyboardInterrupt):
            pipeline(255 - varied)
    for face, other in zip(pipeline(varied), expected, strict=True):
        np.testing.assert_array_equal(face.vertices, other.vertices)


@pytest.mark.parametrize("where", ["cpu", "gpu"])
def test_landmarks_alone(open_pipeline, varied, where):
    for face, other in zip(open_pipeline(where, dense=False)(varied), open_pipeline(where)(varied), strict=True):
        np.testing.assert_array_equal(face.landmarks, other.landmarks)
        assert (face.vertices.shape, other.vertices.shape, face.pose) == ((0, 3), (43867, 3), other.pose)


def test_a_stream_needs_a_detector_or_boxes(live_model, image):
    with open_runner(live_model) as runner, pytest.raises(FaceMeshError, match="no detector"):
        next(FaceMeshPipeline(runner).stream(numbered(1, image), on_error=print))


def test_a_video_is_decoded_into_the_memory_that_the_gpu_reads(open_pipeline, varied, tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "v.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (640, 600))
    for frame in numbered(6, varied):
        writer.write(frame.image)
    writer.release()
    pipeline = open_pipeline("gpu")
    with FrameSource(tmp_path / "v.mp4") as source:
        expected = [(frame.image, faces) for frame, faces in pipeline.stream(source)]
    places = []
    with FrameSource(tmp_path / "v.mp4") as source:
        source.frame_buffer = pipeline.frame_buffer
        for (frame, faces), (image, others) in zip(pipeline.stream(source), expected, strict=True):
            np.testing.assert_array_equal(frame.image, image)
            np.testing.assert_array_equal([face.vertices for face in faces], [face.vertices for face in others])
            places.append(frame.image.__array_interface__["data"][0])
    buffers = {
        buffer.pointer for buffer in open_pipeline.machine.cuda.live if getattr(buffer, "kind", "") == "host_buffer"
    }
    assert set(places[1:]) <= buffers
    assert len(set(places[1:])) == 2
    assert open_pipeline("cpu").frame_buffer(600, 640) is None
