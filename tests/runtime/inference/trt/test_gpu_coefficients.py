"""A network of coefficients on the device, held against the CPU: its decoder is in the graph. All with stand-ins."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime", reason="needs ONNX Runtime, which the stand-in runs engines with")

from runtime.families.table import open_family
from runtime.inference.open_runner import open_runner
from runtime.inference.trt.gpu_mesher import GpuMesher
from runtime.run import main
from tests.standins.coefficient_network import write_toy_model
from tests.standins.fake_engine import write_engine

ALLOCATIONS = ("stream", "event", "host_buffer", "device_buffer", "capture")
BOXES = [[20.0, 20, 60, 60], [5, 10, 50, 48], [70, 30, 130, 90], [40, 60, 90, 110], [10, 70, 60, 120]]


@pytest.fixture
def picture():
    return np.random.default_rng(1).integers(0, 256, (140, 160, 3), np.uint8)


@pytest.fixture
def runners(gpu_machine, tmp_path):
    """``runners(precision, pose_count, **engine words)`` -> the machine, a runner on the CPU and one on it."""
    opened = []

    def runners(precision="fp32", pose_count=12, landmark_channel=False, **words):
        machine = gpu_machine(integrated=False)
        model = write_toy_model(tmp_path, precision, pose_count, landmark_channel)
        engine = write_engine(tmp_path / "toy.engine", model, **words)
        opened.extend([open_runner(model), open_runner(engine)])
        return machine, *opened[-2:]

    yield runners
    for runner in opened:
        runner.close()


def faces_of(runner, picture, boxes=BOXES, dense=True):
    family = open_family(runner.spec)
    mesher = runner.mesher(family, dense)
    matrices = [family.crop_matrix(np.array(box)) for box in boxes]
    found = []
    for _ in range(3):  # launched step by step, captured, replayed
        for _ in range(2):
            mesher.submit(picture, matrices)
            found.append(mesher.collect())
    return mesher, found


@pytest.mark.parametrize(("precision", "atol"), [("fp32", 0.02), ("fp16", 0.05), ("int8", 0.05)])
@pytest.mark.parametrize("pose_count", [12, 0])
@pytest.mark.parametrize("count", [1, 3, 5])
def test_meshes_are_the_cpus(runners, picture, precision, atol, pose_count, count):
    _, cpu, gpu = runners(precision, pose_count)
    (expected, *_) = faces_of(cpu, picture, BOXES[:count])[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mesher, found = faces_of(gpu, picture, BOXES[:count])
    assert isinstance(mesher, GpuMesher)
    for meshes in found:
        for one, other in zip(meshes, expected, strict=True):
            np.testing.assert_allclose(one.vertices, other.vertices, atol=atol)
            np.testing.assert_allclose(one.landmarks, other.landmarks, atol=atol)
    if count > 1:
        assert np.abs(expected[0].landmarks - expected[1].landmarks).max() > 1


def test_engine_with_half_precision_outputs(runners, picture):
    _, cpu, gpu = runners(input_type="HALF", output_type="HALF")
    (expected, *_), (found, *_) = faces_of(cpu, picture)[1], faces_of(gpu, picture)[1]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.vertices, other.vertices, atol=0.3)


def test_landmarks_alone_are_816_bytes_and_their_marks(runners, picture):
    machine, cpu, gpu = runners()
    (expected, *_) = faces_of(cpu, picture, BOXES[:1])[1]
    machine.cuda.log.clear()
    (found, *_) = faces_of(gpu, picture, BOXES[:1], dense=False)[1]
    assert found[0].vertices.shape == (0, 3)
    np.testing.assert_allclose(found[0].landmarks, expected[0].landmarks, atol=0.02)
    assert {details["nbytes"] for _, details in machine.cuda.calls("download")} == {16 + 816}
    basis = 3 * 68 * 3 * 4  # three coefficients of 68 points
    assert basis in [details["nbytes"] for _, details in machine.cuda.calls("device_buffer")]


@pytest.mark.parametrize("pose_count", [12, 0])
@pytest.mark.parametrize("landmark_channel", [False, True])
def test_steady_state_allocates_nothing_and_waits_once_a_frame(runners, picture, pose_count, landmark_channel):
    machine, _, gpu = runners("fp16", pose_count, landmark_channel)
    family = open_family(gpu.spec)
    mesher = gpu.mesher(family)
    matrices = [family.crop_matrix(np.array(BOXES[0]))]
    landmarks = [np.full((68, 3), 40, np.float32)] if landmark_channel else ()

    def frame(index):
        buffer = mesher.frame_buffer(*picture.shape[:2])
        buffer[:] = picture
        buffer[0, 0] = index
        mesher.submit(buffer, matrices, landmarks)
        return mesher.collect()

    for index in range(6):
        frame(index)
    live = len(machine.cuda.live)
    machine.cuda.log.clear()
    for index in range(20):
        frame(index)
    assert len(machine.cuda.live) == live
    assert not machine.cuda.calls(*ALLOCATIONS, "close", "decode")  # the kernel is in the graph
    assert len(machine.cuda.calls("synchronize")) == len(machine.cuda.calls("launch")) == 20


def test_the_memory_on_the_way_of_the_basis_is_freed(runners, picture):
    machine, _, gpu = runners()
    before = {id(resource) for resource in machine.cuda.live}
    open_family(gpu.spec).gpu_decoder(machine.cuda, half=False)
    kinds = [getattr(resource, "kind", "stream") for resource in machine.cuda.live if id(resource) not in before]
    assert kinds == ["device_buffer"] * 3


def test_command_runs_an_engine_of_coefficients(gpu_machine, tmp_path, portrait):
    gpu_machine()
    write_engine(tmp_path / "toy.engine", write_toy_model(tmp_path))
    boxes = tmp_path / "boxes.csv"
    boxes.write_text(f"path,x1,y1,x2,y2\n{portrait},179,88,270,176\n")
    arguments = ["--source", str(portrait), "--boxes", str(boxes), "--save", "json,obj"]
    outs = [tmp_path / name for name in ("cpu", "gpu")]
    for out, model in zip(outs, ("toy.onnx", "toy.engine"), strict=True):
        assert main(["--engine", str(tmp_path / model), *arguments, "--output", str(out)]) == 0
    lines = [(out / "results.jsonl").read_text() for out in outs]
    assert lines[0].count("landmarks") == lines[1].count("landmarks") == 1
    assert len((outs[1] / "astronaut_face0.obj").read_text().splitlines()) == 1 + 289 + 512
