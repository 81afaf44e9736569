"""Networks in PyTorch in place of engines, on the CPU: their numbers, and whole frames on the stand-in for a device."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from benchmarks.gpu.detection import make_detector
from benchmarks.gpu.scene import PartSkipped, face_matrices, frame
from benchmarks.gpu.without_tensorrt import torch_network
from benchmarks.gpu.without_tensorrt.onnx_in_torch import TorchGraph
from benchmarks.gpu.without_tensorrt.provider_frames import provider_frames
from benchmarks.gpu.without_tensorrt.torch_network import (
    TorchCapture,
    TorchDetector,
    TorchNetwork,
    require_cuda,
    tensor_at,
)
from runtime.cuda.errors import CudaError
from runtime.detection.gpu_yunet import GpuYuNet
from runtime.detection.yunet import YuNetDetector
from runtime.errors import FaceMeshError
from runtime.families.table import open_family
from runtime.inference.cpu_mesher import CpuMesher
from runtime.inference.open_runner import open_runner
from runtime.inference.trt.runner import TensorRTRunner
from runtime.models.shipped import SHIPPED
from tests.standins.fake_cuda import FakeCuda


def outputs_of_both(path, image):
    """Return the outputs in PyTorch and in ONNX Runtime by name, float32."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    expected = dict(zip(names, session.run(names, {session.get_inputs()[0].name: image}), strict=True))
    with torch.inference_mode():
        found = TorchGraph(path, "cpu")(**{session.get_inputs()[0].name: torch.from_numpy(image)})
    assert found.keys() == expected.keys()
    return {name: (found[name].float().numpy(), np.float32(expected[name])) for name in names}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("precision", "most_px"), [("fp32", 2e-3), ("fp16", 0.3)])
def test_the_shipped_model_is_the_same_in_pytorch(precision, most_px, batch):
    image = np.random.default_rng(0).uniform(-1, 1, (batch, 3, 128, 128)).astype(np.float32)
    with open_runner(SHIPPED[precision]) as runner:
        scale = runner.spec.output.scale
    outputs = outputs_of_both(SHIPPED[precision], image)
    found, expected = outputs["position_map"]
    assert np.abs(found - expected).max() * scale < most_px
    found, expected = outputs["confidence"]
    assert np.abs(found - expected).max() < 1e-2


def weight(rng, *shape):
    return np.float32(rng.normal(size=shape) / np.sqrt(np.prod(shape[1:])))


def mixed_model(path):
    """Every operator of OPERATORS but Cast, with uneven padding: (N, 4, 9, 9) -> (N, 5)."""
    rng = np.random.default_rng(1)
    held = {
        "w1": weight(rng, 8, 2, 4, 4),
        "b1": weight(rng, 8),
        "w2": weight(rng, 8, 4, 4, 4),
        "scale": np.ones(4, np.float32) * 1.5,
        "shift": weight(rng, 4),
        "mean": weight(rng, 4),
        "var": np.full(4, 0.7, np.float32),
        "slope": np.full((4, 1, 1), 0.2, np.float32),
        "starts": np.array([0, 0]),
        "ends": np.array([16, 2**31 - 1]),
        "axes": np.array([2, 3]),
        "pads": np.array([0, 0, 1, 0, 0, 0, 0, 2]),
        "half": np.float32(0.5),
        "flat": np.array([0, -1]),
        "w3": weight(rng, 16, 5),
        "w4": weight(rng, 5, 5),
        "b4": weight(rng, 5),
    }
    node = helper.make_node
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        node("Conv", ["image", "w1", "b1"], ["c1"], pads=[1, 1, 2, 2], group=2),
        node("Relu", ["c1"], ["r1"]),
        node("ConvTranspose", ["r1", "w2"], ["t1"], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("BatchNormalization", ["t1", "scale", "shift", "mean", "var"], ["n1"], epsilon=1e-3),
        node("PRelu", ["n1", "slope"], ["p1"]),
        node("Slice", ["p1", "starts", "ends", "axes"], ["s1"]),
        node("Pad", ["s1", "pads"], ["q1"]),
        node("Sigmoid", ["q1"], ["g1"]),
        node("Mul", ["g1", "half"], ["m1"]),
        node("Sub", ["q1", "m1"], ["d1"]),
        node("Concat", ["d1", "q1"], ["k1"], axis=1),
        node("MaxPool", ["k1"], ["x1"], **pool),
        node("AveragePool", ["x1"], ["a1"], pads=[1, 1, 1, 1], count_include_pad=1, **pool),
        node("DepthToSpace", ["a1"], ["e1"], blocksize=2),
        node("DepthToSpace", ["a1"], ["e2"], blocksize=2, mode="CRD"),
        node("Add", ["e1", "e2"], ["e3"]),
        node("Transpose", ["e3"], ["y1"], perm=[0, 2, 3, 1]),
        node("Identity", ["y1"], ["y2"]),
        node("Transpose", ["y2"], ["y3"], perm=[0, 3, 1, 2]),
        node("GlobalAveragePool", ["a1"], ["v1"]),
        node("Flatten", ["v1"], ["v2"]),
        node("GlobalAveragePool", ["y3"], ["v3"]),
        node("Reshape", ["v3", "flat"], ["v4"]),
        node("Concat", ["v2", "v4", "v4", "v4", "v4"], ["v5"], axis=1),
        node("MatMul", ["v5", "w3"], ["v6"]),
        node("Gemm", ["v6", "w4", "b4"], ["result"], transB=1, alpha=0.5, beta=2.0),
    ]
    given = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 4, 9, 9])
    result = helper.make_tensor_value_info("result", TensorProto.FLOAT, ["N", 5])
    held = [numpy_helper.from_array(np.asarray(array), name) for name, array in held.items()]
    graph = helper.make_graph(nodes, "mixed", [given], [result], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def test_every_operator_is_the_same_in_pytorch(tmp_path):
    image = np.random.default_rng(2).normal(size=(2, 4, 9, 9)).astype(np.float32)
    found, expected = outputs_of_both(mixed_model(tmp_path / "mixed.onnx"), image)["result"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_operator_that_pytorch_is_not_told_of_is_named():
    with pytest.raises(FaceMeshError, match="PyTorch is not told how to run DequantizeLinear, QuantizeLinear"):
        TorchGraph(SHIPPED["int8"], "cpu")


class Queued:
    """A network on the CPU, queued in the stream of a stand-in for a device."""

    def __init__(self, model, cuda):
        super().__init__(model, device="cpu")
        self._cuda = cuda

    def context(self, batch, addresses, stream, *scratch):
        context = super().context(batch, addresses, stream, *scratch)
        run = context.enqueue
        context.enqueue = lambda stream: self._cuda.enqueue(stream.handle, lambda: run(stream), batch=batch)
        return context


class QueuedTorch(Queued, TorchNetwork):
    pass


class QueuedDetector(Queued, TorchDetector):
    pass


def test_the_detector_in_pytorch_finds_the_face(tmp_path):
    """In FP16, by the parts of the report."""
    path = tmp_path / "yunet.onnx"
    assert make_detector(str(path))["size"] == [640, 384]
    picture, cuda = frame(), FakeCuda()
    with YuNetDetector(network=GpuYuNet(QueuedDetector(path, cuda), cuda, 0.6)) as detector:
        found = detector(picture)
    np.testing.assert_allclose(found.boxes_xyxy, YuNetDetector()(picture).boxes_xyxy, atol=2)
    assert cuda.closed


@pytest.mark.parametrize("precision", ["fp32", pytest.param("fp16", marks=pytest.mark.slow)])
def test_whole_frames_are_those_of_the_cpu(precision):
    """Crop, network, decode, confidence and copies round the network in PyTorch, by a graph from the third frame on."""
    picture = frame()
    with FakeCuda() as cuda:
        network = QueuedTorch(SHIPPED[precision], cuda)
        runner = TensorRTRunner(network, cuda, 3, "spin", None)
        family = open_family(runner.spec)
        matrices = face_matrices(3, family)
        mesher = runner.mesher(family)
        for _ in range(6):
            mesher.submit(picture, matrices)
            found = mesher.collect()
        runner.close()
    with open_runner(SHIPPED[precision]) as runner:
        mesher = CpuMesher(runner, family)
        mesher.submit(picture, matrices)
        expected = mesher.collect()
    for face, reference in zip(found, expected, strict=True):
        assert np.abs(face.landmarks - reference.landmarks).max() < (0.15 if precision == "fp32" else 1.0)
        assert face.confidence == pytest.approx(reference.confidence, abs=1e-2)


def test_a_tensor_lies_over_memory_of_others():
    array = np.arange(12, dtype=np.float16)
    tensor = tensor_at(array.ctypes.data, (3, 4), array.dtype, "cpu")
    tensor[1, 2] = 77
    assert array[6] == 77


def test_a_pytorch_without_cuda_is_told():
    if torch.version.cuda is not None:
        pytest.skip("this PyTorch has CUDA")
    with pytest.raises(PartSkipped, match="was built without CUDA"):
        require_cuda()


class RefusedCapture:
    """What `torch.cuda.graph` is where the capture fails."""

    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        raise RuntimeError("CUDA error: operation not permitted\nwhen stream is capturing")

    def __exit__(self, *_):
        pass


def test_a_capture_that_pytorch_refuses_is_an_error_of_cuda(monkeypatch):
    """The mesher then launches step by step."""
    monkeypatch.setattr(torch_network.torch.cuda, "CUDAGraph", lambda: None)
    monkeypatch.setattr(torch_network.torch.cuda, "ExternalStream", lambda handle: handle)
    monkeypatch.setattr(torch_network.torch.cuda, "graph", RefusedCapture)
    with FakeCuda() as cuda, pytest.raises(CudaError, match="not permitted when stream"):
        TorchCapture(cuda).capture(cuda.stream(), lambda: None)


def test_a_provider_that_is_missing_is_left_out():
    with pytest.raises(PartSkipped, match="no provider cuda here"):
        next(provider_frames(str(SHIPPED["fp16"]), "cuda", None, None))
