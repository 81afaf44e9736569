"""The whole command on a small network: files, gate, sensitivity and every refusal in one line."""

from __future__ import annotations

import dataclasses
import json
import re

import cv2
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from calibration.__main__ import main
from calibration.precision.graph_view import Graph
from calibration.precision.placement import quantisable_layers
from runtime.inference.open_runner import open_runner
from runtime.models.spec import ModelSpec
from tests.calibration.small import small_network, with_head


@pytest.fixture
def run(capsys):
    """``run(model, *options)``: exit code, stdout, stderr."""

    def call(*arguments) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.mark.parametrize("target", ["tensorrt", "cpu"])
def test_model_table_and_report(run, write_network, write_faces, tmp_path, target):
    model, output, table = write_network(), tmp_path / "int8.onnx", tmp_path / "table.json"
    code, out, err = run(
        model,
        "--crops",
        write_faces(),
        "--table",
        table,
        "--samples",
        10,
        "--target",
        target,
        "--max-nme-increase",
        1,
        "-o",
        output,
    )
    assert (code, err) == (0, "")
    besides = {"tensorrt": "the tail", "cpu": "stem and tail"}[target]
    assert f"7 of 7 layers in INT8 besides {besides}; ranges by mse from 10 crops" in out
    assert "NME on 6 faces" in out
    assert ModelSpec.load(ModelSpec.path_for(output)).precision == "int8"
    with open_runner(output, max_batch=1) as runner:
        runner.input[:] = np.random.default_rng(0).random(runner.input.shape)
        assert runner.infer(1).std() > 0.01
    document = json.loads(table.read_text())
    assert (document["samples"], document["method"], len(document["ranges"])) == (
        10,
        "mse",
        {"tensorrt": 7, "cpu": 9}[target],
    )
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("target", ["tensorrt", "cpu"])
def test_model_with_confidence(run, write_network, write_faces, tmp_path, target):
    """The same figures as without the head; the result has it, and the runtime reads it."""
    faces, reports = write_faces(), []
    for name, model, changes in (
        ("alone", small_network(), {}),
        ("both", with_head(small_network()), {"confidence": "confidence"}),
    ):
        path = write_network(model, f"{name}.onnx", **changes)
        options = ("--crops", faces, "--target", target, "--max-nme-increase", 1)
        code, out, err = run(path, *options, "-o", tmp_path / f"{name}-int8.onnx")
        assert (code, err) == (0, "")
        reports.append(out)
    assert reports[0].split("; file")[0] == reports[1].split("; file")[0]
    figures = re.search(r"mean confidence ([\d.]+) in FP32, ([\d.]+) in INT8, ([\d.]+) apart on average", reports[1])
    before, after, apart = map(float, figures.groups())
    assert abs(before - after) <= apart + 0.001 < 0.05
    assert "mean confidence" not in reports[0]
    found = []
    for path in (tmp_path / "both.onnx", tmp_path / "both-int8.onnx"):
        with open_runner(path, max_batch=4) as runner:
            runner.input[:] = np.random.default_rng(0).random(runner.input.shape) * np.float32([[[[0.2]]], [[[1]]]] * 2)
            runner.infer(4)
            found.append(runner.confidence.copy())
    assert np.ptp(found[0]) > 0.05
    np.testing.assert_allclose(found[1], found[0], atol=0.05)


def test_confidence_before_the_map(run, write_network, write_faces, tmp_path):
    model = with_head(small_network())
    ends = [*model.graph.output]
    del model.graph.output[:]
    model.graph.output.extend(ends[::-1])
    path = write_network(model, confidence="confidence")
    code, _, err = run(path, "--crops", write_faces(), "-o", tmp_path / "int8.onnx")
    assert code == 1
    assert "small.onnx: its outputs are confidence, position_map; position_map must come first, export" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "int8.onnx").exists()


def test_a_table_is_reused_as_it_is_edited(run, write_network, write_faces, tmp_path):
    model, faces, table = write_network(), write_faces(), tmp_path / "table.json"
    common = (model, "--crops", faces, "--table", table, "--max-nme-increase", 10)
    run(*common, "--method", "minmax", "-o", tmp_path / "a.onnx")
    document = json.loads(table.read_text())
    document["ranges"][0]["amax"] = 1.27
    table.write_text(json.dumps(document))
    code, out, _ = run(*common, "-o", tmp_path / "b.onnx")
    assert code == 0
    assert "ranges by minmax" in out
    scales = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(tmp_path / "b.onnx").graph.initializer}
    assert scales["image_scale"] == np.float32(0.01)
    code, _, err = run(*common, "--method", "entropy", "-o", tmp_path / "c.onnx")
    assert code == 1
    assert "it was made for minmax, not entropy" in err


def fragile_network() -> onnx.ModelProto:
    """The small network with inner weights that INT8 cannot hold: in each channel one is a thousand times the rest,
    and meets zeros only."""
    model = small_network()
    for tensor in model.graph.initializer:
        if tensor.name == "point":
            weights = numpy_helper.to_array(tensor).copy()
            weights[0] = 0  # channel 0 of what inner reads is relu(bias): constant
            tensor.CopyFrom(numpy_helper.from_array(weights, "point"))
        if tensor.name == "point_b":
            bias = numpy_helper.to_array(tensor).copy()
            bias[0] = -1
            tensor.CopyFrom(numpy_helper.from_array(bias, "point_b"))
        if tensor.name == "inner":
            weights = numpy_helper.to_array(tensor).copy()
            weights[:, 0] = 300
            tensor.CopyFrom(numpy_helper.from_array(weights, "inner"))
    return model


@pytest.mark.parametrize(
    ("target", "precision", "weights"), [("tensorrt", "FP16", "inner_half"), ("cpu", "FP32", "inner")]
)
def test_gate_returns_the_most_sensitive_layer_and_says_so(
    run, write_network, write_faces, tmp_path, target, precision, weights
):
    """The limit is half of what quantising everything costs, with truth at the FP32 model's own landmarks."""
    faces, model = write_faces(), write_network(fragile_network())
    label_with(model, faces)
    common = (model, "--crops", faces, "--target", target)
    _, out, _ = run(*common, "--max-nme-increase", 1000, "-o", tmp_path / "any.onnx")
    everything = float(out.split("(")[1].split(" %")[0]) / 100
    code, out, err = run(
        *common,
        "--max-nme-increase",
        everything / 2,
        "--sensitivity",
        tmp_path / "s.json",
        "-o",
        tmp_path / "int8.onnx",
    )
    assert (code, err) == (0, "")
    assert "6 of 7 layers in INT8" in out
    assert f"stays in {precision}: inner, which alone moves the landmarks by" in out
    document = json.loads((tmp_path / "s.json").read_text())
    assert document["layers"][0]["layer"] == "inner"
    assert {entry["layer"] for entry in document["layers"]} == set(quantisable_layers(Graph(small_network()), target))
    assert cv2.imread(str(tmp_path / "s.png")) is not None
    kept = {tensor.name for tensor in onnx.load(tmp_path / "int8.onnx").graph.initializer}
    assert weights in kept
    assert "outer_int8" in kept


def test_gate_that_nothing_satisfies_writes_no_model(run, write_network, write_faces, tmp_path):
    faces, model = write_faces(), write_network()
    label_with(model, faces)
    code, _, err = run(model, "--crops", faces, "--max-nme-increase", 0, "-o", tmp_path / "int8.onnx")
    assert code == 1
    assert err.count("\n") == 1
    assert "INT8 raises the NME from" in err
    assert "with 1 of 7 layers in float; no model is written" in err
    assert not list(tmp_path.glob("int8*"))


def label_with(model, stem) -> None:
    """Make the labels of the set what the model itself finds, shifted by 1 px, so that every change of the network
    shows in the NME."""
    from calibration.accuracy.judge import LandmarkJudge
    from calibration.crops import read_crops
    from calibration.face_sources import load_faces
    from runtime.geometry.crop import crop_matrix

    spec = ModelSpec.load(ModelSpec.path_for(model))
    faces = load_faces(stem)
    found = LandmarkJudge(read_crops(faces, spec), threads=1).landmarks(onnx.load(model))
    arrays = dict(np.load(stem.with_suffix(".npz")))
    for row, box in enumerate(faces.boxes_xyxy):
        matrix = crop_matrix(box, spec.crop_scale, spec.input.size)
        arrays["pts68"][row, :, :2] = (found[row] - matrix[:, 2]) / matrix[0, 0] + 0.01
    np.savez(stem.with_suffix(".npz"), **arrays)


def test_judge_agrees_with_the_definition_of_nme(write_network, write_faces):
    """Landmarks found are the labels shifted by (0.01, 0.01) px of the picture: NME is 100 * 0.01 * sqrt(2) divided by
    the size of the box, sqrt(width * height): 40 px, or 26 px of one that is 70 px wide and 10 px high."""
    from calibration.accuracy.judge import LandmarkJudge
    from calibration.crops import read_crops
    from calibration.face_sources import load_faces

    faces, model = write_faces(), write_network()
    label_with(model, faces)
    crops = read_crops(load_faces(faces), ModelSpec.load(ModelSpec.path_for(model)))
    square = crops.faces.boxes_xyxy
    judge = LandmarkJudge(crops, threads=1)
    found = judge.landmarks(onnx.load(model))
    assert judge.nme(found) == pytest.approx(100 * 0.01 * 2**0.5 / 40, rel=1e-2)
    # Boxes of the same middle and the same half girth have the same crops.
    flat = dataclasses.replace(crops.faces, boxes_xyxy=square + np.float32([-15, 15, 15, -15]))
    judge = LandmarkJudge(dataclasses.replace(crops, faces=flat), threads=1)
    assert judge.nme(found) == pytest.approx(100 * 0.01 * 2**0.5 / (70 * 10) ** 0.5, rel=1e-2)


def test_quantised_already(run, write_network, write_faces, tmp_path):
    faces, output = write_faces(), tmp_path / "int8.onnx"
    run(write_network(), "--crops", faces, "--max-nme-increase", 10, "-o", output)
    code, _, err = run(output, "--crops", faces, "-o", tmp_path / "again.onnx")
    assert code == 1
    assert "int8.onnx: the model is quantised already" in err
    assert not (tmp_path / "again.onnx").exists()


def with_normalisation() -> onnx.ModelProto:
    model = small_network()
    relu = next(node for node in model.graph.node if node.name == "stem_relu")
    names = [f"bn{index}" for index in range(4)]
    model.graph.initializer.extend(numpy_helper.from_array(np.ones(8, np.float32), name) for name in names)
    position = list(model.graph.node).index(relu)
    model.graph.node.insert(position, helper.make_node("BatchNormalization", ["stem_y", *names], ["bn_y"], "bn"))
    relu.input[0] = "bn_y"
    return model


def in_half() -> onnx.ModelProto:
    model = small_network()
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            with_normalisation,
            r"the normalisation bn is not folded into the layer before it; run 'python -m export onnx",
        ),
        (in_half, "its weights are not float32; give the FP32 model"),
    ],
)
def test_models_that_are_refused(run, write_network, write_faces, tmp_path, make, message):
    code, _, err = run(write_network(make()), "--crops", write_faces(), "-o", tmp_path / "int8.onnx")
    assert code == 1
    assert message in err


def test_nothing_to_judge_by(run, write_network, write_faces, tmp_path):
    model = write_network()
    code, _, err = run(model, "--crops", write_faces(is_val=None), "-o", tmp_path / "int8.onnx")
    assert code == 1
    assert "set apart for validation" in err
    code, out, _ = run(
        model,
        "--crops",
        write_faces(is_val=None),
        "--labels",
        write_faces(name="labels"),
        "--max-nme-increase",
        10,
        "-o",
        tmp_path / "i.onnx",
    )
    assert code == 0
    assert "NME on 6 faces" in out


def test_without_labels_the_landmarks_of_fp32_judge(run, write_network, write_faces, tmp_path):
    options = (write_network(), "--crops", write_faces(pts68=None), "-o", tmp_path / "int8.onnx")
    code, out, _ = run(*options, "--max-shift", 50)
    assert code == 0
    moved = float(re.search(r"landmarks move by ([\d.]+) px", out).group(1))
    assert 0 < moved < 50
    assert "compared with FP32" in out
    assert "NME" not in out
    (tmp_path / "int8.onnx").unlink()
    code, _, err = run(*options, "--max-shift", moved / 1000)
    assert code == 1
    assert re.search(r"moves the landmarks by [\d.]+ px of the crop where .* px are allowed", err)
    assert not (tmp_path / "int8.onnx").exists()


def test_outputs_that_cannot_be(run, write_network, write_faces, tmp_path):
    model, faces = write_network(), write_faces()
    for output in (model, tmp_path / "gone" / "int8.onnx", tmp_path / "int8.trt"):
        code, _, err = run(model, "--crops", faces, "-o", output)
        assert code == 1
        assert str(output) in err
    code, _, err = run(tmp_path / "none.onnx", "--crops", faces, "-o", tmp_path / "int8.onnx")
    assert code == 1
    assert "none.onnx: no such file" in err


def test_export_in_one_go(write_network, write_faces, tmp_path, capsys):
    """``export onnx --precision int8`` folds the normalisation first."""
    from export.__main__ import main as export

    model, output = write_network(with_normalisation()), tmp_path / "int8.onnx"
    options = ["onnx", "--weights", str(model), "-o", str(output), "--precision", "int8"]
    assert export([*options, "--crops", str(write_faces()), "--max-nme-increase", "10"]) == 0
    assert "7 of 7 layers in INT8" in capsys.readouterr().out
    assert ModelSpec.load(ModelSpec.path_for(output)).precision == "int8"
    assert export(options) == 1
    assert "--precision int8 and --crops, the faces to calibrate on, belong together" in capsys.readouterr().err


def test_a_table_of_other_crops_is_refused(run, write_network, write_faces, tmp_path):
    model, faces, table = write_network(), write_faces(), tmp_path / "table.json"
    common = (model, "--crops", faces, "--table", table, "--max-nme-increase", 10)
    assert run(*common, "--samples", 10, "-o", tmp_path / "one.onnx")[0] == 0
    code, _, err = run(*common, "--samples", 8, "-o", tmp_path / "two.onnx")
    assert code == 1
    assert "table.json: it was made from other crops (10; these are 8 of " in err
    assert "give those, with --samples as then, or remove it to calibrate anew" in err
    assert run(*common, "--samples", 10, "-o", tmp_path / "two.onnx")[0] == 0


def test_an_output_that_cannot_be_written_is_found_before_the_work(run, write_network, write_faces, tmp_path):
    (tmp_path / "one.onnx.json").mkdir()
    code, _, err = run(write_network(), "--crops", write_faces(), "-o", tmp_path / "one.onnx")
    assert code == 1
    assert "one.onnx.json: a folder has this name; choose another one" in err
    assert not (tmp_path / "one.onnx").exists()
