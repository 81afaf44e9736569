"""FP16 that overflows or loses too much: the layers are named."""

from __future__ import annotations

import pytest

pytest.importorskip("onnx")

import numpy as np
import onnx
from onnx import numpy_helper

from export.__main__ import main
from export.checks.half_loss import overflowing
from export.graphs.verify import verification_images
from runtime.models.spec import ModelSpec
from tests.export.small_models import write_small_model, write_spec


def scale_weights(path, first: float, second: float) -> None:
    model = onnx.load(path)
    for tensor, factor in zip(model.graph.initializer, (first, second), strict=True):
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), tensor.name))
    onnx.save(model, path)
    write_spec(path)


def run_fp16(path, out, *more) -> int:
    return main(["onnx", "--weights", str(path), "-o", str(out), "--precision", "fp16", *more])


def test_overflowing_layers_are_named_and_kept(tmp_path, capsys):
    path = write_small_model(tmp_path / "model.onnx")
    spec = ModelSpec.load(ModelSpec.path_for(path))
    images = verification_images(spec.input, spec.crop_scale)
    assert overflowing(onnx.load(path), images) == {}
    scale_weights(path, 3e4, 1 / 3e4)
    found = overflowing(onnx.load(path), images)
    assert set(found) == {"c1", "act", "c2"}
    assert "half precision ends at 65504" in found["c1"]
    assert run_fp16(path, tmp_path / "half.onnx") == 0
    error = capsys.readouterr().err
    assert "warning: c1 stays in FP32: it reaches " in error
    assert "warning: c2 stays in FP32: it takes values up to " in error


def test_a_loss_beyond_the_limit_names_the_layers(tmp_path, capsys):
    path = write_small_model(tmp_path / "model.onnx")
    out = tmp_path / "half.onnx"
    assert run_fp16(path, out, "--max-shift", "1e-6") == 1
    error = capsys.readouterr().err
    assert "error: FP16 moves the landmarks by 0.00" in error
    assert "px of the crop on average, 1e-06 are allowed; keep the layers that lose most in FP32, --keep c" in error
    assert not out.exists()
    assert run_fp16(path, out, "--max-shift", "5") == 0
