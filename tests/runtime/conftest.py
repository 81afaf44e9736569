"""A small model whose output is a face and varies with its input, for tests that are not about accuracy."""

from __future__ import annotations

import dataclasses
import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest

from runtime.cuda.driver import Device
from runtime.families.uv_topology import UVTopology
from runtime.models.detector_spec import DetectorInput, DetectorSpec
from runtime.models.shipped import YUNET_ONNX
from runtime.models.spec import ModelSpec
from runtime.storage.whole_files import file_sha256

CROP_SIZE, MAP_SIZE, CROP_SCALE = 128, 64, 1.6
ORIN = Device("Orin", "8.7")


class GpuMachine(NamedTuple):
    library: Any  # of tests.standins.fake_engine
    cuda: Any  # a tests.standins.fake_cuda.FakeCuda


def canonical_map(topology: UVTopology) -> np.ndarray:
    """(3, 64, 64) position map in px of a 128 px crop: the mean face, its landmark box centred and as large as the
    crop rule puts it."""
    points = topology.canonical_vertices.astype(np.float64)
    landmarks = points[topology.landmark_vertices, :2]
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    scale = (CROP_SIZE - 1) / CROP_SCALE / (high - low).mean()
    points[:, :2] -= (low + high) / 2
    points[:, 2] -= points[:, 2].min()
    points = points * scale + ((CROP_SIZE - 1) / 2, (CROP_SIZE - 1) / 2, 0)
    grid, weight = np.zeros((256 * 256, 3)), np.zeros(256 * 256)
    grid[topology.face_indices], weight[topology.face_indices] = points, 1
    grid, weight = grid.reshape(256, 256, 3), weight.reshape(256, 256)
    blurred = cv2.GaussianBlur(grid, (0, 0), 6) / np.maximum(cv2.GaussianBlur(weight, (0, 0), 6), 1e-9)[..., None]
    grid = np.where(
        weight[..., None] > 0, grid, blurred
    )  # continued a little beyond the face, so that its border survives the scaling
    return cv2.resize(grid, (MAP_SIZE, MAP_SIZE), interpolation=cv2.INTER_AREA).transpose(2, 0, 1)


@pytest.fixture(scope="session")
def write_model(topology: UVTopology, make_spec: Callable[..., ModelSpec]) -> Callable[..., Path]:
    """``write_model(path, batch="N", layout="NCHW", confidence=False, **spec changes)``: an ONNX file and its spec.

    Every picture gives the mean face, moved right by the mean of its first input channel (in units of the value range)
    times 10 crop px. With ``confidence`` it gives half of that mean plus 0.5 as well.
    """
    onnx = pytest.importorskip("onnx", reason="needs onnx to make a model")

    def write(path: Path, batch: str | int = "N", layout: str = "NCHW", confidence: bool = False, **changes) -> Path:
        helper, kind = onnx.helper, onnx.TensorProto.FLOAT
        spec = make_spec(map_size=MAP_SIZE, input_size=CROP_SIZE, layout=layout)
        face = canonical_map(topology)[None] / spec.output.scale
        shift = np.array([10 / spec.output.scale, 0, 0]).reshape(1, 3, 1, 1)
        if layout == "NHWC":
            face, shift = face.transpose(0, 2, 3, 1), shift.transpose(0, 2, 3, 1)
        axes = [2, 3] if layout == "NCHW" else [1, 2]
        channel = 1 if layout == "NCHW" else 3
        shape = {"NCHW": lambda side: [batch, 3, side, side], "NHWC": lambda side: [batch, side, side, 3]}[layout]
        nodes = [
            helper.make_node("Gather", ["image", "first"], ["blue"], axis=channel),
            helper.make_node("ReduceMean", ["blue"], ["mean"], axes=axes, keepdims=1),
            helper.make_node("Mul", ["mean", "shift"], ["moved"]),
            helper.make_node("Add", ["moved", "face"], ["position_map"]),
        ]
        constants = {"first": np.array([0]), "shift": shift.astype(np.float32), "face": face.astype(np.float32)}
        outputs = [helper.make_tensor_value_info("position_map", kind, shape(MAP_SIZE))]
        if confidence:
            nodes += [
                helper.make_node("Flatten", ["mean"], ["flat"]),
                helper.make_node("Mul", ["flat", "half"], ["halved"]),
                helper.make_node("Add", ["halved", "half"], ["confidence"]),
            ]
            constants["half"] = np.array(0.5, np.float32)
            outputs.append(helper.make_tensor_value_info("confidence", kind, [batch, 1]))
            changes = {"confidence": "confidence", **changes}
        graph = helper.make_graph(
            nodes,
            "live",
            [helper.make_tensor_value_info("image", kind, shape(CROP_SIZE))],
            outputs,
            [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
        onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)
        dataclasses.replace(spec, **{"onnx_sha256": file_sha256(path), **changes}).save(ModelSpec.path_for(path))
        return path

    return write


@pytest.fixture(scope="session")
def live_model(write_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of that model with a free batch size."""
    return write_model(tmp_path_factory.mktemp("model") / "live.onnx")


@pytest.fixture(scope="session")
def sure_model(write_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of that model with a confidence: bright blue crops are sure, dark ones are not."""
    return write_model(tmp_path_factory.mktemp("model") / "sure.onnx", confidence=True)


@pytest.fixture(scope="session")
def portrait(repository: Path) -> Path:
    """The bundled photograph: one face, 512 x 512."""
    return repository / "runtime" / "assets" / "astronaut.jpg"


@pytest.fixture
def gpu_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., GpuMachine]]:
    """``gpu_machine(label="tensorrt-10.3", device=Orin, **FakeCuda's arguments)``: from then on this is a machine
    with that library and that device.

    Both are stand-ins. What the library allocated must be released before the device is closed.
    """
    machines = []
    gc.freeze()  # so that collections look at the objects of this test alone

    def install(label: str = "tensorrt-10.3", device: Device | None = ORIN, **cuda_arguments) -> GpuMachine:
        pytest.importorskip("onnxruntime", reason="needs ONNX Runtime, which the stand-in runs engines with")
        from tests.standins import fake_engine
        from tests.standins.fake_cuda import FakeCuda

        cuda = FakeCuda(**cuda_arguments)
        library = fake_engine.make(label, cuda)
        for name in fake_engine.MODULES.values():
            monkeypatch.setitem(sys.modules, name, library if name == library.__name__ else None)
        monkeypatch.setattr("runtime.inference.trt.engine_file.find_device", lambda: device)
        monkeypatch.setattr("runtime.inference.trt.runner.open_cuda", lambda **_: cuda)
        monkeypatch.setattr("runtime.detection.gpu_yunet.open_cuda", lambda **_: cuda.beside())
        machines.append(GpuMachine(library, cuda))
        return machines[-1]

    yield install
    gc.collect()
    assert not any(machine.library.late for machine in machines)


@pytest.fixture
def engine(live_model: Path, tmp_path: Path) -> Path:
    """An engine of the live model for `gpu_machine`, batches 1 to 8, with its manifest."""
    from tests.standins.fake_engine import write_engine

    return write_engine(tmp_path / "live.engine", live_model)


@pytest.fixture(scope="session")
def fixed_detector(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``fixed_detector(width=640, height=384)``: YuNet's ONNX file of one size, with its spec."""
    onnx = pytest.importorskip("onnx", reason="needs onnx to make a detector of one size")
    from export.graphs.yunet import fixed_yunet

    made: dict[tuple[int, int], Path] = {}

    def make(width: int = 640, height: int = 384) -> Path:
        if (width, height) not in made:
            path = tmp_path_factory.mktemp("detector") / f"yunet-{width}x{height}.onnx"
            onnx.save(fixed_yunet(onnx.load(str(YUNET_ONNX)), width, height), path)
            spec = DetectorSpec(path.stem, DetectorInput("planes", width, height), "fp32", file_sha256(path))
            spec.save(DetectorSpec.path_for(path))
            made[width, height] = path
        return made[width, height]

    return make


@pytest.fixture
def detector_engine(fixed_detector: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """``detector_engine(width=640, height=384, **words of a plan)``: an engine of it for `gpu_machine`."""
    from tests.standins.fake_engine import write_engine

    def write(width: int = 640, height: int = 384, batch: tuple[int, int, int] = (1, 1, 1), **words) -> Path:
        return write_engine(tmp_path / "detector.engine", fixed_detector(width, height), batch=batch, **words)

    return write
