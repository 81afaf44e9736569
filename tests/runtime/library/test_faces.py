"""The C library finds, to 1e-4 px, the faces that the Python runtime finds."""

from __future__ import annotations

import ctypes

import cv2
import numpy as np
import pytest

from runtime import FaceMeshPipeline, YuNetDetector, open_runner
from runtime.models.shipped import SHIPPED, SHIPPED_PICTURE, YUNET_ONNX
from runtime.types import Detections
from tests.runtime.library.comparing import MOST, TOLERANCE_PX, assert_same, compare, fifty_pictures, open_model
from tests.runtime.library.facemesh_h import Detection, Faces, doubles, floats, image_of

pytestmark = pytest.mark.slow  # the library is built first


@pytest.fixture(scope="module")
def pipeline():
    with open_runner(SHIPPED["int8"]) as runner:
        yield FaceMeshPipeline(runner, YuNetDetector())


@pytest.fixture(scope="module")
def model(library):
    handle = open_model(library, SHIPPED["int8"])
    yield handle
    library.model_free(handle)


@pytest.fixture(scope="module")
def detector(library):
    handle = library.detector_open(str(YUNET_ONNX).encode(), library.detector_default_params())
    assert handle, library.message()
    yield handle
    library.detector_free(handle)


def test_the_shipped_picture(library, model, detector, pipeline):
    assert compare(library, model, detector, pipeline, cv2.imread(str(SHIPPED_PICTURE))) == 1


@pytest.mark.parametrize("roll_deg", [25, 45, 90, 135, 180, 250])
def test_turned_faces(library, model, detector, pipeline, roll_deg):
    photo = cv2.imread(str(SHIPPED_PICTURE))
    matrix = cv2.getRotationMatrix2D((220, 140), -roll_deg, 1.0)
    assert compare(library, model, detector, pipeline, cv2.warpAffine(photo, matrix, (512, 400))) >= 1


@pytest.mark.parametrize("size_wh", [(64, 64), (200, 333), (1030, 771), (2700, 2700)])
def test_sizes(library, model, detector, pipeline, size_wh):
    compare(library, model, detector, pipeline, cv2.resize(cv2.imread(str(SHIPPED_PICTURE)), size_wh))


def test_fifty_pictures(library, model, detector, pipeline, shared_data):
    pictures = fifty_pictures(shared_data)
    assert sum(compare(library, model, detector, pipeline, picture) for picture in pictures) > 60


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_other_precisions(library, detector, precision):
    model = open_model(library, SHIPPED[precision])
    with open_runner(SHIPPED[precision]) as runner:
        pipeline = FaceMeshPipeline(runner, YuNetDetector())
        assert compare(library, model, detector, pipeline, cv2.imread(str(SHIPPED_PICTURE))) == 1
    library.model_free(model)


def test_known_boxes(library, model, pipeline):
    photo = cv2.imread(str(SHIPPED_PICTURE))
    boxes = np.array([[180, 70, 270, 190], [150, 60, 290, 200], [-50, -40, 120, 90]], np.float32)
    scores = np.array([0.3, 0.6, 0.9], np.float32)
    faces = Faces(3, library.vertex_count(model))
    count = library.from_boxes(model, image_of(photo), floats(boxes), floats(scores), 3, faces.array)
    assert count == 3, library.message()
    assert_same(faces.meshes(3), pipeline.from_boxes(photo, boxes, scores))


def test_landmarks_alone(library, model):
    photo, boxes = cv2.imread(str(SHIPPED_PICTURE)), np.array([[180, 70, 270, 190]], np.float32)
    dense, sparse = Faces(1, library.vertex_count(model)), Faces(1)
    for faces in (dense, sparse):
        assert library.from_boxes(model, image_of(photo), floats(boxes), None, 1, faces.array) == 1
    assert np.array_equal(dense.meshes(1)[0].landmarks, sparse.meshes(1)[0].landmarks)
    vertices = np.ctypeslib.as_array(library.landmark_vertices(model), (68,))
    assert np.array_equal(dense.vertices[0][vertices], dense.meshes(1)[0].landmarks)


def test_rgb_and_rows_apart(library, model, detector):
    photo = cv2.imread(str(SHIPPED_PICTURE))
    wide = np.zeros((512, 600, 3), np.uint8)
    wide[:, :512] = photo[..., ::-1]
    faces = [Faces(MOST), Faces(MOST)]
    assert library.find(model, detector, image_of(photo), faces[0].array, MOST) == 1
    assert library.find(model, detector, image_of(wide[:, :512], colours=1), faces[1].array, MOST) == 1
    assert np.array_equal(faces[0].meshes(1)[0].landmarks, faces[1].meshes(1)[0].landmarks)


def test_the_steps_are_those_of_the_whole(library, model):
    photo, box = cv2.imread(str(SHIPPED_PICTURE)), np.array([180, 70, 270, 190], np.float32)
    whole, steps = Faces(1, library.vertex_count(model)), Faces(1, library.vertex_count(model))
    matrix, confidence = np.zeros(6), ctypes.c_float()
    crop = np.zeros(library.input_count(model), np.float32)
    output = np.zeros(library.output_count(model), np.float32)
    assert library.crop_matrix(model, floats(box), doubles(matrix)) == 0
    assert library.crop(model, image_of(photo), doubles(matrix), floats(crop)) == 0
    assert library.infer(model, floats(crop), floats(output), ctypes.byref(confidence)) == 0
    assert library.decode(model, floats(output), doubles(matrix), steps.array) == 0
    assert library.from_boxes(model, image_of(photo), floats(box), None, 1, whole.array) == 1
    assert np.abs(whole.vertices - steps.vertices).max() <= TOLERANCE_PX
    assert confidence.value == pytest.approx(whole.array[0].confidence)
    decoder = library.decoder_open(f"{SHIPPED['int8']}.json".encode(), library.model_default_params())
    again = Faces(1, library.vertex_count(decoder))
    assert library.decode(decoder, floats(output), doubles(matrix), again.array) == 0
    assert np.array_equal(again.vertices, steps.vertices)
    library.model_free(decoder)


def test_detections_alone(library, detector):
    photo, wanted = cv2.imread(str(SHIPPED_PICTURE)), YuNetDetector()(cv2.imread(str(SHIPPED_PICTURE)))
    found = (Detection * MOST)()
    assert library.detect(detector, image_of(photo), found, MOST) == 1
    assert np.abs(np.array(found[0].box) - wanted.boxes_xyxy[0]).max() <= TOLERANCE_PX
    assert found[0].score == pytest.approx(wanted.scores[0], abs=1e-6)
    assert library.detect(detector, image_of(photo), found, 0) == 0


@pytest.mark.parametrize("roll_deg", [0, 90, 135])
def test_the_faces_of_detections(library, model, detector, pipeline, roll_deg):
    """Detection and mesh one after the other are the whole, turned faces included."""
    photo = cv2.imread(str(SHIPPED_PICTURE))
    photo = cv2.warpAffine(photo, cv2.getRotationMatrix2D((220, 140), -roll_deg, 1.0), (512, 400))
    found, faces = (Detection * MOST)(), Faces(MOST, library.vertex_count(model))
    count = library.detect(detector, image_of(photo), found, MOST)
    assert (found[0].roll != 0) == (roll_deg != 0)
    count = library.from_detections(model, image_of(photo), found, count, faces.array)
    assert count >= 1, library.message()
    assert_same(faces.meshes(count), pipeline(photo))


def test_detections_as_they_are(library, model, pipeline):
    """A box outside the picture and a score that is no number go the way they go in Python."""
    photo, boxes = cv2.imread(str(SHIPPED_PICTURE)), np.array([[600, 0, 700, 90], [180, 70, 270, 190]], np.float32)
    scores, faces = np.array([0.9, np.nan], np.float32), Faces(2, library.vertex_count(model))
    rows = ((box, score, 0) for box, score in zip(boxes.tolist(), scores.tolist(), strict=True))
    found = (Detection * 2)(*((tuple(box), score, roll) for box, score, roll in rows))
    assert library.from_detections(model, image_of(photo), found, 2, faces.array) == 2, library.message()
    wanted = pipeline.from_detections(photo, Detections(boxes, scores))
    for face, other in zip(faces.meshes(2), wanted, strict=True):
        assert np.abs(face.vertices - other.vertices).max() <= TOLERANCE_PX
        assert face.score == pytest.approx(other.score, nan_ok=True)


def test_the_mesh(library, model, topology):
    count = library.triangle_count(model)
    triangles = np.ctypeslib.as_array(library.triangles(model), (count, 3))
    assert np.array_equal(triangles, topology.triangles)
    assert library.vertex_count(model) == len(topology.face_indices)
    uv = np.ctypeslib.as_array(library.texture_coordinates(model), topology.uv.shape)
    assert np.array_equal(uv, topology.uv)
