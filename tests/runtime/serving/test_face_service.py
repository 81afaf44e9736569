"""Many pictures at once: the faces of the pipeline, errors of their own, bounded memory."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from runtime.cuda.driver import Device
from runtime.detection.yunet import YuNetDetector
from runtime.errors import FaceMeshError
from runtime.inference.open_runner import open_runner
from runtime.pipeline import FaceMeshPipeline
from runtime.serving import face_service, model_folder
from runtime.serving.face_service import FaceService, Picture
from runtime.serving.triton_tensors import INPUTS, face_tensors, outputs, requested_pictures
from runtime.types import Detections

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def content(portrait) -> bytes:
    return portrait.read_bytes()


@pytest.fixture(scope="module")
def service():
    with open_runner() as runner, FaceService(runner, workers=2) as service:
        yield service


def test_threads_share_a_detector_that_is_given(content):
    asked = []

    def nobody(image):
        asked.append(image.shape)
        return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))

    with open_runner() as runner, FaceService(runner, nobody, workers=2) as service:
        assert list(service([Picture(content, str(number)) for number in range(4)])) == [[]] * 4
    assert len(asked) == 4


class Broken:
    """Boxes that cannot even be looked at."""

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        raise RuntimeError("a bug of ours")


def test_every_picture_gets_the_faces_of_the_pipeline_or_its_own_error(service, content, caplog):
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    with open_runner() as runner:
        pipeline = FaceMeshPipeline(runner, YuNetDetector())
        (expected,) = pipeline(image)
        (by_box,) = pipeline.from_boxes(image, expected.box_xyxy[None])
    pictures = [
        Picture(content, "good"),
        Picture(b"", "empty"),
        Picture(content[:999], "cut"),
        Picture(image[:, ::-1], "mirrored"),  # no contiguous array
        Picture(image, "boxes", expected.box_xyxy[None]),
        Picture(image, "no boxes", np.zeros((0, 4))),
        Picture(image, "far box", np.array([[9e3, 9e3, 9.1e3, 9.1e3]])),
        Picture(image.astype(np.float32), "floats"),
        Picture(image, "a bug", Broken()),
        Picture(content, "last"),
    ]
    found = dict(zip((picture.name for picture in pictures), service(pictures, dense=True), strict=True))
    errors = {name: str(result) for name, result in found.items() if isinstance(result, FaceMeshError)}
    assert {*errors} == {"empty", "cut", "far box", "floats", "a bug"}
    assert all(text.startswith(f"{name}: ") and text.count(f"{name}: ") == 1 for name, text in errors.items())
    assert "uint8" in errors["floats"]
    assert "Traceback" in caplog.text
    for name in ("good", "last"):
        np.testing.assert_array_equal(found[name][0].vertices, expected.vertices)
        assert found[name][0].score == expected.score
    np.testing.assert_array_equal(found["boxes"][0].landmarks, by_box.landmarks)
    assert (len(found["mirrored"]), found["no boxes"]) == (1, [])


def test_without_vertices_the_landmarks_are_the_same(service, content):
    sparse, dense = (next(service([Picture(content, "p")], dense=dense))[0] for dense in (False, True))
    assert (sparse.vertices.shape, dense.vertices.shape) == ((0, 3), (service.vertex_count, 3))
    np.testing.assert_array_equal(sparse.landmarks, dense.landmarks)


def test_only_a_few_pictures_are_in_memory_at_once(service):
    """The pictures come from a generator: it is not read further than the threads, and one, are ahead."""
    taken, done = [], 0

    def pictures():
        for number in range(20):
            taken.append(number)
            yield Picture(np.full((32, 32, 3), number, np.uint8), str(number), np.zeros((0, 4)))

    for _ in service(pictures()):
        done += 1
        assert len(taken) - done <= 2
    assert done == 20


def test_a_dead_device_ends_the_stream(service, monkeypatch, content):
    class Dead(FaceMeshError):
        is_fatal = True

    def fail(*_):
        raise Dead("the GPU is gone")

    monkeypatch.setattr(face_service.FaceMeshPipeline, "from_detections", fail)
    with pytest.raises(FaceMeshError, match="gone"):
        list(service([Picture(content, "p")] * 9))


def test_threads_have_detectors_of_their_own(monkeypatch, content):
    """Two pictures are searched at the same moment."""
    barrier = threading.Barrier(2, timeout=20)

    class Detector(YuNetDetector):
        def __call__(self, image):
            barrier.wait()
            return super().__call__(image)

    monkeypatch.setattr(face_service, "YuNetDetector", Detector)
    with open_runner() as runner, FaceService(runner, workers=2) as service:
        assert [len(faces) for faces in service([Picture(content, "p")] * 4)] == [1] * 4


def test_tensors_hold_the_faces_of_all_pictures_in_order(service, content):
    found = list(service([Picture(content, "a"), Picture(np.zeros((64, 64, 3), np.uint8), "b"), Picture(content, "c")]))
    specs = {tensor.name: tensor for tensor in outputs(service.vertex_count)}
    arrays = face_tensors(found, [name for name in specs if name != "vertices"], service.vertex_count)
    assert arrays["faces"].tolist() == [[1], [0], [1]]
    for name, array in arrays.items():
        assert array.shape[1:] == specs[name].shape
        assert array.dtype == {"TYPE_INT32": np.int32, "TYPE_FP32": np.float32}[specs[name].data_type]
    np.testing.assert_array_equal(arrays["landmarks"][1], found[2][0].landmarks)
    assert face_tensors([[]], ["vertices"], 7)["vertices"].shape == (0, 7, 3)
    unsure = SimpleNamespace(confidence=None)
    assert np.isnan(face_tensors([[unsure]], ["confidence"], 7)["confidence"]).all()
    assert {tensor.name for tensor in INPUTS} == {"encoded", "pixels", "boxes"}


def test_requests_become_pictures_and_rows_of_nan_no_boxes():
    box = [1, 2, 3, 4]
    pictures = requested_pictures(
        np.array([[b"a"], [b"b"]], object), None, np.float32([[box, [np.nan] * 4], [box, box]])
    )
    assert [(picture.content, len(picture.boxes_xyxy)) for picture in pictures] == [(b"a", 1), (b"b", 2)]
    (picture,) = requested_pictures(None, np.zeros((1, 4, 5, 3), np.uint8), None)
    assert (picture.content.shape, picture.boxes_xyxy) == ((4, 5, 3), None)
    for wrong in ((None, None, None), (np.array([[b"a"]]), np.zeros((1, 4, 5, 3)), None)):
        with pytest.raises(FaceMeshError, match="one of the two"):
            requested_pictures(*wrong)
    with pytest.raises(FaceMeshError, match="boxes are for 2 pictures"):
        requested_pictures(np.array([[b"a"]], object), None, np.zeros((2, 1, 4)))


def test_of_several_engines_the_device_chooses(tmp_path, engine, monkeypatch):
    folder = tmp_path / "models"
    folder.mkdir()
    with pytest.raises(FaceMeshError, match="no model file in it"):
        model_folder.model_in(folder)
    text = (tmp_path / "live.engine.json").read_text()
    capability = next(part for part in text.split('"compute_capabilities": [')[1].split('"') if "." in part)
    for name, known in (("a", "7.5"), ("b", capability)):
        (folder / f"{name}.plan").write_bytes(b"")
        (folder / f"{name}.plan.json").write_text(text.replace(f'"{capability}"', f'"{known}"'))
    monkeypatch.setattr(model_folder, "find_device", lambda: Device("Orin", capability))
    assert model_folder.model_in(folder).name == "b.plan"
    monkeypatch.setattr(model_folder, "find_device", lambda: Device("T4", "6.1"))
    with pytest.raises(FaceMeshError, match=r"no engine for T4 of compute capability 6\.1"):
        model_folder.model_in(folder)
    monkeypatch.setattr(model_folder, "find_device", lambda: None)
    with pytest.raises(FaceMeshError, match="no CUDA device is found here"):
        model_folder.model_in(folder)


@pytest.mark.parametrize(
    ("visible", "number", "shown"),
    [(None, 1, "1"), ("", 0, "0"), ("2,3", 1, "3"), ("GPU-a, GPU-b", 0, "GPU-a"), ("5", 1, "1")],
)
def test_an_instance_sees_its_own_device_alone(monkeypatch, visible, number, shown):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    model_folder.show_one_device(number)
    assert model_folder.os.environ["CUDA_VISIBLE_DEVICES"] == shown
