"""The detector's rewrite: the shipped file is its result, and other files are refused."""

from __future__ import annotations

import onnx
import pytest

from export.__main__ import main
from export.graphs.yunet import rewrite_yunet
from runtime.errors import FaceMeshError
from runtime.models.shipped import SHIPPED_MODEL, YUNET, YUNET_ONNX


def test_the_shipped_file_is_the_rewritten_one(tmp_path, capsys):
    assert main(["detector", "-o", str(tmp_path / "yunet.onnx")]) == 0
    assert (tmp_path / "yunet.onnx").read_bytes() == YUNET_ONNX.read_bytes()
    assert "yunet.onnx" in capsys.readouterr().out


def test_heads_are_joined():
    counts = [sum(node.op_type == "Conv" for node in onnx.load(path).graph.node) for path in (YUNET, YUNET_ONNX)]
    assert counts == [53, 53 - 3 * 3 * 2]


def without_bias(model):
    head = next(one for one in model.graph.node if "cls_8" in one.output)
    while head.op_type != "Conv":
        head = next(one for one in model.graph.node if head.input[0] in one.output)
    del head.input[2]


def with_other_features(model):
    """Let one head of a level read another level."""
    makers = {output: one for one in model.graph.node for output in one.output}
    heads = []
    for name in ("cls_8", "cls_16"):
        node = makers[name]
        while node.op_type != "Conv":
            node = makers[node.input[0]]
        heads.append(makers[node.input[0]])
    heads[0].input[0] = heads[1].input[0]


@pytest.mark.parametrize(
    ("change", "expected"), [(without_bias, "has no bias"), (with_other_features, "read other features")]
)
def test_graphs_that_only_look_like_it(change, expected):
    model = onnx.load(YUNET)
    change(model)
    with pytest.raises(FaceMeshError, match=expected):
        rewrite_yunet(model)


@pytest.mark.parametrize(
    ("source", "output", "expected"),
    [
        (SHIPPED_MODEL, "x.onnx", "this is no YuNet"),
        ("missing.onnx", "x.onnx", "no such file"),
        (YUNET_ONNX, "x.onnx", "this is no YuNet"),
        (YUNET, "x.bin", "must become an .onnx"),
        (YUNET, "nowhere/x.onnx", "must become an .onnx"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, source, output, expected):
    assert main(["detector", str(source), "-o", str(tmp_path / output)]) != 0
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
