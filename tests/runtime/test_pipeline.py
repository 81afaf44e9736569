"""Pictures in, face meshes out."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from runtime.detector import YuNetDetector
from runtime.errors import FaceMeshError
from runtime.pipeline import FaceMeshPipeline
from runtime.runner import SHIPPED_MODEL, open_runner
from runtime.sources import read_photo
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
    """The model's face fills the crop as the crop rule has it, so the box of its landmarks must be the box that was given."""
    faces = pipeline.from_boxes(image, BOXES)
    for face, box in zip(faces, BOXES, strict=True):
        size = (box[2] - box[0] + box[3] - box[1]) / 2
        centre = (face.box_xyxy[:2] + face.box_xyxy[2:]) / 2
        np.testing.assert_allclose(centre, (box[:2] + box[2:]) / 2, atol=0.02 * size)
        np.testing.assert_allclose((face.box_xyxy[2:] - face.box_xyxy[:2]).mean(), size, rtol=0.03)
        assert (face.vertices.shape, face.landmarks.shape, face.score) == ((43867, 3), (68, 3), 1.0)
        assert abs(face.pose.yaw_deg) + abs(face.pose.roll_deg) < 2
        np.testing.assert_array_equal(face.box_xyxy, [*face.landmarks[:, :2].min(axis=0), *face.landmarks[:, :2].max(axis=0)])


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


def test_no_face(live_model, pipeline, image):
    with open_runner(live_model) as runner:
        assert FaceMeshPipeline(runner, YuNetDetector())(image) == []
    assert pipeline.from_boxes(image, []) == []
    assert pipeline.from_boxes(image, np.empty((0, 4))) == []


def test_region_of_a_larger_picture(pipeline, image):
    """A view with gaps between its rows is a picture like any other."""
    noisy = np.random.default_rng(0).integers(0, 256, image.shape, np.uint8)
    view = noisy[50:450, 60:560]
    np.testing.assert_array_equal(pipeline.from_boxes(view, BOXES[:1])[0].vertices, pipeline.from_boxes(view.copy(), BOXES[:1])[0].vertices)


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


@pytest.mark.parametrize(
    "picture", [None, [[1]], np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)]
)
def test_no_picture(pipeline, picture):
    with pytest.raises(FaceMeshError, match=r"uint8 array \(H, W, 3\)"):
        pipeline.from_boxes(picture, BOXES)


def test_without_a_detector(pipeline, image):
    with pytest.raises(FaceMeshError, match="no detector"):
        pipeline(image)


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 2000, 3)])
def test_tiny_pictures(pipeline, shape):
    height, width = shape[:2]
    face = pipeline.from_boxes(np.full(shape, 9, np.uint8), [[-0.5, -0.5, width - 0.5, height - 0.5]])[0]
    assert np.isfinite(face.vertices).all()


@pytest.mark.skipif(not SHIPPED_MODEL.is_file(), reason="the trained model is not in runtime/assets yet")
def test_shipped_model_on_the_portrait(portrait):
    """Landmarks read off the picture by hand, and the mirror image gives the mirror face."""
    image = read_photo(portrait)
    with open_runner() as runner:
        pipeline = FaceMeshPipeline(runner, YuNetDetector())
        (face,) = pipeline(image)
        (mirrored,) = pipeline(np.ascontiguousarray(cv2.flip(image, 1)))
    by_hand = {36: (194.5, 101), 45: (258, 104), 30: (225, 126), 48: (204, 140.5), 54: (244, 141), 8: (223, 178)}
    errors = [np.linalg.norm(face.landmarks[index, :2] - point) for index, point in by_hand.items()]
    assert np.mean(errors) < 0.06 * 90  # of the size of the face
    assert face.pose.yaw_deg == pytest.approx(-mirrored.pose.yaw_deg, abs=6)
    assert 511 - mirrored.landmarks[30, 0] == pytest.approx(face.landmarks[30, 0], abs=4)
