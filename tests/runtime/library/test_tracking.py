"""The C library follows the people of a film as the Python runtime does: the same numbers, the same points."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import pytest

from runtime import FaceMeshPipeline, YuNetDetector, open_runner
from runtime.models.shipped import SHIPPED, SHIPPED_PICTURE, YUNET_ONNX
from runtime.tracking.options import Smoothing, Tracking
from tests.runtime.library.comparing import MOST, compare_film, moving_portrait
from tests.runtime.library.facemesh_h import BAD_ARGUMENT, Faces, image_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def handles(library) -> Iterator[tuple[int, int]]:
    """An open model and an open detector."""
    model = library.model_open(str(SHIPPED["int8"]).encode(), library.model_default_params())
    detector = library.detector_open(str(YUNET_ONNX).encode(), library.detector_default_params())
    assert model, library.message()
    assert detector, library.message()
    yield model, detector
    library.detector_free(detector)
    library.model_free(model)


def assert_same_film(library, handles, frames: Sequence[np.ndarray], settings: Tracking, **changes) -> set[int]:
    """Compare both runtimes frame by frame; return the numbers of all people."""
    with open_runner(SHIPPED["int8"]) as runner:
        pipeline = FaceMeshPipeline(runner, YuNetDetector(), tracking=settings)
        return compare_film(library, *handles, pipeline, frames, **changes)


def test_a_portrait_that_moves(library, handles):
    assert assert_same_film(library, handles, moving_portrait(90), Tracking()) == {1}


def test_settings(library, handles):
    frames = moving_portrait(20)
    assert_same_film(library, handles, frames, Tracking(smoothing=None), smooth=0)
    assert_same_film(library, handles, frames, Tracking(max_faces=1, redetect_s=0.2), max_faces=1, redetect_s=0.2)
    assert Smoothing().points.beta == library.tracker_default_params().beta


def test_a_film(library, handles, shared_data):
    capture, frames = cv2.VideoCapture(str(shared_data / "video" / "obama.mp4")), []
    while len(frames) < 50:
        frames.append(capture.read()[1])
    assert assert_same_film(library, handles, frames, Tracking()) == {1}


def test_groups_that_move_and_cuts_between_them(library, handles, shared_data):
    group, crowd = (cv2.imread(str(shared_data / "photos" / f"{name}.jpg")) for name in ("group", "crowd_profiles"))
    frames = [np.roll(crowd, 4 * shift, axis=1) for shift in range(20)] + [group] * 10
    frames += [np.roll(crowd, 80, axis=1)] * 10 + [np.roll(group, -16 * shift, axis=1) for shift in range(15)]
    assert len(assert_same_film(library, handles, frames, Tracking())) > 20


def test_frames_of_another_size(library, handles, shared_data):
    """People who are lost at that moment stay known, too."""
    group = cv2.imread(str(shared_data / "photos" / "group.jpg"))
    covered = group.copy()
    covered[:, : group.shape[1] // 2] = 127
    frames = [group] * 8 + [covered] * 3 + [cv2.resize(covered, None, fx=0.5, fy=0.5)] * 3
    frames += [cv2.resize(group, None, fx=0.5, fy=0.5)] * 8 + [cv2.resize(group, (400, 400))] * 3
    assert len(assert_same_film(library, handles, frames, Tracking())) > 5


def test_landmarks_alone_and_another_size(library, handles):
    params = library.tracker_default_params()
    params.vertices = 0
    tracker, faces = library.tracker_new(*handles, params), Faces(MOST)
    for number, frame in enumerate(moving_portrait(6)):
        picture = cv2.resize(frame, None, fx=0.5, fy=0.5) if number > 2 else frame
        assert library.track(tracker, image_of(picture), ctypes.c_double(math.nan), faces.array, MOST) == 1
        assert faces.array[0].track == 1
    assert library.track(tracker, image_of(frame), ctypes.c_double(0), Faces(1, 43867).array, 1) == BAD_ARGUMENT
    assert "vertices" in library.message()
    assert library.tracker_forget(tracker) == 0
    library.tracker_free(tracker)


@pytest.mark.parametrize(
    ("field", "value"), [("max_faces", -1), ("redetect_s", 0), ("redetect_s", math.nan), ("cutoff_hz", 0), ("beta", -1)]
)
def test_parameters(library, handles, field, value):
    params = library.tracker_default_params()
    setattr(params, field, value)
    assert library.tracker_new(*handles, params) is None
    assert field in library.message()
    assert ";" in library.message()


def test_null_pointers(library, handles):
    params, image = library.tracker_default_params(), image_of(cv2.imread(str(SHIPPED_PICTURE)))
    assert library.tracker_new(None, handles[1], params) is None
    assert library.tracker_new(handles[0], None, params) is None
    tracker = library.tracker_new(*handles, params)
    for call in (
        lambda: library.track(None, image, ctypes.c_double(0), None, 0),
        lambda: library.track(tracker, image, ctypes.c_double(0), None, 1),
        lambda: library.track(tracker, image, ctypes.c_double(0), None, -1),
        lambda: library.tracker_forget(None),
    ):
        assert call() == BAD_ARGUMENT
    library.tracker_free(None)
    library.tracker_free(tracker)
