"""A detector file with the tensors of the real one and hardly any work: each level is a mean and a mixture of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from runtime.models.detector_spec import CHANNELS, LEVELS, STRIDES, DetectorInput, DetectorSpec
from runtime.storage.whole_files import file_sha256


def write_small_detector(path: Path, width: int = 64, height: int = 32, half: bool = False) -> Path:
    """Write an ONNX file for (1, 3, height, width) and its spec, in float16 throughout if ``half``."""
    kind, dtype = (TensorProto.FLOAT16, np.float16) if half else (TensorProto.FLOAT, np.float32)
    mixture = np.random.default_rng(0).normal(0, 0.01, (CHANNELS, 3, 1, 1)).astype(dtype)
    spec = DetectorSpec("small", DetectorInput("planes", width, height), "fp16" if half else "fp32", "0" * 64)
    nodes = []
    for name, stride in zip(LEVELS, STRIDES, strict=True):
        sides = {"kernel_shape": [stride] * 2, "strides": [stride] * 2}
        nodes.append(helper.make_node("AveragePool", ["planes"], [f"mean_{stride}"], f"mean_{stride}", **sides))
        nodes.append(helper.make_node("Conv", [f"mean_{stride}", "mixture"], [name], f"mix_{stride}"))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("planes", kind, [1, *spec.input.shape])],
        [helper.make_tensor_value_info(name, kind, [1, *shape]) for name, shape in spec.outputs.items()],
        [numpy_helper.from_array(mixture, "mixture")],
    )
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)
    document = DetectorSpec(spec.name, spec.input, spec.precision, file_sha256(path))
    document.save(DetectorSpec.path_for(path))
    return path
