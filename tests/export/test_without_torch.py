"""Files that are ONNX already are exported, inspected and calibrated where PyTorch is not installed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from runtime.models.shipped import SHIPPED_MODEL

pytest.importorskip("onnxsim")


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["onnx", "--arch", "edge", "--weights", "bare.onnx", "-o", "out.onnx"]])
def test_export_of_an_onnx_file_needs_no_torch(tmp_path, arguments):
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "torch.py").write_text("raise ModuleNotFoundError('blocked', name='torch')\n")
    (tmp_path / "bare.onnx").write_bytes(SHIPPED_MODEL.read_bytes())
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(blocked), *filter(None, sys.path)])}
    command = [sys.executable, "-m", "export", *arguments]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "out.onnx.json").is_file()
