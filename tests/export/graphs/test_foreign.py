"""Models as other exporters write them: operator x opset x form of the batch. Each gives the numbers of its file."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx
from onnx import TensorProto, helper, numpy_helper

from export.graphs.foreign import NEWEST_OPSET, opset_of, prepare
from export.graphs.model_file import load_onnx
from export.graphs.rewrite import rewrite
from export.graphs.verify import require_independent, require_same, run_outputs
from runtime.errors import FaceMeshError

SIDE = 8
GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.random((3, 3, SIDE, SIDE)).astype(np.float32)
OPSETS = (8, 9, 10, 11, 12, 13, 15, 17, 18, 19, 20, 21, 22, 23)
BATCHES = ("named", "minus one", "two", "output without shape", "initialisers are inputs")

# A block is (least opset, nodes from "x" to "y", constants), by opset.
Block = tuple[list[onnx.NodeProto], dict[str, np.ndarray]]
node = helper.make_node


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 0.3, shape).astype(np.float32)


def reduced(opset: int, kind: str = "ReduceMean") -> Block:
    if opset < (13 if kind == "ReduceSum" else 18):
        return [node(kind, ["x"], ["m"], axes=[2, 3], keepdims=1), node("Mul", ["x", "m"], ["y"])], {}
    return [node(kind, ["x", "axes"], ["m"], keepdims=1), node("Mul", ["x", "m"], ["y"])], {"axes": ints(2, 3)}


def upsampled(opset: int, mode: str, then: str = "MaxPool") -> Block:
    back = node(then, ["up"], ["y"], kernel_shape=[2, 2], strides=[2, 2])
    scales = np.array([1, 1, 2, 2], np.float32)
    if opset < 9:
        return [node("Upsample", ["x"], ["up"], mode=mode, scales=[1.0, 1, 2, 2]), back], {}
    if opset < 10:
        return [node("Upsample", ["x", "scales"], ["up"], mode=mode), back], {"scales": scales}
    if opset < 11:
        return [node("Resize", ["x", "scales"], ["up"], mode=mode), back], {"scales": scales}
    how = {"coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_floor"}
    roi = {} if opset >= 13 else {"roi": np.float32([])}
    nodes = [node("Resize", ["x", "roi" if roi else "", "scales"], ["up"], mode=mode, **how), back]
    return nodes, {"scales": scales, **roi}


def padded(opset: int, mode: str) -> Block:
    pool = node("AveragePool", ["p"], ["y"], kernel_shape=[3, 3], strides=[1, 1])
    pads = [0, 0, 1, 1, 0, 0, 1, 1]
    if opset < 11:
        return [node("Pad", ["x"], ["p"], mode=mode, pads=pads), pool], {}
    return [node("Pad", ["x", "pads"], ["p"], mode=mode), pool], {"pads": ints(*pads)}


def split(opset: int) -> Block:
    join = node("Concat", ["b", "a"], ["y"], axis=1)
    if opset < 13:
        return [node("Split", ["x"], ["a", "b"], axis=1, split=[1, 2]), join], {}
    return [node("Split", ["x", "parts"], ["a", "b"], axis=1), join], {"parts": ints(1, 2)}


def squeezed(opset: int) -> Block:
    pool = node("GlobalAveragePool", ["x"], ["g"])
    end = node("Mul", ["x", "u"], ["y"])
    if opset < 13:
        return [pool, node("Squeeze", ["g"], ["s"], axes=[3]), node("Unsqueeze", ["s"], ["u"], axes=[3]), end], {}
    nodes = [pool, node("Squeeze", ["g", "axes"], ["s"]), node("Unsqueeze", ["s", "axes"], ["u"]), end]
    return nodes, {"axes": ints(3)}


def clipped(opset: int) -> Block:
    if opset < 11:
        return [node("Clip", ["x"], ["y"], min=0.2, max=0.7)], {}
    return [node("Clip", ["x", "low", "high"], ["y"])], {"low": np.float32(0.2), "high": np.float32(0.7)}


def dropped(opset: int) -> Block:
    return [node("Dropout", ["x"], ["y"], **({"ratio": 0.4} if opset < 12 else {}))], {}


def sliced(opset: int) -> Block:
    join = node("Concat", ["a", "a"], ["y"], axis=3)
    if opset < 10:
        return [node("Slice", ["x"], ["a"], axes=[3], starts=[0], ends=[4]), join], {}
    return [node("Slice", ["x", "s", "e", "axes"], ["a"]), join], {"s": ints(0), "e": ints(4), "axes": ints(3)}


def softmax(opset: int) -> Block:
    return [node("Softmax", ["x"], ["y"], axis=1 if opset < 13 else -1)], {}


def normalised(opset: int) -> Block:
    ones = {"scale": weights(3), "bias": weights(3), "mean": weights(3), "var": np.abs(weights(3)) + 0.5}
    return [node("BatchNormalization", ["x", *ones], ["y"])], ones


def plain(name: str, **attributes: object) -> Callable[[int], Block]:
    return lambda opset: ([node(name, ["x"], ["y"], **attributes)], {})


def convolved(opset: int) -> Block:
    nodes = [node("Conv", ["x", "w", "b"], ["c"], pads=[1] * 4), node("Relu", ["c"], ["r"])]
    nodes.append(node("ConvTranspose", ["r", "v"], ["y"], pads=[1] * 4))
    return nodes, {"w": weights(4, 3, 3, 3), "b": weights(4), "v": weights(4, 3, 3, 3)}


def matrix(opset: int) -> Block:
    nodes = [node("Flatten", ["x"], ["f"], axis=1), node("Gemm", ["f", "w", "b"], ["g"], transB=1)]
    nodes += [node("Reshape", ["g", "shape"], ["y"])]
    count = 3 * SIDE * SIDE
    return nodes, {"w": weights(count, count) / 10, "b": weights(count), "shape": ints(-1, 3, SIDE, SIDE)}


def sampled(opset: int) -> Block:
    grid = np.stack(np.meshgrid(*[np.linspace(-0.9, 0.8, SIDE)] * 2), -1)[None].astype(np.float32)
    nodes = [node("Shape", ["x"], ["s"]), node("Gather", ["s", "zero"], ["n"])]
    nodes += [node("Concat", ["n", "rest"], ["to"], axis=0), node("Expand", ["grid", "to"], ["g"])]
    mode = "bilinear" if opset < 20 else "linear"
    nodes.append(node("GridSample", ["x", "g"], ["y"], mode=mode))
    return nodes, {"grid": grid, "zero": ints(0), "rest": ints(SIDE, SIDE, 2)}


def group_normalised(opset: int) -> Block:
    groups = 1
    size = 3 if opset >= 21 else groups
    nodes = [node("GroupNormalization", ["x", "scale", "bias"], ["y"], num_groups=groups)]
    return nodes, {"scale": weights(size), "bias": weights(size)}


def layer_normalised(opset: int) -> Block:
    return [node("LayerNormalization", ["x", "scale"], ["y"], axis=-1)], {"scale": weights(SIDE)}


def slope(opset: int) -> Block:
    return [node("Sub", ["x", "half"], ["z"]), node("PRelu", ["z", "slope"], ["y"])], {
        "half": np.float32([0.5]),
        "slope": weights(3, 1, 1),
    }


BLOCKS: dict[str, tuple[int, Callable[[int], Block]]] = {
    "conv": (8, convolved),
    "batch norm": (9, normalised),
    "mean": (8, reduced),
    "max": (8, lambda opset: reduced(opset, "ReduceMax")),
    "sum": (8, lambda opset: reduced(opset, "ReduceSum")),
    "nearest": (8, lambda opset: upsampled(opset, "nearest")),
    "linear": (8, lambda opset: upsampled(opset, "linear")),
    "pad": (8, lambda opset: padded(opset, "constant")),
    "reflect": (8, lambda opset: padded(opset, "reflect")),
    "split": (8, split),
    "squeeze": (8, squeezed),
    "clip": (8, clipped),
    "dropout": (8, dropped),
    "slice": (8, sliced),
    "softmax": (8, softmax),
    "matrix": (8, matrix),
    "prelu": (9, slope),
    "instance norm": (
        8,
        lambda opset: ([node("InstanceNormalization", ["x", "s", "t"], ["y"])], {"s": weights(3), "t": weights(3)}),
    ),
    "hard sigmoid": (8, plain("HardSigmoid")),
    "elu": (8, plain("Elu")),
    "hard swish": (14, plain("HardSwish")),
    "mish": (18, plain("Mish")),
    "gelu": (20, plain("Gelu")),
    "average pool": (10, plain("AveragePool", kernel_shape=[3, 3], pads=[1] * 4, ceil_mode=1, count_include_pad=1)),
    "grid sample": (16, sampled),
    "group norm": (21, group_normalised),
    "layer norm": (17, layer_normalised),
}


def foreign(name: str, opset: int, batch: str) -> onnx.ModelProto:
    """The block between a scaling of the picture and a sigmoid, in one of the forms that exporters write."""
    nodes, constants = BLOCKS[name][1](opset)
    nodes = [node("Mul", ["image", "gain"], ["x"]), *nodes, node("Sigmoid", ["y"], ["map"])]
    constants = {"gain": np.float32([1.5]), **constants}
    size = {"minus one": -1, "two": 2}.get(batch, "N")
    ends = [helper.make_tensor_value_info(one, TensorProto.FLOAT, [size, 3, SIDE, SIDE]) for one in ("image", "map")]
    if batch == "output without shape":
        ends[1].type.tensor_type.ClearField("shape")
    held = [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()]
    graph = helper.make_graph(nodes, "foreign", ends[:1], ends[1:], held)
    if batch == "initialisers are inputs":
        graph.input.extend(helper.make_tensor_value_info(one.name, one.data_type, one.dims) for one in held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def table() -> Iterator[tuple[str, int, str]]:
    for number, (name, (least, _)) in enumerate(BLOCKS.items()):
        for place, opset in enumerate(OPSETS):
            if opset >= least:
                yield name, opset, BATCHES[(number + place) % len(BATCHES)]


def test_the_table_is_long():
    assert len(list(table())) >= 300


@pytest.mark.parametrize("name", BLOCKS)
def test_foreign_models_keep_their_numbers(name):
    """For every opset; the rewritten one, too."""
    for block, opset, batch in table():
        if block != name:
            continue
        came = foreign(name, opset, batch)
        expected = run_outputs(came, IMAGES, ["map"])
        model = prepare(came, None)
        what = f"{name}, opset {opset}, batch {batch}"
        assert 13 <= opset_of(model) <= NEWEST_OPSET, what
        assert model.ir_version <= 10, what
        assert [value.name for value in model.graph.input] == ["image"], what
        sides = [dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim]
        assert sides[1:] == [3, SIDE, SIDE], what
        assert sides[0] == (2 if batch == "two" else 0), what
        require_same(expected, run_outputs(model, IMAGES, expected), what)
        if batch != "two":
            require_independent(came, IMAGES, expected)
        rewritten, _ = rewrite(model, IMAGES, expected)
        require_same(expected, run_outputs(rewritten, IMAGES, expected), what)


@pytest.mark.parametrize("opset", [8, 9, 10])
def test_upsampling_of_old_opsets_counts_from_the_corner(opset):
    """The converter of the onnx package would take the middle of a pixel; nearest neighbours hide it, lines do not."""
    came = foreign("linear", opset, "named")
    expected = run_outputs(came, IMAGES, ["map"])
    converted = onnx.version_converter.convert_version(came, 17)
    with pytest.raises(FaceMeshError, match="differs"):
        require_same(expected, run_outputs(converted, IMAGES, expected), "the converter differs")
    require_same(expected, run_outputs(prepare(came, None), IMAGES, expected), "ours differs")


def test_newer_operators_keep_their_opset_and_others_do_not():
    assert opset_of(prepare(foreign("mean", 18, "named"), None)) == 18
    assert opset_of(prepare(foreign("gelu", 20, "named"), None)) == 20
    assert opset_of(prepare(foreign("conv", 23, "named"), None)) == 17


def test_training_mode_is_refused():
    model = foreign("batch norm", 15, "named")
    norm = next(one for one in model.graph.node if one.op_type == "BatchNormalization")
    norm.attribute.append(helper.make_attribute("training_mode", 1))
    norm.output.extend(["running_mean", "running_var"])
    with pytest.raises(FaceMeshError, match=r"BatchNormalization .* training mode"):
        prepare(model, None)


def test_results_that_depend_on_the_batch_are_refused():
    nodes = [node("ReduceMean", ["image"], ["m"], axes=[0], keepdims=1), node("Sub", ["image", "m"], ["map"])]
    ends = [helper.make_tensor_value_info(one, TensorProto.FLOAT, ["N", 3, SIDE, SIDE]) for one in ("image", "map")]
    graph = helper.make_graph(nodes, "batch", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    with pytest.raises(FaceMeshError, match="depend on the other faces"):
        require_independent(model, IMAGES, run_outputs(model, IMAGES, ["map"]))


def test_batch_that_is_free_in_name_only_is_refused():
    nodes = [node("Reshape", ["image", "shape"], ["map"])]
    ends = [helper.make_tensor_value_info(one, TensorProto.FLOAT, ["N", 3, SIDE, SIDE]) for one in ("image", "map")]
    held = [numpy_helper.from_array(ints(3, 3, SIDE, SIDE), "shape")]
    graph = helper.make_graph(nodes, "three", ends[:1], ends[1:], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    with pytest.raises(FaceMeshError, match="free, yet it runs 3 faces and not one"):
        require_independent(model, IMAGES, run_outputs(model, IMAGES, ["map"]))


def test_local_functions_are_inlined():
    body = helper.make_function(
        "own", "Twice", ["a"], ["b"], [node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    ends = [helper.make_tensor_value_info(one, TensorProto.FLOAT, ["N", 3, SIDE, SIDE]) for one in ("image", "map")]
    graph = helper.make_graph([node("Twice", ["image"], ["map"], domain="own")], "function", ends[:1], ends[1:])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    model = helper.make_model(graph, opset_imports=imports, functions=[body], ir_version=8)
    prepared = prepare(model, None)
    assert [one.op_type for one in prepared.graph.node] == ["Add"]
    require_same(run_outputs(model, IMAGES, ["map"]), run_outputs(prepared, IMAGES, ["map"]), "inlined")


def test_given_foreign_files(shared_data):
    """What its README says of each: the numbers of the file, or one line that names the reason."""
    folder = shared_data / "onnx"
    images = np.random.default_rng(0).random((2, 3, 256, 256)).astype(np.float32)
    paths = sorted(folder.glob("*.onnx"))
    assert len(paths) >= 10
    for path in paths:
        if path.name.startswith("05"):
            with pytest.raises(FaceMeshError, match="training mode"):
                load_onnx(path)
            continue
        came, model = load_onnx(path)
        side = model.graph.input[0].type.tensor_type.shape.dim[2].dim_value
        name = model.graph.output[0].name
        shown = images[:, :, :side, :side]
        assert model.ir_version <= 10
        require_same(run_outputs(came, shown, [name]), run_outputs(model, shown, [name]), path.name)
