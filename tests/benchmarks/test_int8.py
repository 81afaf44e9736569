"""The table of INT8 by method."""

from __future__ import annotations

import dataclasses
import json

import onnx

from benchmarks.__main__ import main
from runtime.spec import ModelSpec, file_sha256
from tests.calibration.small import SPEC, small_network, write_face_set


def test_a_line_per_target_and_method(tmp_path, capsys):
    model = tmp_path / "small.onnx"
    onnx.save(small_network(), model)
    dataclasses.replace(SPEC, onnx_sha256=file_sha256(model)).save(ModelSpec.path_for(model))
    table = tmp_path / "table.json"
    assert main(["int8", str(model), "--crops", str(write_face_set(tmp_path)), "--samples", "8", "--json", str(table)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 9
    rows = json.loads(table.read_text())["table"]
    assert {(row["target"], row["method"]) for row in rows} == {
        (target, method) for target in ("tensorrt", "cpu") for method in ("entropy", "percentile", "mse", "minmax")
    }
    assert len({row["fp32_nme"] for row in rows}) == 1
    assert all(0 < row["shift_px"] < 5 and row["faces"] == 6 for row in rows)
