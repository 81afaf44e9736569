"""A file of another kind than the command takes ends in one line with the right command."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from pathlib import Path

import pytest

from calibration.__main__ import main as calibrate
from export.__main__ import main as export
from runtime.errors import FaceMeshError
from runtime.inference.open_runner import open_runner
from runtime.models.file_kinds import refuse_other_kind
from runtime.models.shipped import SHIPPED, SHIPPED_MODEL

ENGINE = b"ftrt\0\0\0\0" + bytes(100)


@pytest.fixture
def write(tmp_path):
    """``write(name, content)`` makes a file."""

    def make(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return make


@pytest.mark.parametrize("path", SHIPPED.values(), ids=str)
def test_shipped_models_are_models(path):
    refuse_other_kind(path, "onnx")
    refuse_other_kind(path, "model")
    with pytest.raises(FaceMeshError, match="an ONNX model, not an engine; 'python -m export engine"):
        refuse_other_kind(path, "engine")


@pytest.mark.parametrize(
    ("name", "content", "wanted", "message"),
    [
        ("m.engine", ENGINE, "onnx", "an engine, not an ONNX model; give the .onnx that it was built from"),
        ("m.onnx", ENGINE, "model", "an engine, not an ONNX model; give the .onnx that it was built from"),
        ("m.engine", b"\x08\x08", "model", r"an ONNX model, not an engine; .*export engine .*m.onnx -o .*m.eng"),
        ("w.pt", b"PK\x03\x04", "model", r"a checkpoint; first .* onnx --arch NETWORK --weights .*w\.pt"),
        ("w.onnx", b"\x80\x02}q", "onnx", "a checkpoint; first 'python -m export onnx"),
        ("w.safetensors", b"\x10\0\0\0", "onnx", "a checkpoint; first 'python -m export onnx"),
    ],
)
def test_other_kinds(write, name, content, wanted, message):
    with pytest.raises(FaceMeshError, match=message) as caught:
        refuse_other_kind(write(name, content), wanted)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["m.engine", "m.plan", "m.bin2"])
def test_what_is_not_known_is_left_to_its_reader(write, name):
    refuse_other_kind(write(name, b"something"), "model")
    refuse_other_kind(write(name, ENGINE), "model")
    refuse_other_kind(Path("missing.onnx"), "onnx")


@pytest.mark.parametrize(
    "command",
    [["inspect"], ["engine"], ["detector"], ["deepstream"], ["onnx", "--arch", "edge", "--weights"]],
    ids=lambda command: command[0],
)
def test_a_pipe_is_not_waited_for(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("m.onnx")
    with bounded_wait():
        assert export([*command, "m.onnx", *(["-o", "out.onnx"] if command != ["inspect"] else [])]) == 1
        assert calibrate(["m.onnx", "--crops", "a", "-o", "out.onnx"]) == 1
    assert capsys.readouterr().err.count("error: m.onnx: ") == 2


@contextmanager
def bounded_wait():
    def give_up(*_):
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_runtime_and_inspect_say_it(write, capsys):
    with pytest.raises(FaceMeshError, match="an ONNX model, not an engine"):
        open_runner(write("m.engine", SHIPPED_MODEL.read_bytes()))
    assert export(["inspect", str(write("w.pt", b"PK\x03\x04"))]) == 1
    assert "a checkpoint; first 'python -m export onnx" in capsys.readouterr().err
