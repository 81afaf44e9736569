"""The detector's rewrite: the shipped file is its result, and other files are refused."""

from __future__ import annotations

import onnx
import pytest

from export.__main__ import main
from runtime.models.shipped import SHIPPED_MODEL, YUNET, YUNET_ONNX


def test_the_shipped_file_is_the_rewritten_one(tmp_path, capsys):
    assert main(["detector", "-o", str(tmp_path / "yunet.onnx")]) == 0
    assert (tmp_path / "yunet.onnx").read_bytes() == YUNET_ONNX.read_bytes()
    assert "yunet.onnx" in capsys.readouterr().out


def test_heads_are_joined():
    counts = [sum(node.op_type == "Conv" for node in onnx.load(path).graph.node) for path in (YUNET, YUNET_ONNX)]
    assert counts == [53, 53 - 3 * 3 * 2]


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
