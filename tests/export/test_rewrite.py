"""A step that is wrong, crashes or leaves a broken graph is dropped; the others still count."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("onnxsim")

import onnx
from onnx import helper, numpy_helper

import export.rewrite
from export.passes import fold_batch_norm
from export.rewrite import rewrite
from export.verify import run_model
from runtime.errors import FaceMeshError
from tests.export.graphs import conv_graph, norm_node, normalisation, weights


@pytest.fixture
def model():
    nodes = [helper.make_node("Conv", ["image", "w"], ["c"], "conv", pads=[1, 1, 1, 1]), norm_node("c", "position_map")]
    return conv_graph(nodes, {"w": weights(6, 4, 3, 3), **normalisation(6)})


IMAGES = np.random.default_rng(0).normal(size=(3, 4, 12, 12)).astype(np.float32)


def a_pass(name, run):
    return SimpleNamespace(__name__=f"export.passes.{name}", run=run)


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
    [(lambda graph: shrink_pads(graph.graph), "differ by"), (crash, "IndexError: list index out of range"), (break_graph, "Convolute")],
    ids=["wrong", "crash", "broken graph"],
)
def test_step_that_fails_is_dropped(model, run, reason):
    result, steps = rewrite(model, IMAGES, "position_map", [a_pass("faulty", run), fold_batch_norm])
    assert [step.name for step in steps if step.dropped] == ["faulty"]
    assert reason in steps[0].dropped
    assert [node.op_type for node in result.graph.node] == ["Conv"]
    np.testing.assert_allclose(run_model(result, IMAGES, "position_map"), run_model(model, IMAGES, "position_map"), atol=1e-5)


def test_onnxsim_that_breaks_the_model_is_dropped(model, monkeypatch):
    def simplify(proto):
        worse = onnx.ModelProto()
        worse.CopyFrom(proto)
        for tensor in worse.graph.initializer:
            if len(tensor.dims) == 4:
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.001), tensor.name))
        worse.graph.node.append(helper.make_node("Relu", [worse.graph.input[0].name], ["unused"]))
        return worse, True

    monkeypatch.setattr(export.rewrite.onnxsim, "simplify", simplify)
    result, steps = rewrite(model, IMAGES, "position_map")
    assert [(step.name, step.dropped is not None) for step in steps] == [("fold_batch_norm", False), ("onnxsim", True)]
    assert [node.op_type for node in result.graph.node] == ["Conv"]


def test_nothing_to_do_is_no_step(model):
    once, _ = rewrite(model, IMAGES, "position_map")
    twice, steps = rewrite(once, IMAGES, "position_map")
    assert not steps
    assert twice.SerializeToString() == once.SerializeToString()


def test_model_that_does_not_run_is_refused(model):
    model.graph.node[0].attribute[0].ints[:] = [-9, -9, -9, -9]
    with pytest.raises(FaceMeshError, match="does not run in ONNX Runtime"):
        rewrite(model, IMAGES, "position_map")
