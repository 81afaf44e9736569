"""A family that the packages have never heard of goes all roads: run, export, FP16, INT8 and an engine."""

from __future__ import annotations

import json

import numpy as np
import pytest

from runtime.families.table import FAMILIES
from runtime.inference.cpu_mesher import CpuMesher
from runtime.inference.open_runner import open_runner
from runtime.models.spec import ModelSpec
from runtime.pipeline import FaceMeshPipeline
from runtime.run import main as run_main

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from tests.calibration.small import smooth_picture, write_face_set  # noqa: E402
from tests.standins import fake_engine, rigid_family  # noqa: E402

BOXES = np.array([[20.0, 20, 60, 60], [5, 10, 50, 48]])


@pytest.fixture
def model(monkeypatch, tmp_path):
    monkeypatch.setitem(FAMILIES, "rigid", rigid_family.RigidFamily)
    return rigid_family.write_rigid_model(tmp_path / "rigid.onnx")


@pytest.fixture
def picture():
    return smooth_picture(np.random.default_rng(1))


def faces_of(path, picture):
    with open_runner(path) as runner:
        return FaceMeshPipeline(runner).from_boxes(picture, BOXES)


def test_meshes_are_the_mean_face_at_the_networks_place(model, picture):
    first, second = faces_of(model, picture)
    assert first.vertices.shape[1] == 3
    assert not np.allclose(first.landmarks, second.landmarks, atol=0.5)
    # One rigid shape: ratios of distances are the same in both faces.
    widths = [np.ptp(face.vertices[:, 0]) for face in (first, second)]
    shapes = [
        (face.vertices - face.vertices.mean(0)) / width for face, width in zip((first, second), widths, strict=True)
    ]
    np.testing.assert_allclose(*shapes, atol=1e-4)
    assert abs(first.pose.yaw_deg) < 0.01


def test_spec_round_trip(model):
    spec = ModelSpec.load(ModelSpec.path_for(model))
    assert spec.output == rigid_family.RigidOutput("placement", 32.0)
    assert (spec.input.shape, spec.output_shape) == ((3, 32, 32), (3,))


def test_command_writes_meshes_and_overlay(model, tmp_path, portrait):
    boxes = tmp_path / "boxes.csv"
    boxes.write_text(f"path,x1,y1,x2,y2\n{portrait},179,88,270,176\n")
    arguments = ["--engine", str(model), "--source", str(portrait), "--boxes", str(boxes)]
    assert run_main([*arguments, "--output", str(tmp_path / "out"), "--save", "overlay,json,obj,ply,npz"]) == 0
    line = json.loads((tmp_path / "out" / "results.jsonl").read_text())
    assert len(line["faces"][0]["landmarks"]) == 68
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".jpg", ".jsonl", ".obj", ".ply", ".npz"}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_export_checks_and_keeps_it(model, tmp_path, picture, capsys, precision):
    from export.__main__ import main

    output = tmp_path / "out.onnx"
    assert main(["onnx", "--weights", str(model), "-o", str(output), "--precision", precision]) == 0
    assert "differs from the model before by" in capsys.readouterr().out
    assert ModelSpec.load(ModelSpec.path_for(output)).precision == precision
    for before, after in zip(faces_of(model, picture), faces_of(output, picture), strict=True):
        np.testing.assert_allclose(after.landmarks, before.landmarks, atol=0.1)
    assert main(["inspect", str(output)]) == 0
    assert "3 numbers, x 32 = px of the crop" in capsys.readouterr().out


def test_export_refuses_a_network_that_is_dead(model, tmp_path, capsys):
    from export.__main__ import main

    dead = onnx.load(model)
    for tensor in dead.graph.initializer:
        if tensor.name == "last":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros((8, 3), np.float32), "last"))
    spec = ModelSpec.load(ModelSpec.path_for(model))
    onnx.save(dead, model)
    rigid_family.save_spec(spec, model)
    assert main(["onnx", "--weights", str(model), "-o", str(tmp_path / "out.onnx")]) == 1
    assert "hardly depends on the picture" in capsys.readouterr().err


def test_calibration_quantises_and_judges_it(model, tmp_path, picture, capsys):
    from calibration.__main__ import main

    output = tmp_path / "int8.onnx"
    faces = write_face_set(tmp_path)
    assert main([str(model), "--crops", str(faces), "--max-nme-increase", "1", "-o", str(output)]) == 0
    assert "NME on" in capsys.readouterr().out
    for before, after in zip(faces_of(model, picture), faces_of(output, picture), strict=True):
        assert 0 < np.abs(after.landmarks - before.landmarks).max() < 3


def test_engine_runs_it_with_the_decoder_of_the_cpu(model, gpu_machine, picture):
    machine = gpu_machine(integrated=False)
    expected = faces_of(model, picture)
    engine = fake_engine.write_engine(model.with_name("rigid.engine"), model)
    with open_runner(engine) as runner:
        with pytest.warns(RuntimeWarning, match="family rigid have no CUDA kernel: crop and decode run on the CPU"):
            pipeline = FaceMeshPipeline(runner)
        assert isinstance(pipeline._mesher, CpuMesher)
        found = pipeline.from_boxes(picture, BOXES)
    assert machine.cuda.calls("upload")
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(one.vertices, other.vertices, atol=1e-3)
