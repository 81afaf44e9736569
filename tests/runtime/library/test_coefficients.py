"""Networks of face-model coefficients in the C library: with pose and without, whole meshes and landmarks alone."""

from __future__ import annotations

import ctypes
import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime import FaceMeshPipeline, YuNetDetector, open_runner
from runtime.errors import FaceMeshError
from runtime.models.shipped import SHIPPED_PICTURE, YUNET_ONNX
from runtime.models.spec import ModelSpec
from runtime.tracking.options import Tracking
from runtime.types import Frame
from tests.runtime.library.comparing import (
    MOST,
    TOLERANCE_PX,
    assert_same,
    compare,
    compare_film,
    fifty_pictures,
    moving_portrait,
    open_model,
)
from tests.runtime.library.facemesh_h import FAILED, Faces, doubles, floats, image_of

pytest.importorskip("onnx")
from tests.standins.coefficient_network import save_face_model, write_toy_model

pytestmark = pytest.mark.slow  # the library is built first


@pytest.fixture(scope="module")
def mb05(shared_data, tmp_path_factory) -> Path:
    """3DDFA_V2's network with 3DDFA's face model."""
    pytest.importorskip("torch", reason="needs torch")
    pytest.importorskip("onnxsim", reason="needs onnxsim")
    from export.__main__ import main

    path = tmp_path_factory.mktemp("mb05") / "mb05.onnx"
    options = ["--weights", shared_data / "models" / "mb05_120x120.pth", "--face-model", shared_data / "face_model.npz"]
    assert main(["onnx", "--arch", "mb05", *map(str, options), "-o", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def detector(library):
    handle = library.detector_open(str(YUNET_ONNX).encode(), library.detector_default_params())
    assert handle, library.message()
    yield handle
    library.detector_free(handle)


def toy(folder: Path, pose_count: int = 12, precision: str = "fp32") -> Path:
    return write_toy_model(folder, precision, pose_count)


def test_3ddfa_on_fifty_pictures(library, detector, mb05, shared_data):
    model = open_model(library, mb05)
    assert library.vertex_count(model) == 53215
    with open_runner(mb05) as runner:
        pipeline = FaceMeshPipeline(runner, YuNetDetector())
        pictures = fifty_pictures(shared_data)
        assert sum(compare(library, model, detector, pipeline, picture) for picture in pictures) > 60
    library.model_free(model)


def test_3ddfa_follows_a_portrait(library, detector, mb05):
    """Its network tells no confidence, so the detector looks more often."""
    model = open_model(library, mb05)
    with open_runner(mb05) as runner:
        pipeline = FaceMeshPipeline(runner, YuNetDetector(), tracking=Tracking())
        assert compare_film(library, model, detector, pipeline, moving_portrait(40)) == {1}
        pipeline = FaceMeshPipeline(runner, YuNetDetector(), tracking=Tracking(), dense=False)
        assert compare_film(library, model, detector, pipeline, moving_portrait(12), vertices=0) == {1}
    library.model_free(model)


@pytest.mark.parametrize("pose_count", [12, 0])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_precision_of_a_face_model(library, detector, tmp_path, pose_count, precision):
    path = toy(tmp_path, pose_count, precision)
    model, photo = open_model(library, path), cv2.imread(str(SHIPPED_PICTURE))
    assert compare_known_boxes(library, model, path, photo) == 3
    with open_runner(path) as runner:
        pipeline = FaceMeshPipeline(runner, YuNetDetector())
        assert compare(library, model, detector, pipeline, photo) == 1
    library.model_free(model)


def compare_known_boxes(library, model, path, photo) -> int:
    """Compare an odd number of faces of one picture, with vertices and without."""
    boxes = np.array([[180, 70, 270, 190], [150, 60, 290, 200], [-50, -40, 120, 90]], np.float32)
    for dense in (True, False):
        faces = Faces(len(boxes), library.vertex_count(model) if dense else 0)
        count = library.from_boxes(model, image_of(photo), floats(boxes), None, len(boxes), faces.array)
        assert count == len(boxes), library.message()
        with open_runner(path) as runner:
            assert_same(faces.meshes(count), FaceMeshPipeline(runner, dense=dense).from_boxes(photo, boxes))
    return count


@pytest.mark.parametrize("pose_count", [12, 0])
def test_toys_on_fifty_pictures(library, detector, tmp_path, shared_data, pose_count):
    """A network without a pose, as UH-E2FAR was published, and one with."""
    path = toy(tmp_path, pose_count)
    model = open_model(library, path)
    with open_runner(path) as runner:
        pipeline = FaceMeshPipeline(runner, YuNetDetector())
        pictures = fifty_pictures(shared_data)
        assert sum(compare(library, model, detector, pipeline, picture) for picture in pictures) > 60
    library.model_free(model)


def test_faces_that_shrink_to_a_point_end_in_one_line(library, detector, tmp_path):
    """The toy's faces do so when they are followed; Python refuses their box."""
    path = toy(tmp_path)
    model = open_model(library, path)
    tracker = library.tracker_new(model, detector, library.tracker_default_params())
    outcomes = []
    with open_runner(path) as runner:
        pipeline = FaceMeshPipeline(runner, YuNetDetector(), tracking=Tracking())
        for number, frame in enumerate(moving_portrait(40)):
            count = library.track(tracker, image_of(frame), ctypes.c_double(number / 25), Faces(MOST).array, MOST)
            try:
                assert count == len(pipeline(Frame(frame, number, number / 25, "film"))), number
            except FaceMeshError:
                assert count == FAILED
                assert "shrunk to a point" in library.message()
            outcomes.append(count)
    assert set(outcomes) >= {1, FAILED}
    library.tracker_free(tracker)
    library.model_free(model)


def test_the_mesh_is_the_face_model_s(library, tmp_path):
    path = toy(tmp_path)
    model = open_model(library, path)
    with open_runner(path) as runner:
        topology = FaceMeshPipeline(runner).family.topology
    triangles = np.ctypeslib.as_array(library.triangles(model), (library.triangle_count(model), 3))
    assert np.array_equal(triangles, topology.triangles)
    uv = np.ctypeslib.as_array(library.texture_coordinates(model), (library.vertex_count(model), 2))
    assert np.array_equal(uv, topology.uv)
    landmarks = np.ctypeslib.as_array(library.landmark_vertices(model), (68,))
    assert np.array_equal(landmarks, topology.landmark_vertices)
    library.model_free(model)


def test_a_decoder_for_a_network_that_runs_elsewhere(library, tmp_path):
    path = toy(tmp_path)
    decoder = library.decoder_open(f"{path}.json".encode(), library.model_default_params())
    assert library.output_count(decoder) == 15
    output, matrix = np.linspace(-1, 1, 15, dtype=np.float32), np.array([0.4, 0.1, 9, -0.1, 0.4, 7])
    faces = Faces(1, library.vertex_count(decoder))
    assert library.decode(decoder, floats(output), doubles(matrix), faces.array) == 0
    with open_runner(path) as runner:
        vertices, _ = FaceMeshPipeline(runner).family.decoder()(output, matrix.reshape(2, 3))
    assert np.abs(faces.vertices[0] - vertices).max() <= TOLERANCE_PX
    library.model_free(decoder)


def test_places_of_a_face_model(library, tmp_path):
    """Where the spec says, or a file of that name beside the model, or the parameter."""
    folder = tmp_path / "far"
    folder.mkdir()
    path = toy(tmp_path)
    document = json.loads(Path(f"{path}.json").read_text())
    document["topology"] = "far/face_model.npz"
    Path(f"{path}.json").write_text(json.dumps(document))
    for place in ("far/face_model.npz", "face_model.npz", "elsewhere.npz"):
        for found in tmp_path.rglob("*.npz"):
            shutil.move(found, tmp_path / place)
        fields = {"topology": str(tmp_path / place).encode()} if place == "elsewhere.npz" else {}
        library.model_free(open_model(library, path, **fields))
    params = library.model_default_params()
    assert library.model_open(str(path).encode(), params) is None
    assert "face_model.npz: no such file; a network of coefficients needs the face model" in library.message()


MODEL_FAULTS = [
    ({"mean": np.zeros((288, 3), np.float32)}, r"mean has shape \(288, 3\), expected \(289, 3\)"),
    ({"exp_basis": np.zeros((3, 1), np.float32)}, r"exp_basis has shape \(3, 1\), expected \(867, -1\)"),
    ({"exp_basis": np.zeros(867, np.float32)}, "exp_basis has shape"),
    ({"exp_basis": np.zeros((867, 10), np.float32)}, r"its 2 \+ 10 coefficients .* not the network's 2 \+ 1"),
    ({"exp_basis": np.full((867, 1), np.nan, np.float32)}, "exp_basis must be finite floating-point numbers"),
    ({"exp_basis": np.zeros((867, 1), np.float16)}, "must both be float32, float16 or int8, are float32 and float16"),
    ({"exp_basis": np.zeros((867, 1), np.int32), "shape_basis": np.zeros((867, 2), np.int32)}, "shape_basis"),
    ({"exp_basis": np.zeros((867, 1), np.int8), "shape_basis": np.zeros((867, 2), np.int8)}, "there is no basis_scale"),
    ({"uv": np.float32(0)}, "has shape"),
    ({"uv": np.full((289, 2), 1.5, np.float32)}, "uv must lie in 0..1"),
    ({"uv": np.full((289, 2), np.inf, np.float32)}, "uv must be finite"),
    ({"mean": np.zeros((289, 3), np.int64)}, "mean must be finite floating-point numbers"),
    ({"mean": np.full((289, 3), "a")}, "mean must be finite floating-point numbers"),
    ({"triangles": np.full((5, 3), 289)}, "triangles must be vertex numbers below 289"),
    ({"triangles": np.zeros((5, 4), int)}, "triangles has shape"),
    ({"keypoints68": np.full(68, -1)}, "keypoints68 must be vertex numbers"),
    ({"keypoints68": np.zeros(67, int)}, "keypoints68 has shape"),
    ({"symmetry": np.zeros(289)}, "symmetry must be vertex numbers"),
    ({"mean": np.array([{"x": 1}], dtype=object)}, "neither numbers nor text"),
    ({"mean": None}, "lacks mean; a face model has the arrays mean, shape_basis"),
    ({"mean": None, "uv": None}, "lacks mean, uv"),
]
SCALE_FAULTS = [
    ({"basis_scale": np.zeros((4, 3, 3), np.float32)}, "basis_scale has shape"),
    ({"basis_scale": np.full((5, 3, 3), -1, np.float32)}, "basis_scale must be finite floating-point numbers, not neg"),
    ({"basis_scale": np.ones((5, 3, 3), int)}, "basis_scale must be finite floating-point numbers, not negative"),
]


@pytest.mark.parametrize(
    ("precision", "changes", "words"),
    [*(("fp32", *fault) for fault in MODEL_FAULTS), *(("int8", *fault) for fault in SCALE_FAULTS)],
)
def test_unfit_face_models_end_in_python_s_line(library, tmp_path, precision, changes, words):
    """Every check of Python's reader, in its words; the words of NumPy itself are others."""
    path = toy(tmp_path, precision=precision)
    target = tmp_path / "face_model.npz"
    arrays = {**np.load(target), **changes}
    np.savez(target, **{name: values for name, values in arrays.items() if values is not None})
    assert library.model_open(str(path).encode(), library.model_default_params()) is None
    assert library.message().startswith(f"{target}: ")
    assert re.search(words, library.message()), library.message()
    assert "; " in library.message()
    with open_runner(path) as runner, pytest.raises(FaceMeshError) as caught:
        FaceMeshPipeline(runner)
    if "neither" not in words:
        assert re.search(words, str(caught.value)), caught.value


def test_damaged_face_models(library, tmp_path):
    """Cut short, without content, with other bytes: one line that names the file."""
    path = toy(tmp_path)
    target = tmp_path / "face_model.npz"
    content, chance = target.read_bytes(), np.random.default_rng(0)
    cases = [content[: len(content) // 2], b"", b"no archive", content[:-22]]
    for _ in range(40):
        changed = bytearray(content)
        for place in chance.integers(0, len(content), 4):
            changed[place] ^= 1 << int(chance.integers(8))
        cases.append(bytes(changed))
    refused = 0
    for case in cases:
        target.write_bytes(case)
        handle = library.model_open(str(path).encode(), library.model_default_params())
        if handle is None:
            refused += 1
            assert library.message().startswith(f"{target}: ")
            assert "\n" not in library.message()
        library.model_free(handle)
    assert refused >= 40  # the checksums of the entries tell; bytes that nobody reads may be others


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("pose_count", 7, "field output.pose_count must be 12 or 0, is 7"),
        ("mean", [0.0] * 14, r"mean must be 15 finite numbers \(12 pose \+ 2 shape \+ 1 expression\), are 14"),
        ("std", [1.0] * 14 + [0.0], "std must be positive numbers, the least is"),
        ("shape_count", 3, "must be 16 finite numbers"),
        ("expression_count", -1, "expression_count"),
        ("origin", [0.0], "field (output.)?origin"),
        ("origin", "middle", "field (output.)?origin"),
        ("invention", 1, "invention"),
        ("std", None, "std"),
    ],
)
def test_specs_that_contradict_themselves(library, tmp_path, field, value, words):
    path = toy(tmp_path)
    spec = ModelSpec.path_for(path)
    document = json.loads(spec.read_text())
    document["output"][field] = value
    if value is None:
        del document["output"][field]
    spec.write_text(json.dumps(document))
    assert library.model_open(str(path).encode(), library.model_default_params()) is None
    assert re.search(words, library.message()), library.message()
    assert "; " in library.message()
    with pytest.raises(FaceMeshError, match=words):
        ModelSpec.load(spec)


def test_a_split_without_coefficients(library, tmp_path):
    path = toy(tmp_path)
    spec = ModelSpec.path_for(path)
    document = json.loads(spec.read_text())
    document["output"] |= {"shape_count": 0, "expression_count": 0, "mean": [0.0] * 12, "std": [1.0] * 12}
    spec.write_text(json.dumps(document))
    assert library.model_open(str(path).encode(), library.model_default_params()) is None
    assert "must be counts, not both 0" in library.message()


def test_face_models_as_programs_write_them(library, tmp_path):
    """By columns, in another order of bytes, with arrays that nobody asked for."""
    path = toy(tmp_path)
    photo, box = cv2.imread(str(SHIPPED_PICTURE)), np.array([180, 70, 270, 190], np.float32)

    def mesh(**changes) -> np.ndarray:
        target = save_face_model(tmp_path / "face_model.npz")
        arrays = {**np.load(target), **changes}
        np.savez_compressed(target, **arrays)
        model = open_model(library, path)
        faces = Faces(1, library.vertex_count(model))
        assert library.from_boxes(model, image_of(photo), floats(box), None, 1, faces.array) == 1
        library.model_free(model)
        return faces.vertices[0].copy()

    plain, arrays = mesh(), np.load(tmp_path / "face_model.npz")
    basis, mean, triangles = arrays["shape_basis"], arrays["mean"], arrays["triangles"]
    assert np.array_equal(mesh(shape_basis=np.asfortranarray(basis), mean=mean.astype(">f8")), plain)
    assert np.array_equal(mesh(triangles=triangles.astype(np.uint16), names=np.array(["a", "bc"])), plain)
    assert np.array_equal(mesh(notes=np.array([{"x": 1}], dtype=object)), plain)
    assert np.array_equal(
        mesh(shape_basis=basis.astype(np.float64), exp_basis=arrays["exp_basis"].astype(float)), plain
    )
