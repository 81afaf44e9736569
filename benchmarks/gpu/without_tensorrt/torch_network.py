"""A network in PyTorch in place of an engine, for machines without TensorRT: an upper bound for its time.

The runtime's own mesher runs it. PyTorch reads and writes the mesher's device memory and works in its stream; its own
capture makes the graph of a whole frame, so that its allocator keeps the memory between layers for that graph alone
(https://docs.pytorch.org/docs/stable/notes/cuda.html, CUDA graphs). Nothing of this is part of `runtime`.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.clocks import Wrapped
from benchmarks.gpu.scene import PartSkipped
from benchmarks.gpu.without_tensorrt.onnx_in_torch import TorchGraph
from runtime.cuda.errors import CudaError
from runtime.cuda.interface import DeviceBuffer, Stream
from runtime.models.detector_spec import AnySpec, load_detector_spec
from runtime.models.spec import load_spec

WARM_UPS = 3  # cuDNN chooses its algorithms meanwhile


def version() -> str:
    """Return PyTorch's version."""
    return torch.__version__


def require_cuda() -> None:
    """Raise `PartSkipped` if this PyTorch cannot use the device."""
    if torch.version.cuda is None:
        raise PartSkipped(f"PyTorch {torch.__version__} was built without CUDA")
    if not torch.cuda.is_available():
        raise PartSkipped(f"PyTorch {torch.__version__} (CUDA {torch.version.cuda}) finds no device that it can use")


class TorchEngine:
    """`runtime.inference.trt.engine.Engine` over PyTorch, as far as a stream uses it."""

    def __init__(self, model: Path, spec: AnySpec, device: str) -> None:
        """Load an ONNX file with the tensors of ``spec``. Raises `FaceMeshError`."""
        self.path = model
        self.spec: Any = spec
        self._device = device
        torch.backends.cudnn.benchmark = True  # sizes are fixed
        self._graph = TorchGraph(model, device)
        self.input_dtype = self._graph.inputs[spec.input.name]
        self.output_dtypes = {name: self._graph.outputs[name] for name in spec.outputs}
        self.input_nbytes = self._nbytes(spec.input.shape, self.input_dtype)
        self.scratch_nbytes = 0  # PyTorch allocates for itself

    def padded(self, n: int, most: int) -> int:
        return n

    def context(
        self, batch: int, addresses: Mapping[str, int], stream: Stream, scratch: DeviceBuffer | None = None
    ) -> TorchContext:
        """Return the network for ``batch`` inputs, run WARM_UPS times."""
        given = self.spec.input
        shapes = {given.name: given.shape, **self.spec.outputs}
        dtypes = {**self._graph.inputs, **self._graph.outputs}
        tensors = {
            name: tensor_at(address, (batch, *shapes[name]), dtypes[name], self._device)
            for name, address in addresses.items()
        }
        context = TorchContext(self._graph, given.name, tensors)
        for _ in range(WARM_UPS):
            context.enqueue(stream)
        stream.synchronize()
        return context

    def close(self) -> None:
        """Let PyTorch give its memory back."""
        self._graph = None
        if self._device == "cuda":
            torch.cuda.empty_cache()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def _nbytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
        return int(np.prod(shape)) * dtype.itemsize


class TorchNetwork(TorchEngine):
    """`runtime.inference.trt.mesh_engine.MeshEngine` over PyTorch, as far as a mesher uses it."""

    def __init__(self, model: Path, face_model: Path | None = None, device: str = "cuda") -> None:
        """Load an ONNX file by the spec beside it. Raises `FaceMeshError`."""
        spec = load_spec(model, face_model)
        super().__init__(model, spec, device)
        self.output_dtype = self.output_dtypes[spec.output.name]
        self.confidence_dtype = None if spec.confidence is None else self.output_dtypes[spec.confidence]
        self.output_nbytes = self._nbytes(spec.output_shape, self.output_dtype)

    def addresses(self, input_pointer: int, output_pointer: int, confidence_pointer: int) -> dict[str, int]:
        found = {self.spec.input.name: input_pointer, self.spec.output.name: output_pointer}
        return found if self.spec.confidence is None else {**found, self.spec.confidence: confidence_pointer}


class TorchDetector(TorchEngine):
    """`runtime.detection.gpu_yunet.DetectorEngine` over PyTorch."""

    def __init__(self, model: Path, device: str = "cuda") -> None:
        """Load an ONNX file by the spec beside it. Raises `FaceMeshError`."""
        spec = load_detector_spec(model)
        super().__init__(model, spec, device)
        self.levels = {name: spec.outputs[name] for name in spec.levels}
        self.level_dtype = self.output_dtypes[spec.levels[0]]


class TorchContext:
    """One size of batch at fixed addresses."""

    def __init__(self, graph: TorchGraph, input_name: str, tensors: Mapping[str, Tensor]) -> None:
        self._graph = graph
        self._input_name = input_name
        self._tensors = tensors

    def why_not_capturable(self, stream: Stream) -> str:
        """Return "": `TorchCapture` tells by failing."""
        return ""

    @torch.inference_mode()
    def enqueue(self, stream: Stream) -> None:
        """Queue one run on ``stream``."""
        given = self._tensors[self._input_name]
        with _current(stream, given):
            if given.ndim == 4:
                given = given.contiguous(memory_format=torch.channels_last)
            for name, found in self._graph(**{self._input_name: given}).items():
                if name in self._tensors:
                    self._tensors[name].copy_(found)

    def close(self) -> None:
        self._tensors = {}


@contextlib.contextmanager
def _current(stream: Stream, tensor: Tensor) -> Iterator[None]:
    """Let PyTorch work on ``stream``; on the CPU there is none."""
    if not tensor.is_cuda:
        yield
        return
    with torch.cuda.stream(torch.cuda.ExternalStream(stream.handle)):
        yield


def tensor_at(address: int, shape: tuple[int, ...], dtype: np.dtype, device: str) -> Tensor:
    """Return a tensor over memory that somebody else owns."""
    if device == "cpu":
        nbytes = int(np.prod(shape)) * dtype.itemsize
        array = np.frombuffer((ctypes.c_uint8 * nbytes).from_address(address), dtype)
        return torch.from_numpy(array.reshape(shape))
    interface = {"shape": shape, "typestr": dtype.str, "data": (address, False), "version": 3, "strides": None}
    return torch.as_tensor(_Memory(interface), device=device)


class _Memory:
    def __init__(self, interface: dict[str, Any]) -> None:
        self.__cuda_array_interface__ = interface


class TorchCapture(Wrapped):
    """A device whose graphs PyTorch captures: crop, network, decode and copies become one."""

    def capture(self, stream: Stream, enqueue: Callable[[], object]) -> _TorchGraph:
        graph, own = torch.cuda.CUDAGraph(), torch.cuda.ExternalStream(stream.handle)
        try:
            with torch.cuda.graph(graph, stream=own, capture_error_mode="thread_local"):
                enqueue()
        except RuntimeError as error:  # PyTorch's errors of CUDA
            raise CudaError("torch.cuda.graph", "", " ".join(str(error).split())) from error
        return _TorchGraph(graph, own)


class _TorchGraph:
    """`runtime.cuda.interface.Graph`"""

    def __init__(self, graph: torch.cuda.CUDAGraph, stream: torch.cuda.Stream) -> None:
        self._graph = graph
        self._stream = stream

    def launch(self, stream: Stream) -> None:
        with torch.cuda.stream(self._stream):
            self._graph.replay()

    def close(self) -> None:
        self._graph.reset()

    def __enter__(self) -> _TorchGraph:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
