"""Opening and running models."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from runtime.errors import FaceMeshError
from runtime.families.position_map import Decoder
from runtime.families.table import open_family
from runtime.geometry.crop import crop_into, crop_matrix
from runtime.inference.open_runner import open_runner
from runtime.models.shipped import SHIPPED
from runtime.models.spec import ModelSpec
from runtime.pipeline import FaceMeshPipeline
from runtime.storage.whole_files import file_sha256

# What every runner must do


@pytest.fixture(params=["onnx", "engine"])
def open_any(request, tmp_path):
    """``open_any(model, max_batch)``: a runner of the model itself, or of an engine of it on the stand-in of a GPU."""

    def open_any(model, max_batch=8):
        if request.param == "onnx":
            return open_runner(model, max_batch)
        request.getfixturevalue("gpu_machine")()
        from tests.standins.fake_engine import write_engine

        onnx = pytest.importorskip("onnx", reason="needs onnx to look at a model")
        batch = onnx.load(model).graph.input[0].type.tensor_type.shape.dim[0].dim_value
        return open_runner(
            write_engine(tmp_path / "contract.engine", model, batch=(batch,) * 3 if batch else (1, 1, 8)), max_batch
        )

    return open_any


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("batch", ["N", 4])
def test_rows_of_a_batch_are_independent_and_depend_on_their_input(open_any, write_model, tmp_path, layout, batch):
    with open_any(write_model(tmp_path / "m.onnx", batch=batch, layout=layout), max_batch=4) as runner:
        assert runner.max_batch == 4
        runner.input[:] = np.linspace(-1, 1, 4)[:, None, None, None]
        four = runner.infer(4).copy()
        two = runner.infer(2)
        assert four.shape == ((4, 3, 64, 64) if layout == "NCHW" else (4, 64, 64, 3))
        np.testing.assert_array_equal(two, four[:2])
        x = four[:, 0] if layout == "NCHW" else four[..., 0]
        np.testing.assert_allclose(
            (x - x[0]).mean(axis=(1, 2)) * runner.spec.output.scale, 10 * np.linspace(0, 2, 4), atol=1e-3
        )


def test_input_and_output_are_the_same_memory_every_time(open_any, live_model):
    with open_any(live_model) as runner:
        address, first = runner.input.ctypes.data, runner.infer(1)
        runner.input[:] = 0.5
        second = runner.infer(1)
        assert runner.input.ctypes.data == address
        assert np.shares_memory(first, second)
        assert first[0, 0, 0, 0] == second[0, 0, 0, 0]


@pytest.mark.parametrize("batch", ["N", 4])
def test_confidences_of_a_batch(open_any, write_model, tmp_path, batch):
    with open_any(write_model(tmp_path / "m.onnx", batch=batch, confidence=True), max_batch=4) as runner:
        runner.input[:] = np.linspace(-1, 1, 4)[:, None, None, None]
        runner.infer(4)
        np.testing.assert_allclose(runner.confidence, np.linspace(0, 1, 4), atol=1e-3)
        first = runner.confidence
        runner.input[:] = 0.5
        runner.infer(2)
        assert runner.confidence is first
        np.testing.assert_allclose(first[:2], 0.75, atol=1e-3)
        assert first.shape == (4,)


def test_model_without_confidence(open_any, live_model):
    with open_any(live_model) as runner:
        runner.infer(1)
        assert runner.confidence is None


@pytest.mark.parametrize("n", [0, 9])
def test_batch_size_out_of_range(open_any, live_model, n):
    with open_any(live_model, max_batch=8) as runner, pytest.raises(ValueError, match=r"must be 1\.\.8, is"):
        runner.infer(n)


def test_a_mesher_crops_runs_and_decodes(open_any, live_model, topology):
    image = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    matrices = [crop_matrix(box, 1.6, 128) for box in ((50, 60, 120, 140), (200, 20, 260, 90), (10, 10, 290, 190))]
    with open_any(live_model, max_batch=2) as runner:
        decode, mesher = Decoder(topology, runner.spec), runner.mesher(open_family(runner.spec, topology))
        for _ in range(5):
            mesher.submit(image, matrices)
            meshes = mesher.collect()
        for (vertices, landmarks, _), matrix in zip(meshes, matrices, strict=True):
            crop_into(image, matrix, runner.spec.input, runner.input[0])
            wanted_vertices, wanted_landmarks = decode(np.ascontiguousarray(runner.infer(1)[0]), matrix)
            np.testing.assert_allclose(vertices, wanted_vertices, atol=0.01)
            np.testing.assert_allclose(landmarks, wanted_landmarks, atol=0.01)
        mesher.submit(image, matrices)
        mesher.discard()
        mesher.submit(image, [])
        assert mesher.collect() == []


def test_closing_twice_is_harmless(open_any, live_model):
    with open_any(live_model) as runner:
        runner.infer(1)
        runner.close()


# Opening


@pytest.mark.parametrize(("max_batch", "threads"), [(0, None), (8, 0)])
def test_numbers_below_one(live_model, max_batch, threads):
    with pytest.raises(ValueError, match="at least 1"):
        open_runner(live_model, max_batch, threads)


@pytest.mark.parametrize("precision", SHIPPED)
def test_shipped_models_open_and_are_alive(precision):
    with open_runner(precision=precision) as runner:
        runner.input[:] = np.random.default_rng(0).uniform(*runner.spec.input.value_range, runner.input.shape)
        assert runner.infer(2).std(axis=0).max() * runner.spec.output.scale > 0.01
        assert runner.spec.precision == precision
        assert runner.spec.onnx_sha256 == file_sha256(SHIPPED[precision])


@pytest.mark.parametrize(("byte_products", "precision"), [(True, "int8"), (False, "fp32")])
def test_shipped_model_follows_the_processor(monkeypatch, byte_products, precision):
    monkeypatch.setattr("runtime.models.shipped.has_byte_products", lambda: byte_products)
    with open_runner() as runner:
        assert runner.spec.precision == precision


def test_precision_that_is_not_shipped():
    with pytest.raises(FaceMeshError, match=r"no precision int4; choose from fp32, fp16, int8"):
        open_runner(precision="int4")


def test_precision_of_a_given_model(live_model):
    with pytest.raises(
        FaceMeshError, match=r"precision fp32 chooses a form of the shipped model; leave one of the two"
    ):
        open_runner(live_model, precision="fp32")


@pytest.mark.parametrize("byte_products", [True, False])
def test_sums_of_byte_products_never_saturate(monkeypatch, byte_products):
    """The exact and slower way is only for processors that need it."""
    from runtime.inference.onnx_runner import session_options

    monkeypatch.setattr("runtime.inference.onnx_runner.has_byte_products", lambda: byte_products)
    options = session_options(1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    if byte_products:
        with pytest.raises(RuntimeError, match=r"session\.x64quantprecision"):
            options.get_session_config_entry("session.x64quantprecision")
    else:
        assert options.get_session_config_entry("session.x64quantprecision") == "1"


def test_missing_file(tmp_path):
    with pytest.raises(FaceMeshError, match=r"nothing\.onnx: no model file there"):
        open_runner(tmp_path / "nothing.onnx")


def test_other_suffix(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"x")
    with pytest.raises(FaceMeshError, match=r"photo\.jpg: no runner for \.jpg; give an \.onnx model or an \.engine"):
        open_runner(path)


def test_missing_spec(live_model, tmp_path):
    path = tmp_path / "m.onnx"
    shutil.copy(live_model, path)
    with pytest.raises(FaceMeshError, match=r"m\.onnx\.json: no model spec there"):
        open_runner(path)


def test_spec_of_another_version(write_model, tmp_path):
    path = write_model(tmp_path / "m.onnx", onnx_sha256="ab" * 32)
    with pytest.raises(FaceMeshError, match=r"m\.onnx: its SHA-256 .* is not the abababababab"):
        open_runner(path)


@pytest.mark.parametrize("content", [b"", b"this is no ONNX file\n" * 50, b"\x08\x07"])
def test_no_onnx_file(live_model, tmp_path, content):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    spec = ModelSpec.load(ModelSpec.path_for(live_model))
    dataclasses.replace(spec, onnx_sha256=file_sha256(path)).save(ModelSpec.path_for(path))
    with pytest.raises(FaceMeshError, match=r"m\.onnx: ONNX Runtime cannot load it") as caught:
        open_runner(path)
    assert "\n" not in str(caught.value)


def test_unknown_family(write_model, tmp_path):
    path = write_model(tmp_path / "m.onnx")
    spec = ModelSpec.path_for(path)
    spec.write_text(spec.read_text().replace('"position_map",', '"hologram",', 1))
    with pytest.raises(FaceMeshError, match="field family must be one of position_map, coefficients, is 'hologram'"):
        open_runner(path)


@pytest.mark.parametrize(
    ("part", "field", "value", "message"),
    [
        ("input", "name", "photo", "the input photo"),
        ("input", "size", 160, "the input image"),
        ("input", "layout", "NHWC", "the input image"),
        ("output", "name", "map", "the output map"),
        ("output", "size", 128, "the output position_map"),
    ],
)
def test_spec_that_does_not_fit_the_model(write_model, tmp_path, part, field, value, message):
    path = write_model(tmp_path / "m.onnx")
    spec_path = ModelSpec.path_for(path)
    document = json.loads(spec_path.read_text())
    document[part][field] = value
    spec_path.write_text(json.dumps(document))
    with pytest.raises(FaceMeshError, match=f"{message}.*the model has.*export it again"):
        open_runner(path)


@pytest.mark.parametrize("name", ["certainty", "position_map"])
def test_spec_with_a_confidence_that_the_model_lacks(live_model, tmp_path, name):
    path = tmp_path / "m.onnx"
    shutil.copy(live_model, path)
    document = json.loads(ModelSpec.path_for(live_model).read_text()) | {"confidence": name}
    ModelSpec.path_for(path).write_text(json.dumps(document))
    message = "the output certainty tensor.float. ..N., 1..*the model has position_map"
    with pytest.raises(FaceMeshError, match=message if name == "certainty" else "field confidence must be the name"):
        open_runner(path)


def test_confidence_of_another_shape(write_model, tmp_path):
    path = write_model(tmp_path / "m.onnx", confidence=True)
    document = json.loads(ModelSpec.path_for(path).read_text())
    document["output"]["name"], document["confidence"] = document["confidence"], document["output"]["name"]
    ModelSpec.path_for(path).write_text(json.dumps(document))
    with pytest.raises(FaceMeshError, match=r"wants the output confidence .*, 64, 64.*the model has.*export it again"):
        open_runner(path)


def test_missing_library_names_the_extra(live_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "runtime.inference.onnx_runner", raising=False)
    with pytest.raises(FaceMeshError, match=r"onnxruntime, which is not installed; pip install 'facemesh-edge\[cpu\]'"):
        open_runner(live_model)


def write_with_baked_batch(live_model: Path, path: Path) -> Path:
    """Write the live model with a reshape to one face behind its free batch."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(live_model)
    (last,) = (node for node in model.graph.node if "position_map" in node.output)
    last.output[0] = "free"
    shape = onnx.numpy_helper.from_array(np.array([1, 3, 64, 64]), "one")
    model.graph.initializer.append(shape)
    model.graph.node.append(onnx.helper.make_node("Reshape", ["free", "one"], ["position_map"]))
    onnx.save(model, path)
    spec = ModelSpec.load(ModelSpec.path_for(live_model))
    dataclasses.replace(spec, onnx_sha256=file_sha256(path)).save(ModelSpec.path_for(path))
    return path


def test_a_batch_that_is_free_in_name_only_runs_one_by_one(live_model, tmp_path):
    with open_runner(write_with_baked_batch(live_model, tmp_path / "baked.onnx"), max_batch=4) as runner:
        assert (runner.max_batch, runner.infer(1).shape) == (1, (1, 3, 64, 64))
        with pytest.raises(ValueError, match=r"n must be 1\.\.1"):
            runner.infer(2)


def test_a_model_that_fails_later_is_one_line(live_model):
    with open_runner(live_model) as runner:
        runner._bindings[2] = None
        with pytest.raises(FaceMeshError, match=r"live\.onnx: the model does not run with 2 of its crops"):
            runner.infer(2)


def test_a_closed_runner_says_so(live_model):
    runner = open_runner(live_model)
    pipeline = FaceMeshPipeline(runner)
    runner.close()
    for call in (lambda: runner.infer(1), lambda: pipeline.from_boxes(np.zeros((9, 9, 3), np.uint8), [[1, 1, 8, 8]])):
        with pytest.raises(FaceMeshError, match=r"live\.onnx: the runner is closed; open another"):
            call()


def test_a_fixed_batch_is_bounded(write_model, tmp_path):
    path = write_model(tmp_path / "huge.onnx", batch=2**31)
    with pytest.raises(FaceMeshError, match=r"huge\.onnx: 2,147,483,648 faces in one batch, the limit is 256"):
        open_runner(path)


def test_nothing_is_written_under_the_home_folder(live_model, tmp_path, repository):
    """ONNX Runtime 1.32 would put a number of the device and a database of events there."""
    program = f"from runtime import open_runner; open_runner({str(live_model)!r}).infer(1)"
    unset = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    variables = {name: text for name, text in os.environ.items() if name not in unset}
    environment = {**variables, "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", program], env=environment, cwd=repository, check=True)
    assert list(tmp_path.iterdir()) == []
