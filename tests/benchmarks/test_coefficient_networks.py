"""Every benchmark takes networks of coefficients: with a pose, without one, and with a landmark channel."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import main
from tests.calibration.small import write_face_set

pytest.importorskip("onnx", reason="needs onnx to make a model")
KINDS = {"pose": {}, "no pose": {"pose_count": 0}, "landmark channel": {"landmark_channel": True}}


@pytest.fixture(params=KINDS)
def network(request, tmp_path, live_model):
    """Path of a small network, and the options that name its first network, if it wants one."""
    from tests.standins.coefficient_network import write_toy_model

    words = KINDS[request.param]
    return write_toy_model(tmp_path, **words), ["--landmarks-from", live_model] if "landmark_channel" in words else []


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_accuracy(network, toy_set, capsys):
    engine, first = network
    assert run("accuracy", "--data", toy_set.data, "--engine", engine, "--boxes", "ground-truth", *first) == 0
    assert "dense 3D" in capsys.readouterr().out


def test_peers(network, toy_set, capsys):
    engine, first = network
    assert run("peers", "--data", toy_set.data, "--engine", engine, "--faces", "2", "--threads", "1", *first) == 0
    output = capsys.readouterr().out
    assert "this runtime, fp32, landmarks alone" in output
    assert ("first network" in output) == bool(first)


def test_robustness(network, toy_set, capsys):
    engine, first = network
    few = ("--faces", "1", "--seeds", "1", "--only", "gamma", "--non-faces", "1", "--detector", "none")
    assert run("robustness", "--data", toy_set.data, "--model", engine, *few, *first) == 0
    assert "gamma 2" in capsys.readouterr().out


def test_int8(network, tmp_path, capsys):
    engine, _ = network
    assert run("int8", engine, "--crops", write_face_set(tmp_path), "--samples", "4") == 0
    assert len(capsys.readouterr().out.splitlines()) == 9  # the labels' landmarks are drawn


def test_roofline(network, capsys):
    engine, _ = network
    assert run("roofline", engine, "--devices", "orin-nano") == 0
    assert "Jetson Orin Nano" in capsys.readouterr().out
