"""INT8 models become TensorRT-RTX engines, ahead of time and without a GPU."""

from __future__ import annotations

import dataclasses

import pytest

from calibration.__main__ import main as calibrate
from calibration.precision.graph_view import Graph
from calibration.precision.model_file import write_model
from calibration.precision.qdq import to_int8
from export.__main__ import main as export
from runtime.models.spec import load_spec
from tests.calibration.precision.test_qdq import LAYERS, table_for
from tests.calibration.small import small_network

pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")


def test_small_network_becomes_an_engine(write_network, write_faces, tmp_path):
    """Residual addition, depthwise layer, subpixel layer and all."""
    model, engine = tmp_path / "int8.onnx", tmp_path / "int8.engine"
    faces = ["--crops", str(write_faces()), "--max-nme-increase", "10"]
    assert calibrate([str(write_network()), *faces, "-o", str(model)]) == 0
    assert export(["engine", str(model), "-o", str(engine), "--backend", "tensorrt-rtx"]) == 0
    assert engine.stat().st_size > 10_000


def test_layers_that_left_int8_become_an_engine_too(write_network, tmp_path):
    """FP16 islands: a residual branch with its addition, a layer behind a DepthToSpace, and the tail."""
    network, model, engine = small_network(), tmp_path / "mixed.onnx", tmp_path / "mixed.engine"
    layers = [layer for layer in LAYERS if layer not in ("inner", "outer", "wide")]
    spec = dataclasses.replace(load_spec(write_network()), precision="int8")
    write_model(to_int8(Graph(network), layers, table_for(network, "tensorrt")), spec, model)
    assert export(["engine", str(model), "-o", str(engine), "--backend", "tensorrt-rtx"]) == 0
    assert engine.stat().st_size > 10_000


def test_form_for_cpus_is_refused(write_network, write_faces, tmp_path, capsys):
    model = tmp_path / "int8.onnx"
    faces = ["--crops", str(write_faces()), "--max-nme-increase", "10"]
    assert calibrate([str(write_network()), *faces, "--target", "cpu", "-o", str(model)]) == 0
    assert export(["engine", str(model), "-o", str(tmp_path / "int8.engine"), "--backend", "tensorrt-rtx"]) == 1
    assert "its activations are uint8, a form for CPUs" in capsys.readouterr().err


@pytest.mark.slow
def test_edge_network_becomes_a_smaller_engine(edge_onnx, write_faces, tmp_path):
    paths = {"fp32": edge_onnx, "int8": tmp_path / "int8.onnx"}
    options = ["--crops", str(write_faces()), "--max-nme-increase", "10", "-o", str(paths["int8"])]
    assert calibrate([str(edge_onnx), *options]) == 0
    assert paths["int8"].stat().st_size <= 0.4 * paths["fp32"].stat().st_size
    sizes = {}
    for name, path in paths.items():
        assert export(["engine", str(path), "-o", str(tmp_path / f"{name}.engine"), "--backend", "tensorrt-rtx"]) == 0
        sizes[name] = (tmp_path / f"{name}.engine").stat().st_size
    assert sizes["int8"] < 0.8 * sizes["fp32"]
