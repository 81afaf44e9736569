"""``python -m export detector --size``: files of one size, in three precisions, find what the shipped file finds."""

from __future__ import annotations

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest

from export.__main__ import main
from export.engines.engine_source import open_source
from runtime.detection.onnx_yunet import OnnxYuNet
from runtime.detection.yunet_rows import face_rows
from runtime.models.detector_spec import LEVELS, DetectorInput, DetectorSpec, load_detector_spec
from runtime.models.shipped import SHIPPED_PICTURE, YUNET, YUNET_ONNX


def picture(width, height):
    """The portrait in the left upper corner, black beside it."""
    image = cv2.imread(str(SHIPPED_PICTURE))
    scale = min(width, height) / max(image.shape)
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return cv2.copyMakeBorder(small, 0, height - small.shape[0], 0, width - small.shape[1], cv2.BORDER_CONSTANT)


def rows_of(path, image):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return face_rows(session.run(list(LEVELS), {"planes": image.transpose(2, 0, 1)[None].astype(np.float32)}), 0.6)


@pytest.mark.parametrize(
    ("size", "precision", "tolerance_px"),
    [
        ((640, 384), "fp32", 0.01),
        ((640, 640), "fp32", 0.01),
        ((96, 160), "fp32", 0.01),
        pytest.param((640, 384), "fp16", 0.5, marks=pytest.mark.slow),
        ((320, 192), "fp16", 0.5),
    ],
)
def test_the_same_faces_as_the_shipped_file(tmp_path, capsys, size, precision, tolerance_px):
    path = tmp_path / "d.onnx"
    assert main(["detector", "--size", "{}x{}".format(*size), "--precision", precision, "-o", str(path)]) == 0
    out = capsys.readouterr().out
    assert f"{path}: {path.stat().st_size:,} bytes" in out
    assert ("all layers in FP16; the shipped photograph at 16 sizes: " in out) == (precision == "fp16")
    spec = load_detector_spec(path)
    assert spec == DetectorSpec("yunet", DetectorInput("planes", *size), precision, spec.onnx_sha256)
    image = picture(*size)
    expected, found = OnnxYuNet(0.6)(image), rows_of(path, image)
    assert len(expected) == len(found) == 1
    np.testing.assert_allclose(found[:, :14], expected[:, :14], atol=tolerance_px)
    np.testing.assert_allclose(found[:, 14], expected[:, 14], atol=0.01)


def test_half_precision_from_end_to_end(tmp_path, capsys):
    """The file has FP32 at its ends; an engine of it FP16 alone."""
    path = tmp_path / "d.onnx"
    assert main(["detector", "--size", "64x32", "--precision", "fp16", "-o", str(path)]) == 0
    model = onnx.load(path)
    kinds = {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    assert kinds == {onnx.TensorProto.FLOAT}
    source = open_source(path)
    kinds = {value.type.tensor_type.elem_type for value in (*source.model.graph.input, *source.model.graph.output)}
    assert kinds == {onnx.TensorProto.FLOAT16}
    assert not [node for node in source.model.graph.node if node.op_type == "Cast"]
    assert source.batch == 1
    assert main(["detector", "--size", "64x32", "--precision", "fp16", "--keep", "stride_8", "-o", str(path)]) == 0
    assert "other layers in FP16" in capsys.readouterr().out
    held = {one.name: one.data_type for one in onnx.load(path).graph.initializer}
    assert held["weight_8_1"] == onnx.TensorProto.FLOAT


def test_half_precision_by_labelled_faces(tmp_path, capsys):
    (tmp_path / "faces").mkdir()
    cv2.imwrite(str(tmp_path / "faces" / "a.png"), cv2.imread(str(SHIPPED_PICTURE)))
    words = ["detector", "--size", "320x192", "--precision", "fp16", "--labels", str(tmp_path / "faces")]
    assert main([*words, "-o", str(tmp_path / "d.onnx")]) == 0
    assert "of 1 faces 100.00 % found in FP32, 100.00 % in FP16" in capsys.readouterr().out


@pytest.mark.parametrize(("allowed", "code"), [([], 1), (["--max-loss", "100%"], 0)])
def test_half_precision_that_finds_less_is_refused(tmp_path, capsys, monkeypatch, allowed, code):
    def blind(model, keep, *, alike):
        for tensor in model.graph.initializer:
            if tensor.name.startswith("bias_") and tensor.name.endswith("_1"):  # of the last convolutions
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(16, -50, np.float32), tensor.name))
        return model, []

    monkeypatch.setattr("export.graphs.fp16.to_fp16", lambda model, *rest, **more: blind(copied(model), *rest, **more))
    path = tmp_path / "d.onnx"
    assert main(["detector", "--size", "64x32", "--precision", "fp16", *allowed, "-o", str(path)]) == code
    assert path.exists() == (code == 0)
    if code:
        error = capsys.readouterr().err
        assert error.startswith("error: FP16 finds other faces (the shipped photograph at 16 sizes: ")
        assert error.count("\n") == 1


def copied(model):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def test_int8(tmp_path, capsys):
    for number in range(3):
        (tmp_path / "faces").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "faces" / f"{number}.png"), cv2.imread(str(SHIPPED_PICTURE)) // (number + 1))
    path = tmp_path / "d.onnx"
    words = ["detector", "--size", "320x192", "--precision", "int8", "--crops", str(tmp_path / "faces")]
    assert main([*words, "--max-loss", "5%", "-o", str(path)]) == 0
    out = capsys.readouterr().out
    assert "layers in INT8 besides the last ones" in out
    assert "of 1 faces 100.00 % found in FP32, 100.00 % in INT8" in out
    assert open_source(path).spec.precision == "int8"
    rows = rows_of(path, picture(320, 192))
    np.testing.assert_allclose(rows[:, :4], OnnxYuNet(0.6)(picture(320, 192))[:, :4], atol=4)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--size", "640x380"], "must be WIDTHxHEIGHT, multiples of 32 up to 4096"),
        (["--size", "640"], "must be WIDTHxHEIGHT"),
        (["--size", "0x32"], "must be WIDTHxHEIGHT"),
        (["--size", "99999999999999999999x32"], "must be WIDTHxHEIGHT"),
        (["--precision", "fp16"], "needs a size, too; add --size"),
        (["--size", "64x32", "--keep", "Conv_0"], "--keep names the nodes"),
        (["--size", "64x32", "--precision", "fp16", "--keep", "gone"], "no node is called gone"),
        (["--size", "64x32", "--precision", "int8"], "needs faces to calibrate on; add --crops"),
        (["--size", "64x32", "--crops", "faces"], "--crops is of --precision int8"),
        (["--size", "64x32", "--max-loss", "1%"], "--max-loss is of --precision int8"),
        (["--size", "64x32", "--precision", "fp16", "--samples", "9"], "--samples is of --precision int8"),
        (["--size", "64x32", "--precision", "fp16", "--labels", "gone"], "gone"),
        (["--size", "64x32", "--precision", "int8", "--crops", "gone"], "gone"),
    ],
)
def test_bad_options_are_one_line(tmp_path, capsys, monkeypatch, words, expected):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(["detector", *words, "-o", "d.onnx"])
    except SystemExit as ended:
        code = ended.code
    error = capsys.readouterr().err.splitlines()
    assert code != 0
    assert expected in error[-1]
    assert [line for line in error if "error: " in line] == error[-1:]
    assert list(tmp_path.iterdir()) == []


def test_the_source_is_not_replaced(tmp_path, capsys):
    path = tmp_path / "yunet.onnx"
    path.write_bytes(YUNET.read_bytes())
    assert main(["detector", str(path), "-o", str(path)]) == 1
    assert "it would replace what it is made from" in capsys.readouterr().err
    assert path.read_bytes() == YUNET.read_bytes()


def test_a_detector_is_no_face_network(tmp_path, capsys):
    """Each command that wants one says so in one line."""
    path = tmp_path / "d.onnx"
    assert main(["detector", "--size", "64x32", "-o", str(path)]) == 0
    capsys.readouterr()
    for words in (
        ["onnx", "--weights", str(path), "-o", str(tmp_path / "x.onnx")],
        ["triton", str(path), "-o", str(tmp_path / "repository")],
    ):
        assert main(words) == 1
        error = capsys.readouterr().err
        assert "the spec of a detector, which makes no meshes; give that detector to --detector" in error
        assert error.count("\n") == 1
    assert main(["engine", str(YUNET_ONNX), "-o", str(tmp_path / "x.engine")]) == 1
    assert "no model spec there" in capsys.readouterr().err
