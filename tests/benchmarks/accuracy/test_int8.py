"""The loss and the gain of INT8 by method."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import onnx
import pytest

from benchmarks.__main__ import main
from runtime.models.spec import ModelSpec
from runtime.storage.whole_files import file_sha256
from tests.calibration.small import SPEC, small_network, write_face_set


def test_a_line_per_target_and_method(tmp_path, capsys):
    model = tmp_path / "small.onnx"
    onnx.save(small_network(), model)
    dataclasses.replace(SPEC, onnx_sha256=file_sha256(model)).save(ModelSpec.path_for(model))
    table = tmp_path / "table.json"
    assert (
        main(["int8", str(model), "--crops", str(write_face_set(tmp_path)), "--samples", "8", "--json", str(table)])
        == 0
    )
    assert len(capsys.readouterr().out.splitlines()) == 9
    rows = json.loads(table.read_text())["table"]
    assert {(row["target"], row["method"]) for row in rows} == {
        (target, method) for target in ("tensorrt", "cpu") for method in ("entropy", "percentile", "mse", "minmax")
    }
    assert len({row["fp32_nme"] for row in rows}) == 1
    assert all(0 < row["shift_px"] < 5 and row["faces"] == 6 for row in rows)


def test_network_of_coefficients(tmp_path, capsys):
    from tests.standins.coefficient_network import write_toy_model

    model, elsewhere = write_toy_model(tmp_path), tmp_path / "elsewhere.npz"
    (tmp_path / "face_model.npz").rename(elsewhere)
    arguments = ["int8", str(model), "--crops", str(write_face_set(tmp_path)), "--samples", "8"]
    assert main(arguments) == 1
    assert "face_model.npz: no such file" in capsys.readouterr().err
    assert main([*arguments, "--face-model", str(elsewhere)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 9


@pytest.mark.slow
def test_rewrites_of_a_network_of_coefficients(tmp_path, capsys):
    pytest.importorskip("onnxsim")
    import torch

    from tests.standins.coefficient_network import save_face_model, wide_face_model
    from tests.standins.networks import live_mb05

    weights, face_model = tmp_path / "mb05.pth", tmp_path / "model.npz"
    torch.save({"network": live_mb05().state_dict()}, weights)
    save_face_model(face_model, model=wide_face_model())
    arguments = ["rewrites", "--arch", "mb05", "--weights", str(weights), "--runs", "3", "--threads", "1"]
    assert main([*arguments, "--face-model", str(face_model)]) == 1
    assert "give the mean and std of its numbers by --whitening FILE" in capsys.readouterr().err
    pose = [30.0, 0, 0, 60, 0, 30, 0, 60, 0, 0, 30, 0]
    np.savez(tmp_path / "w.npz", mean=np.array([*pose, *np.zeros(50)], np.float32), std=np.ones(62, np.float32))
    arguments += ["--whitening", str(tmp_path / "w.npz")]
    assert main([*arguments, "--int8", "--face-model", str(face_model)]) == 0
    assert "times as fast as plain" in capsys.readouterr().out


@pytest.mark.slow
def test_int8_is_timed_beside_both_exports(tmp_path, capsys):
    pytest.importorskip("onnxsim")
    import torch

    from tests.standins.networks import live_edge

    weights, record = tmp_path / "edge.pt", tmp_path / "speed.json"
    torch.save({"network": live_edge().state_dict()}, weights)
    options = ["--arch", "edge", "--weights", str(weights), "--runs", "3", "--threads", "1", "--json", str(record)]
    assert main(["rewrites", "--int8", *options]) == 0
    out = capsys.readouterr().out
    assert "int8: " in out
    assert "times as fast as plain" in out
    document = json.loads(record.read_text())
    assert [len(document[name]["times_ms"]) for name in ("plain", "rewritten", "int8")] == [3, 3, 3]
    assert document["int8"]["bytes"] < 0.6 * document["plain"]["bytes"]
