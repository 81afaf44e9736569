"""YuNet's file of OpenCV's model zoo, rewritten for ONNX Runtime: the same numbers, in a form that is made faster.

    float picture, 640 x 640  ─ … ─ 12 heads ─ Transpose ─ Reshape ─ Sigmoid        becomes

    uint8 picture, any size   ─ Transpose ─ Cast ─ … ─ 3 heads of 16 channels

    float planes, one size    ─ … ─ 3 heads of 16 channels            for engines and for calibration (`fixed_yunet`)

The four heads of a level (class, object, box, points: 1, 1, 4 and 10 channels) read the same features, so each of their
two convolutions becomes one; alone, each would be computed as 16 channels. What follows them is left to the decoder,
which needs it at a few places only.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from runtime.detection.yunet_rows import INPUT
from runtime.errors import FaceMeshError
from runtime.models.detector_spec import LEVELS, STRIDES, DetectorInput, DetectorSpec

HEADS = ("cls", "obj", "bbox", "kps")
OPSET = 17
PLANES = "planes"  # the input of a file of one size


def rewrite_yunet(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the rewritten model. Raises `FaceMeshError` if ``model`` has not YuNet's heads."""
    graph = model.graph
    weights = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    maker = {output: node for node in graph.node for output in node.output}
    try:
        heads = {stride: [_head(maker, f"{name}_{stride}") for name in HEADS] for stride in STRIDES}
        features = {stride: {narrow.input[0] for narrow, _ in pairs} for stride, pairs in heads.items()}
        if any(len(names) > 1 for names in features.values()):
            raise ValueError("the heads of a level read other features")
        if any(len(convolution.input) != 3 for pairs in heads.values() for pair in pairs for convolution in pair):
            raise ValueError("a convolution of its heads has no bias")
        (picture,) = graph.input
    except (KeyError, IndexError, ValueError) as error:
        raise FaceMeshError(f"this is no YuNet of 2023 ({error}); take face_detection_yunet_2023mar.onnx") from None

    nodes = [
        helper.make_node("Transpose", [INPUT], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], [picture.name], to=TensorProto.FLOAT),
        *_needed(graph, maker, {name for names in features.values() for name in names}),
    ]
    initialisers = []
    for stride, pairs in heads.items():
        name = features[stride].pop()
        for part, depthwise in enumerate((False, True)):
            convolutions = [pair[part] for pair in pairs]
            joined = [np.concatenate([weights[one.input[number]] for one in convolutions]) for number in (1, 2)]
            names = [f"{kind}_{stride}_{part}" for kind in ("weight", "bias")]
            initialisers += [numpy_helper.from_array(*pair) for pair in zip(joined, names, strict=True)]
            output = LEVELS[STRIDES.index(stride)] if depthwise else f"narrow_{stride}"
            sides = {"group": len(joined[0]), "pads": [1, 1, 1, 1]} if depthwise else {}
            nodes.append(helper.make_node("Conv", [name, *names], [output], **sides))
            name = output
    read = {name for node in nodes for name in node.input}
    initialisers += [one for one in graph.initializer if one.name in read]
    rewritten = helper.make_graph(
        nodes,
        "yunet",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, [1, "height", "width", 3])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 16, f"rows_{stride}", f"columns_{stride}"])
            for name, stride in zip(LEVELS, STRIDES, strict=True)
        ],
        initialisers,
    )
    result = helper.make_model(rewritten, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="facemesh-edge")
    result.ir_version = 8
    onnx.checker.check_model(result, full_check=True)
    return result


def fixed_yunet(model: onnx.ModelProto, width: int, height: int) -> onnx.ModelProto:
    """Return the result of `rewrite_yunet` for planes (1, 3, height, width) float32 BGR 0..255, sides multiples of 32.

    Nodes have names, and every tensor has its size.
    """
    spec = DetectorInput(PLANES, width, height)
    nodes = [node for node in model.graph.node if node.op_type not in ("Transpose", "Cast")]
    (front,) = [node.output[0] for node in model.graph.node if node.op_type == "Cast"]
    for node in nodes:
        node.input[:] = [PLANES if name == front else name for name in node.input]
        node.name = node.name or node.output[0]
        if node.op_type == "Resize":
            node.input[1] = ""  # an empty region is none, and TensorRT-RTX warns of it
    shapes = DetectorSpec("yunet", spec, "fp32", "").outputs
    graph = helper.make_graph(
        nodes,
        "yunet",
        [helper.make_tensor_value_info(PLANES, TensorProto.FLOAT, [1, *spec.shape])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, *shape]) for name, shape in shapes.items()],
        [one for one in model.graph.initializer if any(one.name in node.input for node in nodes)],
    )
    result = helper.make_model(graph, opset_imports=list(model.opset_import), producer_name=model.producer_name)
    result.ir_version = model.ir_version
    onnx.checker.check_model(result, full_check=True)
    return onnx.shape_inference.infer_shapes(result)


def _head(maker: dict[str, onnx.NodeProto], output: str) -> tuple[onnx.NodeProto, onnx.NodeProto]:
    """Return the 1 x 1 and the depthwise 3 x 3 convolution behind an output."""
    node = maker[output]
    while node.op_type != "Conv":
        node = maker[node.input[0]]
    return maker[node.input[0]], node


def _needed(graph: onnx.GraphProto, maker: dict[str, onnx.NodeProto], names: set[str]) -> list[onnx.NodeProto]:
    """Return the nodes that make ``names``, in order."""
    wanted, open_names = set(), list(names)
    while open_names:
        node = maker.get(open_names.pop())
        if node is not None and node.output[0] not in wanted:
            wanted.add(node.output[0])
            open_names += node.input
    return [node for node in graph.node if node.output[0] in wanted]
