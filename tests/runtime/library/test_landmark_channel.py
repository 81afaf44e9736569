"""Networks that take landmarks beside the picture, in the C library: a second model finds them."""

from __future__ import annotations

import ctypes

import cv2
import numpy as np
import pytest

from runtime import FaceMeshPipeline, YuNetDetector, open_runner
from runtime.families.table import open_family
from runtime.geometry.crop import crop_into, draw_landmarks
from runtime.models.shipped import SHIPPED, SHIPPED_PICTURE, YUNET_ONNX
from runtime.models.spec import ModelSpec
from runtime.tracking.options import Tracking
from tests.runtime.library.comparing import (
    TOLERANCE_PX,
    compare,
    compare_film,
    fifty_pictures,
    moving_portrait,
    open_model,
)
from tests.runtime.library.facemesh_h import BAD_ARGUMENT, Faces, doubles, floats, image_of

pytest.importorskip("onnx")
from tests.standins.coefficient_network import write_toy_model

pytestmark = pytest.mark.slow  # the library is built first
FIRST = SHIPPED["int8"]
BOX = np.array([180, 70, 270, 190], np.float32)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_toy_model(tmp_path_factory.mktemp("guided"), landmark_channel=True)


@pytest.fixture(scope="module")
def first(library):
    handle = open_model(library, FIRST)
    yield handle
    library.model_free(handle)


@pytest.fixture(scope="module")
def detector(library):
    handle = library.detector_open(str(YUNET_ONNX).encode(), library.detector_default_params())
    yield handle
    library.detector_free(handle)


def test_fifty_pictures(library, path, first, detector, shared_data):
    model = open_model(library, path, landmarks_from=first)
    with open_runner(path, landmarks_from=FIRST) as runner:
        pipeline = FaceMeshPipeline(runner, YuNetDetector())
        pictures = fifty_pictures(shared_data)
        assert sum(compare(library, model, detector, pipeline, picture) for picture in pictures) > 60
    library.model_free(model)


@pytest.mark.parametrize("reuse", [False, True])
def test_a_film(library, path, first, detector, reuse):
    """Landmarks of the last frame spare the first network, and follow a frame of another size."""
    frames = moving_portrait(40)
    frames[20:] = [cv2.resize(frame, None, fx=0.75, fy=0.75) for frame in frames[20:]]
    model = open_model(library, path, landmarks_from=first, reuse_landmarks=reuse)
    with open_runner(path, landmarks_from=FIRST, reuse_landmarks=reuse) as runner:
        pipeline = FaceMeshPipeline(runner, YuNetDetector(), tracking=Tracking())
        assert len(compare_film(library, model, detector, pipeline, frames)) >= 2  # the toy's faces jump about
    library.model_free(model)


def test_reuse_shows_in_the_faces(library, path, first, detector):
    """Otherwise the test before would compare one and the same."""
    films = []
    for reuse in (0, 1):
        model = open_model(library, path, landmarks_from=first, reuse_landmarks=reuse)
        tracker, faces, film = library.tracker_new(model, detector, library.tracker_default_params()), Faces(1), []
        for number, frame in enumerate(moving_portrait(8)):
            count = library.track(tracker, image_of(frame), ctypes.c_double(number / 25), faces.array, 1)
            film += [face.landmarks for face in faces.meshes(count)]
        films.append(np.stack(film))
        library.tracker_free(tracker)
        library.model_free(model)
    assert not np.array_equal(*films)


def test_step_by_step(library, path, first):
    """The input is Python's: three planes of the picture and one of the landmarks."""
    photo, spec = cv2.imread(str(SHIPPED_PICTURE)), ModelSpec.load(ModelSpec.path_for(path))
    model, known, faces = open_model(library, path), Faces(1), Faces(1)
    assert library.from_boxes(first, image_of(photo), floats(BOX), None, 1, known.array) == 1
    landmarks = known.meshes(1)[0].landmarks
    matrix, crop = np.zeros(6), np.full(spec.input.shape, 7, np.float32)
    assert library.input_count(model) == crop.size
    assert library.crop_matrix(model, floats(BOX), doubles(matrix)) == 0
    assert library.crop(model, image_of(photo), doubles(matrix), floats(crop)) == 0
    assert (crop[3] == 7).all()
    assert library.draw_landmarks(model, floats(landmarks), doubles(matrix), floats(crop)) == 0
    wanted = np.zeros_like(crop)
    crop_into(photo, matrix.reshape(2, 3), spec.input, wanted)
    draw_landmarks(landmarks, matrix.reshape(2, 3), wanted)
    assert np.array_equal(crop, wanted)
    output = np.zeros(library.output_count(model), np.float32)
    assert library.infer(model, floats(crop), floats(output), None) == 0
    assert library.decode(model, floats(output), doubles(matrix), faces.array) == 0
    with open_runner(path) as runner:
        runner.input[0] = wanted
        numbers = runner.infer(1)[0].copy()
        _, points = open_family(runner.spec).decoder(dense=False)(numbers, matrix.reshape(2, 3))
    assert np.abs(output - numbers).max() < 1e-6
    assert np.abs(faces.meshes(1)[0].landmarks - points).max() <= TOLERANCE_PX
    library.model_free(model)


def refused(library, *words: str) -> None:
    message = library.message()
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_models_that_do_not_go_together(library, path, first, detector):
    params, photo, faces = library.model_default_params(), cv2.imread(str(SHIPPED_PICTURE)), Faces(1)
    alone = open_model(library, path)
    assert library.from_boxes(alone, image_of(photo), floats(BOX), None, 1, faces.array) == BAD_ARGUMENT
    refused(library, "toy takes landmarks beside the picture, and nothing finds them; ", "landmarks_from")
    assert library.tracker_new(alone, detector, library.tracker_default_params()) is None
    refused(library, "nothing finds them")
    params.landmarks_from = alone
    assert library.model_open(str(path).encode(), params) is None
    refused(library, "toy takes landmarks itself; give a network that needs none")
    params.landmarks_from = first
    assert library.model_open(str(FIRST).encode(), params) is None
    refused(library, "takes no landmarks beside the picture; ")
    params.landmarks_from = library.decoder_open(f"{FIRST}.json".encode(), library.model_default_params())
    assert library.model_open(str(path).encode(), params) is None
    refused(library, "only the decoder is open; ")
    library.model_free(params.landmarks_from)
    params.landmarks_from, params.reuse_landmarks = None, 1
    assert library.model_open(str(path).encode(), params) is None
    refused(library, "reuse_landmarks", "; ")
    matrix, crop = np.array([1.0, 0, 0, 0, 1, 0]), np.zeros(library.input_count(first), np.float32)
    landmarks = np.zeros((68, 3), np.float32)
    assert library.draw_landmarks(first, floats(landmarks), doubles(matrix), floats(crop)) == BAD_ARGUMENT
    refused(library, "takes no landmarks beside the picture; ")
    for arguments in ((None, floats(landmarks), doubles(matrix), floats(crop)),
                      (alone, None, doubles(matrix), floats(crop)), (alone, floats(landmarks), None, floats(crop)),
                      (alone, floats(landmarks), doubles(matrix), None)):  # fmt: skip
        assert library.draw_landmarks(*arguments) == BAD_ARGUMENT
        refused(library, "; ")
    library.model_free(alone)
