"""A network of two convolutions as an ONNX file with its spec, in the variants that the tests of engines need."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from runtime.families.position_map import PositionMapOutput
from runtime.models.spec import ModelSpec
from runtime.storage.whole_files import file_sha256
from runtime.tensors import InputSpec

SIZE = 32


def write_small_model(
    path: Path,
    batch: str | int = "N",
    precision: str = "fp32",
    activation: str = "Relu",
    confidence: bool = False,
    **spec_changes,
) -> Path:
    """image (N, 3, 32, 32) ─ c1 ─ activation ─ c2 ─ sigmoid ─▶ position_map (N, 3, 16, 16).

    ``fp16`` has everything between two casts in half precision, ``int8`` quantises the input of c2. ``confidence`` adds
    the sigmoid of the image's mean.
    """
    half = precision == "fp16"
    generator = np.random.default_rng(0)
    weights = {"w1": generator.normal(size=(4, 3, 3, 3)), "w2": generator.normal(size=(3, 4, 3, 3))}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "c1", strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node(activation, ["a"], ["b"], "act"),
        helper.make_node("Conv", ["b", "w2"], ["c"], "c2", pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["d"], ["position_map"], "sig"),
    ]
    if half:
        nodes.insert(0, helper.make_node("Cast", ["image"], ["x"], "in", to=TensorProto.FLOAT16))
        nodes.insert(4, helper.make_node("Cast", ["c"], ["d"], "out", to=TensorProto.FLOAT))
    else:
        nodes[0].input[0], nodes[3].input[0] = "image", "c"
    if precision == "int8":
        weights["scale"] = np.array(0.1)
        nodes[2].input[0] = "dq"
        nodes.insert(2, helper.make_node("QuantizeLinear", ["b", "scale"], ["q"], "quantise"))
        nodes.insert(3, helper.make_node("DequantizeLinear", ["q", "scale"], ["dq"], "dequantise"))
    outputs = [helper.make_tensor_value_info("position_map", TensorProto.FLOAT, [batch, 3, SIZE // 2, SIZE // 2])]
    tensors = [
        numpy_helper.from_array(value.astype(np.float16 if half else np.float32), name)
        for name, value in weights.items()
    ]
    if confidence:
        nodes += [
            helper.make_node("AveragePool", ["image"], ["mean"], "mean", kernel_shape=[SIZE, SIZE]),
            helper.make_node("Flatten", ["mean"], ["flat"], "flat"),
            helper.make_node("Gemm", ["flat", "head"], ["odds"], "odds"),
            helper.make_node("Sigmoid", ["odds"], ["confidence"], "sure"),
        ]
        tensors.append(numpy_helper.from_array(np.ones((3, 1), np.float32), "head"))
        outputs.append(helper.make_tensor_value_info("confidence", TensorProto.FLOAT, [batch, 1]))
        spec_changes = {"confidence": "confidence", **spec_changes}
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, SIZE, SIZE])],
        outputs,
        tensors,
    )
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)
    write_spec(path, precision=precision, **spec_changes)
    return path


def write_spec(path: Path, **changes) -> None:
    """The spec of such a model, for the file as it is."""
    spec = ModelSpec(
        name="small",
        family="position_map",
        input=InputSpec("image", SIZE, "NCHW", "RGB", (0.0, 1.0)),
        output=PositionMapOutput("position_map", SIZE // 2, SIZE * 1.1),
        crop_scale=1.6,
        topology="uv_topology.npz",
        precision="fp32",
        onnx_sha256=file_sha256(path),
    )
    dataclasses.replace(spec, **changes).save(ModelSpec.path_for(path))
