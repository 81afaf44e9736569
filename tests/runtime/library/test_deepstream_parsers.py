"""The parsers of a DeepStream pipeline, on tensors recorded from ONNX Runtime as nvinfer would hand them over."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import MagicMock

import cv2
import numpy as np
import onnxruntime
import pytest

from export.__main__ import main as export
from runtime import FaceMeshPipeline, YuNetDetector, open_runner
from runtime.detection.box_map import BOX_MAP
from runtime.models.shipped import SHIPPED, SHIPPED_PICTURE, YUNET
from tests.runtime.library import facemesh_h
from tests.runtime.library.facemesh_h import BAD_ARGUMENT, Detection, Faces, doubles, floats

EXAMPLE = "runtime/native/examples/deepstream_probes.py"
SIDE, TENSORS, MOST = 640, 12, 32
Pointers = ctypes.POINTER(ctypes.c_float) * TENSORS


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    """A frame of a camera, 1280 x 720, with one face."""
    return cv2.resize(cv2.imread(str(SHIPPED_PICTURE))[:288], (1280, 720), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def example(repository, monkeypatch):
    """The example with its probes, without GStreamer and DeepStream."""
    for name in ("gi", "gi.repository", "pyds"):
        monkeypatch.setitem(sys.modules, name, MagicMock())
    spec = importlib.util.spec_from_file_location("deepstream_probes", repository / EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def parser(library):
    for name in ("yunet_parser_open", "yunet_tensor"):
        getattr(library._library, f"facemesh_{name}").restype = ctypes.c_void_p
    handle = library._library.facemesh_yunet_parser_open(str(BOX_MAP).encode(), ctypes.c_float(0.6))
    assert handle, library.message()
    yield handle
    library.yunet_parser_free(handle)


@pytest.fixture(scope="module")
def recorded(library, frame) -> tuple[list[np.ndarray], Pointers]:
    """YuNet's tensors of the frame, scaled and padded as nvinfer does, and pointers to them."""
    scaled = cv2.resize(frame, (SIDE, SIDE * 720 // 1280), interpolation=cv2.INTER_AREA)
    padded = cv2.copyMakeBorder(scaled, 0, SIDE - len(scaled), 0, 0, cv2.BORDER_CONSTANT)
    session = onnxruntime.InferenceSession(str(YUNET), providers=["CPUExecutionProvider"])
    library._library.facemesh_yunet_tensor.restype = ctypes.c_char_p
    names = [library._library.facemesh_yunet_tensor(number).decode() for number in range(TENSORS)]
    assert library._library.facemesh_yunet_tensor(TENSORS) is None
    picture = padded.astype(np.float32).transpose(2, 0, 1)[None]
    tensors = [np.ascontiguousarray(tensor) for tensor in session.run(names, {"input": picture})]
    return tensors, Pointers(*map(floats, tensors))


@pytest.fixture(scope="module")
def decoder(library):
    spec = Path(f"{SHIPPED['fp32']}.json")
    handle = library.decoder_open(str(spec).encode(), library.model_default_params())
    assert handle, library.message()
    yield handle
    library.model_free(handle)


@pytest.mark.slow
def test_yunet_finds_what_the_detector_finds(library, parser, recorded, frame):
    found, wanted = (Detection * MOST)(), YuNetDetector()(frame)
    assert library.yunet_parse(parser, recorded[1], SIDE, 1280, 720, found, MOST) == len(wanted) == 1
    assert np.abs(np.array(found[0].box) - wanted.boxes_xyxy[0]).max() < 0.02 * np.ptp(wanted.boxes_xyxy[0])
    assert found[0].score == pytest.approx(wanted.scores[0], abs=0.02)
    assert library.yunet_parse(parser, recorded[1], SIDE, 1280, 720, found, 0) == 0


def nvinfer_crop(frame: np.ndarray, rectangle: np.ndarray, side: int) -> np.ndarray:
    """Cut an object's rectangle as nvinfer does: whole pixels inside the frame, scaled, padded right and below."""
    left, top = np.maximum(0, np.floor(rectangle[:2])).astype(int)
    right, bottom = np.minimum((1280, 720), np.floor(rectangle[:2] + rectangle[2:])).astype(int)
    scale = side / max(right - left, bottom - top)
    size_wh = round((right - left) * scale), round((bottom - top) * scale)
    scaled = cv2.resize(frame[top:bottom, left:right], size_wh, interpolation=cv2.INTER_AREA)
    return cv2.copyMakeBorder(scaled, 0, side - size_wh[1], 0, side - size_wh[0], cv2.BORDER_CONSTANT)


@pytest.mark.slow
@pytest.mark.parametrize("shift", [(0, 0), (-340, 0), (0, -120)], ids=["inside", "cut left", "cut above"])
def test_the_secondary_reads_the_face(library, decoder, frame, shift):
    frame = cv2.warpAffine(frame, np.array([[1.0, 0, shift[0]], [0, 1, shift[1]]]), (1280, 720))
    (box,) = YuNetDetector()(frame).boxes_xyxy
    rectangle, matrix, faces = np.zeros(4, np.float32), np.zeros(6), Faces(1, library.vertex_count(decoder))
    assert library.object_rectangle(decoder, floats(box), floats(rectangle)) == 0
    assert library.object_matrix(decoder, floats(rectangle), 1280, 720, doubles(matrix)) == 0
    with open_runner(SHIPPED["fp32"]) as runner:
        (wanted,) = FaceMeshPipeline(runner).from_boxes(frame, box[None])
        low, high = runner.spec.input.value_range
        crop = nvinfer_crop(frame, rectangle, runner.spec.input.size).transpose(2, 0, 1)
        runner.input[0] = low + crop.astype(np.float32) * (high - low) / 255
        output = np.ascontiguousarray(runner.infer(1)[0])
    assert library.decode(decoder, floats(output), doubles(matrix), faces.array) == 0, library.message()
    size = (np.ptp(box[::2]) + np.ptp(box[1::2])) / 2
    difference = np.linalg.norm(faces.meshes(1)[0].landmarks - wanted.landmarks, axis=1)
    assert difference.mean() < 0.02 * size


def test_structures_of_the_example_are_the_header_s(example):
    for name in ("Detection", "Face", "ModelParams"):
        theirs, ours = getattr(example, name), getattr(facemesh_h, name)
        assert [field for field, _ in theirs._fields_] == [field for field, _ in ours._fields_]
        assert ctypes.sizeof(theirs) == ctypes.sizeof(ours), name
        for field, _ in ours._fields_:
            assert getattr(theirs, field).offset == getattr(ours, field).offset, field


@pytest.mark.parametrize(
    ("arguments", "stand_in", "code", "text"),
    [
        ((), "", 2, "usage: python deepstream_probes.py FOLDER file:///film.mp4"),
        (("faces", "film"), "raise ModuleNotFoundError('no gi here')", 1, "error: no gi here; install PyGObject"),
        (("faces", "film"), "def require_version(*_): raise ValueError('no Gst\\nhere')", 1, "error: no Gst here"),
    ],
)
def test_the_example_without_arguments_or_libraries_ends_in_one_line(
    repository, tmp_path, arguments, stand_in, code, text
):
    (tmp_path / "gi.py").write_text(stand_in)
    (tmp_path / "pyds.py").touch()
    command = [sys.executable, repository / EXAMPLE, *arguments]
    run = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True)
    assert (run.returncode, len(run.stderr.splitlines())) == (code, 1)
    assert run.stderr.startswith(text)


@pytest.mark.parametrize(
    ("message", "ends"),
    [
        ("eos", nullcontext()),
        ("error", pytest.raises(RuntimeError, match="no such film")),
        ("probe", pytest.raises(RuntimeError, match=r"make_objects: ValueError\('odd'\)")),
    ],
)
def test_the_example_ends_as_the_pipeline_does(example, monkeypatch, message, ends):
    """Over a pipeline that is all stand-ins: its loop ends with a message on the bus, or a fault in a probe."""
    pipeline = example.Gst.parse_launch.return_value
    handlers = {}
    pipeline.get_bus.return_value.connect = handlers.__setitem__
    pad = pipeline.get_by_name.return_value.get_static_pad.return_value
    fault = MagicMock()
    fault.parse_error.return_value = (MagicMock(message="no such film"), "debug")

    def loop():
        if message == "probe":
            _, probed, probe = pad.add_probe.call_args_list[0].args
            assert probed(pad, "info", probe) is example.Gst.PadProbeReturn.OK
        else:
            handlers[f"message::{message}"]("bus", fault)

    monkeypatch.setattr(example, "make_objects", named("make_objects", ValueError("odd")))
    monkeypatch.setattr(example, "Parsers", MagicMock())
    example.GLib.MainLoop.return_value.run = loop
    with ends:
        example.main(Path("faces"), "file:///film.mp4")
    assert example.GLib.MainLoop.return_value.quit.called
    pipeline.set_state.assert_called_with(example.Gst.State.NULL)


def named(name: str, error: Exception) -> MagicMock:
    """Return a stand-in for the function ``name`` that raises."""
    function = MagicMock(side_effect=error)
    function.__name__ = name
    return function


def test_the_example_takes_the_network_of_the_configuration(example, monkeypatch, tmp_path):
    assert export(["deepstream", str(SHIPPED["fp32"]), "-o", str(tmp_path)]) == 0
    (tmp_path / "mine.onnx.json").touch()
    library = MagicMock()
    library.facemesh_decoder_open.return_value = library.facemesh_yunet_parser_open.return_value = 1
    monkeypatch.setattr(example.ctypes, "CDLL", lambda name: library)
    example.Parsers(tmp_path)
    assert library.facemesh_decoder_open.call_args.args[0] == bytes(tmp_path / "edge.onnx.json")


@pytest.mark.slow
def test_the_example_reads_a_frame_as_the_parsers_do(example, library, recorded, frame, tmp_path, monkeypatch):
    """Its classes over the built library, in the folder that the command writes."""
    assert export(["deepstream", str(SHIPPED["fp32"]), "-o", str(tmp_path / "faces")]) == 0
    monkeypatch.setattr(example.ctypes, "CDLL", lambda name: {"libfacemesh.so": library._library}[name])
    parsers = example.Parsers(tmp_path / "faces")
    names = [library._library.facemesh_yunet_tensor(number).decode() for number in range(TENSORS)]
    addresses = {name: tensor.ctypes.data for name, tensor in zip(names, recorded[0], strict=True)}
    (detection,) = parsers.detections(addresses, 1280, 720)
    (box,) = YuNetDetector()(frame).boxes_xyxy
    assert np.abs(np.array(detection.box) - box).max() < 0.02 * np.ptp(box)
    rectangle = np.array(parsers.rectangle(detection))
    with open_runner(SHIPPED["fp32"]) as runner:
        (wanted,) = FaceMeshPipeline(runner).from_boxes(frame, box[None])
        low, high = runner.spec.input.value_range
        crop = nvinfer_crop(frame, rectangle, runner.spec.input.size).transpose(2, 0, 1)
        runner.input[0] = low + crop.astype(np.float32) * (high - low) / 255
        output = np.ascontiguousarray(runner.infer(1)[0])
    face = parsers.face(output.ctypes.data, rectangle.tolist(), 1280, 720)
    difference = np.linalg.norm(np.array(face.landmarks) - wanted.landmarks, axis=1)
    assert difference.mean() < 0.02 * np.ptp(box)


@pytest.mark.slow
def test_bad_input(library, parser, recorded, decoder):
    found, box, rectangle, matrix = (Detection * 1)(), np.ones(4, np.float32), np.zeros(4, np.float32), np.zeros(6)
    lacking = Pointers(*map(floats, recorded[0]))
    lacking[5] = None
    calls = [
        lambda: library.yunet_parse(None, recorded[1], SIDE, 640, 480, found, 1),
        lambda: library.yunet_parse(parser, None, SIDE, 640, 480, found, 1),
        lambda: library.yunet_parse(parser, lacking, SIDE, 640, 480, found, 1),
        lambda: library.yunet_parse(parser, recorded[1], 100, 640, 480, found, 1),
        lambda: library.yunet_parse(parser, recorded[1], SIDE, 0, 480, found, 1),
        lambda: library.yunet_parse(parser, recorded[1], SIDE, 640, 480, None, 1),
        lambda: library.object_rectangle(decoder, floats(box), floats(rectangle)),
        lambda: library.object_rectangle(None, floats(box), floats(rectangle)),
        lambda: library.object_matrix(decoder, floats(rectangle), 640, 480, doubles(matrix)),
        lambda: library.object_matrix(decoder, floats(np.full(4, np.nan, np.float32)), 640, 480, doubles(matrix)),
        lambda: library.object_matrix(decoder, None, 640, 480, doubles(matrix)),
    ]
    for number, call in enumerate(calls):
        assert call() == BAD_ARGUMENT, number
        assert ";" in library.message()
    open_parser = library._library.facemesh_yunet_parser_open
    assert open_parser(b"nowhere.json", ctypes.c_float(0.6)) is None
    assert open_parser(b"", ctypes.c_float(0.6)) is None
    assert "box_map is empty" in library.message()
    assert open_parser(str(BOX_MAP).encode(), ctypes.c_float(2)) is None
