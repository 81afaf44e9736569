"""The real Triton server with written repositories; `make test-slow` installs it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from export.__main__ import main
from runtime.detection.yunet import YuNetDetector
from runtime.inference.open_runner import open_runner
from runtime.models.shipped import SHIPPED, SHIPPED_PICTURE
from runtime.pipeline import FaceMeshPipeline
from tests.programs.triton_server import ROOT, TritonServer, triton_python

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        triton_python() is None, reason="needs nvidia-pytriton: make test-slow, or FACEMESH_TRITON_PYTHON"
    ),
]
CLIENTS = 64


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A repository with the shipped FP32 model."""
    path = tmp_path_factory.mktemp("triton") / "models"
    assert main(["triton", str(SHIPPED["fp32"]), "-o", str(path), "--workers", "1"]) == 0
    return path


@pytest.fixture(scope="module")
def server(models, tmp_path_factory) -> Iterator[TritonServer]:
    server = TritonServer(triton_python(), models, tmp_path_factory.mktemp("server"), "--load-model", "facemesh")
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.close()


def client(*arguments: object) -> subprocess.Popen:
    command = [triton_python(), "-m", "tests.programs.triton_client", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def result(process: subprocess.Popen) -> dict:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return json.loads(output.splitlines()[-1])


@pytest.fixture(scope="module")
def expected():
    """The face of the shipped photograph, in process."""
    with open_runner(SHIPPED["fp32"]) as runner:
        return FaceMeshPipeline(runner, YuNetDetector())(cv2.imread(str(SHIPPED_PICTURE)))[0]


@pytest.fixture(scope="module", params=["http", "grpc"])
def found(request, server, expected):
    """Answers to every form of a request, good and bad."""
    boxes = json.dumps([[12.0, 30.0, 60.0, 80.0], expected.box_xyxy.tolist()])
    return result(client("forms", request.param, getattr(server, request.param), SHIPPED_PICTURE, boxes))


def test_every_form_of_a_request_gives_the_faces_of_the_pipeline(found, expected):
    """To 0.01 px: the server's environment has its own version of OpenCV."""
    whole = found["encoded"]
    np.testing.assert_allclose(whole["landmarks"], expected.landmarks[None], atol=0.01)
    np.testing.assert_allclose(whole["face_boxes"], expected.box_xyxy[None], atol=0.01)
    pose = expected.pose
    np.testing.assert_allclose(whole["pose"], [[pose.yaw_deg, pose.pitch_deg, pose.roll_deg]], atol=0.01)
    np.testing.assert_allclose(
        [whole["score"], whole["confidence"]], [[[expected.score]], [[expected.confidence]]], atol=1e-3
    )
    np.testing.assert_allclose(found["vertices"]["vertices"], expected.vertices[None], atol=0.01)
    assert found["pixels"] == whole
    assert found["boxes"]["faces"] == [[2]]
    assert found["boxes"]["score"] == [[1.0], [1.0]]
    np.testing.assert_allclose(
        found["boxes"]["landmarks"][1], expected.landmarks, atol=0.03 * np.ptp(expected.box_xyxy)
    )
    assert found["padded"]["faces"] == [[2], [2]]
    assert found["padded"]["landmarks"] == 2 * found["boxes"]["landmarks"]
    assert found["ragged"]["faces"] == [[1], [0], [1]]
    assert found["ragged"]["landmarks"] == 2 * whole["landmarks"]
    assert found["small"]["faces"] == [[1]]
    assert (found["nothing"]["faces"], found["nothing"]["landmarks"]) == ([[0]], [])


def test_bad_requests_end_in_one_line_each(found):
    reasons = {
        "empty": "picture 0 of the request: the picture is empty (0 bytes)",
        "no photo": "picture 0 of the request: damaged, or no photo in a known format",
        "huge": "picture 0 of the request: its header claims 32767 x 32767 px",
        "cut": "picture 0 of the request: the JPEG file is cut off before its end",
        "second bad": "picture 1 of the request: damaged, or no photo in a known format",
        "both": "a request gives pictures as encoded or as pixels, one of the two",
        "boxes alone": "a request gives pictures as encoded or as pixels, one of the two",
        "other boxes": "batch size does not match other inputs",
        "reversed box": "not a box, reversed or empty",
        "five columns": "unexpected shape for input 'boxes'",
        "grey": "unexpected shape for input 'pixels'",
    }
    for form, reason in reasons.items():
        assert reason in found[form]["error"], form
        assert "Traceback" not in found[form]["error"]
        assert len(found[form]["error"].splitlines()) == 1


def test_64_clients_at_once_share_batches_and_broken_pictures_harm_nobody_else(server, expected):
    before = {name: server.metric(name) for name in ("nv_inference_count", "nv_inference_exec_count")}
    refused, faces = server.metric("facemesh_refused_total"), server.metric("facemesh_faces_total")
    found = result(client("crowd", "grpc", server.grpc, SHIPPED_PICTURE, CLIENTS, 3))
    good, broken = found["good"], found["broken"]
    assert (good["count"], broken["count"]) == (3 * CLIENTS * 3 // 4, 3 * CLIENTS // 4)
    (answer,) = good["distinct"]
    np.testing.assert_allclose(answer["landmarks"], expected.landmarks[None], atol=0.01)
    (error,) = broken["distinct"]
    assert "cut off before its end" in error["error"]
    requests = server.metric("nv_inference_count") - before["nv_inference_count"]
    batches = server.metric("nv_inference_exec_count") - before["nv_inference_exec_count"]
    assert batches < requests / 2
    assert server.metric("facemesh_refused_total") - refused == broken["count"]
    assert server.metric("facemesh_faces_total") - faces == good["count"]


def test_a_client_that_is_killed_leaves_the_server_working(server, tmp_path, expected):
    asking = client("keep_asking", "grpc", server.grpc, SHIPPED_PICTURE, 16, tmp_path / "never")
    assert asking.stdout.readline() == "asking\n"
    asking.send_signal(signal.SIGKILL)
    asking.wait()
    found = result(client("crowd", "http", server.http, SHIPPED_PICTURE, 1, 1))
    np.testing.assert_allclose(found["good"]["distinct"][0]["landmarks"], expected.landmarks[None], atol=0.01)
    deadline = time.monotonic() + 20
    while server.metric("nv_inference_pending_request_count") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert server.metric("nv_inference_pending_request_count") == 0


def test_a_new_version_takes_over_under_load_without_a_failed_request(models, server, tmp_path):
    stop = tmp_path / "stop"
    asking = [
        client("keep_asking", protocol, getattr(server, protocol), SHIPPED_PICTURE, 1, stop)
        for protocol in ("grpc", "http")
    ]
    for process in asking:
        assert process.stdout.readline() == "asking\n"
    assert main(["triton", str(SHIPPED["int8"]), "-o", str(models), "--workers", "1"]) == 0
    assert server.repository("load", "facemesh") == ""
    time.sleep(1)
    stop.touch()
    for process in asking:
        found = result(process)
        assert found["errors"] == []
        assert [version for version, _ in found["versions"]] == ["1", "2"]


def test_a_version_that_cannot_work_tells_why_when_it_is_loaded(server, models, tmp_path):
    """A damaged model in a version of its own is refused; the one before goes on."""
    (newest,) = (path for path in (models / "facemesh").iterdir() if path.name == "2")
    broken = shutil.copytree(newest, models / "facemesh" / "7")
    (broken / "model.onnx").write_bytes((broken / "model.onnx").read_bytes()[:-1000])
    reason = server.repository("load", "facemesh")
    assert "SHA-256" in reason
    assert "export the model again" in reason
    shutil.rmtree(broken)
    assert server.repository("load", "facemesh") == ""


def test_a_detector_of_its_own_finds_the_faces(server, models, tmp_path, expected):
    """A damaged one is told when the model is loaded."""
    yunet = tmp_path / "yunet.onnx"
    assert main(["detector", "--size", "640x640", "-o", str(yunet)]) == 0
    assert main(["triton", str(SHIPPED["fp32"]), "--detector", str(yunet), "-o", str(models)]) == 0
    assert server.repository("load", "facemesh") == ""
    (answer,) = result(client("crowd", "grpc", server.grpc, SHIPPED_PICTURE, 1, 1))["good"]["distinct"]
    newest = models / "facemesh" / answer["version"]
    np.testing.assert_allclose(answer["landmarks"], expected.landmarks[None], atol=1)
    broken = shutil.copytree(newest, models / "facemesh" / "99")
    (broken / "detector" / "model.onnx").write_bytes(yunet.read_bytes()[:-1000])
    assert "99/detector/model.onnx: its SHA-256" in server.repository("load", "facemesh")
    shutil.rmtree(broken)


def test_the_plain_network_needs_its_backend(server):
    assert "onnxruntime" in server.repository("load", "facemesh_network")
