"""A step that is wrong, crashes or leaves a broken graph is dropped; the others still count."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("onnxsim")

import onnx
from onnx import helper, numpy_helper

import export.graphs.rewrite
from export.graphs.foreign import with_unique_names
from export.graphs.rewrite import ROUNDING_FACTOR, TOLERANCE, rewrite
from export.graphs.verify import run_model, run_outputs
from export.passes import fold_batch_norm, subpixel_transposed
from runtime.errors import FaceMeshError
from tests.export.small_graphs import conv_graph, norm_node, normalisation, weights


@pytest.fixture
def model():
    nodes = [helper.make_node("Conv", ["image", "w"], ["c"], "conv", pads=[1, 1, 1, 1]), norm_node("c", "position_map")]
    return conv_graph(nodes, {"w": weights(6, 4, 3, 3), **normalisation(6)})


IMAGES = np.random.default_rng(0).normal(size=(3, 4, 12, 12)).astype(np.float32)


def a_pass(name, run):
    return SimpleNamespace(__name__=f"export.passes.{name}", run=run)


def rewritten(model, *passes):
    """`rewrite` with the outputs of the model itself."""
    expected = run_outputs(with_unique_names(model), IMAGES, [value.name for value in model.graph.output])
    return rewrite(model, IMAGES, expected, *passes)


def shrink_pads(graph):
    """What onnxsim was seen to do: pads (1, 1) become (0, 1), and no longer fit."""
    for node in graph:
        if node.op_type == "Conv":
            node.attributes["pads"] = type(node.attributes["pads"])("pads", node.attributes["pads"].type, [1, 2, 1, 0])
    return True


def crash(graph):
    raise IndexError("list index out of range")


def break_graph(graph):
    next(iter(graph.graph)).op_type = "Convolute"
    return True


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (lambda graph: shrink_pads(graph.graph), "differ by"),
        (crash, "IndexError: list index out of range"),
        (break_graph, "Convolute"),
    ],
    ids=["wrong", "crash", "broken graph"],
)
def test_step_that_fails_is_dropped(model, run, reason):
    result, steps = rewritten(model, [a_pass("faulty", run), fold_batch_norm])
    assert [step.name for step in steps if step.dropped] == ["faulty"]
    assert reason in steps[0].dropped
    assert [node.op_type for node in result.graph.node] == ["Conv"]
    np.testing.assert_allclose(
        run_model(result, IMAGES, "position_map"), run_model(model, IMAGES, "position_map"), atol=1e-5
    )


def test_onnxsim_that_breaks_the_model_is_dropped(model, monkeypatch):
    def simplify(proto):
        worse = onnx.ModelProto()
        worse.CopyFrom(proto)
        for tensor in worse.graph.initializer:
            if len(tensor.dims) == 4:
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.001), tensor.name))
        worse.graph.node.append(helper.make_node("Relu", [worse.graph.input[0].name], ["unused"]))
        return worse, True

    monkeypatch.setattr(export.graphs.rewrite.onnxsim, "simplify", simplify)
    result, steps = rewritten(model)
    assert [(step.name, step.dropped is not None) for step in steps] == [("fold_batch_norm", False), ("onnxsim", True)]
    assert [node.op_type for node in result.graph.node] == ["Conv"]


def test_nothing_to_do_is_no_step(model):
    once, _ = rewritten(model)
    twice, steps = rewritten(once)
    assert not steps
    assert twice.SerializeToString() == once.SerializeToString()


@pytest.mark.parametrize(
    "name", ["", "same", "ConvTranspose_1"], ids=["unnamed", "all the same", "a name that is given out"]
)
def test_names_that_are_missing_or_shared_cost_no_rewrite(name):
    """The names of new nodes come from those of the old ones."""
    nodes = [
        helper.make_node("ConvTranspose", ["image", "w"], ["a"], name, strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node(
            "ConvTranspose", ["a", "w"], ["b"], "" if name.endswith("_1") else name, strides=[2, 2], pads=[1, 1, 1, 1]
        ),
        helper.make_node("Relu", ["b"], ["position_map"], name),
    ]
    model = conv_graph(nodes, {"w": weights(4, 4, 4, 4)})
    before = model.SerializeToString()
    result, steps = rewritten(model, [subpixel_transposed])
    assert [(step.name, step.dropped) for step in steps if step.name != "onnxsim"] == [("subpixel_transposed", None)]
    assert "ConvTranspose" not in [node.op_type for node in result.graph.node]
    assert model.SerializeToString() == before


def test_step_says_what_it_was_allowed(model, monkeypatch):
    """1e-5 of the largest output, or four times what another order of the same sums makes."""
    largest = float(np.abs(run_model(model, IMAGES, "position_map")).max())
    _, steps = rewritten(model)
    assert steps[0].allowed == pytest.approx(TOLERANCE * max(1, largest))

    def run_rounding(*arguments, optimised=True, heavy=None):
        shift = np.float32(0 if optimised else 0.01)
        return {name: values + shift for name, values in run_outputs(*arguments).items()}

    monkeypatch.setattr(export.graphs.rewrite, "run_outputs", run_rounding)
    _, steps = rewritten(model)
    assert steps[0].allowed == pytest.approx(ROUNDING_FACTOR * 0.01, rel=1e-3)


def test_step_that_spoils_another_output_is_dropped(model):
    """The map stays as it was."""
    model.graph.node.append(helper.make_node("Sigmoid", ["c"], ["sure"], "sure"))
    model.graph.output.append(helper.make_tensor_value_info("sure", 1, ["N", 6, 12, 12]))

    def spoil(graph):
        next(node for node in graph.graph if node.name == "sure").op_type = "HardSigmoid"
        return True

    expected = run_outputs(model, IMAGES, ["position_map", "sure"])
    result, steps = rewrite(model, IMAGES, expected, [a_pass("spoil", spoil)])
    assert [step.name for step in steps if step.dropped and "outputs differ by" in step.dropped] == ["spoil"]
    np.testing.assert_allclose(run_outputs(result, IMAGES, ["sure"])["sure"], expected["sure"], atol=1e-6)


def test_model_that_does_not_run_is_refused(model):
    model.graph.node[0].attribute[0].ints[:] = [-9, -9, -9, -9]
    with pytest.raises(FaceMeshError, match="does not run in ONNX Runtime"):
        rewrite(model, IMAGES, {"position_map": np.zeros((3, 6, 12, 12), np.float32)})
