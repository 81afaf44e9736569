"""PRNet in INT8: size, placement, what it costs, and that both kinds of library take it."""

from __future__ import annotations

from collections import Counter

import onnx
import pytest

from calibration.__main__ import main as calibrate
from export.__main__ import main as export
from export.graphs.verify import compare, run_model
from tests.calibration.small import write_face_set

pytestmark = pytest.mark.slow  # quantising PRNet twice takes half a minute


@pytest.fixture(scope="module")
def int8_files(prnet_files, tmp_path_factory):
    """Target -> model, quantised on a few synthetic crops."""
    folder = tmp_path_factory.mktemp("int8")
    faces, paths = write_face_set(folder), {target: folder / f"{target}.onnx" for target in ("tensorrt", "cpu")}
    for target, path in paths.items():
        options = (
            "--crops",
            str(faces),
            "--samples",
            "12",
            "--method",
            "minmax",
            "--target",
            target,
            "--max-nme-increase",
            "10",
        )
        assert calibrate([str(prnet_files["fp32"]), *options, "-o", str(path)]) == 0
    return paths


@pytest.mark.parametrize("target", ["tensorrt", "cpu"])
def test_a_quarter_of_the_size_and_close(int8_files, prnet_files, prnet_road, target):
    assert int8_files[target].stat().st_size <= 0.27 * prnet_files["fp32"].stat().st_size
    model = onnx.load(int8_files[target])
    int8_weights = [
        tensor
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 4
    ]
    assert len(int8_weights) == 50  # of 53 convolutions: the three that write the map stay in FP32
    outputs = run_model(
        model, prnet_road.images[:3], "position_map"
    )  # views of a photograph; noise is not what it was calibrated on
    difference = compare(prnet_road.expected[:3], outputs, prnet_road.spec)
    spread = prnet_road.expected.std(0).mean() * prnet_road.spec.output.scale
    assert 0.01 < difference.mean_px < spread


def test_onnx_runtime_computes_all_50_in_int8(int8_files, tmp_path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "fused.onnx"), 4
    onnxruntime.InferenceSession(str(int8_files["cpu"]), options, providers=["CPUExecutionProvider"])
    assert Counter(node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node)["QLinearConv"] == 50


def test_tensorrt_rtx_builds_it(int8_files, prnet_files, tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    engine = tmp_path / "int8.engine"
    assert export(["engine", str(int8_files["tensorrt"]), "-o", str(engine), "--backend", "tensorrt-rtx"]) == 0
    assert engine.stat().st_size < 0.5 * prnet_files["fp32"].stat().st_size
