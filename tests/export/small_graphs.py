"""Small ONNX graphs for the tests of passes."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper
from onnx_ir.passes.common import RemoveUnusedNodesPass

from export.graphs.verify import run_model

SIDE = 12


def conv_graph(nodes, constants, channels_in=4, side=SIDE):
    """``image`` (N, channels_in, side, side) -> ``position_map``; ``constants`` name -> array."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", channels_in, side, side])],
        [helper.make_tensor_value_info("position_map", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def weights(*shape, seed=0):
    """Normal random numbers scaled so that activations stay near 1."""
    return (np.random.default_rng(seed).normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def normalisation(channels, prefix="n", seed=1):
    """The four constants of a BatchNormalization, gains of both signs among them."""
    generator = np.random.default_rng(seed)
    arrays = (
        generator.normal(size=channels),
        generator.normal(size=channels),
        generator.normal(size=channels),
        generator.uniform(0.3, 2, channels),
    )
    return {
        f"{prefix}{name}": array.astype(np.float32)
        for name, array in zip(("gain", "offset", "mean", "variance"), arrays, strict=True)
    }


def norm_node(source, target, prefix="n"):
    """The node that reads `normalisation`."""
    names = [f"{prefix}{name}" for name in ("gain", "offset", "mean", "variance")]
    return helper.make_node("BatchNormalization", [source, *names], [target], epsilon=1e-3)


def run_pass(module, model):
    """(changed, model after the pass without unused nodes)."""
    graph = ir.from_proto(model)
    changed = module.run(graph)
    RemoveUnusedNodesPass()(graph)
    after = ir.to_proto(graph)
    onnx.checker.check_model(after, full_check=True)
    return changed, after


def assert_pass_is_exact(module, model, gone=(), tolerance=1e-5):
    """The pass changes the graph, removes every node of the types ``gone``, finds nothing more to do, and the live
    outputs stay as they were."""
    inputs = next(value for value in model.graph.input if value.name == "image").type.tensor_type.shape.dim
    images = np.random.default_rng(5).normal(size=(2, *(dim.dim_value for dim in inputs[1:]))).astype(np.float32)
    expected = run_model(model, images, "position_map")
    assert expected.std() > 0.05
    assert np.abs(expected[0] - expected[1]).mean() > 0.05
    changed, after = run_pass(module, model)
    assert changed
    left = [node.op_type for node in after.graph.node]
    assert not [name for name in left if name in gone], left
    outputs = run_model(after, images, "position_map")
    assert outputs.shape == expected.shape
    np.testing.assert_allclose(outputs, expected, atol=tolerance)
    assert not run_pass(module, after)[0]
    return after


def assert_pass_leaves_alone(module, model):
    """The pass reports no change and makes none."""
    changed, after = run_pass(module, model)
    assert not changed
    assert [node.op_type for node in after.graph.node] == [node.op_type for node in model.graph.node]
