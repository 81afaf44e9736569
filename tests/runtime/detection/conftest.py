"""Detectors of one size, and engines of them for the stand-in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.models.detector_spec import LEVELS, STRIDES, DetectorInput, DetectorSpec
from runtime.models.shipped import YUNET_ONNX
from runtime.storage.whole_files import file_sha256


@pytest.fixture(scope="session")
def fixed_detector(tmp_path_factory) -> Callable[..., Path]:
    """``fixed_detector(width=640, height=384)``: YuNet's ONNX file of one size, with its spec."""
    onnx = pytest.importorskip("onnx", reason="needs onnx to make a detector of one size")

    def fixed(width: int, height: int):
        model = onnx.load(str(YUNET_ONNX))
        transpose, cast = model.graph.node[:2]
        assert (transpose.op_type, cast.op_type) == ("Transpose", "Cast")
        nodes, kind = list(model.graph.node[2:]), onnx.TensorProto.FLOAT
        for node in nodes:
            node.input[:] = ["planes" if name == cast.output[0] else name for name in node.input]
        outputs = [
            onnx.helper.make_tensor_value_info(name, kind, [1, 16, height // stride, width // stride])
            for name, stride in zip(LEVELS, STRIDES, strict=True)
        ]
        planes = onnx.helper.make_tensor_value_info("planes", kind, [1, 3, height, width])
        graph = onnx.helper.make_graph(nodes, "yunet", [planes], outputs, list(model.graph.initializer))
        return onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)

    made: dict[tuple[int, int], Path] = {}

    def make(width: int = 640, height: int = 384) -> Path:
        if (width, height) not in made:
            path = tmp_path_factory.mktemp("detector") / f"yunet-{width}x{height}.onnx"
            onnx.save(fixed(width, height), path)
            spec = DetectorSpec(path.stem, DetectorInput("planes", width, height), "fp32", file_sha256(path))
            spec.save(DetectorSpec.path_for(path))
            made[width, height] = path
        return made[width, height]

    return make


@pytest.fixture
def detector_engine(fixed_detector, tmp_path) -> Callable[..., Path]:
    """``detector_engine(width=640, height=384, **words of a plan)``: an engine of it for `gpu_machine`."""
    from tests.standins.fake_engine import write_engine

    def write(width: int = 640, height: int = 384, batch: tuple[int, int, int] = (1, 1, 1), **words) -> Path:
        return write_engine(tmp_path / "detector.engine", fixed_detector(width, height), batch=batch, **words)

    return write
