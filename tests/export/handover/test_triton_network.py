"""The plain network in the real Triton server, whose wheel has no backend of ONNX Runtime: given one, it serves it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from export.__main__ import main
from runtime.models.shipped import SHIPPED
from tests.export.handover.test_triton_server import client, result
from tests.programs.triton_server import TritonServer, triton_python

BACKEND = Path(os.environ.get("FACEMESH_TRITON_ONNXRUNTIME", "none"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        triton_python() is None or not (BACKEND / "libtriton_onnxruntime.so").is_file(),
        reason="needs FACEMESH_TRITON_ONNXRUNTIME: tests/programs/triton_onnxruntime_backend.sh",
    ),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    path = tmp_path_factory.mktemp("triton") / "models"
    assert main(["triton", str(SHIPPED["fp32"]), "-o", str(path), "--workers", "1"]) == 0
    return path


@pytest.fixture(scope="module")
def server(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    shutil.copytree(BACKEND, folder / "backends" / "onnxruntime")
    server = TritonServer(triton_python(), models, folder, "--load-model", "facemesh_network")
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.close()


def check_outputs(found, precision, crops):
    session = onnxruntime.InferenceSession(str(SHIPPED[precision]), providers=["CPUExecutionProvider"])
    expected = session.run(None, {session.get_inputs()[0].name: np.load(crops)})
    assert found["outputs"].keys() == {output.name for output in session.get_outputs()}
    for output, value in zip(session.get_outputs(), expected, strict=True):
        np.testing.assert_allclose(found["outputs"][output.name], value, rtol=1e-4, atol=1e-4, err_msg=output.name)


def test_crops_come_back_as_onnx_runtime_computes_them_and_a_new_version_takes_over(server, models, tmp_path):
    crops = tmp_path / "crops.npy"
    np.save(crops, np.random.default_rng(0).random((5, 3, 128, 128), np.float32))
    for protocol in ("http", "grpc"):
        found = result(client("network", protocol, getattr(server, protocol), crops))
        assert found["version"] == "1"
        check_outputs(found, "fp32", crops)
    assert main(["triton", str(SHIPPED["int8"]), "-o", str(models), "--workers", "1"]) == 0
    assert server.repository("load", "facemesh_network") == ""
    found = result(client("network", "grpc", server.grpc, crops))
    assert found["version"] == "2"
    check_outputs(found, "int8", crops)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((1, 3, 64, 64), np.float32), "unexpected shape for input 'image'"),
        (np.zeros((1, 3, 128, 128), np.float64), "data-type is 'FP64'"),
        (np.zeros((17, 3, 128, 128), np.float32), "must be <= 16"),
    ],
)
def test_wrong_tensors_are_refused(server, tmp_path, array, reason):
    np.save(tmp_path / "wrong.npy", array)
    assert reason in result(client("network", "http", server.http, tmp_path / "wrong.npy"))["error"]
