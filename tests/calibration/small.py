"""A small network of the kinds of layers there are, and a small set of labelled pictures."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import helper, numpy_helper

from runtime.families.position_map import PositionMapOutput
from runtime.models.spec import ModelSpec
from runtime.tensors import InputSpec

SIZE = 32


def small_network(seed: int = 0, window: int = 5) -> onnx.ModelProto:
    """stem ─ depth ─ point ─┬─ inner ─ outer ─ sum ─ phases ─ shuffle ─ wide ─ narrow (3 channels) ─ sigmoid ─▶ map.

    All are (N, …, 32, 32) or half of it.

    The stem has a ``window`` of 3 pixels, or of 5 with zeros at its rim. Channels of the depthwise layer differ a
    hundredfold in size, so that one scale for all of its weights would show.
    """
    generator = np.random.default_rng(seed)

    def weights(name: str, *shape: int, gain: float = 1.0) -> str:
        fan = np.prod(shape[1:])
        constants[name] = (gain * generator.normal(size=shape) * np.sqrt(2 / fan)).astype(np.float32)
        constants[f"{name}_b"] = (0.1 * generator.normal(size=shape[0])).astype(np.float32)
        return name

    def conv(name: str, source: str, *shape: int, gain: float = 1.0, **attributes) -> str:
        pad = shape[2] // 2
        nodes.append(
            helper.make_node(
                "Conv",
                [source, weights(name, *shape, gain=gain), f"{name}_b"],
                [f"{name}_y"],
                name,
                pads=[pad] * 4,
                **attributes,
            )
        )
        return f"{name}_y"

    def node(kind: str, name: str, *sources: str, **attributes) -> str:
        nodes.append(helper.make_node(kind, list(sources), [f"{name}_y"], name, **attributes))
        return f"{name}_y"

    nodes: list[onnx.NodeProto] = []
    constants: dict[str, np.ndarray] = {}
    x = node("Relu", "stem_relu", conv("stem", "image", 8, 3, 3, 3, strides=[2, 2]))
    rim = (window - 3) // 2
    constants["stem"] = np.pad(constants["stem"], ((0, 0), (0, 0), (rim, rim), (rim, rim)))
    next(entry for entry in nodes[0].attribute if entry.name == "pads").ints[:] = [window // 2] * 4
    x = node("Relu", "depth_relu", conv("depth", x, 8, 1, 3, 3, group=8))
    constants["depth"] *= np.geomspace(0.1, 10, 8, dtype=np.float32).reshape(8, 1, 1, 1)
    x = node("Relu", "point_relu", conv("point", x, 8, 8, 1, 1, gain=0.3))
    branch = node("Relu", "inner_relu", conv("inner", x, 8, 8, 3, 3))
    x = node("Relu", "sum_relu", node("Add", "sum", x, conv("outer", branch, 8, 8, 3, 3)))
    x = node("DepthToSpace", "shuffle", node("Relu", "phases_relu", conv("phases", x, 32, 8, 3, 3)), blocksize=2)
    x = conv("narrow", node("Relu", "wide_relu", conv("wide", x, 8, 8, 3, 3)), 3, 8, 3, 3)
    nodes.append(helper.make_node("Sigmoid", [x], ["position_map"], "sigmoid"))
    shape = ["N", 3, SIZE, SIZE]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("position_map", onnx.TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def with_head(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of the small network with a confidence: the mean of sum_relu ─ 4 units ─ 1 ─ sigmoid."""
    generator = np.random.default_rng(5)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    constants = {
        "head_w": generator.normal(size=(4, 8)),
        "head_b": generator.normal(size=4),
        "head_v": 3 * generator.normal(size=(1, 4)),
        "head_c": np.full(1, 2.0),
    }
    result.graph.node.extend(
        [
            helper.make_node("AveragePool", ["sum_relu_y"], ["head_mean"], "head_mean", kernel_shape=[16, 16]),
            helper.make_node("Flatten", ["head_mean"], ["head_flat"], "head_flat"),
            helper.make_node("Gemm", ["head_flat", "head_w", "head_b"], ["head_units"], "head_units", transB=1),
            helper.make_node("Relu", ["head_units"], ["head_live"], "head_live"),
            helper.make_node("Gemm", ["head_live", "head_v", "head_c"], ["head_odds"], "head_odds", transB=1),
            helper.make_node("Sigmoid", ["head_odds"], ["confidence"], "head_sigmoid"),
        ]
    )
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
    result.graph.initializer.extend(tensors)
    result.graph.output.append(helper.make_tensor_value_info("confidence", onnx.TensorProto.FLOAT, ["N", 1]))
    return result


SPEC = ModelSpec(
    name="small",
    family="position_map",
    input=InputSpec("image", SIZE, "NCHW", "RGB", (0.0, 1.0)),
    output=PositionMapOutput("position_map", SIZE, SIZE * 1.1),
    crop_scale=1.6,
    topology="uv_topology.npz",
    precision="fp32",
    onnx_sha256="",
)


def smooth_picture(generator: np.random.Generator, side: int = 80) -> np.ndarray:
    """(side, side, 3) uint8 BGR of blobs."""
    return cv2.resize(generator.integers(0, 256, (6, 6, 3), np.uint8), (side, side), interpolation=cv2.INTER_CUBIC)


def write_face_set(folder: Path, count: int = 24, name: str = "faces", **arrays) -> Path:
    """Pictures in a tar with their arrays, which ``arrays`` replace or, None, take away; every fourth row is for
    validation.

    Returns the stem.
    """
    generator = np.random.default_rng(2)
    names = np.array([f"{index:03}.png" for index in range(count)])
    with tarfile.open(folder / f"{name}.tar", "w") as archive:
        for member in names:
            content = cv2.imencode(".png", smooth_picture(generator))[1].tobytes()
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    points = generator.uniform(20, 60, (count, 68, 3)).astype(np.float32)
    points[:, 0, :2], points[:, 1, :2] = 20, 60
    given = {
        "names": names,
        "box": np.concatenate([points[..., :2].min(axis=1), points[..., :2].max(axis=1)], axis=1),
        "yaw_deg": np.linspace(-85, 85, count, dtype=np.float32),
        "is_val": np.arange(count) % 4 == 3,
        "pts68": points,
    }
    np.savez(folder / f"{name}.npz", **{key: value for key, value in (given | arrays).items() if value is not None})
    return folder / name
