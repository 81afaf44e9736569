"""Whatever is handed to the C library, it ends in a status and one line with a remedy."""

from __future__ import annotations

import ctypes
import hashlib
import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.models.shipped import ASSETS, SHIPPED, SHIPPED_PICTURE, YUNET_ONNX
from tests.runtime.library.facemesh_h import BAD_ARGUMENT, FAILED, Faces, Image, doubles, floats, image_of

pytestmark = pytest.mark.slow
REMEDY = re.compile(r"[;:] [^;]+$")
BOX = np.array([180, 70, 270, 190], np.float32)


@pytest.fixture(scope="module")
def model(library):
    return library.model_open(str(SHIPPED["int8"]).encode(), library.model_default_params())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The model with all that belongs to it, in a folder that the test may damage."""
    for path in (SHIPPED["int8"], Path(f"{SHIPPED['int8']}.json"), ASSETS / "uv_topology.npz", YUNET_ONNX,
                 ASSETS / "yunet_box_map.json"):  # fmt: skip
        shutil.copy(path, tmp_path)
    (tmp_path / "edge-int8.onnx").rename(tmp_path / "m.onnx")
    (tmp_path / "edge-int8.onnx.json").rename(tmp_path / "m.onnx.json")
    return tmp_path


def one_line(library, *words: str) -> None:
    message = library.message()
    assert "\n" not in message
    assert REMEDY.search(message), message
    assert all(word in message for word in words), message


def edit(path: Path, **changes) -> None:
    document = json.loads(path.read_text())
    for key, value in changes.items():
        inner, _, name = key.rpartition("__")
        target = document[inner] if inner else document
        if value is None:
            del target[name]
        else:
            target[name] = value
    path.write_text(json.dumps(document))


def refused(library, folder: Path, *words: str) -> None:
    assert library.model_open(str(folder / "m.onnx").encode(), library.model_default_params()) is None
    one_line(library, *words)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"family": "splines"}, "family"),
        ({"family": "coefficients"}, "output.scale"),
        ({"family": 3}, "family"),
        ({"input": None}, "input"),
        ({"input__size": 3}, "input.size"),
        ({"input__size": 64}, "input"),
        ({"input__size": "128"}, "input.size"),
        ({"input__size": 1e300}, "input.size"),
        ({"input__layout": "CHWN"}, "input.layout"),
        ({"input__value_range": [1, 0]}, "value_range"),
        ({"input__value_range": [1]}, "value_range"),
        ({"input__landmark_channel": True}, "[N, 4, 128, 128]"),
        ({"input__landmark_channel": True, "input__layout": "NHWC"}, "landmark_channel"),
        ({"input__landmark_channel": 1}, "landmark_channel"),
        ({"untrained": 0}, "untrained"),
        ({"invention": 0}, "invention"),
        ({"input__invention": 0}, "input.invention"),
        ({"output__invention": 0}, "output.invention"),
        ({"output__name": "map"}, "map"),
        ({"output__scale": -1}, "output.scale"),
        ({"crop_scale": 0}, "crop_scale"),
        ({"precision": "fp4"}, "precision"),
        ({"confidence": "certainty"}, "certainty"),
        ({"topology": "other.npz"}, "other.npz"),
        ({"onnx_sha256": "0" * 64}, "SHA-256"),
    ],
)
def test_specs(library, folder, changes, word):
    edit(folder / "m.onnx.json", **changes)
    refused(library, folder, word, str(folder))


def test_random_weights_are_told(library, folder):
    """The file opens, since it may be timed."""
    assert warnings_of(library, folder) == ""
    edit(folder / "m.onnx.json", untrained=True)
    assert "its weights are random" in warnings_of(library, folder)


def warnings_of(library, folder) -> str:
    model = library.model_open(str(folder / "m.onnx").encode(), library.model_default_params())
    assert model, library.message()
    found = library.warnings(model).decode()
    library.model_free(model)
    return found


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "\0\0", '{"family": "position_map"}', "[" * 10000])
def test_damaged_specs(library, folder, text):
    (folder / "m.onnx.json").write_text(text)
    refused(library, folder, "m.onnx.json")


@pytest.mark.parametrize("missing", ["m.onnx", "m.onnx.json", "uv_topology.npz"])
def test_missing_files(library, folder, missing):
    (folder / missing).unlink()
    refused(library, folder, missing)


@pytest.mark.parametrize("name", ["m.onnx", "uv_topology.npz"])
@pytest.mark.parametrize("keep", [0, 100, 5000, -100])
def test_files_cut_short(library, folder, name, keep):
    path = folder / name
    path.write_bytes(path.read_bytes()[:keep])
    refused(library, folder, name)


def test_topologies_that_do_not_fit(library, folder):
    with np.load(folder / "uv_topology.npz") as arrays:
        good = dict(arrays)
    bad = {
        "face_indices": good["face_indices"][::-1],
        "triangles": good["triangles"] + 40000,
        "landmark_indices": np.zeros(68, np.int32),
        "canonical_vertices": np.full_like(good["canonical_vertices"], np.nan),
        "resolution": np.int64(0),
    }
    for name, array in bad.items():
        for save in (np.savez, np.savez_compressed):
            save(folder / "uv_topology.npz", **{**good, name: array})
            refused(library, folder, "uv_topology.npz")
        np.savez(folder / "uv_topology.npz", **{key: value for key, value in good.items() if key != name})
        refused(library, folder, name)
    np.savez(folder / "uv_topology.npz", **{**good, "triangles": good["triangles"].astype(object)})
    refused(library, folder, "uv_topology.npz")


@pytest.mark.parametrize("seed", range(20))
def test_damaged_topologies(library, folder, seed):
    """Either it is refused or the damage did no harm; nothing breaks."""
    random, path = np.random.default_rng(seed), folder / "uv_topology.npz"
    content = np.frombuffer(path.read_bytes(), np.uint8).copy()
    places = np.concatenate([random.integers(0, len(content), 3), len(content) - random.integers(1, 500, 3)])
    content[places] = random.integers(0, 256, 6)
    path.write_bytes(content.tobytes())
    handle = library.model_open(str(folder / "m.onnx").encode(), library.model_default_params())
    if handle is None:
        one_line(library, "uv_topology.npz")
    library.model_free(handle)


@pytest.mark.parametrize("name", ["m", "m.tflite", "m.engine"])
def test_models_without_a_backend(library, folder, name):
    (folder / "m.onnx").rename(folder / name)
    (folder / "m.onnx.json").rename(folder / f"{name}.json")
    assert library.model_open(str(folder / name).encode(), library.model_default_params()) is None
    one_line(library, name)


@pytest.mark.parametrize(("name", "function"), [("m.onnx", "model_open"), ("m.onnx.json", "decoder_open")])
@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        ("threads", -7, "threads"), ("threads", 1000, "threads"), ("max_batch", 0, "max_batch"),
        ("max_batch", 999, "max_batch"), ("reuse_landmarks", 1, "reuse_landmarks"), ("spec", b"", "spec is empty"),
        ("topology", b"", "topology is empty"), ("landmarks_from", "model", "takes no landmarks"),
    ],
)  # fmt: skip
def test_parameters_of_models(library, model, folder, name, function, field, value, word):
    params = library.model_default_params()
    setattr(params, field, model if value == "model" else value)
    assert getattr(library, function)(str(folder / name).encode(), params) is None
    one_line(library, word)


@pytest.mark.parametrize("kind", ["model", "decoder", "detector"])
def test_empty_paths(library, kind):
    params = getattr(library, f"{kind.replace('decoder', 'model')}_default_params")()
    assert getattr(library, f"{kind}_open")(b"", params) is None
    one_line(library, "is empty; give the path of a file")


@pytest.mark.parametrize(
    ("field", "value"),
    [("score_threshold", np.nan), ("score_threshold", 2), ("side", 7), ("threads", 0), ("box_map", b"")],
)
def test_parameters_of_detectors(library, folder, field, value):
    params = library.detector_default_params()
    setattr(params, field, value)
    assert library.detector_open(str(folder / "yunet.onnx").encode(), params) is None
    one_line(library, field)


def test_detectors(library, folder):
    def refused(path: Path, *words: str) -> None:
        assert library.detector_open(str(path).encode(), library.detector_default_params()) is None
        one_line(library, *words)

    refused(folder / "none.onnx", "none.onnx")
    refused(folder / "m.onnx", "export detector")
    (folder / "yunet_box_map.json").write_text('{"coefficients": [[1, 2]]}')
    refused(folder / "yunet.onnx", "yunet_box_map.json")
    (folder / "yunet_box_map.json").unlink()
    refused(folder / "yunet.onnx", "yunet_box_map.json")


def test_a_detector_of_one_size(library, fixed_detector):
    path = fixed_detector(320, 320)
    assert library.detector_open(str(path).encode(), library.detector_default_params()) is None
    one_line(library, str(path), "export detector", "without --size")


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, np.nan, 9), (0, 0, np.inf, 9), (9, 0, 0, 9), (0, 5, 9, 5), (600, 0, 700, 9), (0, -90, 9, -50),
        (0, 0, 1e9, 9), (0, 0, 1e-4, 9), (0, 0, 9, 1e-4),
    ],
)  # fmt: skip
def test_boxes(library, model, box):
    photo, faces = cv2.imread(str(SHIPPED_PICTURE)), Faces(2)
    boxes = np.array([BOX, box], np.float32)
    assert library.from_boxes(model, image_of(photo), floats(boxes), None, 2, faces.array) == BAD_ARGUMENT
    one_line(library, "box")


@pytest.mark.parametrize("score", [np.nan, np.inf])
def test_scores(library, model, score):
    photo, scores = cv2.imread(str(SHIPPED_PICTURE)), np.array([score], np.float32)
    assert library.from_boxes(model, image_of(photo), floats(BOX), floats(scores), 1, Faces(1).array) == BAD_ARGUMENT
    one_line(library, "scores")


@pytest.mark.parametrize(
    "image",
    [
        Image(None, 9, 9, 27, 0), Image(1 << 20, 0, 9, 27, 0), Image(1 << 20, 9, -1, 27, 0),
        Image(1 << 20, 9, 9, 26, 0), Image(1 << 20, 9, 9, -27, 0), Image(1 << 20, 9, 9, 27, 5),
        Image(1 << 20, 1 << 20, 9, 1 << 30, 0),
    ],
)  # fmt: skip
def test_pictures(library, model, image):
    assert library.from_boxes(model, image, floats(BOX), None, 1, Faces(1).array) == BAD_ARGUMENT
    one_line(library, "image")


def test_null_pointers(library, model):
    image, faces, none = image_of(cv2.imread(str(SHIPPED_PICTURE))), Faces(1).array, None
    detector = library.detector_open(str(YUNET_ONNX).encode(), library.detector_default_params())
    matrix, crop = np.array([1.0, 0, 0, 0, 1, 0]), np.zeros(library.input_count(model), np.float32)
    output = np.zeros(library.output_count(model), np.float32)
    calls = [
        lambda: library.from_boxes(none, image, floats(BOX), none, 1, faces),
        lambda: library.from_boxes(model, image, none, none, 1, faces),
        lambda: library.from_boxes(model, image, floats(BOX), none, 1, none),
        lambda: library.from_boxes(model, image, floats(BOX), none, -1, faces),
        lambda: library.find(none, detector, image, faces, 1),
        lambda: library.find(model, none, image, faces, 1),
        lambda: library.find(model, detector, image, none, 1),
        lambda: library.find(model, detector, image, faces, -1),
        lambda: library.detect(none, image, none, 0),
        lambda: library.detect(detector, image, none, 1),
        lambda: library.crop_matrix(none, floats(BOX), doubles(matrix)),
        lambda: library.crop_matrix(model, none, doubles(matrix)),
        lambda: library.crop_matrix(model, floats(BOX), none),
        lambda: library.crop(none, image, doubles(matrix), floats(crop)),
        lambda: library.crop(model, image, none, floats(crop)),
        lambda: library.crop(model, image, doubles(matrix), none),
        lambda: library.infer(none, floats(crop), floats(output), none),
        lambda: library.infer(model, none, floats(output), none),
        lambda: library.infer(model, floats(crop), none, none),
        lambda: library.decode(none, floats(output), doubles(matrix), faces),
        lambda: library.decode(model, none, doubles(matrix), faces),
        lambda: library.decode(model, floats(output), none, faces),
        lambda: library.decode(model, floats(output), doubles(matrix), none),
    ]
    for number, call in enumerate(calls):
        assert call() == BAD_ARGUMENT, number
        one_line(library)
    assert library.model_open(none, library.model_default_params()) is None
    assert library.decoder_open(none, library.model_default_params()) is None
    assert library.detector_open(none, library.detector_default_params()) is None
    assert [getattr(library, f"{name}_count")(none) for name in ("vertex", "triangle", "input", "output")] == [0] * 4
    library.model_free(none)
    library.detector_free(none)
    library.detector_free(detector)


@pytest.mark.parametrize(
    "matrix",
    [[0, 0, 0, 0, 0, 0], [np.nan, 0, 0, 0, 1, 0], [1, 0, 0, 0, 5, 0], [1e-9, 0, 0, 0, 1e-9, 0], [1, 0, 0, 0, -1, 0]],
)
def test_matrices(library, model, matrix):
    crop = np.zeros(library.input_count(model), np.float32)
    image = image_of(cv2.imread(str(SHIPPED_PICTURE)))
    assert library.crop(model, image, doubles(np.array(matrix, np.float64)), floats(crop)) == BAD_ARGUMENT
    one_line(library, "matrix")


@pytest.mark.parametrize("number", [np.nan, np.inf, 0.0])
def test_outputs_that_are_no_face(library, model, number):
    output = np.full(library.output_count(model), number, np.float32)
    assert library.decode(model, floats(output), doubles(np.array([1.0, 0, 0, 0, 1, 0])), Faces(1).array) == FAILED
    one_line(library)


def test_networks_that_give_no_numbers(library):
    model = library.model_open(str(SHIPPED["fp32"]).encode(), library.model_default_params())
    crop = np.full(library.input_count(model), np.nan, np.float32)
    output, confidence = np.full(library.output_count(model), 7, np.float32), ctypes.c_float(7)
    assert library.infer(model, floats(crop), floats(output), ctypes.byref(confidence)) == FAILED
    one_line(library, "not finite")
    assert np.all(output == 7)
    assert confidence.value == 7
    library.model_free(model)


def test_confidences_that_are_no_numbers(library, folder):
    """The mesh is sound."""
    onnx = pytest.importorskip("onnx")
    network = onnx.load(SHIPPED["fp32"])
    for node in network.graph.node:
        node.output[:] = ["told" if name == "confidence" else name for name in node.output]
    network.graph.node.append(onnx.helper.make_node("Neg", ["told"], ["negative"]))
    network.graph.node.append(onnx.helper.make_node("Sqrt", ["negative"], ["confidence"]))
    (folder / "m.onnx").write_bytes(network.SerializeToString())
    shutil.copy(f"{SHIPPED['fp32']}.json", folder / "m.onnx.json")
    edit(folder / "m.onnx.json", onnx_sha256=hashlib.sha256((folder / "m.onnx").read_bytes()).hexdigest())
    model = library.model_open(str(folder / "m.onnx").encode(), library.model_default_params())
    assert model, library.message()
    image = image_of(cv2.imread(str(SHIPPED_PICTURE)))
    assert library.from_boxes(model, image, floats(BOX), None, 1, Faces(1).array) == FAILED
    one_line(library, "confidence", "not finite")
    library.model_free(model)


def test_a_decoder_has_no_network(library, model):
    decoder = library.decoder_open(f"{SHIPPED['int8']}.json".encode(), library.model_default_params())
    crop, output = (
        np.zeros(library.input_count(decoder), np.float32),
        np.zeros(library.output_count(decoder), np.float32),
    )
    assert library.infer(decoder, floats(crop), floats(output), None) == BAD_ARGUMENT
    one_line(library, "facemesh_model_open")
    assert library.decoder_open(b"nowhere.json", library.model_default_params()) is None
    one_line(library, "nowhere.json")
    library.model_free(decoder)
